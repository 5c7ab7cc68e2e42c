"""The star finder: places, widths, what is no star, and the lazy table."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.background import lattice_of
from getframes_xr.measure.stars import find_stars, scan_frame
from tests.frames import held_frames
from tests.measure.star_fields import mosaic, noisy, scatter_stars, stars_image

SHAPE = (256, 320)
MONO = lattice_of(None)


def no_flags(image):
    return np.zeros(image.shape, np.uint16)


def nearest(scan, places):
    """Distance of each place's nearest detection, and its index."""
    d = np.hypot(scan.y[None] - places[:, :1], scan.x[None] - places[:, 1:])
    return d.min(1), d.argmin(1)


@pytest.mark.parametrize(("fwhm", "cfa"), [(1.6, None), (2.5, None), (2.6, "RGGB"), (4.5, "GRBG"), (10.0, None)])
def test_stars_are_found_where_they_are_whatever_their_width(fwhm: float, cfa: str | None) -> None:
    rng = np.random.default_rng(11)
    places = scatter_stars(rng, 20, SHAPE, margin=30, apart=30)
    light = stars_image(SHAPE, *places.T, np.full(20, 20000.0 * max(1, fwhm / 3)), fwhm)
    bands = [s * light + level for s, level in ((0.8, 60), (1.0, 80), (0.7, 55))]
    image = noisy(rng, mosaic(cfa, SHAPE, bands) if cfa else light + 80)
    scan = scan_frame(image, no_flags(image), lattice_of(cfa))
    distance, index = nearest(scan, places)
    sigma = 0.6 * fwhm / scan.snr[index]  # the recipe's precision, per axis, floor 0.02 px
    assert (distance < 5 * np.hypot(sigma, 0.03)).all()
    assert len(scan.y) <= 23  # nothing else but a noise peak or two (5 sigma of 2e4 cells)
    assert scan.scale == (2.0 if fwhm > 7 else 1.0)


def test_reported_widths_grow_with_the_true_ones() -> None:
    rng = np.random.default_rng(12)
    places = scatter_stars(rng, 40, SHAPE)
    found = []
    for fwhm in (2.0, 2.8, 3.6, 4.4):
        image = noisy(rng, stars_image(SHAPE, *places.T, np.full(40, 30000.0), fwhm) + 50)
        found.append(scan_frame(image, no_flags(image), MONO).fwhm_px)
    # Gaussian stars: the moments give the truth plus the pixel's own 1/12 px^2
    assert np.allclose(found, np.sqrt(np.square([2.0, 2.8, 3.6, 4.4]) + 2.3548**2 / 12), rtol=0.03)


def test_lone_hot_pixels_are_no_stars_even_when_nobody_flagged_them() -> None:
    rng = np.random.default_rng(13)
    places = scatter_stars(rng, 25, SHAPE)
    image = noisy(rng, stars_image(SHAPE, *places.T, np.full(25, 15000.0), 2.5) + 60)
    hot = scatter_stars(rng, 60, SHAPE, apart=4).astype(int)
    far = np.hypot(hot[:, None, 0] - places[:, 0], hot[:, None, 1] - places[:, 1]).min(1) > 8
    hot = hot[far]
    image[hot[:, 0], hot[:, 1]] += rng.uniform(150, 5000, len(hot)).astype(np.float32)
    scan = scan_frame(image, no_flags(image), MONO)
    distance, _ = nearest(scan, places)
    assert (distance < 0.3).all()
    d = np.hypot(scan.y[:, None] - hot[:, 0], scan.x[:, None] - hot[:, 1]).min(1)
    assert (d > 1.5).all()


def test_flagged_pixels_do_not_pull_a_star() -> None:
    rng = np.random.default_rng(14)
    places = scatter_stars(rng, 20, SHAPE)
    image = noisy(rng, stars_image(SHAPE, *places.T, np.full(20, 30000.0), 4.0) + 60)
    flags = no_flags(image)
    spoiled = np.rint(places).astype(int) + [2, -1]
    image[spoiled[:, 0], spoiled[:, 1]], flags[spoiled[:, 0], spoiled[:, 1]] = 60000.0, 8
    distance, _ = nearest(scan_frame(image, flags, MONO), places)
    assert (distance < 0.15).all()  # a neighbours' mean stands for one of 40 pixels that carry light


def test_a_satellite_trail_is_no_row_of_stars() -> None:
    rng = np.random.default_rng(15)
    places = scatter_stars(rng, 30, SHAPE)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    across = (y - 20) * np.cos(0.5) - (x - 10) * np.sin(0.5)
    light = stars_image(SHAPE, *places.T, np.full(30, 15000.0), 3.0) + 300 * np.exp(-0.5 * (across / 1.4) ** 2)
    image = noisy(rng, light + 60)
    scan = scan_frame(image, no_flags(image), MONO)
    on_trail = np.abs((scan.y - 20) * np.cos(0.5) - (scan.x - 10) * np.sin(0.5)) < 3
    true = np.hypot(scan.y[:, None] - places[:, 0], scan.x[:, None] - places[:, 1]).min(1) < 3
    assert (on_trail & ~true).sum() <= 3
    assert (~on_trail).sum() >= 25
    assert scan.elongation < 0.15


