"""What we write, read by astropy with every warning an error."""

import os
import warnings

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS

from getframes_xr.core.cfa import cfa_band
from getframes_xr.core.errors import DataError, StoreError
from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.lazy import lazy
from getframes_xr.io.fits_writer import checksum, encode_checksum, write_frame
from getframes_xr.io.frames import open_frames
from getframes_xr.io.image import open_image, save_fits_frames, save_image
from getframes_xr.io.session import open_session

WCS_TEXT = """CD1_1   = -6E-04
CD1_2   = 2E-05
CD2_1   = 1E-05
CD2_2   = 6.1E-04
CRPIX1  = 40.5
CRPIX2  = 30.
CRVAL1  = 192.7
CRVAL2  = 41.1
CTYPE1  = 'RA---TAN'
CTYPE2  = 'DEC--TAN'"""


def product(bands=("red", "green", "blue"), y0=-20, x0=-7, shape=(100, 70)):
    """A stack on a canvas that begins below zero, with a corner that nothing saw."""
    rng = np.random.default_rng(1)
    full = (len(bands), *shape) if bands else shape
    count = rng.integers(1, 9, full).astype(np.uint16)
    count[..., :10, :10] = 0
    arrays = {
        "image": rng.normal(size=full).astype(np.float32),
        "noise": np.ones(full, np.float32),
        "count": count,
        "coverage": count + np.uint16(1),
        "weight": rng.random(full).astype(np.float32),
        "flags": rng.integers(0, 2**16, full).astype(np.uint16),
    }
    grid = Grid(
        Span(y0, y0 + shape[0]), Span(x0, x0 + shape[1]), bands=bands or None, wcs=WCS_TEXT,
        attrs={"object": "M 31 \u00e9", "frames": 5, "total_exposure_s": 50.0, "notes": "n " * 200, "nan": np.nan},
    )  # fmt: skip
    return lazy(ArrayFrames(grid, arrays, {"image": "electron", "noise": "electron"}), chunks=(1, 41, 33)), arrays


