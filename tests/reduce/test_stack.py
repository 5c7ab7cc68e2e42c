"""``stack`` as users call it: lazy, honest about what it left out, clear about what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.face.frames_in import producer_of
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce import reject
from getframes_xr.reduce.stack import stack
from tests.frames import held_frames
from tests.laws import producers as cases


def frames(n=12, ny=20, nx=30, dtype=np.uint16, **columns):
    values = np.random.default_rng(0).normal(1000, 10, (n, ny, nx)).astype(dtype)
    plane = "adu" if dtype == np.uint16 else "image"
    return lazy(held_frames(values, plane=plane, **columns))


def test_a_stack_is_lazy_and_holds_every_plane(refuses_to_compute):
    made = stack(frames())
    assert set(made) == {"image", "noise", "count", "coverage", "weight", "flags"}
    assert made.image.dims == ("y", "x") and made.image.attrs["units"] == "adu"
    assert made.attrs["frames"] == 12 and made.attrs["frames_left_out"] == 0


def test_the_rule_follows_the_number_of_frames_and_what_is_known():
    assert stack(frames(30)).attrs["rejection"] == "SigmaClip"
    assert stack(frames(5)).attrs["rejection"] == "Winsor"
    known = {"gain_e_per_adu": np.full(5, 2.0), "read_noise_e": np.full(5, 3.0)}
    assert stack(frames(5, **known)).attrs["rejection"] == "NoiseModel"


def test_frames_not_verified_are_left_out_and_counted():
    values = np.random.default_rng(0).normal(1000, 10, (12, 5, 5)).astype(np.float32)
    verified = np.arange(12) % 4 != 1
    values[~verified] = np.nan
    made = stack(lazy(held_frames(values, verified=verified)), reject=reject.Mean()).compute()
    assert made.attrs["frames_left_out"] == 3 and made.attrs["frames"] == 9
    np.testing.assert_allclose(made.image, values[verified].mean(axis=0, dtype=np.float64), rtol=1e-6)
    with pytest.raises(DataError, match="none of the 12 frames"):
        stack(lazy(held_frames(values, verified=np.zeros(12, bool))))


def test_weights_are_matched_by_frame_and_zero_leaves_a_frame_out():
    lights = frames(12, frame=np.arange(12)[::-1])
    weight = xr.DataArray(np.arange(12.0), dims="time", coords={"frame": ("time", np.arange(12))})
    made = stack(lights, reject=reject.Mean(), weights=weight).compute()
    values, w = lights.adu.values.astype(np.float64), np.arange(12.0)[::-1]
    np.testing.assert_allclose(made.image, np.average(values, axis=0, weights=w), rtol=1e-6)
    assert made.attrs["frames_left_out"] == 1 and int(made.coverage.max()) == 11
    table = xr.Dataset({"weight": (("time", "band"), np.ones((12, 1)))}, coords={"frame": ("time", np.arange(12))})
    assert stack(lights, reject=reject.Mean(), weights=table).attrs["frames_left_out"] == 0


def test_weights_that_cannot_be_used_are_refused_with_words():
    lights = frames(12)
    with pytest.raises(DataError, match="11 weights for 12 frames"):
        stack(lights, weights=[1.0] * 11)
    few = xr.DataArray(np.ones(11), dims="time", coords={"frame": ("time", np.arange(11))})
    with pytest.raises(DataError, match="no row for frame 11"):
        stack(lights, weights=few)
    with pytest.raises(DataError, match=r"call \.load\(\)"):
        stack(lights, weights=few.chunk(time=5))
    with pytest.raises(OptionError, match="Median"):
        stack(lights, weights=np.ones(12), reject=reject.Median())


def test_bare_arrays_are_stacked_as_they_are():
    values = np.random.default_rng(1).integers(0, 1000, (15, 8, 9)).astype(np.uint16)
    made = stack(xr.DataArray(values, dims=("time", "y", "x")), reject=reject.Median()).compute()
    np.testing.assert_array_equal(made.image, np.median(values, axis=0).astype(np.float32))
    with pytest.raises(DataError, match="along time"):
        stack(made)
    with pytest.raises(DataError, match="'image' or 'adu'"):
        stack(xr.Dataset({"other": (("time", "y", "x"), values)}))


def test_a_cropped_sliced_reversed_rechunked_stack_holds_the_same_bytes():
    lights = frames(14, 40, 50)
    whole = stack(lights).compute()
    again = stack(lights.isel(time=slice(None, None, -1)).chunk(y=7, x=11)).compute()
    part = stack(lights.isel(y=slice(5, 30), x=slice(2, 40))).compute()
    crop = stack(lights).isel(y=slice(5, 30), x=slice(2, 40)).compute()
    for name in whole:
        assert whole[name].values.tobytes() == again[name].values.tobytes(), name
        expected = whole[name].isel(y=slice(5, 30), x=slice(2, 40)).values.tobytes()
        assert part[name].values.tobytes() == crop[name].values.tobytes() == expected, name


def test_a_stack_of_user_arithmetic_is_that_of_its_values():
    lights = frames(14, 10, 12)
    changed = (lights.adu - 1000.0).astype(np.float32)
    assert producer_of(changed) is None
    made = stack(changed, reject=reject.Mean()).compute()
    np.testing.assert_allclose(made.image, changed.values.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wrong", ["sigma_clip", gx.reject.SigmaClip, 3.0, True])
def test_what_is_no_rule_is_refused_with_the_rules_there_are(wrong):
    frames = lazy(cases.clean((4, 12, 14)))
    for make in (gx.stack, gx.master):
        with pytest.raises(OptionError, match=r"reject=.*gx\.reject\.Mean\(\).*gx\.reject\.SigmaClip\(\)"):
            make(frames, reject=wrong)


def test_splat_takes_no_rule_and_says_so():
    size = (6, 26, 34)
    with pytest.raises(OptionError, match=r"True or False.*rules of gx.reject are for gx.stack"):
        gx.splat(lazy(cases.clean(size)), cases.moves_table(size), reject=gx.reject.SigmaClip(kappa=1.5))
