"""Smooth random series: numbers that wander in time, for seeing and transparency.

Knots every ``correlation_s`` seconds carry independent normal numbers, keyed by the knot; between them runs a cubic
B-spline, divided by its own standard deviation. A value follows from its time alone: longer nights begin alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.draws import Draws, stream_word

Floats = NDArray[np.float64]


def smooth_series(key: tuple[int, int], elapsed_s: Floats, correlation_s: float, stream: int) -> Floats:
    """Normal deviates (mean 0, sigma 1) at given times, correlated over ``correlation_s``.

    Parameters
    ----------
    key : of `key_of`
    elapsed_s : float64 (n,) >= 0 [s]
    correlation_s : distance of the knots [s]
    stream : number that tells series of one key apart
    """
    if len(elapsed_s) == 0:
        return np.empty(0)
    place = elapsed_s / correlation_s
    knot = np.floor(place).astype(np.int64)
    knots, where = np.unique(knot[:, None] + np.arange(4), return_inverse=True)
    numbers = Draws(key, knots, range(0), range(0), stream_word(stream)).per_frame(1)[:, 0].astype(np.float64)
    t = place - knot
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    value = (weights * numbers[where.reshape(weights.shape)]).sum(axis=1)
    result: Floats = value / np.sqrt((weights**2).sum(axis=1))
    return result


def frame_normals(key: tuple[int, int], frames: NDArray[np.int64], n: int, stream: int) -> Floats:
    """Independent normal deviates of each frame, float64 (time, n)."""
    return Draws(key, frames, range(0), range(0), stream_word(stream)).per_frame(n).astype(np.float64)


def frame_uniforms(key: tuple[int, int], frames: NDArray[np.int64], n: int, stream: int) -> Floats:
    """Independent uniform deviates of each frame, float64 (time, n)."""
    return Draws(key, frames, range(0), range(0), stream_word(stream)).per_frame(n, kind="uniform").astype(np.float64)
