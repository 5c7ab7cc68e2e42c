"""Public functions compute nothing unless their name says so: neither through dask nor by asking a producer.

Walked over the front door: a new public function without a case here, or a reason to be left out, fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer
from getframes_xr.face.lazy import lazy
from getframes_xr.io import fits
from tests.conftest import Computed
from tests.laws import producers as cases

SIZE = (6, 26, 34)
HEADER_BYTES = 4 * 2880  # one read of four FITS blocks


@dataclass(frozen=True, eq=False)
class Untouchable(Producer):
    """Frames that fail when a pixel of them is asked for."""

    parent: Producer

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="same")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        raise Computed(f"a lazy function asked for the pixels of {window}")


def raw(cfa: str | None = None) -> xr.Dataset:
    return lazy(Untouchable(cases.raw(SIZE, cfa)))


def clean(cfa: str | None = None) -> xr.Dataset:
    return lazy(Untouchable(cases.clean(SIZE, cfa)))


def still(value: float = 100.0, **attrs: Any) -> xr.Dataset:
    return lazy(Untouchable(cases.still(SIZE, value, attrs=attrs)))


def moves(cfa: str | None = None) -> xr.Dataset:
    table = cases.moves_table(SIZE, cfa)
    table["catalogue_y"], table["catalogue_x"] = ("catalogue", [15.0]), ("catalogue", [9.0])
    table["verdict"] = ("time", np.where(table["used"].values, "used", "unlike").astype(object))
    return table


CAMERA = gx.Camera.preset("generic_ccd").replace(shape=SIZE[1:])
NIGHT = cases.exposures(4)
LAZY: dict[str, Callable[[], Any]] = {
    "aperture_photometry": lambda: gx.aperture_photometry(clean(), [(10.0, 9.0)], 3.0, (5.0, 8.0)),
    "bias": lambda: gx.bias(CAMERA, 3, seed=1),
    "binned": lambda: gx.binned(clean(), 2),
    "calibrate": lambda: gx.calibrate(
        raw(), dark=still(exposure_s=20.0), bias=still(), flat=still(9000.0, bias_adu=9.0), cosmetic=gx.cosmetic(raw())
    ),
    "concat": lambda: gx.concat(clean(), clean()),
    "cosmetic": lambda: gx.cosmetic(raw("RGGB")),
    "dark": lambda: gx.dark(CAMERA, NIGHT, seed=1),
    "debayer": lambda: gx.debayer(clean("RGGB")),
    "expose": lambda: gx.expose(CAMERA, 50.0, NIGHT, seed=1),
    "find_lines": lambda: gx.find_lines(clean("GRBG"), moves("GRBG")),
    "find_stars": lambda: gx.find_stars(clean()),
    "first_image": lambda: gx.first_image(clean(), moves()),
    "flat": lambda: gx.flat(CAMERA, NIGHT, seed=1),
    "lazy": clean,
    "level": lambda: gx.level(clean(), moves()),
    "light_curve": lambda: gx.light_curve(clean(), moves(), target=(15, 9), comparisons=[(12, 11)], radius_px=3.0),
    "master": lambda: gx.master(raw(), equalise=True),
    "observe": lambda: gx.observe(cases.scene(), CAMERA, NIGHT, seed=1),
    "phase_shifts": lambda: gx.phase_shifts(lazy(Untouchable(cases.clean((3, 96, 80))))),
    "splat": lambda: gx.splat(clean("RGGB"), moves("RGGB")),
    "stack": lambda: gx.stack(gx.warp(gx.calibrate(raw()), moves()), reject=gx.reject.SigmaClip(kappa=3.0)),
    "warp": lambda: gx.warp(clean(), moves(), canvas="union"),
}  # fmt: skip
FILES = {"open_frames", "open_session"}  # below: they read headers, no pixels
NOT_LAZY = {
    "as_producer": "gives a producer, not data; tested below",
    "client": "starts a cluster",
    "leave_out": "arithmetic on a loaded table",
    "load_experiment": "reads a TOML file",
    "memory": "sets a budget",
    "normalise": "arithmetic on loaded tables",
    "open_image": "reads a product into memory, as it says",
    "plan": "forecasts; tested below",
    "producer_of": "gives a producer; tested below",
    "reduce_session": "a whole job",
    "register": "arithmetic on loaded tables",
    "save_fits_frames": "says save",
    "save_frames": "says save",
    "save_image": "says save",
    "save_png": "says save",
    "save_tiff": "says save",
    "score": "arithmetic on loaded tables",
    "validate": "a whole job",
    "verify": "reads a store anew, as it says",
}


def public_functions() -> set[str]:
    return {name for name in gx.__all__ if inspect.isfunction(getattr(gx, name)) or name == "memory"}


def test_every_public_function_is_held_to_be_lazy_or_says_why_not() -> None:
    unknown = public_functions() - set(LAZY) - FILES - set(NOT_LAZY)
    assert not unknown, f"add a case to LAZY or a reason to NOT_LAZY for {sorted(unknown)}"


@pytest.mark.parametrize("name", sorted(LAZY))
def test_a_public_function_computes_nothing(name: str, refuses_to_compute: None) -> None:
    if name not in gx.__all__:
        pytest.fail(f"gx.{name} is no public function; take its case out")
    found = LAZY[name]()
    data = found if isinstance(found, xr.Dataset) else found.to_dataset()
    lazily = [str(n) for n, variable in data.data_vars.items() if isinstance(variable.data, da.Array)]
    assert lazily, "nothing in the result is lazy"
    heavy = [n for n, v in data.data_vars.items() if n not in lazily and {"y", "x"} <= set(v.dims)]
    assert not heavy, f"{heavy} hold pixels already"
    for n in lazily:
        with pytest.raises(Computed):
            data[n].compute()


def test_asking_what_is_behind_an_array_and_what_it_would_cost_computes_nothing(refuses_to_compute: None) -> None:
    stacked = LAZY["stack"]()
    assert gx.producer_of(stacked["image"]) is not None
    assert gx.as_producer(stacked).grid.timed is False
    assert gx.as_producer(clean()["image"] * 2 + 1).planes
    assert "forecast" in str(gx.plan(stacked, memory="16GiB")).lower()
    assert repr(stacked) and stacked.gx is not None and repr(stacked.gx)
    assert gx.lazy(gx.as_producer(clean().isel(time=slice(None, None, -1), y=slice(3, 9)))).sizes["y"] == 6


def test_opening_files_reads_their_headers_and_a_look_at_one_frame(tmp_path: Path, refuses_to_compute: None) -> None:
    """Headers take at most one read of ``HEADER_BYTES`` a file; levels are measured once per camera setting."""
    n, rows, across = 24, 160, 256
    frames = lazy(cases.raw((n, rows, across)))
    with dask.config.set(scheduler="synchronous"):
        gx.save_fits_frames(frames, tmp_path / "night")
        gx.save_frames(frames, tmp_path / "night.zarr")
    one_frame = 2 * rows * across
    before = fits.COUNTER.total
    opened = gx.open_frames(tmp_path / "night")
    session = gx.open_session(tmp_path / "night")
    read = fits.COUNTER.total - before
    assert read <= 2 * (n * HEADER_BYTES + 2 * one_frame) < 0.5 * n * one_frame
    stored = gx.open_frames(tmp_path / "night.zarr")
    assert dict(opened.sizes) == dict(stored.sizes) == {"time": n, "y": rows, "x": across}
    for data in (opened, stored, session["lights"].to_dataset()):
        with pytest.raises(Computed):
            data["adu"].compute()
