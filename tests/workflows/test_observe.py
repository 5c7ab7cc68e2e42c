"""Observing: lazy, keyed by seed and kind of frame, known to reductions, and the same from TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.detector.camera import Camera
from getframes_xr.light import psf
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.optics import Vignetting
from getframes_xr.light.pointing import Pointing
from getframes_xr.light.scene import Scene
from getframes_xr.light.sources.sky import Sky
from getframes_xr.light.sources.stars import Stars
from getframes_xr.light.telescope import Telescope
from getframes_xr.workflows import observe as observing
from getframes_xr.workflows.observe import Experiment, bias, dark, expose, flat, load_experiment, observe
from tests.detector.frames import within

CAMERA = Camera.preset("generic_ccd").replace(shape=(64, 80))
NIGHT = Exposures(n=6, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T02:00:00")


def scene(**more: object) -> Scene:
    return Scene(
        telescope=Telescope(aperture_diameter_m=0.2, plate_scale_arcsec_per_px=5.0, band="johnson_R"),
        psf=psf.Gaussian(fwhm_arcsec=12.0),
        sources=[
            Stars(
                y=[20.0, 40.0],
                x=[30.0, 60.0],
                magnitude=[11.0, 10.0],
                name=["target", "comparison"],
                light_curve={"target": LightCurve.box(depth=0.5, start_s=50, stop_s=100)},
            ),
            Sky(mag_per_arcsec2=20.0),
        ],
        pointing=Pointing(jitter_arcsec=2.0),
        **more,  # type: ignore[arg-type]
    )


def test_observing_computes_nothing_and_names_the_usual_planes(refuses_to_compute: None) -> None:
    frames = observe(scene(), CAMERA, NIGHT, seed=0)
    assert list(frames.data_vars) == ["adu", "truth_electrons", "flags", "truth_light_curve"]
    assert frames.adu.dtype == np.uint16 and frames.adu.dims == ("time", "y", "x") and frames.adu.chunks is not None
    for closed in (dark(CAMERA, NIGHT, seed=0), bias(CAMERA, 3, seed=0)):
        assert list(closed.data_vars) == ["adu", "flags"]
    assert list(flat(CAMERA, NIGHT, seed=0).data_vars) == ["adu", "truth_electrons", "flags"]


def test_frames_carry_what_a_reduction_must_know() -> None:
    frames = observe(scene(), CAMERA, NIGHT, seed=0)
    assert frames.frame.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert frames.time.values[1] == np.datetime64("2026-03-01T02:00:35")
    for name, value in (("gain_e_per_adu", 1.5), ("bias_adu", 400.0), ("read_noise_e", 5.0), ("temperature_c", -20.0)):
        assert frames[name].dims == ("time",) and (frames[name] == value).all()
    assert (frames.saturation_adu > 60_000).all()
    assert frames.attrs["frame_kind"] == "light" and frames.attrs["serial"] == CAMERA.serial


def test_the_numbers_of_a_shifted_converter_are_those_of_the_file() -> None:
    camera = Camera.preset("seestar_s50").replace(shape=(64, 64)).without("hot_pixels", "cosmic_rays")
    frames = expose(camera, 100.0, Exposures(n=1, exposure_s=10.0), seed=1).load()
    electrons = (frames.adu.astype(float) - frames.bias_adu) * frames.gain_e_per_adu
    assert (frames.adu % 16 == 0).all() and frames.cfa_pattern.item() == "GRBG"
    expected = frames.truth_electrons.mean().item() + 0.5
    assert within(electrons.mean().item(), expected, np.sqrt(expected / 4096) + 0.002 * expected)
    assert np.unique(frames.truth_electrons).tolist() == pytest.approx([600.0, 700.0, 750.0])


def test_a_frame_is_its_truth_with_the_noise_it_must_have() -> None:
    camera = CAMERA.without("hot_pixels", "cosmic_rays")
    frames = observe(scene(), camera, NIGHT, seed=0).load()
    truth = frames.truth_electrons.astype(float)
    residual = (frames.adu.astype(float) - 400.0) * 1.5 - truth
    sigma = np.sqrt(truth + 25.0 + 1.5**2 / 12)
    pull = (residual / sigma).values
    assert within(pull.mean(), 0.0, 1 / np.sqrt(pull.size), 6) and within(
        pull.std(), 1.0, 1 / np.sqrt(2 * pull.size), 6
    )


def test_the_truth_of_a_light_curve_is_photons_of_the_whole_source() -> None:
    curve = observe(scene(), CAMERA, NIGHT, seed=0).truth_light_curve
    assert curve.dims == ("time", "source") and curve["name"].values.tolist() == ["target"]
    relative = (curve / curve[0]).values[:, 0]
    assert relative == pytest.approx([1.0, 1.0, 0.5, 0.5, 1.0, 1.0])


def test_a_seed_gives_the_same_bytes_and_any_selection_of_them() -> None:
    one, two = (observe(scene(), CAMERA, NIGHT, seed="night one") for _ in range(2))
    whole = one.adu.values
    assert whole.tobytes() == two.adu.values.tobytes()
    part = two.adu.isel(time=[4, 1], y=slice(10, 50), x=slice(3, 70)).values
    assert part.tobytes() == np.ascontiguousarray(whole[[4, 1], 10:50, 3:70]).tobytes()
    chunked = two.adu.chunk({"time": 2, "y": 17, "x": 80}).values
    assert chunked.tobytes() == whole.tobytes()


def test_kinds_of_frame_and_seeds_share_no_noise() -> None:
    camera, short = CAMERA.without("hot_pixels", "cosmic_rays"), Exposures(n=1, exposure_s=0.0)
    made = [
        dark(camera, short, seed=1),
        bias(camera, 1, seed=1),
        expose(camera, 0.0, short, seed=1),
        dark(camera, short, seed=2),
        dark(camera, short, seed="1"),
    ]
    noise = [frames.adu.values.astype(float).ravel() for frames in made]
    for i in range(len(noise)):
        for j in range(i):
            assert abs(np.corrcoef(noise[i], noise[j])[0, 1]) < 5 / np.sqrt(len(noise[0]))


def test_until_stops_after_a_stage() -> None:
    charge = observe(scene(), CAMERA, NIGHT, seed=0, until="shot")
    assert list(charge.data_vars)[:2] == ["electrons", "truth_electrons"] and "adu" not in charge
    assert (charge.electrons.values % 1 == 0).all()
    with pytest.raises(OptionError, match="shot, cosmic_rays"):
        observe(scene(), CAMERA, NIGHT, seed=0, until="ipc")


def test_only_the_wanted_planes_are_there_and_unknown_ones_are_refused() -> None:
    assert list(observe(scene(), CAMERA, NIGHT, seed=0, planes=["adu"]).data_vars) == ["adu", "truth_light_curve"]
    with pytest.raises(DataError, match="no plane colour"):
        observe(scene(), CAMERA, NIGHT, seed=0, planes=["colour"])


def test_a_flat_reaches_its_level_and_shows_the_vignetting() -> None:
    camera = Camera.preset("generic_scmos").replace(shape=(64, 64)).without("hot_pixels", "cosmic_rays")
    exposures = Exposures(n=2, exposure_s=1.0)
    level = flat(camera, exposures, seed=1, level=0.4).adu.values.astype(float)
    facts = camera.columns()
    expected = facts["bias_adu"] + 0.4 * (facts["saturation_adu"] - facts["bias_adu"])
    assert level.mean() == pytest.approx(expected, rel=0.006)  # 0.4 % nonlinearity at 0.4 of the well
    dimmed = flat(camera, exposures, seed=1, optics=[Vignetting(strength=0.5)]).truth_electrons.values[0]
    centre, corner = dimmed[31:33, 31:33].mean(), dimmed[0, 0]
    assert corner / centre == pytest.approx(0.5, abs=1e-3)
    assert flat(camera, exposures, seed=1, optics=scene(optics=[Vignetting(strength=0.5)])).truth_electrons.values[
        0, 0, 0
    ] == pytest.approx(corner)


def test_the_temperature_of_each_exposure_drives_the_dark_current() -> None:
    camera = Camera.preset("generic_cmos").replace(shape=(128, 128)).without("hot_pixels", "cosmic_rays")
    warm = dark(camera, Exposures(n=3, exposure_s=100.0), seed=1, temperature_c=[8.0, 14.0, 20.0])
    level = (warm.adu.astype(float) - warm.bias_adu).mean(("y", "x")).values * 3.9
    assert level == pytest.approx([50.0, 100.0, 200.0], abs=5 * np.sqrt(200 + 4) / 128 + 1.2)
    assert warm.temperature_c.values.tolist() == [8.0, 14.0, 20.0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: bias(CAMERA, NIGHT, seed=0), "0 s, or just the number"),
        (lambda: flat(CAMERA, NIGHT, seed=0, level=1.5), "flat level=1.5"),
        (lambda: flat(CAMERA, Exposures(n=1, exposure_s=0.0), seed=0), "exposure_s=0.0"),
        (lambda: dark(CAMERA, NIGHT, seed=0, temperature_c=[1.0, 2.0]), "one for each of 6 exposures"),
        (lambda: dark(CAMERA, NIGHT, seed=0, temperature_c=-400.0), ">= -273.15"),
    ],
)
def test_what_cannot_be_observed_is_refused_on_the_users_line(wrong: object, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        wrong()  # type: ignore[operator]
    assert words in str(caught.value)


# --- experiments ---------------------------------------------------------------------------------------------------

TEXT = """
seed = 7
darks = 3
flats = 2

