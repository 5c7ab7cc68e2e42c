"""Calibration against its equation; bad pixels are flagged; what cannot be right is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.calibrate import calibrate
from getframes_xr.reduce.master import master
from tests.frames import held_frames
from tests.strategies import windows

NY, NX = 18, 26
RNG = np.random.default_rng(6)
BIAS = RNG.normal(300, 3, (NY, NX)).astype(np.float32)
DARK_CURRENT = RNG.uniform(0, 2, (NY, NX)).astype(np.float32)  # adu / s
RESPONSE = RNG.uniform(0.7, 1.3, (NY, NX)).astype(np.float32)
LIGHT = RNG.uniform(50, 2000, (5, NY, NX))


def timeless(values, **attrs):
    units = attrs.pop("units", "adu")
    dataset = xr.Dataset({"image": (("y", "x"), np.asarray(values, np.float32), {"units": units})}, attrs=attrs)
    return dataset.assign_coords(y=np.arange(values.shape[0]), x=np.arange(values.shape[1]))


def raw(exposure_s=20.0, dtype=np.float32, **columns):
    values = BIAS + DARK_CURRENT * exposure_s + LIGHT * RESPONSE
    if dtype == np.uint16:
        values = np.round(values)
    known = {"exposure_s": np.full(5, exposure_s)} | columns
    plane = "adu" if dtype == np.uint16 else "image"
    return lazy(held_frames(values.astype(dtype), plane=plane, **known))


DARK_20 = timeless(BIAS + DARK_CURRENT * 20, exposure_s=20.0)
DARK_100 = timeless(BIAS + DARK_CURRENT * 100, exposure_s=100.0)
BIAS_MASTER = timeless(BIAS)
FLAT = timeless(BIAS + 20000 * RESPONSE)


def test_a_dark_as_long_as_the_light_holds_the_bias():
    made = calibrate(raw(), dark=DARK_20).compute()
    np.testing.assert_allclose(made.image, LIGHT * RESPONSE, rtol=3e-6, atol=1e-3)


def test_a_longer_dark_is_scaled_without_its_bias():
    made = calibrate(raw(), dark=DARK_100, bias=BIAS_MASTER).compute()
    np.testing.assert_allclose(made.image, LIGHT * RESPONSE, rtol=3e-6, atol=1e-3)
    level = raw(bias_adu=np.full(5, 300.0))
    flat_bias = calibrate(level, dark=timeless(300 + DARK_CURRENT * 100, exposure_s=100.0)).compute()
    np.testing.assert_allclose(flat_bias.image, LIGHT * RESPONSE + (BIAS - 300), rtol=3e-6, atol=1e-3)


def test_a_flat_divides_by_its_response_with_mean_one():
    made = calibrate(raw(), dark=DARK_20, bias=BIAS_MASTER, flat=FLAT).compute()
    np.testing.assert_allclose(made.image, LIGHT * RESPONSE.mean(), rtol=1e-5, atol=2e-3)
    one_level = timeless(300 + 20000 * RESPONSE, bias_adu=300.0)
    again = calibrate(raw(), dark=DARK_20, flat=one_level).compute()
    np.testing.assert_allclose(again.image, LIGHT * RESPONSE.mean(), rtol=1e-5, atol=2e-3)


def test_a_flat_of_a_colour_camera_keeps_the_balance_of_colours():
    """Each colour of the flat is brought to mean 1 by itself: a reddish lamp leaves white white."""
    colour = np.where(
        (np.arange(NY)[:, None] % 2 == 0) & (np.arange(NX) % 2 == 0), 3.0, 1.0
    )  # RGGB: red thrice as bright
    lights = lazy(held_frames(np.full((5, NY, NX), 100, np.float32), cfa="RGGB", exposure_s=np.full(5, 1.0)))
    flat = timeless(colour * 1000, calibrated="bias")
    made = calibrate(lights, flat=flat).compute()
    np.testing.assert_allclose(made.image, 100, rtol=1e-6)


def test_the_unit_is_the_electron_where_the_gain_is_known():
    gain = np.linspace(1, 2, 5)
    made = calibrate(raw(gain_e_per_adu=gain), dark=DARK_20)
    assert made.image.attrs["units"] == "electron"
    np.testing.assert_allclose(made.image, LIGHT * RESPONSE * gain[:, None, None], rtol=5e-6, atol=1e-3)
    unknown = calibrate(raw(gain_e_per_adu=np.array([1, 1, np.nan, 1, 1])), dark=DARK_20)
    assert unknown.image.attrs["units"] == "adu"


def test_raw_frames_alone_lose_the_known_pedestal_and_get_flags_from_the_map():
    cosmetic = xr.Dataset({"flags": (("y", "x"), np.zeros((NY, NX), np.uint16))})
    cosmetic.flags[3, 4] = int(Flag.HOT)
    columns = {"bias_adu": np.full(5, 300.0), "gain_e_per_adu": np.full(5, 2.0), "saturation_adu": np.full(5, 2000.0)}
    lights = raw(dtype=np.uint16, **columns)
    made = calibrate(lights, cosmetic=cosmetic).compute()
    adu = lights.adu.values
    np.testing.assert_array_equal(made.image, (adu.astype(np.float32) - 300) * 2)
    expected = np.where(adu >= 2000, int(Flag.SATURATED), 0)
    expected[:, 3, 4] |= int(Flag.HOT)
    np.testing.assert_array_equal(made["flags"], expected)


def test_flags_of_the_frames_are_kept():
    flags = RNG.integers(0, 2, (5, NY, NX)).astype(np.uint16) * int(Flag.COSMIC)
    values = np.full((5, NY, NX), 3000, np.uint16)
    lights = lazy(held_frames(values, flags, plane="adu", saturation_adu=np.full(5, 3000.0)))
    made = calibrate(lights).compute()
    np.testing.assert_array_equal(made["flags"], flags | int(Flag.SATURATED))


def test_dead_and_weak_pixels_of_the_flat_are_flagged_and_never_filled_in():
    response = np.ones((NY, NX))
    response[2, 3], response[4, 5], response[6, 7] = 0.01, 0.3, np.nan
    made = calibrate(raw(), dark=DARK_20, flat=timeless(response * 1000, calibrated="bias")).compute()
    assert (made["flags"][:, 2, 3] == int(Flag.DEAD | Flag.NO_DATA)).all() and np.isnan(made.image[:, 2, 3]).all()
    assert (made["flags"][:, 6, 7] == int(Flag.DEAD | Flag.NO_DATA)).all()
    assert (made["flags"][:, 4, 5] == int(Flag.LOW_RESPONSE)).all() and np.isfinite(made.image[:, 4, 5]).all()
    assert np.count_nonzero(made["flags"][0]) == 3


@pytest.mark.parametrize("dtype", [np.uint16, np.float32], ids=["u16", "f32"])
@given(window=windows(Window(Span(0, 5), Span(0, NY), Span(0, NX))), flags=st.booleans())
def test_a_window_of_calibrated_frames_is_calibrated_alone(dtype, window, flags):
    lights = raw(dtype=dtype, gain_e_per_adu=np.full(5, 1.7))
    if flags:
        lights = lights.assign(flags=(("time", "y", "x"), np.zeros((5, NY, NX), np.uint16) + 4))
    producer = as_producer(calibrate(lights, dark=DARK_100, bias=BIAS_MASTER, flat=FLAT))
    part = producer.produce(window, producer.planes)
    whole = producer.produce(producer.grid.window, producer.planes).view(window)
    for name in producer.planes:
        assert part[name].tobytes() == np.ascontiguousarray(whole[name]).tobytes()


def test_a_crop_is_calibrated_with_the_same_pixels_of_the_masters():
    chain = {"dark": DARK_20, "bias": BIAS_MASTER, "flat": FLAT}
    whole, box = calibrate(raw(), **chain).compute(), {"y": slice(5, 13), "x": slice(3, 22)}
    crop = calibrate(raw().isel(box), **chain).compute()
    assert crop.image.values.tobytes() == whole.image.isel(box).values.tobytes()


def test_masters_are_made_once_per_run_and_nothing_before():
    calls = []
    darks = raw()

    def counted(block):
        calls.append(block.shape)
        return block

    import dask.array as da

    lazy_darks = darks.image.copy(
        data=da.map_blocks(counted, darks.image.data, dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
    )
    lights = raw().chunk(time=1, y=6)
    made = calibrate(lights, dark=master(lazy_darks))
    assert calls == []
    made.compute(scheduler="threads")
    assert len(calls) == lazy_darks.data.npartitions


@pytest.mark.parametrize(
    "masters, words",
    [
        ({"dark": DARK_100}, "give bias="),
        ({"dark": timeless(BIAS, exposure_s=0.0)}, "it is a bias"),
        ({"dark": timeless(BIAS, total_exposure_s=50.0)}, "different exposures"),
        ({"dark": DARK_20, "flat": FLAT}, "still holds its bias"),
        ({"bias": BIAS_MASTER.isel(y=slice(0, 5))}, "same camera"),
        ({"bias": raw()}, r"gx\.master\(bias_frames\)"),
    ],
)
def test_masters_that_do_not_fit_are_refused_with_words(masters, words):
    with pytest.raises(DataError, match=words):
        calibrate(raw(), **masters)


def test_frames_are_not_calibrated_twice():
    with pytest.raises(DataError, match="calibrated already"):
        calibrate(calibrate(raw(), dark=DARK_20), dark=DARK_20)


def test_a_flat_that_is_no_flat_is_refused_when_it_is_evaluated():
    made = calibrate(raw(), bias=BIAS_MASTER, flat=timeless(np.zeros((NY, NX)), bias_adu=0.0))
    with pytest.raises(DataError, match="is it a flat"):
        made.compute()
