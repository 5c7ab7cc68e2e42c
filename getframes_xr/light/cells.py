"""Cell index of a catalogue: which stars can reach a window, without looking at the others.

Stars are sorted into classes by brightness (each class as wide as a factor 8) and, within a class, into square cells.
A query visits the cells of each class that lie within that class's reach of the window and returns catalogue rows in
increasing order; it may return a few stars too many, never one too few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CELL_PX = 128.0
_CLASS_BITS = 3  # a class spans a factor 2^3 in brightness
_SMALL = 2048  # a catalogue below this is one class, one cell


@dataclass(frozen=True, eq=False)
class _Class:
    """Stars of similar brightness, ordered by cell; ``starts`` are where the cells begin in ``rows``.

    With ``cells_y`` = 0 the class is not divided, and every query gives all of it.
    """

    strongest: float
    rows: Integers
    starts: Integers
    origin_y: float
    origin_x: float
    cells_y: int
    cells_x: int

    def query(self, low_y: float, high_y: float, low_x: float, high_x: float) -> list[Integers]:
        if self.cells_y == 0:
            return [self.rows]
        first = max(0, int((low_y - self.origin_y) // CELL_PX))
        last = min(self.cells_y - 1, int((high_y - self.origin_y) // CELL_PX))
        begin = max(0, int((low_x - self.origin_x) // CELL_PX))
        end = min(self.cells_x - 1, int((high_x - self.origin_x) // CELL_PX))
        if first > last or begin > end:
            return []
        found = []
        for cell in range(first, last + 1):
            start = self.starts[cell * self.cells_x + begin]
            stop = self.starts[cell * self.cells_x + end + 1]
            if stop > start:
                found.append(self.rows[start:stop])
        return found


@dataclass(frozen=True, eq=False)
class CellIndex:
    """Classes of cells over the positions of a catalogue; build it with `index_cells`."""

    classes: tuple[_Class, ...]
    size: int

    def query(self, box: tuple[float, float, float, float], reach: dict[float, float]) -> Integers:
        """Rows whose position lies within reach of a box.

        Parameters
        ----------
        box : low_y, high_y, low_x, high_x [px]
        reach : for the strongest light of each class, how far its stars reach [px]

        Returns
        -------
        int64 (m,), increasing
        """
        parts: list[Integers] = []
        for group in self.classes:
            far = reach[group.strongest]
            parts += group.query(box[0] - far, box[1] + far, box[2] - far, box[3] + far)
        if not parts:
            return np.empty(0, np.int64)
        rows = np.concatenate(parts)
        rows.sort()
        return rows

    @property
    def strongest(self) -> tuple[float, ...]:
        """Strongest light of each class."""
        return tuple(group.strongest for group in self.classes)

    @property
    def nbytes(self) -> int:
        """Memory of the index."""
        return sum(group.rows.nbytes + group.starts.nbytes for group in self.classes)


def index_cells(y: Floats, x: Floats, strength: Floats) -> CellIndex:
    """Build the index.

    Parameters
    ----------
    y, x : float64 (n,) [px]
    strength : float64 (n,) > 0, light of the stars
    """
    if len(y) == 0:
        return CellIndex((), 0)
    level = np.zeros(len(y), np.int64)
    if len(y) > _SMALL:
        level = np.frexp(strength)[1].astype(np.int64) // _CLASS_BITS
    groups = []
    for number in np.unique(level):
        rows = np.flatnonzero(level == number).astype(np.int64)
        groups.append(_index_class(rows, y[rows], x[rows], float(strength[rows].max()), len(y) > _SMALL))
    return CellIndex(tuple(groups), len(y))


def _index_class(rows: Integers, y: Floats, x: Floats, strongest: float, divided: bool) -> _Class:
    origin_y, origin_x = float(y.min()), float(x.min())
    if not divided:
        return _Class(strongest, rows, np.array([0, len(rows)]), origin_y, origin_x, 0, 0)
    cell_y = ((y - origin_y) // CELL_PX).astype(np.int64)
    cell_x = ((x - origin_x) // CELL_PX).astype(np.int64)
    cells_y, cells_x = int(cell_y.max()) + 1, int(cell_x.max()) + 1
    if cells_y * cells_x > 16 * len(rows) + 65536:  # a few stars far apart
        return _Class(strongest, rows, np.array([0, len(rows)]), origin_y, origin_x, 0, 0)
    cell = cell_y * cells_x + cell_x
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cells_y * cells_x + 1))
    return _Class(strongest, rows[order], starts.astype(np.int64), origin_y, origin_x, cells_y, cells_x)
