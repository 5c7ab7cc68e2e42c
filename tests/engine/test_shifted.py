"""Counting pixels from another origin changes labels, never values, and the CFA and WCS follow."""

from __future__ import annotations

import numpy as np
import xarray as xr
from astropy.io.fits import Header
from astropy.wcs import WCS

import getframes_xr as gx
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.engine.shifted import Shifted

CARDS = (
    "CD1_1   = -0.001\nCD1_2   = 0.0002\nCD2_1   = 0.0002\nCD2_2   = 0.001\nCRPIX1  = 3.5\nCRPIX2  = 2.25\n"
    "CRVAL1  = 192.7\nCRVAL2  = 41.1\nCTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'\nCUNIT1  = 'deg'\nCUNIT2  = 'deg'"
)


def frames() -> ArrayFrames:
    grid = Grid(Span(0, 6), Span(0, 8), {"frame": np.arange(2)}, cfa="GRBG", wcs=CARDS)
    return ArrayFrames(grid, {"adu": np.arange(96, dtype=np.uint16).reshape(2, 6, 8)})


def test_a_window_of_shifted_frames_is_the_window_behind_it() -> None:
    parent = frames()
    shifted = Shifted(parent, -10, 3)
    here = Window(Span(0, 2), Span(-9, -5), Span(4, 7))
    there = Window(Span(0, 2), Span(1, 5), Span(1, 4))
    assert shifted.produce(here, ["adu"])["adu"].tobytes() == parent.produce(there, ["adu"])["adu"].tobytes()


def test_the_accessor_shifts_lazily_and_keeps_the_lineage() -> None:
    data = gx.lazy(frames()).isel(y=slice(2, 5))
    moved: xr.Dataset = data.gx.shift_origin(y=100, x=1)
    assert moved["y"].values.tolist() == [102, 103, 104]
    assert moved["x"].values[0] == 1
    assert str(moved["cfa_pattern"].item()) == "RGGB"
    assert gx.producer_of(moved["adu"]) is not None
    np.testing.assert_array_equal(moved["adu"].values, data["adu"].values)


def test_every_pixel_of_shifted_frames_keeps_its_place_on_the_sky() -> None:
    """Read by astropy from both texts; per-frame texts too, an empty one stays empty."""
    own = frames()
    each = own.grid.replace(wcs=None, columns={**own.grid.columns, "wcs": np.array([CARDS, ""], dtype=object)})
    for parent in (own, ArrayFrames(each, own.arrays)):
        grid, moved = parent.grid, Shifted(parent, -7, 1000).grid
        texts = [str(g.wcs or g.columns["wcs"][0]) for g in (grid, moved)]
        before, after = (WCS(Header.fromstring(text, sep="\n")) for text in texts)
        np.testing.assert_allclose(after.all_pix2world(1004, -5, 0), before.all_pix2world(4, 2, 0), rtol=0, atol=1e-12)
    assert moved.columns["wcs"][1] == ""
