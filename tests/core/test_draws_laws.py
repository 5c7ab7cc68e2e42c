"""The laws: test vectors, distributions against scipy, and equality with the float64 twins.

Statistics use fixed places, so a test either always passes or always fails; p > 1e-4 and 4.5 sigma are the limits.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from getframes_xr.core.draws import (
    Draws,
    binomial_row,
    gamma_row,
    normal_row,
    poisson_row,
    stream_word,
    uniform_row,
)
from getframes_xr.core.elementary import erf64, exp64, log32, log64, sine_cosine_of_turns
from getframes_xr.core.kernel import kernel
from getframes_xr.core.philox import words_row
from tests.reference import draws as reference

KEY, FRAME, STREAM = (11, 22), 3, 1  # place of the test vectors, y = 0, x = 0..7 (spec/engine.md 1.2)
WORDS = "aefff07d 91b3c184 20c4b173 9fd626d3 9d861504 af9dea50 1c1f8ebd ee91d0b0"
NORMALS = (
    "-0x1.cdb326p-1 -0x1.7b6ebap+0 0x1.4e66e4p-2 -0x1.2748f2p+0 "
    "-0x1.32dc5cp+0 -0x1.c912b2p-1 0x1.1da3cap-2 -0x1.5f3f2ep-3"
)
COUNTS = {
    3: "4 3 1 3 3 4 1 6",
    40: "34 31 42 33 33 34 42 39",
    1000: "971 953 1010 964 962 972 1009 994",
    100000: "99715 99532 100103 99635 99621 99718 100088 99946",
}
MILLION = Draws((2024, 7), [1], range(1000), range(1000), stream_word(3))


def row_of_words(n):
    words = np.empty(n, np.uint32)
    words_row(*KEY, STREAM, FRAME, 0, 0, 0, words)
    return words


def chi_square_p(counts, distribution, n_bins=200):
    """p of counts against a discrete distribution; neighbouring counts are pooled until 20 are expected."""
    n = counts.size
    edges = np.unique(distribution.ppf(np.linspace(0, 1, n_bins + 1)[1:-1]))
    expected = np.diff(np.concatenate([[0.0], distribution.cdf(edges), [1.0]])) * n
    observed = np.bincount(np.searchsorted(edges, counts.ravel()), minlength=edges.size + 1)
    pooled_expected, pooled_observed, e, o = [], [], 0.0, 0
    for one_expected, one_observed in zip(expected, observed, strict=True):
        e, o = e + one_expected, o + one_observed
        if e >= 20:
            pooled_expected.append(e)
            pooled_observed.append(o)
            e, o = 0.0, 0
    pooled_expected[-1] += e
    pooled_observed[-1] += o
    return stats.chisquare(pooled_observed, np.array(pooled_expected) * n / sum(pooled_expected)).pvalue


def test_words_and_normals_give_the_stored_test_vector():
    words = row_of_words(8)
    z = np.empty(8, np.float32)
    normal_row(words, z)
    assert " ".join(f"{word:08x}" for word in words) == WORDS
    assert z.tolist() == [float.fromhex(text) for text in NORMALS.split()]


@pytest.mark.parametrize("mean", COUNTS)
def test_poisson_gives_the_stored_test_vector(mean):
    out = np.empty(8, np.float32)
    poisson_row(row_of_words(8), np.full(8, float(mean)), out)
    assert out.tolist() == [float(text) for text in COUNTS[mean].split()]


def test_uniform_deviates_are_centres_of_cells_inside_the_open_interval():
    words = np.array([0, 511, 512, 0xFFFFFFFF], np.uint32)
    out = np.empty(4, np.float32)
    uniform_row(words, out)
    assert out.tolist() == [2.0**-24, 2.0**-24, 3 * 2.0**-24, 1 - 2.0**-24]
    assert stats.kstest(MILLION.uniform().ravel()[:200_000], "uniform").pvalue > 1e-4


def test_normal_deviates_are_right_to_2e_6_sigma_into_both_ends_of_the_tails():
    middle = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
    ends = np.arange(100_000, dtype=np.uint32)
    words = np.concatenate([middle, ends, np.uint32(2**31) - 1 - ends, np.uint32(2**31) + ends, ~ends])
    z = np.empty(words.size, np.float32)
    normal_row(words, z)
    assert abs(z - reference.normal(words)).max() < 2.3e-6
    assert np.array_equal(z[200_000:300_000], -z[500_000:])  # mirrored words, mirrored deviates


def test_normal_deviates_follow_the_normal_distribution():
    z = MILLION.normal().ravel().astype(np.float64)
    edges = stats.norm.ppf(np.linspace(0, 1, 1001)[1:-1])
    observed = np.bincount(np.searchsorted(edges, z), minlength=1000)
    assert stats.chisquare(observed).pvalue > 1e-4
    assert abs(stats.kurtosis(z)) < 4.5 * math.sqrt(24 / z.size)


def test_exponential_deviates_follow_their_distribution():
    x = MILLION.exponential().ravel().astype(np.float64)
    observed = np.bincount(np.searchsorted(-np.log1p(-np.arange(1, 500) / 500), x), minlength=500)
    assert stats.chisquare(observed).pvalue > 1e-4


@pytest.mark.parametrize("mean", [0.01, 0.1, 0.5, 3.0, 9.99, 10.0, 12.0, 40.0, 1e3, 1e4, 1e5, 1e6])
def test_poisson_counts_follow_their_distribution_over_seven_decades(mean):
    counts = MILLION.poisson(mean)
    assert chi_square_p(counts, stats.poisson(mean)) > 1e-4
    assert abs(counts.mean(dtype=np.float64) - mean) < 4.5 * math.sqrt(mean / counts.size)


def test_the_rarest_photons_come_as_often_as_they_should():
    counts = Draws((5, 6), [1, 2, 3, 4], range(1000), range(2000), stream_word(3)).poisson(np.float32(1e-5))
    expected = 8e6 * 1e-5
    assert abs(counts.sum() - expected) < 4.5 * math.sqrt(expected)


def test_poisson_counts_equal_the_exact_quantiles_of_their_words():
    words = MILLION.words().ravel()[:100_000]
    mean = np.exp(np.linspace(math.log(1e-3), math.log(1e6), words.size))
    out = np.empty(words.size, np.float32)
    poisson_row(words, mean, out)
    difference = out - reference.poisson(words, mean)
    # below 10 equal but for the last bits of a threshold; above, the float32 deviate is off by < 2.3e-6 sigma and the
    # expansion by < 6.2e-6: the chance of another count is < (2.3e-6 sqrt(mean) + 6.2e-6) per draw, of one more: none
    assert np.count_nonzero(difference[mean < 10]) == 0
    assert abs(difference).max() <= 1
    expected = np.sum((2.3e-6 * np.sqrt(mean) + 6.2e-6)[mean >= 10])
    assert np.count_nonzero(difference) < expected + 4.5 * math.sqrt(expected)


def test_the_expansion_keeps_its_promise_of_6e_6_in_the_distribution_at_its_border():
    words = (np.arange(2**16, dtype=np.uint64) << np.uint64(16)).astype(np.uint32) ^ np.uint32(0x80000000)
    u = reference.uniform(words ^ np.uint32(0x80000000))
    for mean in (10.0, 16.0, 64.0):
        out = np.empty(words.size, np.float32)
        poisson_row(words, np.full(words.size, mean), out)
        assert (np.diff(out) >= 0).all()
        count = out.astype(np.float64)
        assert (u <= special.pdtr(count, mean) + 7e-6).all()
        assert (u >= np.where(count > 0, special.pdtr(count - 1, mean), 0.0) - 7e-6).all()


def test_means_that_are_no_means_are_clamped():
    mean = np.array([np.nan, -1.0, -np.inf, 0.0, -0.0, np.inf, 1e300, 5.0])
    for dtype in (np.float64, np.float32):
        out = np.empty(mean.size, np.float32)
        with np.errstate(over="ignore"):
            poisson_row(row_of_words(8), mean.astype(dtype), out)
        assert out[:5].tolist() == [0.0] * 5
        assert np.isfinite(out).all()
        assert out[5] == out[5].astype(np.float64).round()
        assert abs(out[5:7] / 1e15 - 1).max() < 1e-6


def test_counts_up_to_ten_million_are_whole_numbers():
    counts = MILLION.poisson(np.float32(1e7))
    assert np.array_equal(counts, np.floor(counts))
    assert np.count_nonzero(counts % 2 == 1) > 490_000


@pytest.mark.parametrize("shape", [0.2, 1.0, 1.5, 7.0, 300.0, 1e6])
def test_gamma_deviates_follow_their_distribution(shape):
    scale = 2.5
    values = MILLION.gamma(shape, scale).astype(np.float64).ravel()
    edges = stats.gamma.ppf(np.linspace(0, 1, 501)[1:-1], shape, scale=scale)
    assert stats.chisquare(np.bincount(np.searchsorted(edges, values), minlength=500)).pvalue > 1e-4


def words_of_stream(n):
    def of_draw(draw):
        words = np.empty(n, np.uint32)
        words_row(*KEY, STREAM + draw, FRAME, 0, 0, 0, words)
        return words

    return of_draw


def test_gamma_deviates_equal_the_twin():
    shape = np.exp(np.linspace(math.log(0.05), math.log(1e4), 20_000))
    out = np.empty(shape.size, np.float32)
    gamma_row(*KEY, STREAM, FRAME, 0, 0, shape, 1.0, out)
    expected = reference.gamma(words_of_stream(shape.size), shape)
    # the deviate z differs by < 2.3e-6: v = (1 + c z)^3 by 3 c (1 + c z)^2 dz; decisions flip at most as rarely
    apart = abs(out - expected) > 4e-5 * expected + 1e-30
    assert np.count_nonzero(apart) <= 2


def test_gamma_of_nothing_is_nothing_and_sparse_rows_equal_full_ones():
    shape = np.zeros(600)
    shape[::37] = 3.0
    full, sparse = np.empty(600, np.float32), np.empty(600, np.float32)
    gamma_row(*KEY, STREAM, FRAME, 0, 0, np.full(600, 3.0), 2.0, full)
    gamma_row(*KEY, STREAM, FRAME, 0, 0, shape, 2.0, sparse)
    assert np.array_equal(sparse[::37], full[::37])
    assert np.count_nonzero(sparse) == shape[::37].size
    bad = np.empty(3, np.float32)
    gamma_row(*KEY, STREAM, FRAME, 0, 0, np.array([np.nan, -1.0, -np.inf]), 2.0, bad)
    assert bad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("trials", "probability"),
    [
        (1, 0.3),
        (5, 0.5),
        (40, 0.02),
        (40, 0.9),
        (1000, 0.00999),
        (100, 0.3),
        (20, 0.5),
        (10_000, 0.7),
        (1_000_000, 0.2),
    ],
)
def test_binomial_counts_follow_their_distribution(trials, probability):
    counts = MILLION.binomial(trials, probability)
    assert chi_square_p(counts, stats.binom(trials, probability)) > 1e-4


def test_binomial_counts_equal_the_twin():
    n = 20_000
    trials = np.floor(np.exp(np.linspace(0, math.log(1e6), n)))
    probability = np.tile([0.001, 0.03, 0.4, 0.5, 0.8, 0.9999], n)[:n]
    out = np.empty(n, np.float32)
    binomial_row(*KEY, STREAM, FRAME, 0, 0, trials, probability, out)
    expected = reference.binomial(words_of_stream(n), trials, probability)
    # equal but where u lies within rounding (1e-9) of a border: 2e4 draws make 2e-5 of these
    assert np.array_equal(out, expected)


def test_binomial_of_odd_numbers_is_clamped():
    trials = np.array([0, -4, np.nan, 10, 10, 10, 10, 7.9])
    probability = np.array([0.5, 0.5, 0.5, 0.0, 1.0, -2.0, np.nan, 3.0])
    out = np.empty(8, np.float32)
    binomial_row(*KEY, STREAM, FRAME, 0, 0, trials, probability, out)
    assert out.tolist() == [0, 0, 0, 0, 10, 0, 0, 7]


@kernel
def fill_elementary(values, out):
    for i in range(values.size):
        out[0, i] = exp64(values[i])
        out[1, i] = log64(abs(values[i]) + 1e-300)
        out[2, i] = erf64(values[i] / 50.0)
        out[3, i], out[4, i] = sine_cosine_of_turns(values[i])
        out[5, i] = log32(np.float32(abs(values[i]) + 1e-30))


def test_elementary_functions_agree_with_libm_to_the_last_bits():
    values = np.concatenate([np.linspace(-300, 300, 20_001), np.linspace(-1, 1, 20_001), 10.0 ** np.arange(-20, 2)])
    out = np.empty((6, values.size))
    fill_elementary(values, out)
    ulp = np.finfo(float).eps
    assert abs(out[0] / np.exp(values) - 1).max() < 3 * ulp
    log = np.log(abs(values) + 1e-300)
    assert (abs(out[1] - log) <= 3 * ulp * abs(log) + 1e-300).all()
    assert abs(out[2] - special.erf(values / 50)).max() < 5 * ulp
    # the reduced angle is exact in turns, libm's argument 2 pi x is not: compare where x is small
    near = abs(values) <= 1
    assert abs(out[3] - np.sin(2 * np.pi * values))[near].max() < 5 * ulp
    assert abs(out[4] - np.cos(2 * np.pi * values))[near].max() < 5 * ulp
    exact = np.arange(-3, 3, 0.25)
    turns = np.empty((6, exact.size))
    fill_elementary(exact, turns)
    assert np.array_equal(turns[3], np.round(np.sin(2 * np.pi * exact)))
    assert np.array_equal(turns[4], np.round(np.cos(2 * np.pi * exact)))
    short = np.log((abs(values) + 1e-30).astype(np.float32).astype(np.float64))
    assert abs(out[5] - short).max() < 2e-7 * abs(short).max()
    assert (abs(out[5] - short) <= 3e-7 * np.maximum(abs(short), 1e-3)).all()
