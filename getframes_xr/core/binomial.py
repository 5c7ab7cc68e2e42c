"""Binomial counts: inversion where few successes are expected, Hoermann's BTRS elsewhere; both exact.

With q = min(p, 1 - p) and n q < 10 the cumulative probabilities are summed up to the word's u (right to
1.2e-10, the word's grain). Above, BTRS tries k = floor((2 a / (1/2 - |u|) + b) u + c) and keeps it if v,
weighed with the hat, lies below the probability of k (W. Hoermann, "The generation of binomial random
variates", 1993), factorials by Stirling's series with its first ten corrections tabulated.
Try a of a pixel uses draw numbers 2a and 2a + 1. After 16 tries (chance below 1e-9) the mode is taken.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.elementary import exp64, log64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.philox import one_word, words_row

BINOMIAL_DRAWS = 32  # draw numbers that one call occupies
_TRIES = 16
_PIECE = 512
_GRAIN = 2.0**-32
_TERMS = 110  # chance of more successes at n q < 10: below 1e-60
_STIRLING = np.array(  # log k! - (k + 1/2) log(k + 1) + (k + 1) - log(2 pi)/2, k = 0..9 (Hoermann 1993)
    [
        0.08106146679532726, 0.04134069595540929, 0.02767792568499834, 0.02079067210376509,
        0.01664469118982119, 0.01387612882307075, 0.01189670994589177, 0.01041126526197209,
        0.009255462182712733, 0.008330563433362871,
    ]
)  # fmt: skip


@kernel(inline="always")
def _stirling(k: float) -> float:
    if k < 10.0:
        correction: float = _STIRLING[np.int64(k)]
        return correction
    w = 1.0 / (k + 1.0)
    return (1.0 / 12.0 - (1.0 / 360.0 - w * w / 1260.0) * w * w) * w


@kernel
def _few(word: np.uint32, n: float, q: float) -> float:
    """Invert the distribution: n q < 10."""
    u = (np.float64(word) + 0.5) * _GRAIN
    odds = q / (1.0 - q)
    p = exp64(n * _log_of_rest(q))
    c = p
    k = 0.0
    while u > c and k < n and k < _TERMS:
        k += 1.0
        p *= odds * (n - k + 1.0) / k
        c += p
    return k


@kernel(inline="always")
def _log_of_rest(q: float) -> float:
    """log(1 - q) for 0 <= q <= 1/2; a series where 1 - q would lose q's digits."""
    if q < 1e-3:
        return -q * (1.0 + q * (0.5 + q * (1.0 / 3.0 + q * (0.25 + q * (0.2 + q * (1.0 / 6.0))))))
    return log64(1.0 - q)


@kernel
def _many(
    key_0: int,
    key_1: int,
    stream: int,
    frame: int,
    line: int,
    item: int,
    word_u: np.uint32,
    word_v: np.uint32,
    n: float,
    q: float,
) -> float:
    """Hoermann's BTRS: n q >= 10."""
    spread = math.sqrt(n * q * (1.0 - q))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * q
    centre = n * q + 0.5
    alpha = (2.83 + 5.1 / b) * spread
    squeeze = 0.92 - 4.2 / b
    mode: float = np.floor((n + 1.0) * q)
    odds = q / (1.0 - q)
    for attempt in range(_TRIES):
        if attempt > 0:
            word_u = one_word(key_0, key_1, stream + 2 * attempt, frame, line, item, 0)
            word_v = one_word(key_0, key_1, stream + 2 * attempt + 1, frame, line, item, 0)
        u = (np.float64(word_u) + 0.5) * _GRAIN - 0.5
        v = (np.float64(word_v) + 0.5) * _GRAIN
        half = 0.5 - abs(u)
        k: float = np.floor((2.0 * a / half + b) * u + centre)
        if half >= 0.07 and v <= squeeze:
            return k
        if k < 0.0 or k > n:
            continue
        height = log64(v * alpha / (a / (half * half) + b))
        bound = (mode + 0.5) * log64((mode + 1.0) / (odds * (n - mode + 1.0)))
        bound += _stirling(mode) + _stirling(n - mode)
        bound += (n + 1.0) * log64((n - mode + 1.0) / (n - k + 1.0))
        bound += (k + 0.5) * log64(odds * (n - k + 1.0) / (k + 1.0))
        bound -= _stirling(k) + _stirling(n - k)
        if height <= bound:
            return k
    return mode


@kernel
def binomial_row(
    key_0: int,
    key_1: int,
    stream: int,
    frame: int,
    line: int,
    start: int,
    trials: NDArray[np.floating],
    probability: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Fill a row with binomial counts.

    Parameters
    ----------
    key_0, key_1, stream, frame, line, start : int64
        Key and place of the row's first pixel; ``stream + 31`` still belongs to the stage.
    trials : float32 or float64 (n,)
        Rounded down; NaN and negative give 0; above 1e15 count as 1e15.
    probability : float64 (n,)
        Clamped to 0..1; NaN gives 0.
    out : float32 (n,)
        May be `trials` itself.
    """
    word_u = np.empty(_PIECE, np.uint32)
    word_v = np.empty(_PIECE, np.uint32)
    for first in range(0, out.size, _PIECE):
        size = min(_PIECE, out.size - first)
        words_row(key_0, key_1, stream, frame, line, start + first, 0, word_u[:size])
        words_row(key_0, key_1, stream + 1, frame, line, start + first, 0, word_v[:size])
        for i in range(size):
            n: float = np.float64(trials[first + i])
            n = np.floor(n) if n > 0.0 else 0.0
            n = n if n < 1e15 else 1e15
            p: float = probability[first + i]
            p = p if p > 0.0 else 0.0
            p = p if p < 1.0 else 1.0
            q = p if p <= 0.5 else 1.0 - p
            if n == 0.0 or q == 0.0:
                k = 0.0
            elif n * q < 10.0:
                k = _few(word_u[i], n, q)
            else:
                k = _many(key_0, key_1, stream, frame, line, start + first + i, word_u[i], word_v[i], n, q)
            out[first + i] = np.float32(k if p <= 0.5 else n - k)
