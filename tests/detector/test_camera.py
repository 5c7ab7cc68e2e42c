"""Cameras: the chain is checked, options go through TOML, whole cameras keep the law of windows and add up."""

from __future__ import annotations

import pickle
import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.fixed_maps import MAPS
from getframes_xr.detector.illumination import Illumination
from getframes_xr.detector.order import usual_order
from getframes_xr.detector.stages.blooming import Blooming
from getframes_xr.detector.stages.common_mode import CommonMode
from getframes_xr.detector.stages.ipc import InterPixelCapacitance
from getframes_xr.detector.stages.persistence import Persistence
from getframes_xr.detector.stages.shot import ShotNoise
from getframes_xr.engine.staged import Staged
from tests.detector.frames import grid, within
from tests.strategies import pairs

PRESETS = Camera.presets()


def small(name: str = "generic_scmos", shape: tuple[int, int] = (40, 56), **changes: object) -> Camera:
    return Camera.preset(name).replace(shape=shape, **changes)


def frames_of(camera: Camera, rate: float = 300.0, n: int = 5, seed: int | str = 1, kind: str = "light") -> Staged:
    place = grid((n, *camera.shape), 2.0, camera.temperature_c, cfa=camera.cfa)
    return camera.over(Illumination(place, rate), seed=seed, frame_kind=kind)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_goes_through_toml_and_pickle(name: str) -> None:
    camera = Camera.preset(name)
    assert Camera.from_toml(camera.to_toml()) == camera
    assert pickle.loads(pickle.dumps(camera)) == camera and hash(camera) == hash(Camera.preset(name))


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_says_where_it_comes_from(name: str) -> None:
    """Each number has a comment, or repeats one that has (the pitch, the well, a reference temperature)."""
    text = files("getframes_xr.detector").joinpath("presets", f"{name}.toml").read_text()
    repeated = ("pixel_um", "full_well_e", "reference_temperature_c", "doubling_temperature_c", "spread_e_per_um")
    for line in text.splitlines():
        if re.match(r"^[a-z_0-9]+ = [-\d\[]", line) and "#" not in line:
            assert line.split(" =")[0] in repeated, f"{name}: {line}"


@pytest.mark.parametrize("name", PRESETS)
def test_stages_of_a_preset_stand_in_the_order_of_the_physics(name: str) -> None:
    order = usual_order()
    places = [order.index(type(stage).model_fields["kind"].default) for stage in Camera.preset(name).stages]
    assert places == sorted(places)


@pytest.mark.parametrize("name", PRESETS)
def test_the_converter_or_the_well_of_a_preset_limits_at_a_stated_point(name: str) -> None:
    camera = Camera.preset(name)
    facts = camera.columns()
    top = camera.stage("adc").largest_adu  # type: ignore[attr-defined]
    assert 0.5 * top < facts["saturation_adu"] <= top
    bright = frames_of(camera.replace(shape=(16, 16)), 1e9, 1).produce(
        Window(Span(0, 1), Span(0, 16), Span(0, 16)), ("adu",)
    )
    assert np.median(bright["adu"]) >= facts["saturation_adu"]


def test_the_generic_ccd_is_the_one_of_the_tutorial() -> None:
    camera = Camera.preset("generic_ccd")
    assert camera.shape == (512, 512) and camera.cfa is None and not camera.has("prnu")
    assert frames_of(camera).planes["adu"].dtype == np.uint16


@pytest.mark.parametrize("name", PRESETS)
@given(data=st.data())
@settings(max_examples=8)
def test_a_window_of_a_camera_is_the_crop_of_any_window_around_it(name: str, data: st.DataObject) -> None:
    producer = frames_of(small(name), n=3)
    large, inner = data.draw(pairs(producer.grid.window))
    planes = ("adu", "flags", "truth_electrons")
    big, little = producer.produce(large, planes).crop(inner), producer.produce(inner, planes)
    assert all(big[plane].tobytes() == little[plane].tobytes() for plane in planes)


