"""Where charge goes: kept, spilled, coupled, caught; against closed forms and twins in tests/reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from getframes_xr.core.errors import OptionError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.detector.stages.adc import Converter
from getframes_xr.detector.stages.bias import Bias
from getframes_xr.detector.stages.blooming import Blooming
from getframes_xr.detector.stages.cosmic_rays import CosmicRays, paint
from getframes_xr.detector.stages.cti import ParallelTransferLoss, SerialTransferLoss
from getframes_xr.detector.stages.diffusion import ChargeDiffusion
from getframes_xr.detector.stages.full_well import FullWell
from getframes_xr.detector.stages.gain import Gain
from getframes_xr.detector.stages.glow import Glow
from getframes_xr.detector.stages.ipc import InterPixelCapacitance
from getframes_xr.detector.stages.nonlinearity import Nonlinearity
from getframes_xr.detector.stages.persistence import Persistence
from getframes_xr.detector.stages.quantum_efficiency import QuantumEfficiency
from getframes_xr.detector.stages.shot import ShotNoise
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.engine.stage import Place
from getframes_xr.engine.staged import Staged
from tests.detector.frames import even, grid, run, within
from tests.reference import detector as reference


def no_flags(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.uint16)


def spiky(shape: tuple[int, int, int], seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.2, 4000.0, shape).astype(np.float32)


def test_each_colour_has_its_efficiency_and_truth_is_light_times_it() -> None:
    stage = QuantumEfficiency(efficiency=0.5, red=0.25, green=0.75)
    out = run(stage, {"photons": even(100.0, (1, 4, 6))}, on=grid((1, 4, 6), cfa="GRBG"))
    expected = np.tile([[75.0, 25.0], [50.0, 75.0]], (2, 3))
    assert (out["expected_electrons"][0] == expected).all() and (out["truth_electrons"][0] == expected).all()
    mono = run(stage, {"photons": even(100.0, (1, 2, 2))})
    assert (mono["truth_electrons"] == 50.0).all()


def test_a_full_well_clips_and_flags() -> None:
    charge = np.array([[[10.0, 99.0, 100.0, 1e7]]], np.float32)
    out = run(FullWell(full_well_e=100.0), {"electrons": charge, "flags": no_flags(charge.shape)})
    assert out["electrons"].tolist() == [[[10.0, 99.0, 100.0, 100.0]]]
    assert out["flags"].tolist() == [[[0, 0, 2, 2]]]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_blooming_spills_as_its_formula(seed: int) -> None:
    charge = spiky((2, 40, 12), seed)
    out = run(Blooming(full_well_e=1500.0), {"electrons": charge.copy(), "flags": no_flags(charge.shape)})
    for at in range(2):
        assert out["electrons"][at] == pytest.approx(reference.blooming(charge[at], 1500.0), rel=1e-6)
    gained = out["electrons"] > charge
    assert ((out["flags"] & Flag.BLOOMED > 0) == gained).all()
    assert ((out["flags"] & Flag.SATURATED > 0) == (out["electrons"] >= 1500.0)).all()


def test_blooming_keeps_all_charge_that_does_not_reach_an_end() -> None:
    charge = np.full((1, 101, 3), 100.0, np.float32)
    charge[0, 50, 1] = 20_000.0
    out = run(Blooming(full_well_e=1000.0), {"electrons": charge.copy(), "flags": no_flags(charge.shape)})["electrons"]
    assert out.sum() == pytest.approx(charge.sum(dtype=np.float64), rel=1e-9)
    assert out.max() <= 1000.0 and (out[0, :, 0] == 100.0).all()
    assert (out[0, :, 1] == out[0, ::-1, 1]).all()


def test_coupling_is_the_convolution_and_charge_leaves_at_the_edge() -> None:
    charge = spiky((1, 30, 20))
    out = run(InterPixelCapacitance(coupling=0.02), {"electrons": charge.copy()})["electrons"][0]
    assert out == pytest.approx(reference.coupling(charge[0], 0.02), rel=1e-5)
    edge = charge[0, 0].sum() + charge[0, -1].sum() + charge[0, :, 0].sum() + charge[0, :, -1].sum()
    assert out.sum() == pytest.approx(charge.sum(dtype=np.float64) - 0.02 * float(edge), rel=1e-6)


def test_coupling_correlates_neighbours_and_lowers_the_variance() -> None:
    a, mu = 0.02, 400.0
    chain = (ShotNoise(), InterPixelCapacitance(coupling=a))
    out = run(chain, {"expected_electrons": even(mu, (4, 512, 512))})["electrons"][:, 1:-1, 1:-1] - mu
    n = out.size
    k = 1 - 4 * a
    assert within(out.var(), mu * (k * k + 4 * a * a), mu * np.sqrt(2 / n) * 1.2)
    for lag, expected in (((0, 1), 2 * a * k), ((1, 0), 2 * a * k), ((1, 1), 2 * a * a), ((0, 2), a * a)):
        there = out[:, lag[0] :, lag[1] :]
        here = out[:, : out.shape[1] - lag[0], : out.shape[2] - lag[1]]
        assert within((there * here).mean(), mu * expected, mu / np.sqrt(n))


def test_bright_charge_is_cut_before_it_couples() -> None:
    charge = np.zeros((1, 5, 5), np.float32)
    charge[0, 2, 2] = 1e7
    chain = (FullWell(full_well_e=6e4), InterPixelCapacitance(coupling=0.01))
    out = run(chain, {"electrons": charge, "flags": no_flags(charge.shape)}, want=("electrons",))["electrons"][0]
    assert out[2, 1] == pytest.approx(600.0) and out[2, 2] == pytest.approx(57600.0)


def test_diffusion_keeps_charge_and_widens_by_its_fwhm() -> None:
    charge = np.zeros((1, 41, 41), np.float32)
    charge[0, 20, 20] = 1e4
    out = run(ChargeDiffusion(fwhm_px=2.5), {"expected_electrons": charge})["expected_electrons"][0]
    assert out.sum() == pytest.approx(1e4, rel=1e-6)
    offset = np.arange(41) - 20
    variance = (out.sum(axis=1) * offset**2).sum() / out.sum()
    assert variance == pytest.approx((2.5 / 2.35482) ** 2 + 1 / 12, rel=2e-3)  # Sheppard: the pixel adds 1/12
    assert out == pytest.approx(out.T, rel=1e-6) and out == pytest.approx(out[::-1], rel=1e-6)


def test_nonlinearity_follows_its_polynomial_and_never_turns_back() -> None:
    charge = np.linspace(0, 3e5, 1000, dtype=np.float32).reshape(1, 1, 1000)
    out = run(Nonlinearity(full_well_e=6e4, coefficients=(-0.02, 0.005)), {"electrons": charge.copy()})["electrons"]
    u = np.clip(charge.astype(float) / 6e4, 0, 1)
    assert out == pytest.approx(charge * (1 - 0.02 * u + 0.005 * u * u), rel=1e-6)
    assert (np.diff(out[0, 0]) > 0).all()
    with pytest.raises(OptionError, match="turns back at 0.5"):
        Nonlinearity(full_well_e=6e4, coefficients=(-1.0,))


@pytest.mark.parametrize("where", ["edges", "top_left", "bottom_right"])
def test_glow_has_its_mean_over_the_sensor(where: str) -> None:
    stage = Glow(mean_e_per_s=0.2, scale_px=15.0, where=where)
    out = run(stage, {"expected_electrons": even(0.0, (1, 90, 130))}, on=grid((1, 90, 130), 10.0))["expected_electrons"]
    assert out.mean() == pytest.approx(2.0, rel=1e-5)
    at = {"edges": (0, 60), "top_left": (0, 0), "bottom_right": (-1, -1)}[where]
    assert out[0][at] == out.max()


@given(
    st.lists(st.floats(-100, 5000, width=32), min_size=4, max_size=4),
    st.sampled_from([(12, 0), (12, 4), (8, 2), (20, 0)]),
)
def test_the_converter_rounds_half_to_even_cuts_and_shifts(values: list[float], word: tuple[int, int]) -> None:
    bits, shift = word
    given_values = np.array([*values, 0.5, 1.5, 2.5, 4094.5], np.float32).reshape(1, 2, 4)
    out = run(Converter(bits=bits, store_shift=shift), {"adu": given_values, "flags": no_flags(given_values.shape)})
    assert (out["adu"] == reference.converted(given_values, bits, shift)).all()
    assert out["adu"].dtype == (np.uint16 if bits + shift <= 16 else np.uint32)
    assert ((out["flags"] == 2) == (out["adu"] == ((2**bits - 1) << shift))).all()


def test_the_converter_adds_a_twelfth_of_a_step_squared() -> None:
    values = np.random.default_rng(1).normal(1000.0, 20.0, (1, 512, 512)).astype(np.float32)
    out = run(Converter(), {"adu": values.copy(), "flags": no_flags(values.shape)})["adu"].astype(float)
    assert within((out - values).var(), 1 / 12, np.sqrt(1 / 180 / values.size))


def test_amplifiers_meet_exactly_at_their_split() -> None:
    gain = Gain(e_per_adu=2.0, layout=(1, 2), factors=(1.0, 1.25))
    out = run(
        (gain, Bias(offset_adu=10.0, layout=(2, 1), amplifier_offsets_adu=(0.0, 5.0))),
        {"electrons": even(100.0, (1, 4, 7))},
    )
    assert out["adu"][0, 0].tolist() == [60.0] * 4 + [50.0] * 3
    assert out["adu"][0, 2].tolist() == [65.0] * 4 + [55.0] * 3


@pytest.mark.parametrize(("loss", "row"), [(1e-3, 2000), (1e-3, 500), (1e-5, 2000)])
def test_a_packet_arrives_late_as_the_negative_binomial_says(loss: float, row: int) -> None:
    charge = np.zeros((1, 2048, 2), np.float32)
    charge[0, row, 1] = 1000.0
    out = run(ParallelTransferLoss(loss=loss), {"electrons": charge.copy()})["electrons"][0]
    expected = 1000.0 * stats.nbinom.pmf(np.arange(2048 - row), row + 1, 1 - loss)
    assert out[row:, 1] == pytest.approx(expected, rel=1e-6, abs=1e-5) and not out[:row].any() and not out[:, 0].any()
    high = run(ParallelTransferLoss(loss=loss, register_end="high"), {"electrons": charge[:, ::-1].copy()})[
        "electrons"
    ][0]
    assert (high == out[::-1]).all()
    serial = run(SerialTransferLoss(loss=loss), {"electrons": charge.transpose(0, 2, 1).copy()})["electrons"][0]
    assert serial == pytest.approx(out.T, abs=1e-4)


@pytest.mark.parametrize("stage", [ParallelTransferLoss, SerialTransferLoss])
def test_an_even_frame_loses_one_share_everywhere(stage: type[ParallelTransferLoss]) -> None:
    out = run(stage(loss=2e-3), {"electrons": even(500.0, (1, 300, 300))})["electrons"]
    assert out == pytest.approx(500.0 * (1 - 2e-3), rel=1e-6)


# --- persistence -------------------------------------------------------------------------------------------------


def lit_once(well: float, charge: float, n: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    stage = Persistence(full_well_e=well, horizon_frames=50, period_frames=50, **options)  # type: ignore[arg-type]
    electrons = np.zeros((n, 64, 64), np.float32)
    electrons[0] = charge
    out = run(stage, {"electrons": electrons, "flags": no_flags(electrons.shape)}, on=grid(electrons.shape, 10.0))
    return out["electrons"], out["flags"]


def test_ghosts_follow_time_and_are_poisson() -> None:
    out, flags = lit_once(5e4, 2e4, 8, capture=(0.01, 0.02), release_time_s=(15.0, 100.0))
    start = np.arange(8) * 11.0
    expected = reference.ghosts([2e4] + [0.0] * 7, 5e4, (0.01, 0.02), (15.0, 100.0), start, np.full(8, 10.0))
    n = 64 * 64
    for at in range(1, 8):
        level = out[at] / (1 - 0.03)  # a share of the ghost itself is caught again
        assert within(level.mean(), expected[at], np.sqrt(expected[at] / n) + 1e-3 * expected[at])
        assert within(level.var(), expected[at], expected[at] * np.sqrt(2 / n) * 1.2, 6)
        assert (flags[at] == Flag.PERSISTENCE).all()


def test_a_pixel_offers_no_more_than_its_well_and_loses_what_is_caught() -> None:
    out, _ = lit_once(6e4, 1e8, 2, capture=(0.01,), release_time_s=(20.0,))
    assert (out[0] == np.float32(1e8 - 600.0)).all()
    assert out[1].mean() < 300.0


def test_all_that_is_caught_comes_back_where_no_time_is_lost() -> None:
    """Exposures that follow at once: releases sum up to the captured charge (times what is caught again)."""
    n = 40
    shape = (n, 32, 32)
    step = np.timedelta64(10_000_000_000, "ns")
    columns = {
        "frame": np.arange(n),
        "start": np.datetime64("2026-01-01", "ns") + np.arange(n) * step,
        "exposure_s": np.full(n, 10.0),
    }
    stage = Persistence(full_well_e=1e5, capture=(0.004,), release_time_s=(25.0,), horizon_frames=60, period_frames=60)
    electrons = np.zeros(shape, np.float32)
    electrons[0] = 5e4
    place = Grid(Span(0, 32), Span(0, 32), columns)
    out = run(stage, {"electrons": electrons, "flags": no_flags(shape)}, on=place)["electrons"]
    total = out.sum(axis=0).mean()
    assert within(total, 5e4, np.sqrt(200.0 / 1024) + 200.0 * np.exp(-390 / 25.0) + 0.1)


def test_an_exposure_alone_is_what_it_is_in_the_series() -> None:
    stage = Persistence(full_well_e=3000.0, horizon_frames=3, period_frames=4)
    planes = {"electrons": spiky((11, 8, 9)), "flags": no_flags((11, 8, 9))}
    frames = Staged(ArrayFrames(grid((11, 8, 9), 5.0), planes), (stage,), key=(1, 2))
    whole = frames.produce(frames.grid.window, ("electrons",))["electrons"]
    for at in range(11):
        alone = frames.produce(Window(Span(at, at + 1), Span(2, 5), Span(0, 9)), ("electrons",))["electrons"]
        assert alone[0].tobytes() == whole[at, 2:5].tobytes()


def test_contradicting_traps_are_refused() -> None:
    with pytest.raises(OptionError, match="one time per share"):
        Persistence(full_well_e=1e4, capture=(0.1, 0.1), release_time_s=(5.0,))
    with pytest.raises(OptionError, match="sum is below 1"):
        Persistence(full_well_e=1e4, capture=(0.6, 0.6), release_time_s=(5.0, 6.0))


# --- cosmic rays -------------------------------------------------------------------------------------------------


def test_a_track_leaves_all_its_charge_and_shares_follow_its_length() -> None:
    charge, flags = np.zeros((30, 40), np.float32), np.zeros((30, 40), np.uint16)
    tracks = np.array([[3.2, 4.9, 20.7, 31.4, 1000.0], [10.0, 10.0, 10.0, 10.0, 50.0], [5.0, 2.0, 5.0, 8.0, 60.0]])
    paint(tracks, 0, 0, charge, flags)
    assert charge.sum(dtype=np.float64) == pytest.approx(1110.0, rel=1e-6)
    assert ((charge > 0) == (flags == Flag.COSMIC)).all()
    line = np.zeros((30, 40), np.float32)
    paint(tracks[2:], 0, 0, line, np.zeros((30, 40), np.uint16))
    assert line[5, 1:10] == pytest.approx([0, 5, 10, 10, 10, 10, 10, 5, 0])


def test_tracks_are_cut_at_the_edge_and_the_same_in_every_window() -> None:
    tracks = np.random.default_rng(5).uniform(-10, 40, (200, 5)) * [1, 1, 1, 1, 20] + [0, 0, 0, 0, 300]
    whole = np.zeros((30, 32), np.float32)
    paint(tracks, 0, 0, whole, np.zeros((30, 32), np.uint16))
    part = np.zeros((7, 9), np.float32)
    paint(tracks, 12, 20, part, np.zeros((7, 9), np.uint16))
    assert part.tobytes() == np.ascontiguousarray(whole[12:19, 20:29]).tobytes()


def test_the_number_of_tracks_and_the_charge_are_as_the_rate_says() -> None:
    stage = CosmicRays(pixel_um=10.0, rate_per_cm2_s=2.0, thickness_um=10.0, charge_e_per_um=60.0, spread_e_per_um=12.0)
    place = grid((40, 256, 256), 100.0)
    spot = Place(place, place.window, (5, 6), (7, 8))
    lists = [stage.tracks(spot, frame, 100.0) for frame in range(40)]
    margin = 20
    mean = 2.0 * (296 * 1e-3) ** 2 * 100.0
    counts = np.array([len(tracks) for tracks in lists])
    assert within(counts.mean(), mean, np.sqrt(mean / 40))
    tracks = np.concatenate(lists)
    length = np.hypot(tracks[:, 2] - tracks[:, 0], tracks[:, 3] - tracks[:, 1])
    cosine = 1 / np.hypot(1.0, length)  # pitch = thickness, so the length in px is tan(theta)
    assert within((cosine**4).mean(), 0.5, np.sqrt(1 / 12 / len(cosine)))  # cos^4 is uniform
    per_um = tracks[:, 4] / (10.0 / cosine)
    expected = 60.0 + 12.0 * (np.log(2.0) + np.euler_gamma)  # mean of Moyal's law
    assert within(per_um.mean(), expected, 12.0 * np.pi / np.sqrt(2 * len(cosine)))
    assert tracks[:, 0].min() >= -margin - 0.5 and tracks[:, 0].max() <= 255.5 + margin


def test_the_border_is_hit_like_the_middle() -> None:
    stage = CosmicRays(pixel_um=2.0, rate_per_cm2_s=1e4, thickness_um=10.0)
    shape = (30, 48, 48)
    planes = {"electrons": np.zeros(shape, np.float32), "flags": no_flags(shape)}
    charge = run(stage, planes, on=grid(shape, 40.0))["electrons"]
    ring = np.ones((48, 48), bool)
    ring[1:-1, 1:-1] = False
    border, middle = charge[:, ring].mean(axis=1), charge[:, ~ring].mean(axis=1)
    error = np.hypot(border.std(), middle.std()) / np.sqrt(30)
    assert within(border.mean(), middle.mean(), error)


def test_no_time_no_tracks() -> None:
    shape = (2, 64, 64)
    planes = {"electrons": np.zeros(shape, np.float32), "flags": no_flags(shape)}
    out = run(CosmicRays(pixel_um=5.0, rate_per_cm2_s=1e4), planes, on=grid(shape, 0.0))
    assert not out["electrons"].any() and not out["flags"].any()
