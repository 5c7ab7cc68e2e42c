"""Kinds of faults in light: factors of magnitudes, axes, signs, times averaged over the exposure."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.light.atmosphere import Transparency
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.pointing import FieldRotation, Jolt, Pointing
from getframes_xr.light.scene import SceneFrames
from getframes_xr.light.sources.sky import Sky
from getframes_xr.light.sources.stars import Stars
from getframes_xr.light.telescope import Telescope
from tests.light.small import TELESCOPE, frames, light, moments, photons, scene


def night(made, exposures: Exposures, shape=(64, 72)) -> SceneFrames:
    return SceneFrames(made, made.grid(shape, exposures, 1))


def test_magnitudes_are_pogson_s_and_an_obstruction_blocks_its_area() -> None:
    open_one = Telescope(aperture_diameter_m=0.4, plate_scale_arcsec_per_px=1.0, band="johnson_V")
    rate = float(open_one.photon_rate(10.0))
    assert float(open_one.photon_rate(15.0)) == pytest.approx(rate / 100, rel=1e-12)
    for obstruction in (0.3, 0.5):
        blocked = open_one.replace(obstruction=obstruction)
        assert float(blocked.photon_rate(10.0)) / rate == pytest.approx(1 - obstruction**2, rel=1e-12)
    assert float(open_one.replace(aperture_diameter_m=0.2).photon_rate(10.0)) / rate == pytest.approx(0.25)
    by_focus = Telescope(aperture_diameter_m=0.4, focal_length_m=1.6, pixel_um=4.0)
    assert by_focus.scale_arcsec_per_px == pytest.approx(np.rad2deg(4e-6 / 1.6) * 3600, rel=1e-9)


def test_transparency_of_a_loss_in_magnitudes_is_pogson_s_too() -> None:
    """Jitter of 1 mag rms: -2.5 log10(share) has the mean of a half normal, sqrt(2 / pi), and its rms 1."""
    n = 4000
    share = Transparency(rms_mag=0.0, jitter_mag=1.0).share(
        np.arange(n), np.arange(n) * 60.0, np.arange(n) * 60.0 + 50, 3
    )
    loss = -2.5 * np.log10(share)
    assert abs(loss.mean() - np.sqrt(2 / np.pi)) < 5 * np.sqrt((1 - 2 / np.pi) / n) + 1e-3
    assert abs((loss**2).mean() - 1.0) < 5 * np.sqrt(2 / n) + 1e-3


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_pixel_of_sky_has_the_area_of_its_scale(scale: float) -> None:
    telescope = TELESCOPE.replace(plate_scale_arcsec_per_px=scale)
    found = light(frames([Sky(mag_per_arcsec2=18.0)], telescope=telescope))[0]
    assert found.mean() == pytest.approx(photons(18.0) * scale**2, rel=1e-6)


def test_the_course_of_the_sky_is_averaged_over_the_exposure() -> None:
    """Moonrise: no light until 12 s, then full: exposures of 10 s at 0, 10, 20 s see 0, 0.8 and 1 of it."""
    curve = LightCurve.table([11.999999, 12.0], [0.0, 1.0])
    made = night(scene([Sky(mag_per_arcsec2=18.0, curve=curve)]), Exposures(n=3, exposure_s=10.0, cadence_s=10.0))
    found = light(made).mean((1, 2)) / photons(18.0)
    np.testing.assert_allclose(found, [0.0, 0.8, 1.0], atol=1e-4)


def test_a_sinusoid_over_an_exposure_is_its_integral() -> None:
    curve = LightCurve.sinusoid(0.5, 20.0, 0.1)
    fine = (np.arange(20000) + 0.5) / 20000
    for start, stop in ((0.0, 7.0), (13.0, 19.0), (5.0, 5.0)):
        instants = 1 + 0.5 * np.sin(2 * np.pi * ((start + (stop - start) * fine) / 20.0 + 0.1))
        assert float(curve.mean(start, stop)) == pytest.approx(instants.mean(), abs=1e-7)


def test_drift_dither_and_jolts_are_along_y_then_x_in_the_star_s_own_sense() -> None:
    """A drift of (0.2, -0.5) arcsec/s at 0.5 arcsec/px: after 30 s stars stand 12 px down and 30 px to the left."""
    telescope = TELESCOPE.replace(plate_scale_arcsec_per_px=0.5)
    pointing = Pointing(drift_arcsec_per_s=(0.2, -0.5), jolts=(Jolt(frame=2, dy_arcsec=2.0, dx_arcsec=-6.0),))
    star = Stars(y=[20.0], x=[60.0], magnitude=[10.0])
    made = night(scene([star], telescope=telescope, pointing=pointing), Exposures(n=3, exposure_s=2.0, cadence_s=15.0))
    middle = np.array([1.0, 16.0, 31.0])
    np.testing.assert_allclose(made.grid.column("pointing_dy_px"), 0.4 * middle, atol=1e-3)
    np.testing.assert_allclose(made.grid.column("pointing_dx_px"), -1.0 * middle, atol=1e-3)
    images = light(made)
    for k in range(2):
        _, y, x, *_ = moments(images[k])
        assert abs(y - (20 + 0.4 * middle[k])) < 0.02 and abs(x - (60 - middle[k])) < 0.02
    (_, _, _, still_y, still_x), (_, _, _, jolted_y, jolted_x) = moments(images[1]), moments(images[2])
    path = {"y": (0.8, 0.8 + 4.0), "x": (-2.0, -2.0 - 12.0)}  # drift alone, drift and jolt [px]
    for axis, before, after in (("y", still_y, jolted_y), ("x", still_x, jolted_x)):
        expected = (path[axis][1] ** 2 - path[axis][0] ** 2) / 12  # variance of a uniform smear
        assert after - before == pytest.approx(expected, rel=0.03)


def test_the_field_turns_by_the_angle_at_mid_exposure() -> None:
    turning = Pointing(field_rotation=FieldRotation(rate_deg_per_s=0.05, start_deg=10.0, pivot_px=(30.0, 20.0)))
    made = night(
        scene([Stars(y=[30.0], x=[50.0], magnitude=[9.0])], pointing=turning),
        Exposures(n=3, exposure_s=4.0, cadence_s=100.0),
    )
    angle = np.deg2rad(10.0 + 0.05 * np.array([2.0, 102.0, 202.0]))
    np.testing.assert_allclose(made.grid.column("rotation_deg"), np.rad2deg(angle), atol=1e-6)
    for k, image in enumerate(light(made)):
        _, y, x, *_ = moments(image)
        assert abs(y - (30 + 30 * np.sin(angle[k]))) < 0.05 and abs(x - (20 + 30 * np.cos(angle[k]))) < 0.05
