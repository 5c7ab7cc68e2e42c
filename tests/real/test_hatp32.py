"""The transit of HAT-P-32 b from raw frames: depth, time and scatter, with the aperture chosen by the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import least_squares

from getframes_xr.io.session import open_session
from getframes_xr.measure.light_curve import light_curve, point_to_point
from getframes_xr.measure.registration import register
from getframes_xr.measure.stars import find_stars
from getframes_xr.reduce.calibrate import calibrate
from getframes_xr.reduce.cosmetic import cosmetic
from getframes_xr.reduce.normalise import normalise


@pytest.fixture(scope="module", params=["as it is", "with the cosmetic map"])
def curve(real: Path, request: pytest.FixtureRequest) -> xr.Dataset:
    lights = open_session(real / "hatp32")["lights"].to_dataset()
    defects = cosmetic(lights) if request.param == "with the cosmetic map" else None
    clean = calibrate(lights, cosmetic=defects)
    stars = find_stars(clean).load()
    moves = normalise(stars, register(stars))
    assert moves["used"].all()
    return light_curve(clean, moves, (286.0, 423.1), [(181.9, 463.9)]).load()


def trapezoid(p, hours):
    """Transit: (middle, duration T14, depth, ingress) times a quadratic baseline."""
    middle, duration, depth, ingress, a, b, c = p
    inside = np.clip((duration / 2 - np.abs(hours - middle)) / ingress, 0, 1)
    u = hours - 5
    return (a + b * u + c * u * u) * (1 - depth * inside)


def test_the_transit_is_where_and_as_deep_as_it_was(curve: xr.Dataset) -> None:
    hours = (curve["time"].values - np.datetime64("2017-12-20")) / np.timedelta64(1, "h")
    flux = curve["flux"].values
    assert np.isfinite(flux).all() and len(flux) == 142
    fit = least_squares(
        lambda p: trapezoid(p, hours) - flux, [4.96, 2.95, 0.022, 0.3, 1, 0, 0],
        x_scale=[0.1, 0.1, 0.01, 0.1, 0.01, 0.01, 0.01],
    )  # fmt: skip
    middle, _, depth = fit.x[:3]
    assert abs(middle - (4 + 57.5 / 60)) * 60 < 4.0
    assert 0.019 <= depth <= 0.026
    outside = np.abs(hours - middle) > fit.x[1] / 2
    assert np.std(fit.fun[outside]) <= 0.0072
    assert np.std(np.diff(flux)) / np.sqrt(2) <= 0.0064
    assert point_to_point(flux) <= 0.0064


def test_times_are_the_middle_of_the_exposure_in_ut(curve: xr.Dataset) -> None:
    assert curve["time"].values[0] == np.datetime64("2017-12-20T01:34:13.317")
