"""Light curves are averaged over the exposure, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from getframes_xr.core.errors import OptionError
from getframes_xr.light.column import Column
from getframes_xr.light.light_curve import LIGHT_CURVES, LightCurve
from getframes_xr.light.sources import Stars
from tests.light.small import frames, light, scene

CASES = [(kind, n) for kind in LIGHT_CURVES for n in range(len(LIGHT_CURVES[kind].examples()))]


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_the_mean_over_an_exposure_is_the_integral_of_instants(kind: str, n: int) -> None:
    curve = LIGHT_CURVES[kind].examples()[n]
    for start, stop in [(-50.0, 20.0), (90.0, 130.0), (1990.0, 2010.0), (0.0, 5000.0), (3999.0, 4001.0)]:
        corners = [t for t in (0, 100, 110, 400, 2000, 4000) if start < t < stop]
        total = quad(lambda t: float(curve.mean(t, t)), start, stop, points=corners or None, limit=500)[0]
        assert float(curve.mean(start, stop)) == pytest.approx(total / (stop - start), rel=1e-7)
    assert curve.peak >= float(np.max(curve.mean(np.arange(5000.0), np.arange(5000.0))))


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_a_light_curve_survives_its_toml(kind: str, n: int) -> None:
    curve = LIGHT_CURVES[kind].examples()[n]
    assert LIGHT_CURVES.build(curve.to_dict()) == curve


def test_a_dip_of_two_seconds_takes_its_share_of_ten() -> None:
    curve = LightCurve.box(depth=0.5, start_s=2.0, stop_s=4.0)
    assert float(curve.mean(0.0, 10.0)) == pytest.approx(0.9)  # spec/simulate.md D15: 9000 of 10000


def test_a_sinusoid_over_its_whole_period_is_one() -> None:
    curve = LightCurve.sinusoid(amplitude=1.0, period_s=10.0, phase=0.25)
    assert curve.mean(np.array([0.0, 10.0]), np.array([10.0, 20.0])) == pytest.approx(np.ones(2))  # D15: 10000 each


def test_a_transit_is_a_trapezoid() -> None:
    curve = LightCurve.transit(depth=0.02, mid_s=1000.0, duration_s=400.0, ingress_s=100.0)
    instants = curve.mean(np.array([700.0, 850.0, 1000.0, 1150.0]), np.array([700.0, 850.0, 1000.0, 1150.0]))
    assert instants == pytest.approx([1.0, 0.99, 0.98, 0.99])
    assert LightCurve.transit(0.02, 1000.0, 400.0, 200.0).mean(1000.0, 1000.0) == pytest.approx(0.98)
    with pytest.raises(OptionError, match="ingress_s"):
        LightCurve.transit(0.02, 1000.0, 400.0, 300.0)


def test_a_light_curve_dims_its_star_and_no_other() -> None:
    curve = LightCurve.box(depth=0.5, start_s=2.0, stop_s=4.0)
    options = {"y": [20, 50], "x": [20, 50], "magnitude": [10, 10], "name": ["one", "two"]}
    plain = light(frames([Stars(**options)]))
    dimmed = light(frames([Stars(**options, light_curve={"two": curve})]))
    assert (dimmed[0, :35, :35] == plain[0, :35, :35]).all()
    assert dimmed[0, 40:, 40:].sum(dtype=float) == pytest.approx(0.9 * plain[0, 40:, 40:].sum(dtype=float), rel=1e-6)


def test_truth_counts_the_whole_source() -> None:
    curve = LightCurve.box(depth=0.01, start_s=15.0, stop_s=27.0)
    stars = Stars(y=[20, -30], x=[20, 5], magnitude=[10, 11], name=["b", "a"], light_curve={"b": curve, "a": curve})
    producer = frames([stars], n=4)
    truth = scene([stars]).truth_light_curve(_night())
    assert truth.dims == ("time", "source") and list(truth["name"].values) == ["b", "a"]
    seen = light(producer).sum(axis=(1, 2), dtype=float)
    assert truth.values[:, 0] == pytest.approx(seen, rel=2e-6)  # "a" stands off the frame
    assert truth.values[:, 1] / truth.values[0, 1] == pytest.approx(truth.values[:, 0] / truth.values[0, 0])
    assert truth.attrs["units"] == "photon"


def _night():
    from getframes_xr.light.exposures import Exposures

    return Exposures(n=4, exposure_s=10.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LightCurve.box(depth=2.0, start_s=0, stop_s=1),
        lambda: LightCurve.box(depth=0.1, start_s=1, stop_s=1),
        lambda: LightCurve.table([0, 1, 1], [1, 1, 1]),
        lambda: LightCurve.table([0, 1], [1, -1]),
        lambda: LightCurve.table([0, 1], [1]),
        lambda: LightCurve.table([0, float("nan")], [1, 1]),
        lambda: LightCurve.sinusoid(amplitude=2.0, period_s=1.0),
    ],
)
def test_a_light_curve_that_means_nothing_is_refused(make) -> None:
    with pytest.raises(OptionError):
        make()


def test_a_table_is_constant_beyond_its_ends() -> None:
    curve = LightCurve.table(Column([10.0, 20.0]), [1.0, 3.0])
    assert curve.mean([0, 20, 5], [10, 40, 25]) == pytest.approx([1.0, 3.0, (5 * 1 + 10 * 2 + 5 * 3) / 20])
