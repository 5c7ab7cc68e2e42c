"""Scenes: the law of windows for every source, colour, vignetting, TOML, memory, the edge of the frame."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import getframes_xr.light as room
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.light.atmosphere import Seeing, Transparency
from getframes_xr.light.bands import band, photon_ratio
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.optics import OPTICS, Vignetting
from getframes_xr.light.pointing import FieldRotation, Jolt, Pointing
from getframes_xr.light.psf import PSFS, Gaussian, Moffat
from getframes_xr.light.scene import Scene, SceneFrames
from getframes_xr.light.sources import SOURCES, SatelliteTrails, Sky, StarField, Stars
from getframes_xr.light.telescope import Telescope
from tests.laws.rooms import import_all
from tests.light.small import TELESCOPE, box, frames, light, photons, scene
from tests.strategies import pairs

import_all(room)
CASES = [(kind, n) for kind in SOURCES for n in range(len(SOURCES[kind].examples()))]
NIGHT = {
    "pointing": Pointing(
        jitter_arcsec=1.0, drift_arcsec_per_s=(0.05, 0.03), field_rotation=FieldRotation(rate_deg_per_s=0.05),
        jolts=[Jolt(frame=1, dy_arcsec=5.0, dx_arcsec=-3.0)],
    ),
    "seeing": Seeing(),
    "transparency": Transparency(),
    "optics": [*OPTICS["vignetting"].examples(), *OPTICS["radial_distortion"].examples()],
}  # fmt: skip
GRID = Window(Span(0, 3), Span(0, 41), Span(0, 38))


def example(kind: str, n: int, cfa: str | None, psf: object) -> SceneFrames:
    source = SOURCES[kind].examples()[n]
    return frames([source, Sky(mag_per_arcsec2=21.0)], (41, 38), n=3, cfa=cfa, psf=psf, **NIGHT)


@pytest.mark.parametrize("cfa", [None, "GRBG"])
@pytest.mark.parametrize(("kind", "n"), CASES)
@given(st.data())
def test_a_window_of_light_is_the_crop_of_a_larger_one(kind: str, n: int, cfa: str | None, data: st.DataObject) -> None:
    producer = example(kind, n, cfa, Moffat(fwhm_arcsec=2.0) if n % 2 else Gaussian(fwhm_arcsec=2.0))
    large, small = data.draw(pairs(GRID))
    outer = producer.produce(large, ["photons"])
    assert producer.produce(small, ["photons"])["photons"].tobytes() == outer.crop(small)["photons"].tobytes()


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_a_source_survives_toml_and_pickle_and_keeps_its_photons(kind: str, n: int) -> None:
    made = scene([SOURCES[kind].examples()[n]], **NIGHT)
    again = Scene.from_toml(made.to_toml())
    assert again == made and hash(again) == hash(made)
    producer = example(kind, n, None, Gaussian(fwhm_arcsec=2.0))
    copy = pickle.loads(pickle.dumps(producer))
    assert copy == producer and light(copy).tobytes() == light(producer).tobytes()


@pytest.mark.parametrize("psf", [psf for kind in PSFS for psf in PSFS[kind].examples()])
def test_light_from_stars_off_the_frame_reaches_it_and_no_further_than_it_should(psf: object) -> None:
    stars = Stars(y=[-0.9, 30.0, 45.2], x=[20.1, 43.0, 41.0], magnitude=[7.0, 8.0, 6.0])
    small = light(frames([stars], (41, 38), psf=psf))
    wide = scene([stars], psf=psf)
    grid = wide.grid((Span(-40, 80), Span(-40, 90)), Exposures(n=1, exposure_s=10.0), 1)
    larger = SceneFrames(wide, grid).produce(box((0, 1), (0, 41), (0, 38)), ["photons"])["photons"]
    assert small.tobytes() == larger.tobytes() and small.max() > 0


def test_a_crowded_field_is_the_same_from_the_index_and_star_by_star() -> None:
    """Far more stars than the index leaves undivided: a window's stars are all found, and none twice."""
    field = StarField(n=6000, magnitude=(6.0, 16.0), seed=3)
    producer = frames([field], (300, 400), n=2, psf=Moffat(fwhm_arcsec=2.5), **NIGHT)
    y, x, magnitude, colour = field.table(producer.sight)
    assert len(y) > 6000 and (magnitude[:6000] <= 16).all()
    window = box((1, 2), (120, 150), (200, 260))
    part = light(producer, window)
    chosen = np.flatnonzero(np.hypot(y - 135, x - 230) < 130)  # generous: reach of the brightest included
    loose = Stars(y=y[chosen], x=x[chosen], magnitude=magnitude[chosen], colour=colour[chosen])
    few = frames([loose], (300, 400), n=2, psf=Moffat(fwhm_arcsec=2.5), **NIGHT)
    expected = light(few, window).astype(float)
    assert np.abs(part - expected).max() < 0.01 + 1e-4 * expected.max()  # cut wings of far bright stars
    assert part.tobytes() == light(producer)[1:2, 120:150, 200:260].tobytes()


