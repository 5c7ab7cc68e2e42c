"""Sources: what each one brings, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.light.column import Column, Raster
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.pointing import FieldRotation, Pointing
from getframes_xr.light.psf import Gaussian
from getframes_xr.light.sources import Galaxy, Picture, SatelliteTrail, SatelliteTrails, StarField, Stars
from tests.light.small import frames, light, moments, photons

GOOD = {"y": [1.0, 2.0], "x": [3.0, 4.0], "magnitude": [10.0, 11.0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magnitude": [10.0, float("nan")]}, r"magnitude=nan .* finite numbers \(row 1\)"),
        ({"x": [3.0]}, "2 rows, as many as magnitude"),
        ({"x": None}, "either y and x, or ra_deg and dec_deg"),
        ({"ra_deg": [1.0, 2.0], "dec_deg": [1.0, 2.0]}, "either y and x"),
        ({"name": ["a"]}, "2 names"),
        ({"name": ["a", "a"]}, "differ"),
        ({"name": ["a", "b"], "light_curve": {"c": LightCurve.box(depth=0.1, start_s=0, stop_s=1)}}, "out of a, b"),
        ({"motion_y_arcsec_per_s": [1.0, 1.0]}, "both motions"),
        ({"y": [[1.0, 2.0]]}, "1 axes"),
        ({"y": ["here", "there"]}, "numbers"),
        ({"brightness": 3}, "does not exist"),
    ],
)
def test_stars_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    options = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(OptionError, match=message):
        Stars(**options)


def test_stars_on_the_sky_need_a_wcs() -> None:
    with pytest.raises(DataError, match="wcs"):
        light(frames([Stars(ra_deg=[10.0], dec_deg=[20.0], magnitude=[5.0])]))


def test_a_column_is_an_own_read_only_copy_compared_by_content() -> None:
    given = np.arange(5.0)
    column = Column(given)
    given[0] = 99.0
    assert column.values[0] == 0.0 and not column.values.flags.writeable
    assert column == Column([0, 1, 2, 3, 4]) and hash(column) == hash(Column(np.arange(5.0)))
    assert column != Column([0, 1, 2, 3, 5]) and Raster([[1.0]]) != Column([1.0])
    import pickle

    copy = pickle.loads(pickle.dumps(column))
    assert copy == column and not copy.values.flags.writeable
    assert np.asarray(column).sum() == 10.0 and len(column) == 5 and "shape (5,)" in repr(column)


def test_a_star_field_has_its_counts_inside_and_its_density_outside() -> None:
    field = StarField(n=20_000, magnitude=(10.0, 16.0), seed=9, slope_per_mag=0.35)
    sight = frames([field], (400, 600)).sight
    y, x, magnitude, colour = field.table(sight)
    inside = (y >= -0.5) & (y < 399.5) & (x >= -0.5) & (x < 599.5)
    assert inside.sum() == 20_000 and inside[:20_000].all()
    outer = (400 + 600) * (600 + 600) / (400 * 600)  # margin 0.5 of 600 on each side
    assert len(y) == 20_000 + round(20_000 * (outer - 1))
    for low_y, low_x in ((-300, -300), (-300, 600), (400, 0), (0, -300), (100, 700), (500, 800)):
        count = ((y >= low_y) & (y < low_y + 100) & (x >= low_x) & (x < low_x + 100)).sum()
        assert count == pytest.approx(20_000 / 24, abs=5 * np.sqrt(20_000 / 24))
    brighter = (magnitude < 13.0).sum() / len(magnitude)
    expected = (10 ** (0.35 * 3) - 1) / (10 ** (0.35 * 6) - 1)
    assert brighter == pytest.approx(expected, abs=5 * np.sqrt(expected / len(magnitude)))
    assert colour.mean() == pytest.approx(0.65, abs=0.01) and colour.std() == pytest.approx(0.35, abs=0.01)


def test_a_star_field_keeps_its_first_stars_when_it_grows_and_depends_on_its_seed_alone() -> None:
    sight = frames([StarField(n=1, magnitude=(10, 12))], (100, 100)).sight
    small = StarField(n=50, magnitude=(10.0, 16.0), seed="a").table(sight)[0][:50]
    large = StarField(n=80, magnitude=(10.0, 16.0), seed="a").table(sight)[0][:50]
    assert (small == large).all()
    assert (StarField(n=50, magnitude=(10.0, 16.0), seed="b").table(sight)[0][:50] != small).all()
    one, two = (light(frames([StarField(n=20, magnitude=(10, 12), seed=1)], seed=seed)) for seed in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_a_trail_leaves_its_photons_along_its_length() -> None:
    trail = SatelliteTrail(frame=0, y=80.0, x=100.0, angle_deg=30.0, magnitude=9.0, speed_arcsec_per_s=6.0)
    picture = light(frames([trail], (161, 201), n=2))
    total, y, x, vy, vx = moments(picture[0])
    assert total == pytest.approx(photons(9.0), rel=2e-3)  # seen during all of the exposure
    assert (y, x) == (pytest.approx(80.0, abs=0.01), pytest.approx(100.0, abs=0.01))
    assert vx + vy == pytest.approx(60.0**2 / 12 + 2 * 1.274**2 + 1 / 6, rel=2e-3)
    assert vy / vx == pytest.approx(np.tan(np.deg2rad(30)) ** 2, rel=0.02)
    assert (picture[1] == 0).all()


def test_a_trail_across_the_frame_is_as_bright_as_its_speed_says() -> None:
    """Photons per px of track = rate scale / speed: a cut through the track sums to that over cos(angle)."""
    trail = SatelliteTrail(frame=0, y=50.0, x=50.0, angle_deg=20.0, magnitude=5.0, speed_arcsec_per_s=400.0)
    picture = light(frames([trail], (101, 101)))[0].astype(float)
    per_px = photons(5.0, 1.0) / 400.0
    cuts = picture[:, 30:70].sum(axis=0) * np.cos(np.deg2rad(20))
    assert cuts.mean() == pytest.approx(per_px, rel=1e-3)


def test_trails_come_at_their_rate_and_every_frame_has_its_own() -> None:
    source = SatelliteTrails(per_frame=3.0)
    producer = frames([source], (100, 100), n=200)
    from getframes_xr.light.scene import _lights

    counts = [len(_lights(producer)[0].tracks(producer.view(t))) for t in range(200)]  # type: ignore[attr-defined]
    assert np.mean(counts) == pytest.approx(3.0, abs=5 * np.sqrt(3.0 / 200))
    assert light(producer)[5:6].tobytes() == light(frames([source], (100, 100), n=6))[5:6].tobytes()
    with pytest.raises(OptionError, match="slow"):
        SatelliteTrails(per_frame=1.0, speed_arcsec_per_s=(0.0, 1.0))


@pytest.mark.parametrize(("n", "ratio"), [(1.0, 1.0), (1.0, 0.5), (4.0, 1.0), (4.0, 0.6)])
def test_a_galaxy_holds_its_light_and_half_of_it_within_its_radius(n: float, ratio: float) -> None:
    radius = 12.0
    galaxy = Galaxy(y=250.0, x=250.0, magnitude=10.0, half_light_radius_arcsec=radius, sersic_n=n, axis_ratio=ratio)
    picture = light(frames([galaxy], (501, 501), psf=Gaussian(fwhm_arcsec=1.5)))[0].astype(float)
    y, x = np.indices(picture.shape)
    r = np.hypot((y - 250) / ratio, x - 250)
    b = gammaincinv(2 * n, 0.5)
    for far in (radius, 4 * radius):
        inside = picture[r <= far].sum() / photons(10.0)
        expected = gammainc(2 * n, b * (far / radius) ** (1 / n))
        assert inside == pytest.approx(expected, abs=0.012)  # the PSF moves a little light across, pixels cut edges


def test_a_small_galaxy_looks_like_the_psf() -> None:
    """n = 1, r_e = 0.3 px under a PSF of 3 px: the peak is the PSF's, not the galaxy's (D12: about 0.09)."""
    galaxy = Galaxy(y=20.0, x=20.0, magnitude=10.0, half_light_radius_arcsec=0.3)
    picture = light(frames([galaxy], (41, 41)))[0] / photons(10.0)
    star = light(frames([Stars(y=[20.0], x=[20.0], magnitude=[10.0])], (41, 41)))[0] / photons(10.0)
    assert picture[20, 20] == pytest.approx(0.09, abs=0.008) and picture[20, 20] < star[20, 20]
    assert picture.sum(dtype=float) == pytest.approx(1.0, abs=4e-3)


def test_a_galaxy_between_pixels_has_its_place_as_centroid_and_follows_the_field() -> None:
    galaxy = Galaxy(y=40.3, x=29.8, magnitude=10.0, half_light_radius_arcsec=3.0, axis_ratio=0.4)
    still = light(frames([galaxy], (81, 81)))[0]
    total, y, x, vy, vx = moments(still)
    assert (y, x) == (pytest.approx(40.3, abs=0.01), pytest.approx(29.8, abs=0.01)) and vx > 2 * vy
    quarter = Pointing(field_rotation=FieldRotation(rate_deg_per_s=0.0, start_deg=90.0, pivot_px=(40.0, 40.0)))
    turned = light(frames([galaxy], (81, 81), pointing=quarter))[0]
    total2, y2, x2, vy2, vx2 = moments(turned)
    assert (y2, x2) == (pytest.approx(29.8, abs=0.01), pytest.approx(39.7, abs=0.01)) and vy2 > 2 * vx2
    assert total2 == pytest.approx(total, rel=1e-3)


def test_a_galaxy_is_smeared_like_the_stars() -> None:
    galaxy = Galaxy(y=40.0, x=40.0, magnitude=10.0, half_light_radius_arcsec=2.0)
    still, moving = (
        moments(light(frames([galaxy], (81, 101), pointing=Pointing(drift_arcsec_per_s=(0.0, speed))))[0])
        for speed in (0.0, 1.2)
    )
    assert moving[0] == pytest.approx(still[0], rel=1e-3) and moving[2] == pytest.approx(46.0, abs=0.01)
    assert moving[4] - still[4] == pytest.approx(12.0**2 / 12, rel=0.02)  # pieces of half a FWHM
    assert moving[3] == pytest.approx(still[3], rel=1e-3)


@pytest.mark.parametrize("size", [4, 5])
def test_a_picture_stands_on_its_centre_with_all_its_light(size: int) -> None:
    picture = Picture(values=np.ones((size, size)), scale_arcsec=4.0, y=40.4, x=39.75, magnitude=10.0)
    total, y, x, vy, vx = moments(light(frames([picture], (81, 81)))[0])
    assert total == pytest.approx(photons(10.0), rel=5e-3)
    assert (y, x) == (pytest.approx(40.4, abs=0.02), pytest.approx(39.75, abs=0.02))  # D11, D13
    assert vy == pytest.approx(vx, rel=1e-3)


@pytest.mark.parametrize("values", [[[1.0, -1.0]], [[0.0]], [[float("nan")]], [1.0, 2.0, [3.0]]])
def test_a_picture_without_light_is_refused(values: object) -> None:
    with pytest.raises(OptionError):
        Picture(values=values, scale_arcsec=4.0, y=1.0, x=1.0, magnitude=10.0)
    with pytest.raises(OptionError, match="either y and x"):
        Galaxy(y=1.0, magnitude=10.0, half_light_radius_arcsec=1.0)
