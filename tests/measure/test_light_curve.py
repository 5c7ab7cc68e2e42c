"""Light curves of stars that drift over the sensor."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.light_curve import light_curve, point_to_point
from getframes_xr.measure.registration import register
from getframes_xr.measure.stars import find_stars
from tests.frames import held_frames
from tests.measure.star_fields import noisy, scatter_stars, stars_image

SHAPE = (180, 220)
N = 24
DEPTH = 0.05


@pytest.fixture(scope="module")
def night():
    """24 frames: drift (0.9, -1.7) px per frame, clouds of 20 %, a box of 5 % in the target for frames 8..15."""
    rng = np.random.default_rng(51)
    places = scatter_stars(rng, 18, SHAPE, margin=45, apart=18)
    flux = np.geomspace(90000, 8000, 18)
    images = []
    for f in range(N):
        seen = flux * (1 - 0.2 * np.sin(f) ** 2)
        seen[1] *= 1 - DEPTH * (8 <= f < 16)
        images.append(noisy(rng, stars_image(SHAPE, *(places + f * np.array([0.9, -1.7])).T, seen, 3.0) + 80))
    images = np.stack(images)
    start = np.datetime64("2026-03-01T02:00:00", "ns") + np.arange(N) * np.timedelta64(60, "s")
    producer = held_frames(images, np.zeros(images.shape), units="electron", start=start, exposure_s=np.full(N, 20.0))
    clean = lazy(producer)
    return clean, register(find_stars(clean).load()), places


def test_the_dip_is_there_at_its_depth(night) -> None:
    clean, moves, places = night
    curve = light_curve(clean, moves, places[1], [places[0], places[2]]).load()
    inside = np.zeros(N, bool)
    inside[8:16] = True
    flux, error = curve["flux"].values, curve["flux_err"].values
    depth = 1 - flux[inside].mean() / flux[~inside].mean()
    sigma = np.sqrt((error[inside] ** 2).mean() / 8 + (error[~inside] ** 2).mean() / 16)
    assert abs(depth - DEPTH) < 5 * sigma
    assert sigma < DEPTH / 20
    rest = np.concatenate([flux[inside] / flux[inside].mean(), flux[~inside] / flux[~inside].mean()]) - 1
    assert 0.6 < rest.std() / np.median(error) < 1.5  # 22 degrees of freedom: 1 +- 0.15
    assert curve["radius_px"].values in curve["scatter"]["radius"].values
    assert float(curve["scatter"].min()) == float(curve["scatter"].sel(radius=curve["radius_px"]))


def test_stars_are_followed_over_the_sensor(night) -> None:
    clean, moves, places = night
    curve = light_curve(clean, moves, places[1] + [0.8, -0.6], [places[0]], radius_px=4.0).load()  # a rough click
    expected = places[1] + np.arange(N)[:, None] * np.array([0.9, -1.7])
    assert np.abs(curve["y"].values[:, 0] - expected[:, 0]).max() < 0.15
    assert np.abs(curve["x"].values[:, 0] - expected[:, 1]).max() < 0.15
    assert float(curve["radius_px"]) == 4.0


def test_positions_may_refer_to_another_frame(night) -> None:
    clean, moves, places = night
    here = light_curve(clean, moves, places[1], [places[0]], radius_px=4.0).load()
    shift = 10 * np.array([0.9, -1.7])
    there = light_curve(clean, moves, places[1] + shift, [places[0] + shift], radius_px=4.0, at=10).load()
    assert np.allclose(here["flux"], there["flux"], atol=1e-9)


def test_times_are_mid_exposure_and_order_and_chunks_do_not_matter(night) -> None:
    clean, moves, places = night
    one = light_curve(clean, moves, places[1], [places[0]]).load()
    assert one["time"].values[0] == np.datetime64("2026-03-01T02:00:10", "ns")
    other = light_curve(clean.isel(time=np.arange(N)[::-1]), moves, places[1], [places[0]], radius_px=4.0).load()
    again = light_curve(clean.chunk(time=5, y=60, x=220), moves, places[1], [places[0]], radius_px=4.0).load()
    four = light_curve(clean, moves, places[1], [places[0]], radius_px=4.0).load()
    assert other.sortby("frame")["flux"].values.tobytes() == four["flux"].values.tobytes()
    assert again["flux"].values.tobytes() == four["flux"].values.tobytes()


def test_it_computes_nothing_until_it_is_loaded(night, refuses_to_compute: None) -> None:
    clean, moves, places = night
    curve = light_curve(clean, moves, places[1], [places[0]])
    assert curve["flux"].chunks is not None


def test_frames_without_a_verdict_have_no_value(night) -> None:
    clean, moves, places = night
    moves = moves.copy(deep=True)
    moves["verified"].values[3], moves["transform"].values[3] = False, np.nan
    curve = light_curve(clean, moves, places[1], [places[0]], radius_px=4.0).load()
    assert np.isnan(curve["flux"].values[3]) and np.isfinite(np.delete(curve["flux"].values, 3)).all()


def test_scatter_from_point_to_point_is_the_noise_and_not_the_trend() -> None:
    rng = np.random.default_rng(52)
    curve = 1 + 0.3 * np.sin(np.arange(400) / 60) + rng.normal(0, 0.01, 400)
    assert point_to_point(curve) == pytest.approx(0.01 / curve.mean(), rel=0.15)


def test_bad_requests_are_refused(night) -> None:
    clean, moves, places = night
    with pytest.raises(OptionError, match="at least one"):
        light_curve(clean, moves, places[1], [])
    with pytest.raises(DataError, match="there is no frame 99"):
        light_curve(clean, moves, places[1], [places[0]], at=99)
    nothing = moves.copy(deep=True)
    nothing["verified"].values[:] = False
    with pytest.raises(RegistrationError, match="no frame is verified"):
        light_curve(clean, nothing, places[1], [places[0]])
