"""Lineage gives what the Dataset shows, no more: the bytes and the facts are those of the loaded values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.vocabulary import Flag
from tests.laws import producers as cases

SIZE = (6, 40, 52)


def observed() -> xr.Dataset:
    camera = gx.Camera.preset("seestar_s50").replace(shape=SIZE[1:]).replace("hot_pixels", fraction=0.02)
    return gx.observe(cases.scene(), camera, cases.exposures(SIZE[0]), seed=3)


CHANGES: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "as it comes": lambda data: data,
    "a plane left out": lambda data: data[["adu"]],
    "a coordinate dropped": lambda data: data.drop_vars("gain_e_per_adu"),
    "a coordinate corrected": lambda data: data.assign_coords(bias_adu=("time", np.full(SIZE[0], 1000.0))),
    "the colours corrected": lambda data: data.assign_coords(cfa_pattern="RGGB"),
    "a fact dropped": lambda data: data.assign_attrs({}).drop_attrs(deep=False),
    "frames chosen": lambda data: data.isel(time=[4, 1, 3], y=slice(8, 31)),
}
each_change = pytest.mark.parametrize("change", CHANGES)


@each_change
def test_a_producer_knows_what_its_dataset_shows(change: str) -> None:
    shown = CHANGES[change](observed())
    by_lineage, by_value = gx.as_producer(shown), gx.as_producer(shown.load())
    assert type(by_value).__name__ == "ArrayFrames" != type(by_lineage).__name__
    assert set(by_lineage.planes) == set(by_value.planes) >= {"adu"}
    one, other = by_lineage.grid, by_value.grid
    assert (one.window, one.cfa, one.wcs, one.bands) == (other.window, other.cfa, other.wcs, other.bands)
    assert set(one.columns or ()) == set(other.columns or ())
    for name, column in (one.columns or {}).items():
        np.testing.assert_array_equal(column, other.column(name))
    assert dict(one.attrs) == dict(other.attrs)


@each_change
def test_a_reduction_of_a_dataset_is_that_of_its_loaded_values(change: str) -> None:
    shown = CHANGES[change](observed())
    one, other = (gx.debayer(gx.calibrate(data), "bilinear").load() for data in (shown, shown.copy().load()))
    assert one["image"].attrs["units"] == other["image"].attrs["units"]
    for name in ("image", "flags"):
        assert one[name].values.tobytes() == other[name].values.tobytes(), name


def test_flags_that_are_not_shown_are_not_used() -> None:
    frames = observed()
    assert (frames["flags"].values & int(Flag.HOT)).any()
    assert not (gx.calibrate(frames[["adu"]])["flags"].values & int(Flag.HOT)).any()
    assert (gx.calibrate(frames)["flags"].values & int(Flag.HOT)).any()
