"""Frames whose pixels are counted from another origin: ``(y, x)`` of the parent is ``(y + dy, x + dx)`` here.

No value changes; everything stated in absolute pixels follows: the CFA pattern (by the parity of the shift) and the
WCS (CRPIX moves along). This is how frames get other labels: ``assign_coords`` changes what is shown, not where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
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
        columns = grid.columns
        if columns is not None and "wcs" in columns:
            texts = np.array([moved_wcs(str(text), self.dy, self.dx) for text in columns["wcs"]], dtype=object)
            columns = {**columns, "wcs": texts}
        return grid.replace(
            y=_moved(grid.y, self.dy),
            x=_moved(grid.x, self.dx),
            columns=columns,
            cfa=None if grid.cfa is None else moved_cfa(grid.cfa, self.dy, self.dx),
            wcs=None if grid.wcs is None else moved_wcs(grid.wcs, self.dy, self.dx),
        )

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def _behind(self, window: Window) -> Window:
        return Window(window.frames, _moved(window.y, -self.dy), _moved(window.x, -self.dx))

    @property
    def takes_over(self) -> str:
        return "frames"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, self._behind(window), planes, keep="frames")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        return given.take()

    def select(self, positions: Array) -> Producer:
        return Shifted(self.parent.select(positions), self.dy, self.dx)


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.stop + by)


def moved_cfa(pattern: str, dy: int, dx: int) -> str:
    """The pattern at pixel (0, 0) after every pixel moved by (dy, dx).

    >>> moved_cfa("RGGB", 0, 1), moved_cfa("RGGB", 1, 0), moved_cfa("RGGB", 3, -1), moved_cfa("GRBG", 2, 4)
    ('GRBG', 'GBRG', 'BGGR', 'GRBG')
    """
    return "".join(pattern[2 * ((row - dy) & 1) + ((column - dx) & 1)] for row in (0, 1) for column in (0, 1))


def moved_wcs(cards: str, dy: int, dx: int) -> str:
    """WCS cards (one a line) after every pixel moved by (dy, dx)."""
    for axis, by in (("1", dx), ("2", dy)):

        def follow(found: re.Match[str], by: int = by) -> str:
            return f"{found[1]}{float(found[2]) + by!r}"

        cards = re.sub(rf"(?m)^(CRPIX{axis}\s*=\s*)(\S+)", follow, cards)
    return cards