[exposures]
n = 4
exposure_s = 10.0
start = "2026-03-01T02:00:00"

[camera]
preset = "generic_ccd"
shape = [32, 48]
without = ["cosmic_rays"]
[camera.replace.read_noise]
rms_e = 2.5
[[camera.add]]
kind = "prnu"
rms = 0.02

[scene]
[scene.telescope]
aperture_diameter_m = 0.2
plate_scale_arcsec_per_px = 5.0
[scene.psf]
kind = "gaussian"
fwhm_arcsec = 12.0
[[scene.sources]]
kind = "stars"
y = [10.0]
x = [20.0]
magnitude = [10.0]
[[scene.sources]]
kind = "sky"
mag_per_arcsec2 = 20.0
"""


def written(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "night.toml"
    path.write_text(text)
    return path


def test_an_experiment_is_the_same_night_as_its_parts(tmp_path: Path) -> None:
    plan = load_experiment(written(tmp_path))
    assert plan.camera.shape == (32, 48) and plan.camera.stage("read_noise").rms_e == 2.5  # type: ignore[attr-defined]
    assert plan.camera.has("prnu") and not plan.camera.has("cosmic_rays")
    frames = observe(plan.scene, plan.camera, plan.exposures, seed=7)
    assert plan.observe().adu.values.tobytes() == frames.adu.values.tobytes()
    made = plan.frames()
    assert list(made) == ["lights", "darks", "flats"] and made["darks"].sizes["time"] == 3
    assert (made["darks"].exposure_s == 10.0).all()


def test_an_experiment_goes_through_toml(tmp_path: Path) -> None:
    plan = load_experiment(written(tmp_path))
    plan.to_toml(tmp_path / "again.toml")
    assert load_experiment(tmp_path / "again.toml") == plan
    whole = Experiment(scene=scene(), camera=CAMERA, exposures=NIGHT, seed="text")
    assert Experiment.from_toml(whole.to_toml()) == whole


def test_xarray_opens_an_experiment_lazily_and_gives_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path)
    frames = load_experiment(path).observe()
    opened = xr.open_dataset(path, engine="getframes_xr")
    assert list(opened.data_vars) == ["adu", "truth_electrons", "flags"]
    part = {"time": slice(1, 3), "y": slice(5, 30), "x": [40, 3, 7]}
    assert opened.adu.isel(part).values.tobytes() == frames.adu.isel(part).values.tobytes()
    chunked = xr.open_dataset(path, engine="getframes_xr", chunks={}, planes=["adu"])
    assert list(chunked.data_vars) == ["adu"] and chunked.adu.values.tobytes() == frames.adu.values.tobytes()
    assert xr.open_dataset(path).sizes == opened.sizes  # the file is recognised without naming the engine
    assert not observing.ExperimentEngine().guess_can_open(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("darks = 3", "drks = 3", "Experiment.drks"),
        ("exposure_s = 10.0", "exposure = 10.0", "Exposures.exposure"),
        ("exposure_s = 10.0", "exposure_s = -1.0", "Exposures.exposure_s=-1.0 is not allowed; allowed: >= 0"),
        ('preset = "generic_ccd"', 'preset = "generic"', "generic_ccd, generic_cmos"),
        ("rms_e = 2.5", "rms = 2.5", "ReadNoise.rms"),
        ("shape = [32, 48]", "shpe = [32, 48]", "Camera.shpe"),
        ('without = ["cosmic_rays"]', 'without = ["cosmics"]', "cosmic_rays"),
        ('kind = "sky"', 'kind = "skies"', "sky"),
    ],
)
def test_a_wrong_line_in_an_experiment_is_named(tmp_path: Path, line: str, instead: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_experiment(written(tmp_path, TEXT.replace(line, instead)))
    assert words in str(caught.value)


def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        load_experiment(tmp_path / "none.toml")
    with pytest.raises(DataError, match="is not TOML"):
        load_experiment(written(tmp_path, "seed = = 3"))


@pytest.mark.parametrize("known, of_darks", [(-10.0, -10.0), ((-12.0, -4.0, -10.0), -10.0), (None, None)])
def test_the_temperature_of_an_experiment_reaches_every_kind_of_frame(known: Any, of_darks: float | None) -> None:
    """Hot pixels and dark current of the darks are those of the lights."""
    camera = gx.Camera.preset("generic_cmos").replace(shape=(16, 20))
    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.2, plate_scale_arcsec_per_px=3.0, band="johnson_R"),
        psf=gx.psf.Moffat(fwhm_arcsec=9.0, beta=3.0),
        sources=[gx.Sky(mag_per_arcsec2=19.0)],
    )
    nights = gx.Exposures(n=3, exposure_s=20.0, start="2026-03-01T02:00:00")
    plan = gx.Experiment(scene=scene, camera=camera, exposures=nights, temperature_c=known, darks=2, biases=2, flats=2)
    made = plan.frames()
    expected = camera.temperature_c if of_darks is None else of_darks
    for kind in ("darks", "biases", "flats"):
        assert (made[kind]["temperature_c"].values == expected).all(), kind
    same = gx.dark(camera, gx.Exposures(n=2, exposure_s=20.0, start=nights.start), seed=0, temperature_c=expected)
    assert (made["darks"]["adu"].values == same["adu"].values).all()
