"""Rejection rules against their definitions, pixel by pixel, and what each of them is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from getframes_xr.core.errors import OptionError
from getframes_xr.engine.collapse import Samples, Stacked
from getframes_xr.reduce import reject
from tests.frames import held_frames
from tests.reference import stacking


def samples_of(values, weights=None, missing=None, **columns):
    values = np.ascontiguousarray(values)
    none = np.zeros((len(values), 0), bool)
    known = {name: np.asarray(column) for name, column in columns.items()}
    return Samples(values, none if missing is None else missing, weights, known, "adu")


def noisy(n, pixels=300, seed=0, dtype=np.float32, missing=0.05):
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 10, (n, pixels)) + np.where(rng.random((n, pixels)) < 0.03, 700, 0)
    values = values.astype(dtype)
    if dtype == np.float32:
        values[rng.random(values.shape) < missing] = np.nan
    return values


FLOATS = st.floats(-1e4, 1e4, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 5)), elements=FLOATS | st.just(np.nan)))
def test_every_rule_gives_what_its_kept_samples_give(values):
    for rule in (
        reject.Mean(),
        reject.SigmaClip(kappa=2.0),
        reject.Winsor(kappa=2.0),
        reject.MinMax(),
        reject.Percentile(),
    ):
        made = rule.collapse(samples_of(values)) if not rule.streams else finished(rule, values)
        for pixel, column in enumerate(values.T):
            n_good = np.count_nonzero(np.isfinite(column))
            assert made.count[pixel] <= n_good
            assert (made.count[pixel] == 0) == (n_good == 0)
            if n_good:
                assert np.nanmin(column) - 1e-2 <= made.value[pixel] <= np.nanmax(column) + 1e-2
            else:
                assert np.isnan(made.value[pixel])


def finished(rule, values, weights=None):
    state = rule.start(values.shape[1])
    rule.add(state, samples_of(values, weights))
    return rule.finish(state)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 15, 33, 64])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32], ids=["u16", "f32"])
def test_sigma_clip_keeps_what_the_definition_keeps(n, dtype):
    values = noisy(n, dtype=dtype, seed=n)
    made = reject.SigmaClip(kappa=2.5, kappa_low=2.0).collapse(samples_of(values))
    for pixel, column in enumerate(values.T):
        kept = stacking.sigma_clip(column, 2.5, 5, kappa_low=2.0)
        assert made.count[pixel] == len(kept)
        if len(kept):
            assert made.value[pixel] == pytest.approx(kept.mean(), rel=1e-12)


@pytest.mark.parametrize("n", [3, 5, 8, 20, 50])
def test_winsor_keeps_what_the_definition_keeps(n):
    values = noisy(n, seed=n)
    made = reject.Winsor(kappa=3.0).collapse(samples_of(values))
    for pixel, column in enumerate(values.T):
        kept = stacking.winsor(column, 3.0, 5)
        assert made.count[pixel] == len(kept)
        assert made.value[pixel] == pytest.approx(kept.mean(), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    "rule, drop",
    [
        (reject.MinMax(low=1, high=2), lambda n: (1, 2)),
        (reject.Percentile(low_percent=20, high_percent=10), lambda n: (n // 5, n // 10)),
    ],
)
def test_trimmed_means_and_their_noise_follow_tukey_and_mclaughlin(rule, drop):
    values = noisy(20, seed=4)
    made = rule.collapse(samples_of(values))
    for pixel, column in enumerate(values.T):
        kept, error2 = stacking.trimmed(column, *drop(np.count_nonzero(np.isfinite(column))))
        assert made.count[pixel] == len(kept)
        assert made.value[pixel] == pytest.approx(kept.mean(), rel=1e-12)
        assert made.noise[pixel] == pytest.approx(np.sqrt(error2), rel=1e-9)


def test_noise_model_keeps_what_the_definition_keeps():
    n = 7
    values, gain, read_noise = noisy(n, missing=0.1), np.linspace(1, 2, n), np.linspace(2, 8, n)
    rule = reject.NoiseModel(kappa=3.0, response_scatter=0.01)
    made = rule.collapse(samples_of(values, gain_e_per_adu=gain, read_noise_e=read_noise))
    for pixel, column in enumerate(values.T):
        good, variance = stacking.noise_model(column, gain, read_noise, 0.0, 3.0, 0.01)
        assert made.count[pixel] == good.sum()
        assert made.value[pixel] == pytest.approx(column[good].astype(float).mean(), rel=1e-12)
        assert made.noise[pixel] == pytest.approx(np.sqrt(variance[good].sum()) / good.sum(), rel=1e-12)


@pytest.mark.parametrize("kind", ["sigma_clip", "mean", "min_max"])
def test_weights_enter_mean_and_noise_as_the_formula_says(kind):
    n = 25
    values, weights = noisy(n, seed=9), np.linspace(0.2, 3.0, n)
    rule = reject.RULES[kind]()
    made = finished(rule, values, weights) if rule.streams else rule.collapse(samples_of(values, weights))
    plain = finished(rule, values) if rule.streams else rule.collapse(samples_of(values))
    for pixel, column in enumerate(values.T.astype(np.float64)):
        good = np.isfinite(column)
        if kind == "sigma_clip":
            kept = stacking.sigma_clip(column, 3.0, 5)
            good &= (column >= kept.min()) & (column <= kept.max())
        elif kind == "min_max":
            good &= (column != np.nanmin(column)) & (column != np.nanmax(column))
        mean, noise = stacking.weighted(column[good], weights[good])
        assert made.count[pixel] == good.sum() == plain.count[pixel]
        assert made.value[pixel] == pytest.approx(mean, rel=1e-12)
        assert made.weight[pixel] == pytest.approx(weights[good].sum(), rel=1e-12)
        if kind == "mean":
            assert made.noise[pixel] == pytest.approx(noise, rel=1e-9)


def test_missing_uint16_samples_take_no_part():
    rng = np.random.default_rng(2)
    values, missing = noisy(20, dtype=np.uint16), rng.random((20, 300)) < 0.2
    values[missing] = 65535
    as_floats = np.where(missing, np.nan, values).astype(np.float32)
    for rule in (reject.SigmaClip(kappa=3.0), reject.Median(), reject.Percentile()):
        one, two = rule.collapse(samples_of(values, missing=missing)), rule.collapse(samples_of(as_floats))
        np.testing.assert_array_equal(one.count, two.count)
        np.testing.assert_allclose(one.value, two.value, rtol=1e-12)


def test_real_samples_of_65535_are_not_taken_for_missing():
    values = np.full((6, 3), 65535, np.uint16)
    missing = np.zeros((6, 3), bool)
    missing[0, 0] = True
    made = reject.Median().collapse(samples_of(values, missing=missing))
    np.testing.assert_array_equal(made.value, 65535)
    np.testing.assert_array_equal(made.count, [5, 6, 6])


def one_outlier(rule, n, sigma_out=60.0, seed=1):
    """Mean bias, in units of the error of the mean, that one outlier among n samples leaves."""
    rng = np.random.default_rng(seed)
    values = rng.normal(400, 10, (n, 4000))
    values[n // 2] = 400 + sigma_out * 10
    known = {"gain_e_per_adu": np.full(n, 4.0), "read_noise_e": np.zeros(n)}
    made = rule.collapse(samples_of(values.astype(np.float32), **known))
    return (made.value.mean() - 400) / (10 / np.sqrt(n))


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_the_noise_model_finds_one_outlier_among_few(n):
    """Sigma 10 adu = sqrt(400 / 4): the outlier at 60 sigma goes, the bias left is that of n - 1 good samples: none."""
    assert abs(one_outlier(reject.NoiseModel(response_scatter=0.0), n)) < 5 / np.sqrt(4000) * np.sqrt(n / (n - 1))


def test_sigma_clipping_cannot_find_one_outlier_among_seven_but_among_nine():
    """N / sqrt(N - 1) > 3 needs N >= 8; noise of the others asks for one more."""
    assert one_outlier(reject.SigmaClip(kappa=3.0), 7, 1e4) > 100
    assert abs(one_outlier(reject.SigmaClip(kappa=3.0), 9, 1e4)) < 0.1


def test_winsor_finds_two_outliers_that_hide_each_other_from_sigma_clipping():
    rng = np.random.default_rng(3)
    values = rng.normal(100, 1, (12, 2000)).astype(np.float32)
    values[3] += 2000.0
    values[7] += 80.0
    clip, winsor = (rule.collapse(samples_of(values)) for rule in (reject.SigmaClip(maxiters=1), reject.Winsor()))
    assert clip.count.mean() > 10.9  # only the bright one goes in the first round
    assert winsor.count.mean() < 10.01 and abs(winsor.value.mean() - 100) < 5 / np.sqrt(10 * 2000)


def test_a_rule_knows_its_bounds():
    with pytest.raises(OptionError, match="SigmaClip.kappa"):
        reject.SigmaClip(kappa=0.0)
    with pytest.raises(OptionError, match="Percentile.low_percent"):
        reject.Percentile(low_percent=50.0)
    with pytest.raises(AttributeError, match="SigmaClip"):
        _ = reject.NoSuchRule


@pytest.mark.parametrize("kind", sorted(reject.RULES))
def test_a_rule_goes_through_a_table_of_options_and_back(kind):
    for rule in reject.RULES[kind].examples():
        assert reject.RULES.build(rule.to_dict()) == rule


def test_one_more_rule_is_one_class(tmp_path):
    """The worked example of the how-to: a rule that keeps the brightest half."""
    from typing import Literal

    from getframes_xr.engine.collapse import Lanes, WholeTimeRule

    class BrighterHalf(WholeTimeRule):
        kind: Literal["brighter_half"] = "brighter_half"

        def choose(self, lanes: Lanes) -> None:
            lanes.low += (lanes.high - lanes.low) // 2
            lanes.about_medians()
            lanes.take_means()

        @classmethod
        def examples(cls) -> tuple[BrighterHalf, ...]:
            return (cls(),)

    try:
        values = np.arange(40, dtype=np.float32).reshape(10, 2, 2)
        stack = Stacked(held_frames(values), BrighterHalf())
        made = stack.produce(stack.grid.window, ("image", "count"))
        np.testing.assert_array_equal(made["image"], values[5:].mean(axis=0))
        assert (made["count"] == 5).all()
    finally:
        reject.RULES._members.pop("brighter_half")
