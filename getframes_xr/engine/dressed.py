"""Dressed: the same pixels under the coordinates and facts and with the planes that the user's Dataset shows.

Lineage goes by pixels; a coordinate or a fact in the attrs that was corrected (``assign_coords(gain_e_per_adu=...)``)
or dropped, or a plane that was left out (``frames[["adu"]]``), must not come back behind the user's back. What is below
keeps its own; what is put on top sees the user's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer


@dataclass(frozen=True, eq=False)
class Dressed(Producer):
    """``parent`` under other per-frame columns, CFA, WCS and attrs, with the planes ``names`` alone."""

    parent: Producer
    columns: Mapping[str, Array] | None
    cfa: str | None
    wcs: str | None
    names: tuple[str, ...]
    attrs: Mapping[str, Any]

    @cached_property
    def grid(self) -> Grid:
        return self.parent.grid.replace(columns=self.columns, cfa=self.cfa, wcs=self.wcs, attrs=self.attrs)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {name: self.parent.planes[name] for name in self.names}

    @property
    def takes_over(self) -> str:
        return "frames"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="frames")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        return given.take()

    def select(self, positions: Array) -> Producer:
        columns = None if self.columns is None else {n: c[positions] for n, c in self.columns.items()}
        return dataclasses.replace(self, parent=self.parent.select(positions), columns=columns)
