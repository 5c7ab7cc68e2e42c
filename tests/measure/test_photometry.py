"""Apertures: exact areas, honest errors, pixels that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.overlap import arc_tangent, overlap
from getframes_xr.measure.photometry import aperture_photometry
from tests.frames import held_frames
from tests.measure.star_fields import mosaic, noisy, scatter_stars, stars_image

SHAPE = (160, 200)


@given(st.floats(-1e6, 1e6))
def test_the_arc_tangent_is_that_of_the_library(value: float) -> None:
    assert arc_tangent(value) == pytest.approx(np.arctan(value), abs=4e-16, rel=4e-16)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.3, 12.0))
def test_the_shares_of_all_pixels_add_up_to_the_circle(dy: float, dx: float, radius: float) -> None:
    reach = int(radius) + 3
    total = sum(overlap(y - dy, x - dx, radius) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1))
    assert total == pytest.approx(np.pi * radius**2, rel=1e-12)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.2, 4.0))
def test_a_share_is_what_a_fine_grid_counts(dy: float, dx: float, radius: float) -> None:
    fine = (np.arange(400) + 0.5) / 400 - 0.5
    inside = (dy + fine[:, None]) ** 2 + (dx + fine[None, :]) ** 2 <= radius**2
    # a boundary of length <= 4 on a grid of 1/400: about 4 * 400 cells undecided, each half right
    assert abs(overlap(dy, dx, radius) - inside.mean()) < 4 * 400 / 400**2


def frames(images, flags=None, units="electron", **columns):
    images = np.asarray(images, np.float32)
    return lazy(held_frames(images, flags, units=units, exposure_s=np.full(len(images), 10.0), **columns))


def test_a_wide_circle_holds_all_the_light_and_the_sky_is_taken_away() -> None:
    places = np.array([[60.3, 70.8], [100.0, 130.5]])
    image = stars_image(SHAPE, *places.T, [10000.0, 5000.0], 3.0) + 77.0
    table = aperture_photometry(frames([image]), places, [8.0], (12.0, 20.0)).load()
    assert np.allclose(table["flux"].values[0, :, 0], [10000, 5000], rtol=1e-4)
    assert np.allclose(table["sky"].values, 77.0, atol=1e-3)


@pytest.mark.parametrize(("units", "gain"), [("electron", None), ("adu", 2.5)])
def test_pulls_have_unit_spread(units: str, gain: float | None) -> None:
    rng = np.random.default_rng(41)
    places = scatter_stars(rng, 12, SHAPE, margin=25, apart=32)
    light = stars_image(SHAPE, *places.T, np.geomspace(300, 60000, 12), 3.0) + 90
    images = np.stack([noisy(rng, light) for _ in range(40)])
    columns = {} if gain is None else {"gain_e_per_adu": np.full(40, gain)}
    table = aperture_photometry(frames(images / (gain or 1), units=units, **columns), places, 4.0, (9.0, 16.0)).load()
    flux, error = table["flux"].values[:, :, 0], table["flux_err"].values[:, :, 0]
    pull = (flux - flux.mean(0)) / error
    # 480 numbers, 468 degrees of freedom: sd of the sd is 3.3 %; the clipped ring's variance adds 2 %
    assert abs(np.sqrt((pull**2).sum() / 468) - 1) < 0.12


def test_without_a_gain_the_error_is_the_background_alone() -> None:
    rng = np.random.default_rng(42)
    image = stars_image(SHAPE, [80.0], [100.0], [50000.0], 3.0) + rng.normal(500, 6.0, SHAPE)
    error = aperture_photometry(frames([image], units="adu"), [[80, 100]], 5.0).load()["flux_err"].values[0, 0, 0]
    area, ring = np.pi * 25, np.pi * (18**2 - 8**2)
    assert error == pytest.approx(6.0 * np.sqrt(area + area**2 / ring), rel=0.08)


def test_colours_have_their_own_sky() -> None:
    star = stars_image(SHAPE, [80.2], [100.7], [40000.0], 3.0)
    image = mosaic("GRBG", SHAPE, [star + 300, star + 100, star + 50])
    table = aperture_photometry(frames([image], cfa="GRBG"), [[80.2, 100.7]], 7.0).load()
    assert table["flux"].values[0, 0, 0] == pytest.approx(40000, rel=1e-3)


@pytest.mark.parametrize("bit", [8, 16])
def test_a_bad_pixel_in_the_star_costs_little_and_is_counted(bit: int) -> None:
    image = stars_image(SHAPE, [80.2], [100.7], [40000.0], 3.2) + 60
    flags = np.zeros((1, *SHAPE), np.uint16)
    whole = aperture_photometry(frames([image]), [[80.2, 100.7]], 5.0, fwhm_px=3.2, recentre_px=2.0).load()
    image[82, 100] = 30000.0 if bit == 8 else 0.0
    flags[0, 82, 100] = bit
    table = aperture_photometry(frames([image], flags), [[80.2, 100.7]], 5.0, fwhm_px=3.2, recentre_px=2.0).load()
    share = table["masked_fraction"].values[0, 0]
    assert share == pytest.approx(1 / (np.pi * 25))
    # the pixel holds 3 % of the light; its neighbours foretell it to a tenth
    assert table["flux"].values[0, 0, 0] == pytest.approx(whole["flux"].values[0, 0, 0], rel=0.004)


def test_a_warm_pixel_that_tells_the_truth_is_used() -> None:
    image = stars_image(SHAPE, [80.2], [100.7], [40000.0], 3.2) + 60
    flags = np.zeros((1, *SHAPE), np.uint16)
    flags[0, 80, 100] = 8
    table = aperture_photometry(frames([image], flags), [[80.2, 100.7]], 5.0, fwhm_px=3.2).load()
    assert table["masked_fraction"].values[0, 0] == 0


def test_a_circle_that_leaves_the_frame_has_no_flux() -> None:
    table = aperture_photometry(frames([np.ones(SHAPE)]), [[3.0, 100.0], [80.0, 80.0], [np.nan, 5.0]], 5.0).load()
    assert np.array_equal(np.isfinite(table["flux"].values[0, :, 0]), [False, True, False])


def test_saturation_is_told_per_circle() -> None:
    flags = np.zeros((1, *SHAPE), np.uint16)
    flags[0, 80, 106] = 2
    table = aperture_photometry(frames([np.ones(SHAPE)], flags), [[80.0, 100.0]], [3.0, 8.0]).load()
    assert table["saturated"].values[0, 0].tolist() == [False, True]


def test_it_is_lazy_reads_a_box_only_and_chunks_do_not_matter(refuses_to_compute: None) -> None:
    rng = np.random.default_rng(43)
    images = rng.normal(100, 5, (3, *SHAPE)).astype(np.float32)
    data = frames(images)
    table = aperture_photometry(data, [[80.0, 60.0]], 4.0)
    assert table["flux"].chunks is not None


def test_values_do_not_depend_on_chunks_or_on_a_crop() -> None:
    rng = np.random.default_rng(44)
    producer = held_frames(rng.normal(100, 5, (3, *SHAPE)).astype(np.float32), exposure_s=np.ones(3))
    one = aperture_photometry(lazy(producer), [[80.3, 60.7]], 4.0).load()
    chunked = aperture_photometry(lazy(producer, chunks=(1, 17, 200)), [[80.3, 60.7]], 4.0).load()
    cropped = aperture_photometry(lazy(producer).isel(y=slice(41, 130), x=slice(20, 120)), [[80.3, 60.7]], 4.0).load()
    for other in (chunked, cropped):
        assert other["flux"].values.tobytes() == one["flux"].values.tobytes()


def test_bad_radii_rings_and_positions_are_refused() -> None:
    data = frames([np.ones(SHAPE)])
    with pytest.raises(OptionError, match=r"radius_px=0.1 is not allowed; allowed: 0.5 .. 200 px"):
        aperture_photometry(data, [[5, 5]], 0.1)
    with pytest.raises(OptionError, match="inner"):
        aperture_photometry(data, [[5, 5]], 3.0, (9.0, 9.5))
    with pytest.raises(DataError, match="expected"):
        aperture_photometry(data, [5, 5], 3.0)
