"""Stacks against astropy, numpy and ccdproc on shared cases."""

from __future__ import annotations

import time
import warnings

import ccdproc
import numpy as np
import pytest
import scipy.stats
from astropy import units
from astropy.nddata import CCDData
from astropy.stats import sigma_clip

from getframes_xr.engine.collapse import Samples, Stacked
from getframes_xr.reduce import reject
from tests.frames import held_frames


def case(n, pixels, dtype, seed=0):
    """Sky of 1000 with noise 20, 2 % cosmic rays; floats also have 5 % NaN."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 20, (n, pixels))
    values += np.where(rng.random(values.shape) < 0.02, rng.exponential(3000, values.shape), 0)
    values = np.clip(values, 0, 65535).astype(dtype)
    if dtype == np.float32:
        values[rng.random(values.shape) < 0.05] = np.nan
    return values


def collapsed(rule, values):
    return rule.collapse(Samples(values, np.zeros((len(values), 0), bool), None, {}, "adu"))


@pytest.mark.parametrize("n", [5, 6, 9, 15, 16, 17, 50, 100, 128, 299, 300])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32], ids=["u16", "f32"])
def test_sigma_clip_keeps_what_astropy_keeps(n, dtype):
    values = case(n, 1500, dtype, seed=n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sigma_clip(values, sigma=3, maxiters=5, cenfunc="median", stdfunc="std", axis=0, masked=True)
    made = collapsed(reject.SigmaClip(kappa=3.0), values)
    np.testing.assert_array_equal(made.count, (~np.ma.getmaskarray(theirs)).sum(axis=0))
    np.testing.assert_allclose(made.value, np.ma.mean(theirs.astype(np.float64), axis=0).filled(np.nan), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32], ids=["u16", "f32"])
def test_median_is_that_of_numpy(dtype):
    for n in (1, 2, 3, 8, 51):
        values = case(n, 1000, dtype, seed=n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.nanmedian(values.astype(np.float64), axis=0)
        np.testing.assert_array_equal(collapsed(reject.Median(), values).value, expected)


def test_percentile_is_the_trimmed_mean_of_scipy():
    values = case(40, 1000, np.uint16)
    made = collapsed(reject.Percentile(low_percent=15, high_percent=15), values)
    np.testing.assert_allclose(made.value, scipy.stats.trim_mean(values, 0.15, axis=0), rtol=1e-12)


def test_a_clipped_stack_is_that_of_ccdproc():
    values = case(20, 900, np.float32).reshape(20, 30, 30)
    values = np.nan_to_num(values, nan=1000.0)
    frames = [CCDData(frame.astype(np.float64), unit=units.adu) for frame in values]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ccdproc.combine(
            frames, method="average", sigma_clip=True, sigma_clip_low_thresh=3, sigma_clip_high_thresh=3,
            sigma_clip_func=np.ma.median, sigma_clip_dev_func=np.ma.std,
        )  # fmt: skip
    stack = Stacked(held_frames(values), reject.SigmaClip(kappa=3.0, maxiters=1))
    made = stack.produce(stack.grid.window, ("image",))["image"]
    np.testing.assert_allclose(made, np.asarray(theirs), rtol=1e-6)


def best_of(work, times):
    """Least CPU seconds of a piece of work."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.alone
@pytest.mark.parametrize("dtype, least", [(np.uint16, 7), (np.float32, 4)], ids=["u16", "f32"])
def test_lanes_are_sorted_in_vectors(dtype, least):
    """The goal is 20 (u16); a build that no longer vectorises the network is 8 times slower: below the bound."""
    values = case(60, 20_000, dtype)
    rule = reject.SigmaClip(kappa=3.0)
    collapsed(rule, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = best_of(lambda: sigma_clip(values, sigma=3, maxiters=5, axis=0), 2)
    ours = best_of(lambda: collapsed(rule, values), 5)
    assert theirs / ours > least