def test_the_sky_has_its_surface_brightness_and_gradient() -> None:
    sky = Sky(mag_per_arcsec2=20.0, gradient=(0.2, -0.1))
    wide = TELESCOPE.replace(plate_scale_arcsec_per_px=2.0)
    picture = light(frames([sky], (101, 201), telescope=wide))[0].astype(float)
    level = photons(20.0) * 4.0
    assert picture.mean() == pytest.approx(level, rel=1e-6)
    assert picture[50, 100] == pytest.approx(level, rel=1e-6)
    assert (picture[100] - picture[0]).mean() / level == pytest.approx(0.2 * 100 / 101, rel=1e-4)
    assert (picture[:, 200] - picture[:, 0]).mean() / level == pytest.approx(-0.1 * 200 / 201, rel=1e-4)


@pytest.mark.parametrize("source", [Sky(mag_per_arcsec2=18.0), Stars(y=[0.0], x=[0.0], magnitude=[9.0])])
def test_vignetting_dims_everything_and_the_sky_too(source: object) -> None:
    plain, dim = (
        light(frames([source], (65, 97), optics=optics))[0].astype(float)
        for optics in ((), (Vignetting(strength=0.5, power=2),))
    )
    y, x = np.indices(plain.shape)
    factor = 1 - 0.5 * ((y - 32) ** 2 + (x - 48) ** 2) / (32**2 + 48**2)
    assert dim == pytest.approx(plain * factor, rel=1e-6, abs=1e-9)
    assert dim[0, 0] == pytest.approx(0.5 * plain[0, 0], rel=1e-6)  # D14


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_behind_a_colour_filter_array_each_pixel_gets_its_own_colour(cfa: str) -> None:
    magnitude, colour = 8.0, 1.2
    star = Stars(y=[30.0], x=[31.0], magnitude=[magnitude], colour=[colour])
    mosaic = light(frames([star], (61, 63), cfa=cfa))[0].astype(float)
    alone = light(frames([star], (61, 63)))[0].astype(float)  # the same stamp in the telescope's own band
    names = {"R": "red", "G": "green", "B": "blue"}
    for place, letter in enumerate(cfa):
        part = (slice(place >> 1, None, 2), slice(place & 1, None, 2))
        ratio = float(photon_ratio(names[letter], "johnson_V", colour))
        assert mosaic[part] == pytest.approx(alone[part] * ratio, rel=2e-6, abs=1e-9)
    assert photon_ratio("red", "johnson_V", colour) > photon_ratio("blue", "johnson_V", colour)
    assert band("green").zero_point > 0


def test_a_toml_scene_reads_like_the_tutorial(tmp_path: Path) -> None:
    made = scene(
        [Stars(y=[16, 28], x=[19, 33], magnitude=[11.0, 10.5], name=["target", "comparison"]),
         StarField(n=15, magnitude=(11.5, 15.0), seed=4), Sky(mag_per_arcsec2=20.0)], **NIGHT)  # fmt: skip
    path = tmp_path / "scene.toml"
    made.to_toml(path)
    assert Scene.from_toml(path) == made
    assert 'kind = "star_field"' in path.read_text()