@pytest.mark.parametrize("bands", [("red", "green", "blue"), ()], ids=["colour", "mono"])
def test_astropy_reads_a_product_without_a_warning_and_its_sums_are_right(tmp_path, bands):
    image, arrays = product(bands)
    path = save_image(image, tmp_path / "stack.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True) as units:
            units.verify("exception")
            assert [unit.name for unit in units] == ["PRIMARY", "NOISE", "COUNT", "COVERAGE", "WEIGHT", "FLAGS"]
            assert all(unit.verify_checksum() == 1 and unit.verify_datasum() == 1 for unit in units)
            unseen = arrays["count"] == 0
            expected = np.where(unseen, np.nan, arrays["image"])
            np.testing.assert_array_equal(units[0].data, expected)
            for name in ("count", "coverage", "weight", "flags"):
                assert units[name].data.dtype.newbyteorder("=") == arrays[name].dtype
                np.testing.assert_array_equal(units[name].data, arrays[name])
            assert units[0].header["BUNIT"] == "electron" and units[0].header["NCOMBINE"] == 5
            WCS(units[0].header).celestial  # noqa: B018
    assert path.stat().st_size % 2880 == 0


def test_a_product_comes_back_with_its_place_bands_and_sky(tmp_path):
    image, arrays = product()
    again = open_image(save_image(image, tmp_path / "stack.fits"))
    assert list(again.y.values[[0, -1]]) == [-20, 79] and list(again.x.values[[0, -1]]) == [-7, 62]
    assert list(again.band.values) == ["red", "green", "blue"] and again.image.attrs["units"] == "electron"
    np.testing.assert_array_equal(again.flags, arrays["flags"])
    header = fits.getheader(tmp_path / "stack.fits")
    absolute = fits.Header.fromstring("\n".join(WCS_TEXT.splitlines()), sep="\n")
    place = np.array([3.0, 50.0]), np.array([-4.0, 60.0])  # absolute x, y
    there = WCS(absolute).all_pix2world(*place, 0)
    here = WCS(header).celestial.all_pix2world(place[0] + 7, place[1] + 20, 0)
    np.testing.assert_allclose(here, there, atol=1e-11)


def test_a_cut_of_a_product_keeps_its_sky(tmp_path):
    image, _ = product(())
    whole = open_image(save_image(image, tmp_path / "a.fits"))
    part = open_image(save_image(image.isel(y=slice(30, 80), x=slice(11, 60)), tmp_path / "b.fits"))
    assert part.wcs.values[()] == whole.wcs.values[()]
    np.testing.assert_array_equal(part.image, whole.image.sel(y=part.y, x=part.x))


def test_the_same_image_gives_the_same_bytes(tmp_path):
    image, _ = product()
    other, _ = product()
    a, b = save_image(image, tmp_path / "a.fits"), save_image(other.chunk(y=13, x=70), tmp_path / "b.fits")
    with fits.open(a) as one, fits.open(b) as two:
        for first, second in zip(one, two, strict=True):
            assert first.header["DATASUM"] == second.header["DATASUM"]
    c = save_image(image, tmp_path / "c.fits")
    assert a.read_bytes() == c.read_bytes()


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    broken = xr.Dataset({"image": (("y", "x"), np.zeros((8, 8), np.float32))}).chunk(y=4)
    broken["image"] = broken.image.copy(data=broken.image.data.map_blocks(lambda block: 1 / 0, dtype=np.float32))
    (tmp_path / "a.fits").write_text("before")
    with pytest.raises(ZeroDivisionError):
        save_image(broken, tmp_path / "a.fits")
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits"] and (tmp_path / "a.fits").read_text() == "before"


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    image, _ = product(())
    with pytest.raises(StoreError, match=r"missing/a\.fits: cannot be written"):
        save_image(image, tmp_path / "missing" / "a.fits")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        save_fits_frames(frames_of_a_night(), tmp_path / "file" / "sub")


def test_a_full_disk_is_found_before_the_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    image, _ = product(())
    with pytest.raises(StoreError, match="No space left"):
        save_image(image, tmp_path / "a.fits")
    assert not list(tmp_path.iterdir())


def test_frames_are_no_image_and_an_image_no_frames(tmp_path):
    with pytest.raises(DataError, match="no time axis, here are 4 frames"):
        save_image(frames_of_a_night().rename(adu="image"), tmp_path / "a.fits")
    with pytest.raises(DataError, match="no plane 'image'"):
        save_image(frames_of_a_night(), tmp_path / "a.fits")
    with pytest.raises(DataError, match="needs frames along time"):
        save_fits_frames(product(())[0], tmp_path / "n")


def frames_of_a_night(y0=0, x0=0):
    rng = np.random.default_rng(2)
    columns = {
        "frame": np.array([3, 5, 6, 9]),
        "start": np.datetime64("2026-03-01T02:00:00.123456", "ns") + np.arange(4) * np.timedelta64(25, "s"),
        "exposure_s": np.full(4, 20.0),
        "gain_e_per_adu": np.full(4, 0.8),
        "bias_adu": np.full(4, 300.0),
        "saturation_adu": np.full(4, 60000.0),
        "temperature_c": np.array([-5.0, -5.5, np.nan, -4.0]),
        "filter": np.array(["R", "R", "", "V"]),
    }
    grid = Grid(Span(y0, y0 + 30), Span(x0, x0 + 44), columns, cfa="GRBG", wcs=WCS_TEXT, attrs={"camera": "generic"})
    adu = rng.integers(0, 2**16, (4, 30, 44)).astype(np.uint16)
    return lazy(ArrayFrames(grid, {"adu": adu}, {"adu": "adu"}))


@pytest.mark.parametrize(("y0", "x0"), [(0, 0), (7, 12), (1, 3)])
def test_raw_frames_written_and_opened_again_are_the_same_night(tmp_path, y0, x0):
    night = frames_of_a_night(y0, x0)
    paths = save_fits_frames(night, tmp_path / "n")
    assert [p.name for p in paths] == [f"frame_{n:05d}.fits" for n in (3, 5, 6, 9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            with fits.open(path, checksum=True) as units:
                assert units[0].verify_checksum() == 1
    again = open_frames(tmp_path / "n")
    assert again.adu.values.tobytes() == night.adu.values.tobytes()
    for name in ("exposure_s", "gain_e_per_adu", "bias_adu", "saturation_adu", "temperature_c", "filter"):
        np.testing.assert_array_equal(again[name].values, night[name].values)
    assert (abs(again.start.values - night.start.values) < np.timedelta64(1, "us")).all()
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        expected = cfa_band("GRBG", y + y0, x + x0)
        assert cfa_band(str(again.cfa_pattern.values[()]), y, x) == expected


def test_a_session_does_not_take_a_product_for_a_raw_frame(tmp_path):
    save_fits_frames(frames_of_a_night(), tmp_path / "n")
    save_image(product(())[0], tmp_path / "n" / "result.fits")
    files = open_session(tmp_path)["files"]
    row = list(files.file.values).index("n/result.fits") if "n/result.fits" in files.file.values else -1
    assert files.status.values[row] == "product" and (files.status.values == "used").sum() == 4


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_a_frame_of_every_type_is_written_as_astropy_reads_it(tmp_path, dtype):
    rng = np.random.default_rng(3)
    array = (rng.normal(size=(9, 11)) * 100).astype(dtype) if dtype[0] == "f" else (
        rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (9, 11), dtype=dtype, endpoint=True))  # fmt: skip
    write_frame(tmp_path / "a.fits", array, {"OBJECT": ("M 94", "target"), "EXPTIME": 3.0})
    with fits.open(tmp_path / "a.fits", checksum=True) as units:
        assert units[0].data.astype(dtype).tobytes() == array.tobytes() and units[0].header["OBJECT"] == "M 94"
        assert units[0].verify_checksum() == 1


def test_a_type_that_fits_does_not_know_is_refused(tmp_path):
    with pytest.raises(DataError, match="complex"):
        write_frame(tmp_path / "a.fits", np.zeros((3, 3), np.complex64))


@pytest.mark.parametrize("value", [0, 1, 0xFFFFFFFF, 0x12345678, 868229149])
def test_a_checksum_is_printable_and_adds_up_to_its_value(value):
    text = encode_checksum(value)
    assert text.isalnum() and len(text) == 16
    turned = text[1:] + text[0]  # undo the rotation that aligns the card's value with the words
    words = np.frombuffer(bytes(ord(c) - 0x30 for c in turned), ">u4")
    assert checksum(words) % 0xFFFFFFFF == value % 0xFFFFFFFF
