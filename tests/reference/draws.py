"""The laws of `getframes_xr.core.draws` once more, in float64 and by another route.

Philox in NumPy uint64 from the paper's round function; quantiles from scipy.special; Poisson and binomial
counts from scipy's distributions; gamma tries and BTRS from the papers, with scipy's log-probabilities
instead of Stirling sums.
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(counter, key):
    """Philox4x32-10 on broadcasting unsigned integers: four words of counter, two of key -> four words."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(word, np.uint64) for word in counter]
    k = [int(word) for word in key]
    for _ in range(10):
        product_0, product_1 = np.uint64(MULTIPLIERS[0]) * c[0], np.uint64(MULTIPLIERS[1]) * c[2]
        (high_0, low_0), (high_1, low_1) = ((p >> np.uint64(32), p & low) for p in (product_0, product_1))
        c = [high_1 ^ c[1] ^ np.uint64(k[0]), low_1, high_0 ^ c[3] ^ np.uint64(k[1]), low_0]
        k = [(k[0] + STEPS[0]) % 2**32, (k[1] + STEPS[1]) % 2**32]
    return [word.astype(np.uint32) for word in np.broadcast_arrays(*c)]


def words(key, frame, y, x, stream, space=0):
    """Word of every pixel (y, x) of a frame, uint32 (len(y), len(x))."""
    y, x = np.asarray(y, np.uint64)[:, None], np.asarray(x, np.uint64)
    block = philox((x >> np.uint64(2) | np.uint64(space << 30), y, np.uint64(frame), np.uint64(stream)), key)
    return np.choose((x & np.uint64(3)).astype(int), block)


def uniform(word):
    return (np.asarray(word, np.float64) + 0.5) / 2.0**32


def normal(word):
    """Quantile of the word read as a signed number; each tail from its own side, so nothing cancels."""
    x = (np.asarray(word).astype(np.int32).astype(np.float64) + 0.5) / 2.0**31
    tail = special.ndtri((1.0 - np.abs(x)) / 2.0)
    return np.where(x < 0, tail, -tail)


def poisson(word, mean):
    """Smallest count whose cumulative probability reaches u; u follows the normal deviate at mean >= 10."""
    mean = np.asarray(mean, np.float64)
    u = np.where(mean < 10.0, uniform(word), uniform(np.asarray(word) ^ np.uint32(0x80000000)))
    return stats.poisson.ppf(u, mean)


def gamma(words_of_draw, shape):
    """Marsaglia and Tsang 2000; `words_of_draw(n)` gives the words of draw number n."""
    shape = np.asarray(shape, np.float64)
    d = np.where(shape < 1, shape + 1, shape) - 1 / 3
    value = np.full(shape.shape, np.nan)
    for attempt in range(12):
        z, u = normal(words_of_draw(1 + 2 * attempt)), uniform(words_of_draw(2 + 2 * attempt))
        v = (1 + z / np.sqrt(9 * d)) ** 3
        with np.errstate(invalid="ignore"):
            kept = (v > 0) & (u < np.exp(0.5 * z**2 + d - d * v + d * np.log(v)))
        value = np.where(np.isnan(value) & kept, d * v, value)
    boost = np.where(shape < 1, uniform(words_of_draw(0)) ** (1 / shape), 1.0)
    return value * boost


def binomial(words_of_draw, trials, probability):
    """Inversion at n min(p, 1 - p) < 10, else Hoermann's transformed rejection against the exact probabilities."""
    n, p = np.broadcast_arrays(np.asarray(trials, np.float64), np.asarray(probability, np.float64))
    q = np.minimum(p, 1 - p)
    few = stats.binom.ppf(uniform(words_of_draw(0)), n, q)
    spread = np.sqrt(n * q * (1 - q))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * q
    alpha = (2.83 + 5.1 / b) * spread
    mode = np.floor((n + 1) * q)
    many = np.full(n.shape, np.nan)
    for attempt in range(16):
        u, v = uniform(words_of_draw(2 * attempt)) - 0.5, uniform(words_of_draw(2 * attempt + 1))
        half = 0.5 - np.abs(u)
        k = np.floor((2 * a / half + b) * u + n * q + 0.5)
        ratio = np.exp(stats.binom.logpmf(k, n, q) - stats.binom.logpmf(mode, n, q))
        kept = v * alpha / (a / half**2 + b) <= ratio
        many = np.where(np.isnan(many) & kept, k, many)
    k = np.where(n * q < 10, few, many)
    return np.where(p <= 0.5, k, n - k)
