"""Frames whose pixels are counted from another origin: ``(y, x)`` of the parent is ``(y + dy, x + dx)`` here.

No value changes; everything stated in absolute pixels follows: the CFA pattern (by the parity of the shift) and the
WCS (CRPIX moves along). This is how frames get other labels: ``assign_coords`` changes what is shown, not where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from getframes_xr.core.cfa import moved_cfa
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.wcs_text import wcs_on
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer


@dataclass(frozen=True, eq=False)
class Shifted(Producer):
    """A producer with its pixel (0, 0) moved to ``(dy, dx)``."""

    parent: Producer
    dy: int
    dx: int

    @cached_property
    def grid(self) -> Grid:
        grid = self.parent.grid
        return grid.replace(
            y=grid.y.shift(self.dy),
            x=grid.x.shift(self.dx),
            cfa=None if grid.cfa is None else moved_cfa(grid.cfa, self.dy, self.dx),
            **wcs_on(grid, (-self.dy, -self.dx)),
        )

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def _behind(self, window: Window) -> Window:
        return Window(window.frames, window.y.shift(-self.dy), window.x.shift(-self.dx))

    @property
    def takes_over(self) -> str:
        return "frames"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, self._behind(window), planes, keep="frames")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        return given.take()

    def select(self, positions: Array) -> Producer:
        return Shifted(self.parent.select(positions), self.dy, self.dx)