def test_a_large_catalogue_lies_beside_its_toml(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    stars = Stars(y=rng.uniform(0, 64, 500), x=rng.uniform(0, 72, 500), magnitude=rng.uniform(10, 14, 500))
    made = scene([stars])
    with pytest.raises(DataError, match="give to_toml a path"):
        made.to_toml()
    path = tmp_path / "night.toml"
    made.to_toml(path)
    assert len(list((tmp_path / "night_columns").glob("*.npy"))) == 3
    again = Scene.from_toml(path)
    assert again == made and light(SceneFrames(again, _grid(again))).tobytes() == light(frames([stars])).tobytes()
    (next((tmp_path / "night_columns").glob("*.npy"))).unlink()
    with pytest.raises(DataError, match="cannot read the column"):
        Scene.from_toml(path)


def _grid(made: Scene) -> Grid:
    return made.grid((64, 72), Exposures(n=1, exposure_s=10.0), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('psf.kind = "gaussian"\npsf.fwhm_arcsec = 0.0', "fwhm_arcsec=0.0 is not allowed; allowed: > 0"),
        ('psf.kind = "airy"\npsf.fwhm_arcsec = 1.0', "psf kind='airy' is not allowed; allowed: gaussian, moffat"),
        (
            'psf.kind = "gaussian"\npsf.fwhm = 1.0',
            "fwhm=1.0 is not allowed; allowed: this option does not exist; known: fwhm_arcsec, kind",
        ),
    ],
)
def test_a_wrong_option_in_toml_is_named_with_what_is_allowed(text: str, message: str) -> None:
    text += '\nsources = [{kind = "sky", mag_per_arcsec2 = 20.0}]\n'
    text += "telescope = {aperture_diameter_m = 0.2, plate_scale_arcsec_per_px = 1.0}\n"
    with pytest.raises(OptionError) as caught:
        Scene.from_toml(text)
    assert message in str(caught.value)


def test_a_scene_without_sources_or_with_an_unknown_one_is_refused() -> None:
    with pytest.raises(OptionError):
        scene([])
    with pytest.raises(OptionError, match="star_field"):
        scene([{"kind": "planet"}])
    with pytest.raises(OptionError, match="throughput"):
        Telescope(aperture_diameter_m=1, plate_scale_arcsec_per_px=1, throughput=1.5)


def test_frames_of_light_refuse_a_grid_they_cannot_use() -> None:
    made = scene([Sky(mag_per_arcsec2=20.0)])
    with pytest.raises(DataError, match="exposure_s"):
        SceneFrames(made, Grid(Span(0, 4), Span(0, 4), {"frame": np.arange(2), "start": np.zeros(2, "M8[ns]")}))
    bad = _grid(made)
    columns = dict(bad.columns or {}) | {"exposure_s": np.array([np.nan])}
    with pytest.raises(OptionError, match="exposure_s"):
        SceneFrames(made, bad.replace(columns=columns))


def test_the_forecast_of_memory_holds() -> None:
    field = StarField(n=20_000, magnitude=(8.0, 16.0), seed=3)
    producer = frames([field, Sky(mag_per_arcsec2=20.0), SatelliteTrails(per_frame=2.0)], (600, 800), n=3, **NIGHT)
    window = box((0, 3), (100, 500), (100, 700))
    light(producer, box((0, 1), (0, 2), (0, 2)))  # catalogue and kernels are there already
    forecast = producer.peak_bytes(window, ["photons"])
    tracemalloc.start()
    light(producer, window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= forecast <= 2 * peak + (16 << 20)


def test_the_work_of_a_window_is_the_windows_own() -> None:
    field = StarField(n=50_000, magnitude=(10.0, 18.0), seed=3)
    producer = frames([field], (2000, 3000), psf=Moffat(fwhm_arcsec=2.5))
    from getframes_xr.light.scene import _lights

    chosen = _lights(producer)[0].chosen(box((0, 1), (900, 1000), (900, 1000)), producer.view(0))
    assert 80 < len(chosen) < 2500  # 83 on the window itself; cells and reach of the bright add to them


def test_a_dark_sky_without_light_gives_zero_photons_at_no_exposure() -> None:
    picture = light(frames([Sky(mag_per_arcsec2=20.0), Stars(y=[5], x=[5], magnitude=[3])], (11, 11), exposure_s=0.0))
    assert (picture == 0).all()