@given(data=st.data())
@settings(max_examples=12)
def test_a_camera_with_stages_of_every_scope_keeps_the_law(data: st.DataObject) -> None:
    well = {"full_well_e": 3000.0}
    camera = small(shape=(24, 20)).replace(**well).without("full_well")
    camera = camera.with_stage(Blooming(**well)).with_stage(InterPixelCapacitance(coupling=0.02))
    camera = camera.with_stage(Persistence(**well, horizon_frames=2, period_frames=3)).with_stage(CommonMode())
    rate = np.random.default_rng(1).gamma(0.3, 3000.0, camera.shape)
    producer = camera.over(Illumination(grid((7, 24, 20), 2.0, -10.0), rate), seed=3, frame_kind="light")
    large, inner = data.draw(pairs(producer.grid.window))
    big, little = producer.produce(large, ("adu", "flags")).crop(inner), producer.produce(inner, ("adu", "flags"))
    assert all(big[plane].tobytes() == little[plane].tobytes() for plane in ("adu", "flags"))


def test_bytes_do_not_depend_on_the_cache_of_fixed_maps() -> None:
    camera, window = small(shape=(200, 100)), Window(Span(0, 2), Span(30, 190), Span(0, 100))
    warm = frames_of(camera).produce(window, ("adu",))["adu"]
    limit = MAPS.limit_bytes
    try:
        MAPS.clear()
        MAPS.limit_bytes = 0
        cold = frames_of(camera).produce(window, ("adu",))["adu"]
        assert MAPS.held_bytes == 0
    finally:
        MAPS.limit_bytes = limit
    assert cold.tobytes() == warm.tobytes()


def test_the_cache_of_fixed_maps_counts_its_bytes_and_keeps_its_limit() -> None:
    limit, camera = MAPS.limit_bytes, small(shape=(640, 256))
    try:
        MAPS.clear()
        MAPS.limit_bytes = 300_000
        frames_of(camera).produce(Window(Span(0, 1), Span(0, 640), Span(0, 256)), ("adu",))
        assert 0 < MAPS.held_bytes <= 300_000
    finally:
        MAPS.limit_bytes = limit
        MAPS.clear()


def test_truth_draws_nothing_and_runs_only_what_makes_it() -> None:
    camera = Camera(name="x", shape=(4, 4), stages=({"kind": "quantum_efficiency", "efficiency": 0.5}, ShotNoise()))
    truth = frames_of(camera, 10.0, 1).produce(Window(Span(0, 1), Span(0, 4), Span(0, 4)), ("truth_electrons",))
    assert list(truth) == ["truth_electrons"] and (truth["truth_electrons"] == 10.0).all()


def test_the_mean_and_the_variance_of_a_whole_camera() -> None:
    """Mean = bias + (QE light + dark) / gain; variance adds shot, PRNU, read noise and the converter's twelfth."""
    camera = Camera(
        name="sum",
        shape=(512, 512),
        stages=[
            {"kind": "quantum_efficiency", "efficiency": 0.8},
            {"kind": "prnu", "rms": 0.02},
            {"kind": "dark", "rate_e_per_s": 5.0},
            {"kind": "shot"},
            {"kind": "read_noise", "rms_e": 4.0},
            {"kind": "gain", "e_per_adu": 0.5},
            {"kind": "bias", "offset_adu": 200.0},
            {"kind": "adc", "bits": 16},
        ],
    )
    adu = (
        frames_of(camera, 500.0, 1)
        .produce(Window(Span(0, 1), Span(0, 512), Span(0, 512)), ("adu",))["adu"]
        .astype(float)
    )
    light, dark = 2 * 0.8 * 500.0, 2 * 5.0
    variance = (light + dark + (0.02 * light) ** 2 + 16.0) / 0.25 + 1 / 12
    n = adu.size
    assert within(adu.mean(), 200.0 + (light + dark) / 0.5, np.sqrt(variance / n))
    assert within(adu.var(), variance, variance * np.sqrt(2 / n))


def test_a_dark_and_a_light_of_one_seed_share_nothing_but_the_pattern() -> None:
    camera = small("generic_ccd", (256, 256)).without("hot_pixels", "cosmic_rays")
    window = Window(Span(0, 1), Span(0, 256), Span(0, 256))
    dark, light = (
        frames_of(camera, 0.0, kind=k).produce(window, ("adu",))["adu"].astype(float) for k in ("dark", "light")
    )
    other = frames_of(camera.replace(serial="2"), 0.0, kind="dark").produce(window, ("adu",))["adu"].astype(float)
    for there in (light, other):
        assert abs(np.corrcoef(dark.ravel(), there.ravel())[0, 1]) < 5 / 256
    assert within((dark - light).std(), np.sqrt(2) * dark.std(), 0.02)


