"""Poisson counts for any mean: one random word each, counted from a table-free inverse of the distribution.

Mean < 10: inversion. With u = (w + 1/2) 2^-32 the count is the number of cumulative probabilities below u,
summed term by term for 32 pixels at once. Right to 1.2e-10 in the distribution (the word's own grain).
Mean >= 10: the normal deviate z of the word, then the Cornish-Fisher expansion of the continuous Poisson
quantile in s = 1 / sqrt(mean) and floor:

    x = m + z/s + (z^2 + 2)/6 - s z (z^2 + 2)/72 + s^2 (3 z^4 + 7 z^2 - 16)/810
        + s^3 z D0(z^2) + s^4 D1(z^2) + s^5 z D2(z^2)

The first terms are exact; D0, D1, D2 are an own least-squares fit to the inverse incomplete gamma function
(m = 8..200, |z| < 6.3). Largest error of the distribution: 6.2e-6 at mean 10, 1.8e-6 at 24, 3e-7 at 64.
Below 10 the fit is not monotone in the far tail; do not lower the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.elementary import exp64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.normal import normal_of_word

BORDER = 10.0  # mean at which inversion hands over to the expansion
LARGEST_MEAN = 1.0e15  # larger means (and inf) are taken as this one: counts stay exact integers of float64

_LANES = 32
_PIECE = 512  # pixels whose scratch stays in the first cache
_RECIPROCAL = np.array([0.0] + [1.0 / k for k in range(1, 73)])


@kernel(inline="always")
def _expansion(mean: float, z: float) -> float:
    s: float = 1.0 / np.sqrt(mean)
    q = z * z
    third = 0.00938036 + q * (0.000527283 + q * -0.00165694)
    fourth = -0.00321966 + q * (-0.00334028 + q * (-0.00348098 + q * 0.00112145))
    fifth = 0.0489631 + q * (-0.00850297 + q * (0.000171866 + q * -0.000306365))
    tail = z * third + s * (fourth + s * z * fifth)
    tail = (-16.0 + q * (7.0 + 3.0 * q)) * (1.0 / 810.0) + s * tail
    tail = -z * (q + 2.0) * (1.0 / 72.0) + s * tail
    return mean + z * (mean * s) + (q + 2.0) * (1.0 / 6.0) + s * tail


@kernel
def poisson_row(words: NDArray[np.uint32], mean: NDArray[np.floating], out: NDArray[np.float32]) -> None:
    """Fill a row with Poisson counts.

    Parameters
    ----------
    words : uint32 (n,)
    mean : float32 or float64 (n,) [counts]
        NaN and negative means give 0; means above 1e15 count as 1e15.
    out : float32 (n,) [counts]
        May be `mean` itself. Counts below 2^24 = 1.7e7 are exact, larger ones rounded to float32.
    """
    m = np.empty(_PIECE, np.float64)
    z = np.empty(_PIECE, np.float32)
    u = np.empty(_LANES, np.float64)
    p = np.empty(_LANES, np.float64)
    c = np.empty(_LANES, np.float64)
    k = np.empty(_LANES, np.float64)
    low = np.empty(_LANES, np.float64)
    for start in range(0, out.size, _PIECE):
        n = min(_PIECE, out.size - start)
        w = words[start : start + n]
        given = mean[start : start + n]
        row = out[start : start + n]
        n_high = 0
        for i in range(n):
            value: float = np.float64(given[i])
            value = value if value > 0.0 else 0.0
            value = value if value < LARGEST_MEAN else LARGEST_MEAN
            m[i] = value
            n_high += 1 if value >= BORDER else 0
        if n_high > 0:
            for i in range(n):
                z[i] = normal_of_word(w[i])
            for i in range(n):
                x = _expansion(max(m[i], BORDER), np.float64(z[i]))
                row[i] = np.float32(np.floor(max(x, 0.0)))
        if n_high < n:
            for first in range(0, n, _LANES):
                lanes = min(_LANES, n - first)
                for i in range(lanes, _LANES):
                    low[i] = 0.0
                    u[i] = 0.0
                n_low = 0
                for i in range(lanes):
                    is_low = m[first + i] < BORDER
                    n_low += 1 if is_low else 0
                    low[i] = m[first + i] if is_low else 0.0
                    u[i] = (np.float64(w[first + i]) + 0.5) * 2.0**-32 if is_low else 0.0
                if n_low == 0:
                    continue
                for i in range(_LANES):
                    p[i] = exp64(-low[i])
                    c[i] = p[i]
                    k[i] = 0.0
                for term in range(1, 73, 4):
                    left = 0
                    for i in range(_LANES):
                        left += 1 if u[i] > c[i] else 0
                    if left == 0:
                        break
                    for i in range(_LANES):
                        pi, ci, ki, ui, mi = p[i], c[i], k[i], u[i], low[i]
                        ki += np.float64(ui > ci)
                        pi *= mi * _RECIPROCAL[term]
                        ci += pi
                        ki += np.float64(ui > ci)
                        pi *= mi * _RECIPROCAL[term + 1]
                        ci += pi
                        ki += np.float64(ui > ci)
                        pi *= mi * _RECIPROCAL[term + 2]
                        ci += pi
                        ki += np.float64(ui > ci)
                        pi *= mi * _RECIPROCAL[term + 3]
                        ci += pi
                        p[i], c[i], k[i] = pi, ci, ki
                for i in range(lanes):
                    if m[first + i] < BORDER:
                        row[first + i] = np.float32(k[i])
