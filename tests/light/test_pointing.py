"""Where stars stand, how they smear, and that a longer night begins like a shorter one."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import OptionError
from getframes_xr.light.atmosphere import Seeing, Transparency
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.optics import RadialDistortion
from getframes_xr.light.pointing import FieldRotation, Jolt, Pointing
from getframes_xr.light.psf import Gaussian, Moffat
from getframes_xr.light.scene import SceneFrames
from getframes_xr.light.smooth_series import smooth_series
from getframes_xr.light.sources import Sky, Stars
from tests.light.small import box, frames, light, moments, photons, scene

STAR = Stars(y=[40.0], x=[30.0], magnitude=[10.0])
WANDERING = {
    "pointing": Pointing(jitter_arcsec=1.0, drift_arcsec_per_s=(0.01, -0.02), dither_arcsec=3.0, dither_every=3),
    "seeing": Seeing(rms_fraction=0.2, correlation_s=100.0),
    "transparency": Transparency(rms_mag=0.2, correlation_s=150.0, jitter_mag=0.01),
}


def columns(n: int, seed: int | str = 1, **options: object) -> dict[str, np.ndarray]:
    made = scene([STAR], **(WANDERING | options)).grid((64, 72), Exposures(n=n, exposure_s=10.0), seed).columns
    assert made is not None
    return dict(made)


def test_a_longer_night_begins_like_a_shorter_one() -> None:
    short, long = columns(7), columns(50)
    assert set(short) == {
        "frame", "start", "exposure_s", "pointing_dy_px", "pointing_dx_px", "rotation_deg", "transparency",
        "seeing_fwhm_arcsec",
    }  # fmt: skip
    for name, values in short.items():
        assert values.tobytes() == long[name][:7].tobytes(), name


def test_seeds_and_only_seeds_change_the_weather() -> None:
    assert (columns(20, 1)["pointing_dy_px"] != columns(20, 2)["pointing_dy_px"]).all()
    assert (columns(20, 1)["pointing_dy_px"] != columns(20, "1")["pointing_dy_px"]).all()
    assert (columns(20)["seeing_fwhm_arcsec"] == columns(20)["seeing_fwhm_arcsec"]).all()


def test_jitter_has_its_rms_on_both_axes_and_none_between_them() -> None:
    made = columns(4000, pointing=Pointing(jitter_arcsec=1.5), seeing=None, transparency=None)
    dy, dx = made["pointing_dy_px"], made["pointing_dx_px"]
    for values in (dy, dx):
        assert values.std() == pytest.approx(1.5, abs=5 * 1.5 / np.sqrt(2 * 4000))
        assert values.mean() == pytest.approx(0.0, abs=5 * 1.5 / np.sqrt(4000))
    assert np.corrcoef(dy, dx)[0, 1] == pytest.approx(0.0, abs=5 / np.sqrt(4000))


def test_a_dither_stays_in_its_square_and_lasts_its_frames() -> None:
    made = columns(300, pointing=Pointing(dither_arcsec=4.0, dither_every=3))
    steps = made["pointing_dx_px"].reshape(100, 3)
    assert (steps == steps[:, :1]).all()
    assert np.abs(steps).max() <= 4.0 and steps[:, 0].std() == pytest.approx(4.0 / np.sqrt(3), rel=0.3)


def test_a_smooth_series_is_normal_and_forgets_after_its_correlation_time() -> None:
    times = np.arange(0.0, 400_000.0, 100.0)
    series = smooth_series((1, 2), times, 200.0, stream=1)
    independent = series[::20]  # 2000 s apart
    assert independent.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * len(independent)))
    assert abs(np.corrcoef(series[:-20], series[20:])[0, 1]) < 5 / np.sqrt(len(independent))
    assert np.corrcoef(series[:-1], series[1:])[0, 1] > 0.8


def test_stars_stand_where_the_columns_say() -> None:
    producer = frames([STAR], (96, 96), n=4, pointing=WANDERING["pointing"])
    pictures = light(producer)
    for t in range(4):
        _, y, x, _, _ = moments(pictures[t])
        assert y == pytest.approx(40.0 + producer.grid.column("pointing_dy_px")[t], abs=1e-4)
        assert x == pytest.approx(30.0 + producer.grid.column("pointing_dx_px")[t], abs=1e-4)


def test_drift_within_the_exposure_smears_by_a_twelfth_of_its_square() -> None:
    """D15: 1 px/s for 10 s, sigma 1.31 px: the track has sigma_x = sqrt(1.31^2 + 100/12) and its middle 5 px on."""
    psf = Gaussian(fwhm_arcsec=1.31 * 2.3548200450309493)
    producer = frames([STAR], (80, 80), psf=psf, pointing=Pointing(drift_arcsec_per_s=(0.0, 1.0)))
    total, y, x, vy, vx = moments(light(producer)[0])
    assert total == pytest.approx(photons(10.0), rel=1e-5)
    assert (y, x) == (pytest.approx(40.0, abs=1e-4), pytest.approx(35.0, abs=1e-3))
    assert vy == pytest.approx(1.31**2 + 1 / 12, rel=1e-4)
    assert vx == pytest.approx(1.31**2 + 100 / 12 + 1 / 12, rel=1e-4)


def test_a_slanted_smear_has_the_covariance_of_its_track() -> None:
    producer = frames([STAR], (80, 80), pointing=Pointing(drift_arcsec_per_s=(0.4, 0.7)))
    picture = light(producer)[0].astype(float)
    _, cy, cx, vy, vx = moments(picture)
    y, x = np.indices(picture.shape)
    shared = (picture * (y - cy) * (x - cx)).sum() / picture.sum()
    core = (3.0 / 2.3548200450309493) ** 2 + 1 / 12
    assert vy == pytest.approx(core + 16 / 12, rel=1e-3) and vx == pytest.approx(core + 49 / 12, rel=1e-3)
    assert shared == pytest.approx(28 / 12, rel=0.03)  # pieces of a quarter FWHM: their own covariance is left out


def test_the_field_turns_about_its_pivot_from_x_towards_y() -> None:
    turning = FieldRotation(rate_deg_per_s=0.0, start_deg=90.0, pivot_px=(40.0, 40.0))
    producer = frames([STAR], (80, 80), pointing=Pointing(field_rotation=turning))
    _, y, x, _, _ = moments(light(producer)[0])
    assert (y, x) == (pytest.approx(30.0, abs=1e-3), pytest.approx(40.0, abs=1e-3))  # -10 along x goes to -10 along y


def test_rotation_within_the_exposure_smears_with_the_distance_from_the_pivot() -> None:
    turning = FieldRotation(rate_deg_per_s=0.5, pivot_px=(40.0, 40.0))
    near, far = Stars(y=[40.0], x=[50.0], magnitude=[10.0]), Stars(y=[40.0], x=[120.0], magnitude=[10.0])
    core = (3.0 / 2.3548200450309493) ** 2 + 1 / 12
    for star, arm in ((near, 10.0), (far, 80.0)):
        producer = frames([star], (120, 160), pointing=Pointing(field_rotation=turning))
        _, y, _, vy, vx = moments(light(producer)[0])
        path = np.deg2rad(5.0) * arm
        angle = np.deg2rad(2.5)
        assert y == pytest.approx(40.0 + arm * np.sin(angle), abs=2e-3)
        assert vy + vx == pytest.approx(2 * core + path**2 / 12, rel=2e-3)


def test_a_jolt_draws_out_one_exposure_only() -> None:
    jolted = Pointing(jolts=[Jolt(frame=1, dy_arcsec=12.0, dx_arcsec=0.0)])
    pictures = light(frames([STAR], (96, 80), n=3, pointing=jolted))
    assert pictures[0].tobytes() == pictures[2].tobytes()
    assert moments(pictures[1])[3] == pytest.approx(moments(pictures[0])[3] + 12.0, rel=1e-3)  # 12^2 / 12


def test_a_moving_star_moves_and_smears() -> None:
    mover = Stars(y=[20.0], x=[20.0], magnitude=[10.0], motion_y_arcsec_per_s=[0.3], motion_x_arcsec_per_s=[0.1])
    pictures = light(frames([mover], (64, 64), n=3))
    for t, middle in enumerate((5.0, 16.0, 27.0)):
        _, y, x, vy, _ = moments(pictures[t])
        assert (y, x) == (pytest.approx(20 + 0.3 * middle, abs=1e-3), pytest.approx(20 + 0.1 * middle, abs=1e-3))
        assert vy == pytest.approx((3.0 / 2.3548200450309493) ** 2 + 1 / 12 + 9 / 12, rel=1e-3)


def test_seeing_widens_stars_and_keeps_their_light() -> None:
    curve = LightCurve.table([0.0, 100.0], [1.0, 2.0])
    seeing = Seeing(rms_fraction=0.0, jitter_fraction=0.0, curve=curve)
    producer = frames([STAR], (96, 96), n=8, seeing=seeing)
    width = producer.grid.column("seeing_fwhm_arcsec")
    assert width[0] == pytest.approx(3.0 * 1.05, rel=1e-6) and width[-1] == pytest.approx(3.0 * 1.82, rel=1e-6)
    for t in (0, 7):
        total, _, _, vy, _ = moments(light(producer, box((t, t + 1), (0, 96), (0, 96)))[0])
        assert total == pytest.approx(photons(10.0), rel=1e-5)
        assert vy == pytest.approx((width[t] / 2.3548200450309493) ** 2 + 1 / 12, rel=1e-4)


def test_transparency_dims_stars_and_not_the_sky() -> None:
    clouds = Transparency(rms_mag=0.0, curve=LightCurve.box(depth=0.6, start_s=11.0, stop_s=21.0))
    producer = frames([STAR, Sky(mag_per_arcsec2=20.0)], n=2, transparency=clouds)
    assert producer.grid.column("transparency") == pytest.approx([1.0, 0.4])
    pictures = light(producer).astype(float)
    assert pictures[0, 0, 0] == pictures[1, 0, 0]
    above = (pictures - pictures[:, :1, :1]).sum(axis=(1, 2))
    assert above[1] / above[0] == pytest.approx(0.4, rel=1e-4)


def test_distortion_moves_stars_along_their_radius() -> None:
    star = Stars(y=[32.0, 100.0], x=[35.0, 180.0], magnitude=[10.0, 10.0])
    producer = frames([star], (129, 201), optics=[RadialDistortion(k1_per_px2=2e-6)])
    picture = light(producer)[0]
    centre = np.array([64.0, 100.0])
    for place, part in ((np.array([32.0, 35.0]), (slice(0, 60), slice(0, 90))),
                        (np.array([100.0, 180.0]), (slice(70, 129), slice(120, 201)))):  # fmt: skip
        _, y, x, _, _ = moments(picture[part])
        found = np.array([y + part[0].start, x + part[1].start])
        arm = place - centre
        assert found == pytest.approx(centre + arm * (1 + 2e-6 * (arm @ arm)), abs=2e-3)


def test_frames_chosen_from_a_night_are_those_of_the_night() -> None:
    whole = frames([STAR, Sky(mag_per_arcsec2=20.0)], n=9, **WANDERING)
    some = np.array([7, 2])
    part = SceneFrames(whole.scene, whole.grid.select(some))
    assert light(part).tobytes() == light(whole)[some].tobytes()


def test_a_moffat_smears_as_a_gaussian_does() -> None:
    """The path is convolved with the whole profile: light is kept, the centroid is the middle of the path."""
    star = Stars(y=[60.0], x=[60.0], magnitude=[6.0])
    producer = frames(
        [star], (121, 121), psf=Moffat(fwhm_arcsec=2.0, beta=4.0), pointing=Pointing(drift_arcsec_per_s=(0.6, 0.6))
    )
    total, y, x, vy, vx = moments(light(producer)[0])
    assert total == pytest.approx(photons(6.0), rel=1e-3)
    assert (y, x) == (pytest.approx(63.0, abs=0.01), pytest.approx(63.0, abs=0.01))
    assert vy == pytest.approx(vx, rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"n": 0, "exposure_s": 1}, {"n": 1, "exposure_s": -1}, {"n": 2, "exposure_s": 10, "cadence_s": 1},
     {"n": 1, "exposure_s": 1, "start": "yesterday"}, {"n": 1, "exposure_s": 1, "begin": "2026-01-01"}],
)  # fmt: skip
def test_exposures_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Exposures(**options)


def test_exposures_count_from_their_start_in_utc() -> None:
    night = Exposures(n=3, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T04:00:00+02:00")
    start = night.columns["start"]
    assert start[0] == np.datetime64("2026-03-01T02:00:00") and start[2] == np.datetime64("2026-03-01T02:00:50")
    assert Exposures(n=1, exposure_s=5).spacing_s == 6.0
    assert Exposures.from_toml(night.to_toml()) == night
    assert Exposures(n=1, exposure_s=1).columns["start"][0] == np.datetime64("2000-01-01T00:00:00")