def test_hot_pixels_of_darks_are_those_of_lights() -> None:
    camera = small("generic_cmos", (128, 128)).replace("hot_pixels", mean_e_per_s=2000.0)
    window = Window(Span(0, 1), Span(0, 128), Span(0, 128))
    flags = [
        frames_of(camera, 100.0, kind=kind).produce(window, ("flags",))["flags"] & Flag.HOT
        for kind in ("dark", "light")
    ]
    assert flags[0].any() and (flags[0] == flags[1]).all()


def test_replace_without_and_with_stage_change_one_thing() -> None:
    camera = Camera.preset("generic_scmos")
    assert camera.replace("read_noise", rms_e=3).stage("read_noise").rms_e == 3.0  # type: ignore[attr-defined]
    fewer = camera.without("prnu", "dark")
    assert not fewer.has("prnu") and len(fewer.stages) == len(camera.stages) - 2
    with pytest.raises(OptionError, match="adu is made before 'bias'"):
        camera.without("gain")
    kinds = [type(stage).model_fields["kind"].default for stage in camera.with_stage(InterPixelCapacitance()).stages]
    assert kinds.index("ipc") == kinds.index("dead_pixels") + 1
    assert camera.chain("shot")[-1] == camera.stage("shot")


def test_the_well_and_the_pitch_are_facts_of_the_whole_sensor() -> None:
    camera = Camera.preset("generic_scmos").replace("full_well", full_well_e=12_000.0)
    assert camera.stage("nonlinearity").full_well_e == 12_000.0  # type: ignore[attr-defined]
    assert camera.replace(full_well_e=5e3).saturation_e == 5e3
    finer = camera.replace(pixel_um=2.0)
    assert finer.pixel_um == 2.0 and finer.stage("cosmic_rays").pixel_um == 2.0  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="one and the same full_well_e"):
        camera.replace(stages=(*camera.stages[:-1], Blooming(full_well_e=1.0), camera.stages[-1]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda c: Camera.preset("generic_cdd"), "generic_ccd, generic_cmos"),
        (lambda c: c.replace("read_nois", rms_e=3), "read_noise"),
        (lambda c: c.replace("read_noise", rms=3), "does not exist; known: kind, rms_e"),
        (lambda c: c.replace("read_noise", rms_e=-3), "ReadNoise.rms_e=-3 is not allowed; allowed: >= 0"),
        (lambda c: c.replace("read_noise", rms_e=float("nan")), "ReadNoise.rms_e=nan"),
        (lambda c: c.replace(colour=3), "does not exist; known: name, serial, shape"),
        (lambda c: c.without("ipc"), "quantum_efficiency, prnu"),
        (lambda c: c.chain("fotons"), "quantum_efficiency, prnu"),
        (
            lambda c: Camera(name="x", shape=(4, 4), stages=[{"kind": "shott"}]),
            "row_noise, serial_cti, shot",
        ),
        (lambda c: Camera(name="x", shape=(4, 4), stages=[ShotNoise()]), "expected_electrons is made before 'shot'"),
        (lambda c: c.replace("cosmic_rays", pixel_um=-1.0), "CosmicRays.pixel_um=-1.0"),
        (lambda c: c.over(Illumination(grid((1, 4, 4))), seed=1, frame_kind="light"), "the camera's (2048, 2048)"),
    ],
)
def test_a_wrong_name_or_number_is_named_with_what_is_allowed(wrong: object, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        wrong(Camera.preset("generic_scmos"))  # type: ignore[operator]
    assert words in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), np.ones((3, 3))])
def test_light_that_cannot_be_is_refused(rate: object) -> None:
    with pytest.raises(DataError):
        Illumination(grid((1, 4, 4)), rate)  # type: ignore[arg-type]


def test_a_camera_prints_its_stages_with_units() -> None:
    text = str(Camera.preset("generic_ccd"))
    assert "generic CCD (serial generic-ccd-1): 512 x 512 px of 15 um, -20 C" in text
    assert re.search(r"dark +rate 0.1 e-/s, nonuniformity 0.05, reference temperature 20 C", text)
    assert re.search(r"gain +1.5 e-/adu$", text, re.M) and re.search(r"bias +offset 400 adu$", text, re.M)
