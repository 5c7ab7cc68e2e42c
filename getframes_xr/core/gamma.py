"""Gamma deviates by the rejection method of Marsaglia and Tsang, exact for any shape.

With d = k - 1/3, c = 1 / sqrt(9 d) and a normal z, v = (1 + c z)^3 is tried; d v is kept if
log u < z^2/2 + d - d v + d log v ("A simple method for generating gamma variables", 2000), which holds for at
least 95 % of the tries at k >= 1. Shapes below 1 draw at k + 1 and multiply by u^(1/k).
Try a of a pixel uses draw numbers 1 + 2a and 2 + 2a, the power of u draw 0: a deviate is a function of its
place. After 12 tries (chance 3e-16) the mean is taken, so the work of a pixel is bounded.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.elementary import exp64, log64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.normal import normal_of_word
from getframes_xr.core.philox import one_word, words_row

GAMMA_DRAWS = 25  # draw numbers that one call occupies
_TRIES = 12
_PIECE = 512
_GRAIN = 2.0**-32


@kernel(inline="always")
def _try(word_z: np.uint32, word_u: np.uint32, d: float, c: float) -> float:
    """Give d v, or a negative number where the try is rejected."""
    z = np.float64(normal_of_word(word_z))
    u = (np.float64(word_u) + 0.5) * _GRAIN
    root = 1.0 + c * z
    v = root * root * root
    usable = v if v > 1e-30 else 1.0
    kept = log64(u) < 0.5 * z * z + d * (1.0 - v + log64(usable))
    return d * v if (v > 1e-30) & kept else -1.0


@kernel
def _later_tries(key_0: int, key_1: int, stream: int, frame: int, line: int, item: int, d: float, c: float) -> float:
    for attempt in range(1, _TRIES):
        word_z = one_word(key_0, key_1, stream + 1 + 2 * attempt, frame, line, item, 0)
        word_u = one_word(key_0, key_1, stream + 2 + 2 * attempt, frame, line, item, 0)
        value = _try(word_z, word_u, d, c)
        if value >= 0.0:
            return value
    return d + 1.0 / 3.0


@kernel
def gamma_row(
    key_0: int,
    key_1: int,
    stream: int,
    frame: int,
    line: int,
    start: int,
    shape: NDArray[np.floating],
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Fill a row with gamma deviates of mean ``shape * scale``.

    Parameters
    ----------
    key_0, key_1, stream, frame, line, start : int64
        Key and place of the row's first pixel; ``stream + 24`` still belongs to the stage.
    shape : float32 or float64 (n,)
        NaN and shapes <= 0 give 0; shapes above 1e15 count as 1e15.
    scale : float64
    out : float32 (n,)
        May be `shape` itself.
    """
    word_z = np.empty(_PIECE, np.uint32)
    word_u = np.empty(_PIECE, np.uint32)
    asked = np.empty(_PIECE, np.float64)
    value = np.empty(_PIECE, np.float64)
    for first in range(0, out.size, _PIECE):
        n = min(_PIECE, out.size - first)
        given = shape[first : first + n]
        n_positive = 0
        for i in range(n):
            a: float = np.float64(given[i])
            a = a if a > 0.0 else 0.0
            a = a if a < 1e15 else 1e15
            asked[i] = a
            n_positive += 1 if a > 0.0 else 0
        if n_positive > 0:
            words_row(key_0, key_1, stream + 1, frame, line, start + first, 0, word_z[:n])
            words_row(key_0, key_1, stream + 2, frame, line, start + first, 0, word_u[:n])
        if 4 * n_positive > n:
            for i in range(n):
                a = asked[i]
                d = (a if a >= 1.0 else a + 1.0) - 1.0 / 3.0
                value[i] = _try(word_z[i], word_u[i], d, 1.0 / (3.0 * math.sqrt(d)))
        for i in range(n):
            a = asked[i]
            if a == 0.0:
                out[first + i] = np.float32(0.0)
                continue
            d = (a if a >= 1.0 else a + 1.0) - 1.0 / 3.0
            c = 1.0 / (3.0 * math.sqrt(d))
            result = value[i] if 4 * n_positive > n else _try(word_z[i], word_u[i], d, c)
            if result < 0.0:
                result = _later_tries(key_0, key_1, stream, frame, line, start + first + i, d, c)
            if a < 1.0:
                word = one_word(key_0, key_1, stream, frame, line, start + first + i, 0)
                result *= exp64(log64((np.float64(word) + 0.5) * _GRAIN) / a)
            out[first + i] = np.float32(result * scale)