def test_streaks_are_seen_as_elongation() -> None:
    rng = np.random.default_rng(16)
    places = scatter_stars(rng, 20, SHAPE, margin=30, apart=30)
    light = sum(
        stars_image(SHAPE, places[:, 0] + s * 0.77, places[:, 1] + s * 0.64, np.full(20, 1500.0), 3.0)
        for s in np.arange(-13, 13.1, 1.0)
    )
    image = noisy(rng, light + 60)
    assert scan_frame(image, no_flags(image), MONO).elongation > 0.4


def test_saturated_stars_come_first_and_fluxes_are_those_of_the_stars() -> None:
    rng = np.random.default_rng(17)
    places = scatter_stars(rng, 20, SHAPE, apart=30)
    flux = np.linspace(5000, 60000, 20)
    image = noisy(rng, stars_image(SHAPE, *places.T, flux, 3.0) + 60)
    flags = no_flags(image)
    flags[image > 5000] = 2
    scan = scan_frame(image, flags, MONO)
    assert scan.saturated.any()
    assert (np.diff(scan.saturated.astype(int)) <= 0).all()
    _, index = nearest(scan, places)
    assert np.array_equal(scan.saturated[index], [(flags[int(y) - 2 : int(y) + 4, int(x) - 2 : int(x) + 4] > 0).any()
                                                  for y, x in places])  # fmt: skip
    pull = (scan.flux[index] / flux - np.median(scan.flux[index] / flux)) * flux / scan.flux_err[index]
    assert np.std(pull) < 1.7  # sd of 20 unit normals: 1 +- 0.16; the circle's fractional edge adds some
    assert abs(np.median(scan.flux[index] / flux) - 1) < 0.02


def test_a_window_of_a_larger_sensor_gives_absolute_places() -> None:
    rng = np.random.default_rng(18)
    places = scatter_stars(rng, 15, SHAPE)
    image = noisy(rng, stars_image(SHAPE, *places.T, np.full(15, 20000.0), 3.0) + 60)
    here = scan_frame(image, no_flags(image), lattice_of("RGGB"))
    there = scan_frame(image, no_flags(image), lattice_of("BGGR"), origin=(101, 33))  # odd: the same colours again
    assert np.array_equal(there.y, here.y + 101) and np.array_equal(there.x, here.x + 33)


def test_an_empty_frame_has_no_stars_and_says_so() -> None:
    for image in (np.full(SHAPE, 7.0, np.float32), np.full(SHAPE, np.nan, np.float32)):
        scan = scan_frame(image, no_flags(image), MONO)
        assert len(scan.y) == 0 and np.isnan(scan.fwhm_px)


def session(n=3, cfa=None):
    rng = np.random.default_rng(19)
    places = scatter_stars(rng, 20, (128, 160))
    light = stars_image((128, 160), *places.T, np.full(20, 20000.0), 3.0) + 60
    images = np.stack([noisy(rng, light) for _ in range(n)])
    return held_frames(images, np.zeros(images.shape), units="electron", cfa=cfa, exposure_s=np.full(n, 10.0))


def test_the_table_is_lazy_and_reads_each_frame_once(refuses_to_compute: None) -> None:
    table = find_stars(lazy(session()))
    assert table["y"].dims == ("time", "source") and table["sky"].dims == ("time", "band", "block_y", "block_x")
    assert table.attrs["units"] == "electron" and table.attrs["block_px"] == 32


@pytest.mark.parametrize("cfa", [None, "GRBG"])
def test_the_table_does_not_depend_on_chunks_or_order(cfa: str | None) -> None:
    producer = session(cfa=cfa)
    whole = find_stars(lazy(producer)).load()
    for data in (
        lazy(producer, chunks=(1, 50, 33)),
        lazy(producer, chunks=(2, 128, 160)),
        lazy(producer).isel(time=[2, 0, 1]),
    ):
        table = find_stars(data).load().sortby("frame")
        for name in whole.data_vars:
            assert table[name].values.tobytes() == whole[name].values.tobytes(), name
    assert list(whole["band"].values) == (["mono"] if cfa is None else ["red", "green", "blue"])


def test_raw_adu_frames_and_debayered_frames_are_measured_too() -> None:
    producer = session()
    adu = (producer.arrays["image"] + 100).astype(np.uint16)
    raw = find_stars(lazy(held_frames(adu, plane="adu"))).load()
    assert raw.attrs["units"] == "adu" and (raw["n_stars"] >= 20).all()
    bands = np.stack([producer.arrays["image"]] * 3, 1)
    colour = find_stars(lazy(held_frames(bands, bands=("red", "green", "blue"), cfa=None))).load()
    assert list(colour["band"].values) == ["mono"] and (colour["n_stars"] >= 20).all()


def test_bad_options_and_frames_are_refused_in_one_line() -> None:
    with pytest.raises(OptionError, match="threshold_sigma=1.0 is not allowed; allowed: >= 3"):
        find_stars(lazy(session()), threshold_sigma=1.0)
    with pytest.raises(OptionError, match="n_sources"):
        find_stars(lazy(session()), n_sources=1)
    with pytest.raises(DataError, match="'image' or 'adu'"):
        find_stars(xr.Dataset({"depth": (("time", "y", "x"), np.zeros((1, 8, 8)))}))
