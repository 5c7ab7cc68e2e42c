"""Laws of collapse along time: any window, any order of the axis, any tiling; bounded scratch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.vocabulary import STACK_PLANES, Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.engine import collapse
from getframes_xr.engine.ask import Ask, every
from getframes_xr.engine.collapse import Stacked
from getframes_xr.engine.producer import Selected
from getframes_xr.reduce import reject
from tests.frames import held_frames
from tests.strategies import windows

RULES = [example for kind in reject.RULES for example in reject.RULES[kind].examples()]
IDS = [f"{rule.kind}-{at}" for at, rule in enumerate(RULES)]


def cube(dtype, n=11, ny=23, nx=41, seed=3):
    """Frames with outliers, missing samples (NaN or flags), one pixel without any good sample."""
    rng = np.random.default_rng(seed)
    values = rng.normal(500, 12, (n, ny, nx))
    values[rng.random(values.shape) < 0.02] += 4000
    flags = np.where(rng.random(values.shape) < 0.03, int(Flag.HOT), 0).astype(np.uint16)
    flags[:, 4, 7] = int(Flag.DEAD)
    flags[2:, 9, 9] = int(Flag.SATURATED)
    if dtype == np.float32:
        values[rng.random(values.shape) < 0.05] = np.nan
    known = {"gain_e_per_adu": np.full(n, 1.5), "read_noise_e": np.linspace(3, 5, n)}
    return held_frames(values.astype(dtype), flags, y0=-3, x0=10, **known)


WHOLE = Window(Span(0, 1), Span(-3, 20), Span(10, 51))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32], ids=["u16", "f32"])
@pytest.mark.parametrize("rule", RULES, ids=IDS)
@given(window=windows(WHOLE), weighted=st.booleans())
def test_a_window_of_a_stack_is_the_stack_of_the_window(rule, dtype, window, weighted):
    weights = np.linspace(0.5, 2.0, 11) if weighted and rule.takes_weights else None
    stack = Stacked(cube(dtype), rule, weights)
    part, whole = stack.produce(window, stack.planes), stack.produce(WHOLE, stack.planes).view(window)
    for name in stack.planes:
        assert part[name].dtype == stack.planes[name].dtype
        assert part[name].tobytes() == np.ascontiguousarray(whole[name]).tobytes(), name


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@given(order=st.permutations(range(11)))
def test_the_order_of_the_time_axis_does_not_show(rule, order):
    frames = cube(np.float32)
    weights = np.linspace(0.5, 2.0, 11) if rule.takes_weights else None
    mixed = Selected(frames, np.array(order), frames.grid.y, frames.grid.x)
    straight = Stacked(frames, rule, weights)
    other = Stacked(mixed, rule, None if weights is None else weights[list(order)])
    for name in straight.planes:
        one, two = straight.produce(WHOLE, (name,))[name], other.produce(WHOLE, (name,))[name]
        assert one.tobytes() == two.tobytes(), name


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_strips_groups_and_bunches_do_not_show(rule, monkeypatch):
    frames = cube(np.uint16)
    at_once = Stacked(frames, rule).produce(WHOLE, STACK_PLANES)
    monkeypatch.setattr(collapse, "STRIP_BYTES", 20_000)
    monkeypatch.setattr(collapse, "GROUP_BYTES", 3_000)
    monkeypatch.setattr(collapse, "BUNCH_BYTES", 1_500)
    stack = Stacked(frames, rule)
    assert len(list(stack.tiles(WHOLE))) > 1
    in_pieces = stack.produce(WHOLE, STACK_PLANES)
    for name in STACK_PLANES:
        assert at_once[name].tobytes() == in_pieces[name].tobytes(), name


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32], ids=["u16", "f32"])
def test_a_stack_of_equal_frames_is_that_frame(rule, dtype):
    frame = np.random.default_rng(5).integers(100, 5000, (17, 70)).astype(dtype)
    n = 12
    frames = held_frames(
        np.repeat(frame[None], n, axis=0), gain_e_per_adu=np.full(n, 1.5), read_noise_e=np.full(n, 3.0)
    )
    stack = Stacked(frames, rule)
    made = stack.produce(stack.grid.window, stack.planes)
    np.testing.assert_array_equal(made["image"], frame.astype(np.float32))
    if rule.kind != "noise_model":  # its noise is the model's, not the samples'
        np.testing.assert_array_equal(made["noise"], 0)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_bands_are_stacked_each_by_itself(rule):
    rng = np.random.default_rng(8)
    n, bands = 10, ("red", "green", "blue")
    values = rng.normal(100, 5, (n, 3, 9, 40)).astype(np.float32)
    weights = rng.uniform(0.5, 2, (n, 3)) if rule.takes_weights else None
    known = {"gain_e_per_adu": np.full(n, 1.5), "read_noise_e": np.full(n, 3.0)}
    stack = Stacked(held_frames(values, bands=bands, **known), rule, weights)
    made = stack.produce(stack.grid.window, stack.planes)
    assert stack.grid.dims == ("band", "y", "x")
    for band in range(3):
        one = Stacked(held_frames(values[:, band], **known), rule, None if weights is None else weights[:, band])
        single = one.produce(one.grid.window, one.planes)
        for name in one.planes:
            assert made[name][band].tobytes() == single[name].tobytes(), name


def test_coverage_counts_good_samples_and_flags_tell_why_there_are_none():
    stack = Stacked(cube(np.float32), reject.SigmaClip(kappa=3.0))
    made, frames = stack.produce(WHOLE, stack.planes), stack.parent
    values, flags = frames.arrays["image"], frames.arrays["flags"]
    good = np.isfinite(values) & ((flags & (Flag.DEAD | Flag.HOT)) == 0)
    np.testing.assert_array_equal(made["coverage"], good.sum(axis=0))
    assert (made["count"] <= made["coverage"]).all()
    assert made["flags"][4, 7] == Flag.DEAD | Flag.NO_DATA and np.isnan(made["image"][4, 7])
    assert made["flags"][9, 9] == Flag.SATURATED and np.isfinite(made["image"][9, 9])
    assert np.count_nonzero(made["flags"]) == np.count_nonzero(made["coverage"] == 0) + 1


def test_noise_is_the_scatter_of_stacks_of_many_nights():
    """Means of N = 20 Gaussian samples scatter by sigma / sqrt(20); the noise says so within 5 errors of its mean."""
    rng = np.random.default_rng(11)
    n, pixels, sigma = 20, 20_000, 7.0
    for rule in (reject.Mean(), reject.Median(), reject.SigmaClip(kappa=3.0), reject.Winsor(), reject.MinMax(),
                 reject.Percentile()):  # fmt: skip
        frames = held_frames(rng.normal(0, sigma, (n, 100, 200)).astype(np.float32))
        made = Stacked(frames, rule).produce(Window(Span(0, 1), Span(0, 100), Span(0, 200)), ("image", "noise"))
        scatter = made["image"].std()
        error = scatter / np.sqrt(2 * pixels)
        claimed = np.sqrt(np.mean(made["noise"].astype(np.float64) ** 2))
        # clipping and the normal theory of the median are asymptotic: 4 % at N = 20
        assert abs(claimed - scatter) < 5 * error + 0.04 * scatter, rule.kind


def test_noise_with_weights_is_right_for_frames_of_unequal_noise():
    rng = np.random.default_rng(12)
    sigma = np.array([2.0, 2.0, 5.0, 9.0] * 8)
    frames = held_frames((rng.normal(0, 1, (32, 100, 200)) * sigma[:, None, None]).astype(np.float32))
    window = Window(Span(0, 1), Span(0, 100), Span(0, 200))
    made = Stacked(frames, reject.Mean(), 1 / sigma**2).produce(window, ("image", "noise", "weight"))
    truth = np.sqrt(1 / np.sum(1 / sigma**2))
    assert abs(made["image"].std() / truth - 1) < 5 / np.sqrt(2 * 20_000)
    assert abs(np.sqrt(np.mean(made["noise"].astype(np.float64) ** 2)) / truth - 1) < 0.02
    np.testing.assert_allclose(made["weight"], np.sum(1 / sigma**2), rtol=1e-6)


def test_scratch_does_not_grow_with_the_number_of_frames():
    window = Window(Span(0, 1), Span(0, 400), Span(0, 600))
    peaks = []
    for n in (500, 1000):
        frames = held_frames(np.broadcast_to(np.zeros((1, 400, 600), np.uint16), (n, 400, 600)))
        stack = Stacked(frames, reject.Median())
        peaks.append(stack.peak_bytes(window, stack.planes))
        tile = next(iter(stack.tiles(window)))
        assert n * len(tile.y) * len(tile.x) * 2 <= collapse.STRIP_BYTES
    assert max(peaks) < 1.5 * collapse.STRIP_BYTES


def test_a_footprint_that_grows_with_the_width_asks_for_square_tiles():
    class Turned(Selected):
        """Needs as many rows more as the window is wide, as a rotated frame does."""

        def inputs(self, window, planes, few=every):
            yield Ask(self.parent, Window(window.frames, window.y.grow(len(window.x) // 2), window.x), planes)

    frames = held_frames(np.broadcast_to(np.zeros((1, 2000, 2000), np.uint16), (600, 2000, 2000)))
    window = Window(Span(0, 1), Span(0, 2000), Span(0, 2000))
    straight = next(iter(Stacked(frames, reject.Median()).tiles(window)))
    turned = next(iter(Stacked(Turned(frames, None, Span(0, 2000), Span(0, 2000)), reject.Median()).tiles(window)))
    assert len(straight.x) == 2000 and len(straight.y) < 100
    assert abs(len(turned.x) - len(turned.y)) <= 1


def test_a_stack_is_pickled_whole():
    stack = Stacked(cube(np.uint16), reject.SigmaClip(kappa=2.5), np.linspace(1, 2, 11), facts={"frames_left_out": 2})
    again = pickle.loads(pickle.dumps(stack))
    assert again == stack and again.grid.attrs["frames_left_out"] == 2
    assert again.produce(WHOLE, ("image",))["image"].tobytes() == stack.produce(WHOLE, ("image",))["image"].tobytes()


def test_facts_shared_by_all_frames_are_told():
    frames = held_frames(np.zeros((3, 4, 4)), exposure_s=[30.0, 30.0, 30.001], bias_adu=[100.0, 100.0, 120.0])
    attrs = Stacked(frames, reject.Mean()).grid.attrs
    assert attrs["exposure_s"] == 30.0 and attrs["frames"] == 3 and "bias_adu" not in attrs
    assert attrs["total_exposure_s"] == pytest.approx(90.001)


@pytest.mark.parametrize(
    "weights, words",
    [(np.ones(5), "shape"), (np.zeros(11), "positive"), (np.full(11, np.nan), "positive"), (np.ones((11, 3)), "shape")],
)
def test_weights_that_do_not_fit_are_refused(weights, words):
    with pytest.raises(DataError, match=words):
        Stacked(cube(np.uint16), reject.Mean(), weights)


def test_a_median_refuses_weights():
    with pytest.raises(OptionError, match="Median"):
        Stacked(cube(np.uint16), reject.Median(), np.ones(11))


def test_a_noise_model_without_known_noise_is_refused():
    with pytest.raises(DataError, match="read_noise_e"):
        Stacked(held_frames(np.zeros((3, 4, 4), np.float32)), reject.NoiseModel(), None)


def test_chunks_of_a_stack_are_strips_and_squares_where_strips_cost_too_much():
    class Turned(Selected):
        def inputs(self, window, planes, few=every):
            yield Ask(self.parent, Window(window.frames, window.y.grow(len(window.x) // 2), window.x), planes)

    frames = held_frames(np.broadcast_to(np.zeros((1, 2000, 2100), np.uint16), (4, 2000, 2100)))
    turned = Turned(frames, None, Span(0, 2000), Span(0, 2100))
    assert Stacked(frames, reject.Mean()).preferred_chunks == (1, 250, 2100)
    assert Stacked(turned, reject.Mean()).preferred_chunks == (1, 512, 512)
