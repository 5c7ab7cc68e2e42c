"""``.gx`` is on every Dataset once xarray is loaded, and only forwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import ArrayFrames

CARDS = (
    "CD1_1   = -0.001\nCD1_2   = 0.\nCD2_1   = 0.\nCD2_2   = 0.001\nCRPIX1  = 21.\nCRPIX2  = 16.\n"
    "CRVAL1  = 192.7\nCRVAL2  = 41.1\nCTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'\nCUNIT1  = 'deg'\nCUNIT2  = 'deg'"
)


def frames(cfa: str | None = None, wcs: str | None = CARDS) -> xr.Dataset:
    draws = np.random.default_rng(3)
    columns = {
        "frame": np.arange(3),
        "start": np.array(["2026-03-01T02:00"] * 3, "datetime64[ns]"),
        "exposure_s": np.full(3, 400.0),
    }
    grid = Grid(Span(0, 32), Span(0, 40), columns, cfa=cfa, wcs=wcs, attrs={"camera": "a <camera>"})
    return gx.lazy(ArrayFrames(grid, {"adu": draws.poisson(200, (3, 32, 40)).astype(np.uint16)}))


@pytest.mark.parametrize(
    "order", ["import getframes_xr, xarray", "import xarray, getframes_xr", "import getframes_xr, dask.array, xarray"]
)
def test_the_accessor_is_there_whatever_is_imported_first(order: str) -> None:
    code = f"{order}\nprint(hasattr(xarray.Dataset, 'gx'), hasattr(xarray.DataArray, 'gx'))"
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["True", "True"]


def test_the_front_door_does_not_load_xarray() -> None:
    code = "import sys, getframes_xr; print('xarray' in sys.modules, 'pandas' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_compute_loads_the_window_that_is_shown() -> None:
    data = frames().isel(time=[2, 0], y=slice(3, 9))
    loaded = data.gx.compute()
    assert loaded["adu"].chunks is None
    np.testing.assert_array_equal(loaded["adu"].values, data["adu"].values)
    np.testing.assert_array_equal(data["adu"].gx.compute().values, data["adu"].values)


def test_the_summary_says_frames_hours_camera_and_size() -> None:
    data = frames(cfa="RGGB")
    text, html = repr(data.gx), data.gx._repr_html_()
    for fact in ("3", "32 x 40", "0.33 h", "2026-03-01 02:00:00 UTC", "RGGB", "7.7 kB", "adu"):
        assert fact in text
        assert fact in html
    assert "a &lt;camera&gt;, RGGB" in html
    with pytest.raises(DataError, match="no frames here"):
        repr(xr.Dataset({"flux": ("time", [1.0])}).gx)


def test_the_sky_and_the_pixels_are_inverse_and_agree_with_the_cards() -> None:
    data = frames()
    ra, dec = data.gx.sky(15.0, 20.0)  # CRPIX is counted from 1
    assert (float(ra), float(dec)) == pytest.approx((192.7, 41.1), abs=1e-12)
    y, x = data.gx.pixel(*data.gx.sky([3.0, 30.5], [1.25, 39.0]))
    np.testing.assert_allclose(y, [3.0, 30.5], atol=1e-6)
    np.testing.assert_allclose(x, [1.25, 39.0], atol=1e-6)
    with pytest.raises(DataError, match="there is no wcs here"):
        frames(wcs=None).gx.sky(0, 0)


def test_a_crop_does_not_move_the_sky() -> None:
    data = frames()
    crop = data.isel(y=slice(10, 20), x=slice(15, None))
    assert [float(v) for v in crop.gx.pixel(192.7, 41.1)] == pytest.approx([15.0, 20.0], abs=1e-6)


def test_a_cutout_is_centred_lazy_and_cut_at_the_border() -> None:
    data = frames()
    box = data.gx.cutout(ra=192.7, dec=41.1, size=(5, 8))
    assert box["y"].values.tolist() == [13, 14, 15, 16, 17]
    assert box["x"].values.tolist() == list(range(16, 24))
    assert box["adu"].chunks is not None
    assert data.gx.cutout(ra=192.7, dec=41.1, size=1000).sizes["x"] == 40
    with pytest.raises(DataError, match=r"lies at y=.*outside the frame"):
        data.gx.cutout(ra=192.7, dec=42.0, size=5)
    with pytest.raises(OptionError, match="size=0 is not allowed"):
        data.gx.cutout(ra=192.7, dec=41.1, size=0)


def test_show_draws_the_chosen_frame_on_its_absolute_pixels(tmp_path: Path) -> None:
    data = frames(wcs=None).isel(x=slice(4, None))
    figure = data.gx.show(time=1)
    axes = figure.axes[0]
    assert axes.get_xlim() == (3.5, 39.5)
    assert sorted(axes.get_ylim()) == [-0.5, 31.5]
    assert axes.get_title(loc="left") == "frame 1, 2026-03-01 02:00:00 UTC, 400 s"
    figure.savefig(tmp_path / "frame.png")
    assert (tmp_path / "frame.png").read_bytes().startswith(b"\x89PNG")


def test_save_writes_stores_and_images(tmp_path: Path) -> None:
    data = frames(wcs=None)
    data.gx.save(str(tmp_path / "frames.zarr"))
    np.testing.assert_array_equal(gx.open_frames(tmp_path / "frames.zarr")["adu"].values, data["adu"].values)


def test_plan_forecasts_before_anything_is_done() -> None:
    assert "MiB" in str(frames().gx.plan("1GiB"))


def test_saving_goes_by_the_ending_and_another_one_is_refused(tmp_path: Path) -> None:
    image = gx.stack(frames(), reject=gx.reject.Mean())
    for ending, begin in ((".fits", b"SIMPLE"), (".PNG", b"\x89PNG"), (".tif", b"II*\x00")):
        image.gx.save(tmp_path / f"out{ending}")
        assert (tmp_path / f"out{ending}").read_bytes().startswith(begin)
    with pytest.raises(gx.OptionError, match=r"path='.*out' is not allowed; allowed: a name that ends in .zarr, .fits"):
        image.gx.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
