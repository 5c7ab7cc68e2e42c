"""Mean and variance of every random effect against its closed form (5 standard errors, fixed keys)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from getframes_xr.detector.stages.bad_columns import BadColumns
from getframes_xr.detector.stages.bias_structure import BiasStructure
from getframes_xr.detector.stages.clock_charge import ClockCharge
from getframes_xr.detector.stages.common_mode import CommonMode
from getframes_xr.detector.stages.dark import DarkCurrent
from getframes_xr.detector.stages.dead_pixels import DeadPixels
from getframes_xr.detector.stages.gain import Gain
from getframes_xr.detector.stages.hot_pixels import HotPixels
from getframes_xr.detector.stages.multiplication import Multiplication
from getframes_xr.detector.stages.prnu import PhotoResponse
from getframes_xr.detector.stages.read_noise import ReadNoise
from getframes_xr.detector.stages.reset_noise import ResetNoise
from getframes_xr.detector.stages.row_noise import RowNoise
from getframes_xr.detector.stages.shot import ShotNoise
from tests.detector.frames import even, grid, run, within

N = 512 * 512


@pytest.mark.parametrize("mean", [0.01, 0.5, 3.0, 9.9, 10.1, 40.0, 2000.0, 1e5])
def test_shot_noise_has_the_distribution_of_poisson(mean: float) -> None:
    counts = run(ShotNoise(), {"expected_electrons": even(mean)})["electrons"].ravel()
    assert within(counts.mean(), mean, np.sqrt(mean / N))
    fourth = mean + 3 * mean**2
    assert within(counts.var(), mean, np.sqrt((fourth - mean**2) / N))
    low, high = stats.poisson.ppf([0.0005, 0.9995], np.float32(mean))
    edges = np.unique(np.linspace(low, high, 40).round())
    upper = stats.poisson.cdf(np.append(edges, np.inf), np.float32(mean))
    expected = np.diff(upper, prepend=0.0) * N
    seen = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    usable = expected > 10
    chi2 = ((seen - expected)[usable] ** 2 / expected[usable]).sum()
    assert stats.chi2.sf(chi2, usable.sum()) > 1e-4


def test_read_noise_is_normal_with_its_rms() -> None:
    noise = run(ReadNoise(rms_e=3.0), {"electrons": even(100.0)})["electrons"].ravel() - 100.0
    assert within(noise.mean(), 0.0, 3.0 / np.sqrt(N))
    assert within(noise.std(), 3.0, 3.0 / np.sqrt(2 * N))
    assert stats.kstest(noise / 3.0, "norm").pvalue > 1e-4


def test_read_noise_of_cmos_has_a_median_a_core_and_a_tail() -> None:
    stage = ReadNoise(rms_e=1.5, nonuniformity=0.3, telegraph_share=0.02, telegraph_factor=10.0)
    noise = run(stage, {"electrons": even(0.0, (64, 128, 128))})["electrons"]
    sigma = noise.std(axis=0, ddof=1)
    assert within(np.median(sigma), 1.5 * np.exp(0.3 * stats.norm.ppf(0.5 / 0.98)), 2e-2)
    wide = (sigma > 6.0).mean()
    assert within(wide, 0.02, np.sqrt(0.02 / sigma.size) + 0.001)


def test_read_noise_is_new_in_each_frame_and_its_sigma_is_not() -> None:
    stage = ReadNoise(rms_e=1.5, nonuniformity=0.5)
    noise = run(stage, {"electrons": even(0.0, (40, 96, 96))})["electrons"]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 5 / 96
    first, second = noise[:20].std(axis=0), noise[20:].std(axis=0)
    assert np.corrcoef(np.log(first).ravel(), np.log(second).ravel())[0, 1] > 0.8


@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_prnu_has_unit_mean_and_its_rms_and_is_fixed(sigma: float) -> None:
    light = run(PhotoResponse(rms=sigma), {"expected_electrons": even(1.0, (2, 512, 512))})["expected_electrons"]
    assert (light[0] == light[1]).all()
    assert within(light[0].mean(), 1.0, np.sqrt(np.expm1(sigma**2) / N) + 1e-7)
    assert within(np.log(light[0]).std(), sigma, sigma / np.sqrt(2 * N) + 1e-7)


def test_prnu_belongs_to_the_serial() -> None:
    one = run(PhotoResponse(), {"expected_electrons": even(1.0)}, fixed_key=(1, 1))["expected_electrons"].ravel()
    two = run(PhotoResponse(), {"expected_electrons": even(1.0)}, fixed_key=(1, 2))["expected_electrons"].ravel()
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(N)


def test_dark_current_doubles_at_its_step_and_grows_with_time() -> None:
    stage = DarkCurrent(rate_e_per_s=0.4, reference_temperature_c=20.0, doubling_temperature_c=6.0)
    zero = {"expected_electrons": even(0.0, (1, 4, 4))}
    for temperature, factor in ((20.0, 1.0), (26.0, 2.0), (8.0, 0.25)):
        out = run(stage, dict(zero), on=grid((1, 4, 4), 50.0, temperature))["expected_electrons"]
        assert out == pytest.approx(20.0 * factor, rel=1e-6)


def test_dark_nonuniformity_has_unit_mean_and_leaves_light_alone() -> None:
    stage = DarkCurrent(rate_e_per_s=2.0, nonuniformity=0.4)
    out = run(stage, {"expected_electrons": even(7.0)})["expected_electrons"] - 7.0
    assert within(out.mean(), 2.0, 2.0 * np.sqrt(np.expm1(0.16) / N))
    assert within(np.log(out / 2.0).std(), 0.4, 0.4 / np.sqrt(2 * N) + 1e-5)


def test_hot_pixels_are_a_share_with_an_exponential_tail_and_flagged() -> None:
    stage = HotPixels(fraction=0.02, mean_e_per_s=50.0, least_e_per_s=5.0)
    planes = {"expected_electrons": even(0.0), "flags": np.zeros((1, 512, 512), np.uint16)}
    out = run(stage, planes, on=grid((1, 512, 512), 2.0))
    hot = out["expected_electrons"] > 0
    assert within(hot.mean(), 0.02, np.sqrt(0.02 / N))
    assert ((out["flags"] == 8) == hot).all()
    assert stats.kstest(out["expected_electrons"][hot] / 2.0 - 5.0, "expon", args=(0, 50.0)).pvalue > 1e-4


def test_dead_pixels_and_bad_columns_hold_nothing_and_are_flagged() -> None:
    flags = np.zeros((2, 512, 512), np.uint16)
    dead = run(DeadPixels(fraction=0.01), {"electrons": even(9.0, flags.shape), "flags": flags.copy()})
    assert ((dead["electrons"] == 0) == (dead["flags"] == 16)).all()
    assert within((dead["flags"][0] > 0).mean(), 0.01, np.sqrt(0.01 / N))
    assert (dead["flags"][0] == dead["flags"][1]).all()
    bad = run(BadColumns(fraction=0.1), {"electrons": even(9.0, flags.shape), "flags": flags.copy()})
    columns = (bad["electrons"][0] == 0).all(axis=0)
    assert (bad["flags"][0] == np.where(columns, 32, 0)).all() and (bad["electrons"][0][:, ~columns] == 9).all()
    assert within(columns.mean(), 0.1, np.sqrt(0.09 / 512))


def test_clock_charge_is_poisson() -> None:
    out = run(ClockCharge(mean_e=0.3), {"electrons": even(5.0)})["electrons"] - 5.0
    assert within(out.mean(), 0.3, np.sqrt(0.3 / N))
    assert within(out.var(), 0.3, np.sqrt((0.3 + 2 * 0.09) / N))


def test_reset_noise_is_normal() -> None:
    out = run(ResetNoise(rms_e=12.0), {"electrons": even(0.0)})["electrons"]
    assert within(out.std(), 12.0, 12.0 / np.sqrt(2 * N))


@pytest.mark.parametrize(("gain", "stages"), [(300.0, 536), (2.0, 8), (1.1, 100)])
def test_multiplication_has_the_excess_noise_of_its_register(gain: float, stages: int) -> None:
    """Robbins & Hadwen (2003): F^2 = 2 (G - 1) G^-((S + 1) / S) + 1 / G."""
    stage = Multiplication(gain=gain, stages=stages)
    excess = 2 * (gain - 1) * gain ** (-(stages + 1) / stages) + 1 / gain
    assert stage.excess_noise_squared == pytest.approx(excess, rel=1e-12)
    charge = 20.0
    out = run(stage, {"electrons": even(charge)})["electrons"]
    variance = charge * gain**2 * (excess - 1)
    assert within(out.mean(), charge * gain, np.sqrt(variance / N))
    shape = charge / (excess - 1)
    assert within(out.var(), variance, variance * np.sqrt((2 + 6 / shape) / N))


def test_one_electron_at_large_gain_is_exponential() -> None:
    out = run(Multiplication(gain=1000.0, stages=100000 // 50), {"electrons": even(1.0)})["electrons"].ravel()
    excess = Multiplication(gain=1000.0, stages=2000).excess_noise_squared - 1
    assert stats.kstest(out, "gamma", args=(1 / excess, 0, 1000.0 * excess)).pvalue > 1e-4


def test_row_noise_moves_rows_and_common_mode_frames() -> None:
    rows = run(RowNoise(rms_e=2.0), {"electrons": even(0.0, (20, 256, 8))})["electrons"]
    assert (rows == rows[:, :, :1]).all()
    assert within(rows[:, :, 0].std(), 2.0, 2.0 / np.sqrt(2 * 20 * 256))
    frames = run(CommonMode(rms_adu=2.0), {"adu": even(0.0, (2000, 2, 2))})["adu"]
    assert (frames == frames[:, :1, :1]).all()
    assert within(frames[:, 0, 0].std(), 2.0, 2.0 / np.sqrt(2 * 2000))


def test_bias_structure_is_a_plane_columns_and_pixels_and_the_same_in_every_frame() -> None:
    plane = run(BiasStructure(plane_adu=10.0, column_rms_adu=0.0), {"adu": even(0.0, (2, 40, 60))})["adu"]
    assert (plane[0] == plane[1]).all() and np.abs(plane).max() <= 10.0
    assert np.diff(plane[0], 2, axis=0) == pytest.approx(0.0, abs=2e-6)
    columns = run(BiasStructure(column_rms_adu=3.0), {"adu": even(0.0, (1, 2, 4096))})["adu"][0]
    assert (columns[0] == columns[1]).all() and within(columns[0].std(), 3.0, 3.0 / np.sqrt(2 * 4096))
    pixels = run(BiasStructure(column_rms_adu=0.0, pixel_rms_adu=2.0), {"adu": even(0.0)})["adu"]
    assert within(pixels.std(), 2.0, 2.0 / np.sqrt(2 * N))


def test_a_spread_of_amplifier_gains_stays_positive_and_is_one_number_each() -> None:
    out = run(Gain(e_per_adu=1.0, layout=(4, 8), spread=0.5), {"electrons": even(1.0, (1, 64, 64))})["adu"][0]
    blocks = out.reshape(4, 16, 8, 8).transpose(0, 2, 1, 3).reshape(32, -1)
    assert (blocks == blocks[:, :1]).all() and len(np.unique(blocks[:, 0])) == 32
    assert (blocks > 0).all() and within(np.log(blocks[:, 0]).std(), 0.5, 0.5 / np.sqrt(64))
