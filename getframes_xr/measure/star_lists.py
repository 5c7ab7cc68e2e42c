"""Star lists of a session as arrays, and the algebra of similarities between them.

A similarity (a, b, t_y, t_x) maps [y, x] -> [[a, b], [-b, a]] @ [y, x] + [t_y, t_x].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StarLists:
    """Stars of all frames, padded: arrays (frame, source), brightest first; ``count`` says how many are real.

    ``error`` is the centroid's 1 sigma [px]; frames that are not ``trusted`` (trailed: ``elongation``) are registered,
    but say nothing about where stars are; ``shape`` the frame's (rows, columns); ``origin`` its first pixel.
    """

    y: Array
    x: Array
    snr: Array
    light: Array
    saturated: Array
    round: Array
    count: Array
    error: Array
    elongation: Array
    trusted: Array
    shape: tuple[int, int]
    origin: tuple[int, int]

    @property
    def n_frames(self) -> int:
        return len(self.count)


def four_of(similarity: Array) -> tuple[float, float, float, float]:
    return float(similarity[0]), float(similarity[1]), float(similarity[2]), float(similarity[3])


def compose(outer: Array, inner: Array) -> Array:
    """Similarity (a, b, t_y, t_x) of ``outer`` after ``inner``."""
    a, b, ty, tx = outer
    c, d, sy, sx = inner
    return np.array([a * c - b * d, a * d + b * c, a * sy + b * sx + ty, -b * sy + a * sx + tx])


def affine_of(similarity: Array) -> Array:
    """Similarities (n, 4) as affine terms (n, 2, 3)."""
    a, b, ty, tx = similarity.T
    return np.stack([np.stack([a, b, ty], 1), np.stack([-b, a, tx], 1)], 1)
