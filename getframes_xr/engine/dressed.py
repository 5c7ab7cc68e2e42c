"""Dressed: the same pixels under the coordinates and facts and with the planes that the user's Dataset shows.

Lineage goes by pixels; a coordinate or a fact in the attrs that was corrected (``assign_coords(gain_e_per_adu=...)``)
or dropped, or a plane that was left out (``frames[["adu"]]``), must not come back behind the user's back. What is below
keeps its own; what is put on top sees the user's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.digest import digest
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import COLUMNS, TIME, Plane
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


def as_shown(
    producer: Producer, shown: xr.Dataset, names: Collection[str], facts: Mapping[str, Any] | None = None
) -> Producer:
    """``producer`` itself where ``shown`` has its coordinates and ``names`` are its planes, else dressed in these.

    ``facts``: attrs that are shown; those of the producer's facts that are not among them are dropped (None: all stay).
    """
    grid = producer.grid
    columns: dict[str, Array] | None = None
    if grid.columns is not None:
        known = [*grid.columns, *(name for name in COLUMNS if name not in grid.columns)]
        columns = {"frame": grid.columns["frame"]}
        columns |= {name: _column(shown, name, grid.n_frames) for name in known if _is_column(shown, name)}
    cfa, wcs = _text(shown, "cfa_pattern"), _text(shown, "wcs")
    attrs = {name: value if facts is None else facts[name] for name, value in grid.attrs.items() if _kept(name, facts)}
    alike = set(names) == set(producer.planes) and (cfa, wcs) == (grid.cfa, grid.wcs)
    alike = alike and digest(attrs) == digest(dict(grid.attrs))
    same = alike and (
        columns is None
        or (set(columns) == set(grid.columns or {}) and all(_equal(columns[n], grid.column(n)) for n in columns))
    )
    return producer if same else Dressed(producer, columns, cfa, wcs, tuple(sorted(names)), attrs)


def _kept(name: str, facts: Mapping[str, Any] | None) -> bool:
    return facts is None or name in facts


def _is_column(shown: xr.Dataset, name: str) -> bool:
    if name not in shown.coords or name == "frame":
        return False
    dims = shown.coords[name].dims
    return dims == (TIME,) or (dims == () and (TIME not in shown.dims or name in COLUMNS))


def _column(shown: xr.Dataset, name: str, n_frames: int) -> Array:
    values = shown.coords[name].values
    return np.full(n_frames, values[()]) if values.ndim == 0 else values


def _text(shown: xr.Dataset, name: str) -> str | None:
    return str(shown.coords[name].values[()]) if name in shown.coords and shown.coords[name].ndim == 0 else None


def _equal(one: Array, two: Array) -> bool:
    if one is two:
        return True
    numbers: Any = one.dtype.kind == "f" and two.dtype.kind == "f"
    return one.shape == two.shape and bool(np.array_equal(one, two, equal_nan=bool(numbers)))
