"""Mappings between pixel grids: where the pixels of one lie in another.

    p' = A p + t,    p = (y, x);    inverse:  p = B p' + c,  B = A^-1,  c = (b f - e c', d c' - a f) / det A

``terms`` holds [A | t], float64 (n, 2, 3), of n frames together. What a window needs is the box of another grid that it
sees: the corners of a box bound the inside of its image under an affine map. A distorted mapping is to answer the same
questions (inverse, box, under, area). NaN is the mapping of a frame that has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.core.window import Span


@dataclass(frozen=True, eq=False)
class Affine:
    """Affine mappings of n frames.

    Parameters
    ----------
    terms : float64 (n, 2, 3), [y', x'] = terms[:, :, :2] @ [y, x] + terms[:, :, 2]
    """

    terms: Array

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def known(self) -> Array:
        """Which frames have a mapping, bool (n,)."""
        return np.asarray(np.isfinite(self.terms).all(axis=(1, 2)))

    @cached_property
    def shifts(self) -> Array:
        """Which frames are only shifted, bool (n,)."""
        return np.asarray((self.terms[:, :, :2] == np.eye(2)).all(axis=(1, 2)))

    @cached_property
    def determinant(self) -> Array:
        """float64 (n,)."""
        return np.asarray(self.terms[:, 0, 0] * self.terms[:, 1, 1] - self.terms[:, 0, 1] * self.terms[:, 1, 0])

    @property
    def area(self) -> Array:
        """Area that one pixel has in the other grid, float64 (n,)."""
        return np.abs(self.determinant)

    @cached_property
    def inverse(self) -> Affine:
        """The way back; inf or NaN where the mapping has none."""
        (a, b, c), (d, e, f) = np.moveaxis(self.terms, 0, -1)
        det = self.determinant
        rows = [[e / det, -b / det, (b * f - e * c) / det], [-d / det, a / det, (d * c - a * f) / det]]
        return Affine(np.ascontiguousarray(np.moveaxis(np.array(rows), -1, 0)))

    def after(self, inner: Affine) -> Affine:
        """First ``inner``, then this one; frame by frame, or one for all."""
        turn = self.terms[:, :, :2] @ inner.terms[:, :, :2]
        shift = self.terms[:, :, :2] @ inner.terms[:, :, 2:] + self.terms[:, :, 2:]
        return Affine(np.concatenate([turn, shift], axis=2))

    def box(self, y: Span, x: Span) -> Array:
        """Bounding box of the pixel centres of a box: least y, most y, least x, most x; float64 (n, 4), NaN unknown."""
        found = np.empty((len(self), 4))
        _boxes(np.ascontiguousarray(self.terms, np.float64), y.start, y.stop - 1, x.start, x.stop - 1, found)
        found[~self.known] = np.nan
        return found

    def under(self, rows: Span, columns: Span, y: Span, x: Span, margin_px: int) -> Array:
        """Pixels of the other grid that a window of this one sees.

        Parameters
        ----------
        rows, columns : Span of the window
        y, x : Span of the other grid, to which the answer is cut
        margin_px : added on every side of the box, which is rounded outwards

        Returns
        -------
        int64 (n, 4): rows [0] <= y < [1], columns [2] <= x < [3]; all 0 where they do not meet
        """
        box = np.nan_to_num(self.box(rows, columns), nan=np.inf)  # no mapping: behind the other grid's end
        found = np.empty((len(self), 4), np.int64)
        for axis, own in enumerate((y, x)):
            low, high = np.floor(box[:, 2 * axis]) - margin_px, np.ceil(box[:, 2 * axis + 1]) + margin_px + 1
            found[:, 2 * axis] = np.clip(low, own.start, own.stop)
            found[:, 2 * axis + 1] = np.maximum(found[:, 2 * axis], np.minimum(high, own.stop))
        missed = (found[:, 0] == found[:, 1]) | (found[:, 2] == found[:, 3]) | (not rows) | (not columns)
        found[missed] = 0
        return found


@kernel(inline="always")
def mapped_bounds(terms: Array, y_low: int, y_high: int, x_low: int, x_high: int) -> tuple[float, float, float, float]:
    """Give least y, most y, least x, most x of the mapped corners (the corners of an affine map bound its inside)."""
    least_y = math.inf
    most_y = -math.inf
    least_x = math.inf
    most_x = -math.inf
    for corner in range(4):
        y = y_low if corner < 2 else y_high
        x = x_low if corner % 2 == 0 else x_high
        at_y = terms[0, 0] * y + terms[0, 1] * x + terms[0, 2]
        at_x = terms[1, 0] * y + terms[1, 1] * x + terms[1, 2]
        least_y = min(least_y, at_y)
        most_y = max(most_y, at_y)
        least_x = min(least_x, at_x)
        most_x = max(most_x, at_x)
    return least_y, most_y, least_x, most_x


@kernel
def _boxes(terms: Array, y_low: int, y_high: int, x_low: int, x_high: int, out: Array) -> None:
    for k in range(terms.shape[0]):
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = mapped_bounds(terms[k], y_low, y_high, x_low, x_high)


def apply(terms: Array, points: Array) -> Array:
    """Points (..., 2) as one affine map (2, 3) moves them."""
    moved: Array = points @ terms[:, :2].T + terms[:, 2]
    return moved
