"""Kinds of faults in cameras: facts stated in units of the file, draws of one's own, temperatures of the frame."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.illumination import Illumination
from getframes_xr.detector.stages.adc import Converter
from getframes_xr.detector.stages.dark import DarkCurrent
from getframes_xr.detector.stages.gain import Gain
from getframes_xr.detector.stages.prnu import PhotoResponse
from getframes_xr.detector.stages.read_noise import ReadNoise
from tests.detector.frames import even, grid, run, within

WHOLE = Window(Span(0, 1), Span(0, 256), Span(0, 256))


def camera(**changes: dict[str, float]) -> Camera:
    """A camera where no factor is 1: efficiency, multiplication, gain, left-aligned numbers, a bias, noises."""
    stages: dict[str, dict[str, object]] = {
        "quantum_efficiency": {"efficiency": 0.7}, "shot": {}, "full_well": {"full_well_e": 2000.0},
        "multiplication": {"gain": 20.0}, "reset_noise": {"rms_e": 30.0}, "read_noise": {"rms_e": 40.0},
        "gain": {"e_per_adu": 16.0}, "bias": {"offset_adu": 150.0}, "adc": {"bits": 12, "store_shift": 4},
    }  # fmt: skip
    for kind, options in changes.items():
        stages[kind] = stages[kind] | options
    return Camera(name="x", shape=(256, 256), stages=[{"kind": kind} | options for kind, options in stages.items()])


def adu(of: Camera, rate: float, seconds: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    frames = of.over(Illumination(grid((1, 256, 256), seconds), rate), seed=1, frame_kind="light")
    patch = frames.produce(WHOLE, ("adu", "flags"))
    return patch["adu"].astype(float), patch["flags"]


def test_what_a_camera_says_of_itself_is_what_its_frames_show() -> None:
    """Mean and variance of its frames, in the file's units, are those of the stated gain, noise and pedestal."""
    facts, n = camera().columns(), 256 * 256
    dark, _ = adu(camera(), 0.0)
    assert within(dark.mean(), facts["bias_adu"], dark.std() / np.sqrt(n) + 0.05)
    step = 16**2 / 12  # the converter's, in units of the file
    expected = (facts["read_noise_e"] / facts["gain_e_per_adu"]) ** 2 + step
    assert within(dark.var(), expected, expected * np.sqrt(2 / n))
    light, _ = adu(camera(), 400.0)
    electrons = (light.mean() - facts["bias_adu"]) * facts["gain_e_per_adu"]
    assert within(electrons, 0.7 * 400.0, np.sqrt(2 * 280.0 / n) + 0.05)


def test_saturation_is_said_five_sigma_of_read_noise_below_the_well() -> None:
    """With and without noise: the number a full pixel is read at, less the margin; no full pixel is read below it."""
    quiet = camera(reset_noise={"rms_e": 0.0}, read_noise={"rms_e": 0.0}, multiplication={"gain": 1.0})
    loud = quiet.replace("read_noise", rms_e=80.0)
    full = 2000.0 / 16.0 * 16 + 150 * 16
    assert quiet.columns()["saturation_adu"] == full
    assert loud.columns()["saturation_adu"] == full - 5 * 80.0
    for each in (quiet, loud):
        values, flags = adu(each, 1e5)
        assert (flags & int(Flag.SATURATED)).all()
        assert (values >= each.columns()["saturation_adu"] - 16).all()


def test_a_left_aligned_converter_saturates_at_its_own_top_number() -> None:
    values, flags = adu(camera(full_well={"full_well_e": 1e6}), 1e5)
    top = (2**12 - 1) * 16
    assert camera(full_well={"full_well_e": 1e6}).columns()["saturation_adu"] == top
    assert (values == top).all() and (flags & int(Flag.SATURATED)).all()


@pytest.mark.parametrize(("value", "flagged"), [(4094.0, False), (4094.4, False), (4094.6, True), (4095.0, True)])
def test_the_top_number_itself_is_saturated_and_the_one_below_is_not(value: float, flagged: bool) -> None:
    planes = {"adu": even(value, (1, 8, 8)), "flags": np.zeros((1, 8, 8), np.uint16)}
    found = run(Converter(bits=12), planes)
    assert bool((found["flags"] & int(Flag.SATURATED)).all()) == flagged == bool(found["flags"].any())


def test_amplifier_factors_multiply_electrons_per_adu() -> None:
    planes = {"electrons": even(1000.0, (1, 8, 8))}
    found = run(Gain(e_per_adu=2.0, layout=(1, 2), factors=(1.0, 1.25)), planes)["adu"]
    np.testing.assert_allclose(found[0, :, :4], 500.0)
    np.testing.assert_allclose(found[0, :, 4:], 400.0)


def test_dark_current_follows_temperature_and_time_of_each_frame() -> None:
    on = grid((4, 8, 8)).replace(
        columns=dict(grid((4, 8, 8)).columns or {})
        | {"temperature_c": np.array([10.0, 0.0, -6.0, 20.0]), "exposure_s": np.array([1.0, 10.0, 5.0, 2.0])}
    )
    stage = DarkCurrent(rate_e_per_s=3.0, reference_temperature_c=0.0, doubling_temperature_c=6.0)
    found = run(stage, {"expected_electrons": even(0.0, (4, 8, 8))}, on=on)["expected_electrons"][:, 0, 0]
    np.testing.assert_allclose(found, 3.0 * 2 ** (np.array([10, 0, -6, 20]) / 6.0) * [1, 10, 5, 2], rtol=1e-6)


def test_two_stages_of_one_kind_draw_numbers_of_their_own() -> None:
    """Two read noises of 3 e- make sqrt(2) 3 e-, not 6; two fixed patterns are not each other's."""
    shape = (1, 512, 512)
    one = run(ReadNoise(rms_e=3.0), {"electrons": even(0.0, shape)})["electrons"]
    two = run((ReadNoise(rms_e=3.0), ReadNoise(rms_e=3.0)), {"electrons": even(0.0, shape)})["electrons"]
    assert within(two.std(), 3.0 * np.sqrt(2), 3.0 / 512)
    assert abs(np.corrcoef(one.ravel(), (two - one).ravel())[0, 1]) < 5 / 512
    response = run((PhotoResponse(rms=0.02), PhotoResponse(rms=0.02)), {"expected_electrons": even(1.0, shape)})
    assert within(np.log(response["expected_electrons"]).std(), 0.02 * np.sqrt(2), 0.02 / 512)


def test_kinds_of_frames_and_cameras_of_one_seed_share_no_noise() -> None:
    def noise(serial: str, kind: str, seed: int = 1) -> np.ndarray:
        made = camera().without("multiplication").replace(serial=serial)
        frames = made.over(Illumination(grid((1, 256, 256)), 0.0), seed=seed, frame_kind=kind)
        return frames.produce(WHOLE, ("adu",))["adu"].astype(float).ravel()

    ways = [noise("1", "dark"), noise("1", "bias"), noise("1", "light"), noise("2", "dark"), noise("1", "dark", 2)]
    correlation = np.corrcoef(ways) - np.eye(5)
    assert np.abs(correlation).max() < 5 / 256
    assert (noise("1", "dark") == ways[0]).all()
