"""Cosmetic map: defects found, stars left alone, against the definition written with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Window
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.cosmetic import CosmeticMap, LowerQuartile, cosmetic
from tests.frames import held_frames
from tests.reduce.night import night
from tests.strategies import windows

HOT, DEAD = int(Flag.HOT), int(Flag.DEAD)


def raw(made, hot=(), dead=(), hot_e=200.0, gain=1.5):
    """Raw ADU frames of a night, with defects."""
    image = made.frames.arrays["image"].copy()
    for y, x in hot:
        image[:, y, x] += hot_e
    for y, x in dead:
        image[:, y, x] *= 0.05
    adu = np.rint(image / gain + 64).astype(np.uint16)
    return held_frames(adu, plane="adu", cfa=made.frames.grid.cfa, gain_e_per_adu=np.full(len(adu), gain))


def by_definition(values, step):
    """d, and the flags, with NumPy and NaN at the borders."""
    padded = np.pad(values.astype(float), 2 * step, constant_values=np.nan)
    h, w = values.shape
    around = [
        padded[2 * step + dj * step :, 2 * step + di * step :][:h, :w]
        for dj in range(-2, 3)
        for di in range(-2, 3)
        if dj or di
    ]
    d = values - np.nanmedian(np.stack(around), axis=0)
    edge = np.pad(d, 1, constant_values=-np.inf)
    near = [edge[1 + dj :, 1 + di :][:h, :w] for dj in (-1, 0, 1) for di in (-1, 0, 1) if dj or di]
    second = np.sort(np.stack(near), axis=0)[-2]
    return d, second


@pytest.mark.parametrize("cfa", ["RGGB", None])
def test_the_map_is_that_of_the_definition(cfa):
    """Flags as by the formula, with the noise the map itself uses (a sample of the frame's pixels)."""
    made = night(16, (64, 80), cfa, stars=15, seed=4)
    hot, dead = [(10, 10), (33, 57), (0, 0), (63, 40), (20, 79)], [(40, 22), (5, 61)]
    found = as_producer(cosmetic(lazy(raw(made, hot, dead))), ("flags",))
    assert isinstance(found, CosmeticMap)
    values = found.quartile.produce(found.grid.window, ("quartile",))["quartile"]
    d, second = by_definition(values, 2 if cfa else 1)
    noise = float(found.noise.produce(found.noise.grid.window, ("noise",))["noise"][0, 0])
    whole_mad = 1.4826 * np.median(np.abs(d - np.median(d)))
    assert noise == pytest.approx(whole_mad, rel=5 * 1.17 / np.sqrt(d[::7, ::7].size) + 0.02)
    expected = (np.abs(d) > 8 * noise) & (np.abs(d) > 3.5 * np.maximum(second, 2 * noise))
    flags = found.produce(found.grid.window, ("flags",))["flags"]
    np.testing.assert_array_equal(flags, np.where(expected, np.where(d > 0, HOT, DEAD), 0))
    assert all(flags[y, x] == HOT for y, x in hot) and all(flags[y, x] == DEAD for y, x in dead)


def test_stars_that_hardly_move_are_no_hot_pixels():
    made = night(20, (90, 110), stars=20, most_e=20_000.0, turn_deg=0.5, seed=12)
    flags = cosmetic(lazy(raw(made, [(12, 80)]))).load()["flags"].values
    assert flags[12, 80] == HOT
    assert (flags > 0).sum() <= 2  # 0.2 % of the flags may be wrong


def test_the_quartile_is_that_of_the_sorted_frames():
    made = night(7, (20, 24))
    frames = raw(made)
    quartile = LowerQuartile(frames, "adu", 16)
    got = quartile.produce(quartile.grid.window, ("quartile",))["quartile"]
    np.testing.assert_array_equal(got, np.sort(frames.arrays["adu"], axis=0)[(7 - 1) // 4])
    spread = LowerQuartile(frames, "adu", 4)
    assert spread.positions.tolist() == [0, 2, 4, 6]


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("cfa", ["RGGB", None])
def test_a_window_of_the_map_is_a_window_of_the_whole(cfa, data):
    made = night(5, (160, 60), cfa, seed=3)
    found = as_producer(cosmetic(lazy(raw(made, [(5, 6), (80, 30), (127, 20), (128, 24)])), 5), ("flags",))
    whole = found.produce(found.grid.window, ("flags",))
    window = data.draw(windows(found.grid.window))
    assert found.produce(window, ("flags",))["flags"].tobytes() == whole.crop(window)["flags"].tobytes()
    assert whole["flags"].any()


def test_the_map_is_lazy_and_the_same_in_any_chunks(refuses_to_compute):
    made = night(6, (50, 60))
    lights = lazy(raw(made, [(20, 30)]), chunks=(2, 25, 30))
    result = cosmetic(lights)
    assert result["flags"].dims == ("y", "x") and result["flags"].dtype == np.uint16


def test_darks_and_electron_frames_serve_as_well():
    rng = np.random.default_rng(1)
    darks = rng.normal(100, 2, (16, 40, 50)).astype(np.float32)
    darks[:, 12, 13] += 60
    flags = cosmetic(lazy(held_frames(darks, units="electron"))).load()["flags"].values
    assert flags[12, 13] == HOT and (flags > 0).sum() == 1


def test_bad_input_is_refused():
    made = night(3, (30, 30))
    with pytest.raises(OptionError, match="n="):
        cosmetic(lazy(raw(made)), 0)
    with pytest.raises(DataError, match="needs the plane .adu. or .image."):
        cosmetic(lazy(raw(made)).rename(adu="photons"))
    with pytest.raises(DataError, match="needs frames along time"):
        cosmetic(lazy(raw(made)).isel(time=0, drop=True))


def test_one_window_is_as_large_as_forecast():
    found = as_producer(cosmetic(lazy(raw(night(4, (60, 70))))), ("flags",))
    window = Window(found.grid.window.frames, found.grid.y, found.grid.x)
    assert found.peak_bytes(window, ("flags",)) >= 60 * 70 * 2
