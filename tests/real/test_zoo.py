"""Every odd FITS file: the values and digests of ``expected.json`` (made with astropy 8), or a clear refusal."""

import hashlib
import json
import warnings

import numpy as np
import pytest

from getframes_xr.core.errors import DataError
from getframes_xr.core.window import Span
from getframes_xr.io.fits import read_header, scan
from getframes_xr.io.fits_pixels import FitsSource, read_image
from getframes_xr.io.frames import open_frames
from getframes_xr.io.header import facts_of
from tests.conftest import REAL

ZOO = REAL / "zoo"
EXPECTED = json.loads((ZOO / "expected.json").read_text()) if ZOO.is_dir() else {}
IMAGES = [
    (name, unit)
    for name, record in EXPECTED.items()
    for unit in record["hdus"]
    if "shape" in unit and "error" not in unit
]
LARGE = [(name, unit) for name, unit in IMAGES if len(unit["shape"]) >= 2 and min(unit["shape"][-2:]) >= 3]
BROKEN = [
    name for name, record in EXPECTED.items() if "open_error" in record or any("error" in u for u in record["hdus"])
]
WITHOUT = [
    name for name, record in EXPECTED.items() if not any(u.get("shape") and min(u["shape"]) for u in record["hdus"])
]


def little_endian_digest(values):
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def test_the_whole_zoo_is_here():
    assert len(EXPECTED) == 57 and len(IMAGES) >= 50 and len(BROKEN) == 6


@pytest.mark.parametrize(("name", "unit"), IMAGES, ids=[f"{name}-{unit['index']}" for name, unit in IMAGES])
def test_an_odd_file_gives_the_expected_values(name, unit):
    found = read_image(ZOO / name, unit["index"])
    assert list(found.shape) == unit["shape"] and str(found.dtype) == unit["dtype"]
    if name == "astropy_scale.fits":  # BSCALE in float64, rounded once; astropy multiplies in float32
        finite = found.astype(np.float64)
        assert abs(finite.sum() / unit["sum"] - 1) < 1e-6 and abs(finite.max() / unit["max"] - 1) < 1e-6
        return
    if "sha256_native_le" in unit:
        assert little_endian_digest(found) == unit["sha256_native_le"]
    if "n_nan" in unit:
        assert np.isnan(found).sum() == unit["n_nan"] and np.isinf(found).sum() == unit["n_inf"]


@pytest.mark.parametrize("name", sorted(set(BROKEN + WITHOUT)))
def test_a_file_without_whole_pixels_is_refused_by_name(name):
    with pytest.raises(DataError) as caught:
        open_frames(ZOO / name)
    assert name in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("made_truncated.fits", "20000 of 36000 bytes of pixels are there, 66 of 120 rows are whole"),
        ("made_headeronly.fits", "0 of 36000 bytes"),
        ("made_zero_bytes.fits", "empty"),
        ("made_lowercase_text.fits", "not a FITS file"),
        ("astropy_lzw.fits.Z", "LZW"),
        ("astropy_zerowidth.fits", "length 0"),
        ("astropy_tb.fits", "no image"),
        ("asi178_Flat_ASIImg_frame0007_truncated.fit", "407 of 960 rows are whole"),
    ],
)
def test_a_refusal_says_what_is_wrong(name, words):
    with pytest.raises(DataError, match=words):
        scan(ZOO / name)


@pytest.mark.parametrize("name", ["astropy_m13_rice", "astropy_m13_gzip", "astropy_m13_hcomp", "astropy_m13_plio"])
def test_lossless_tiles_decode_to_the_plain_file(name):
    np.testing.assert_array_equal(read_image(ZOO / f"{name}.fits"), read_image(ZOO / "astropy_m13.fits"))


@pytest.mark.parametrize(("name", "unit"), LARGE, ids=[f"{name}-{unit['index']}" for name, unit in LARGE])
def test_windows_of_an_odd_file_are_cuts_of_it(name, unit):
    whole = read_image(ZOO / name, unit["index"])
    ny, nx = whole.shape[-2:]
    flat = whole.reshape(-1, ny, nx)
    source = FitsSource.of(scan(ZOO / name, unit["index"]))
    for plane in range(len(flat)):
        for y, x in ((Span(1, ny - 1), Span(0, nx)), (Span(ny // 2, ny), Span(1, 3)), (Span(0, 1), Span(1, nx))):
            out = np.empty((len(y), len(x)), whole.dtype)
            source.read(y, x, out, plane)
            np.testing.assert_array_equal(out, flat[plane, y.start : y.stop, x.start : x.stop])


def test_a_header_with_decimal_commas_is_usable():
    facts = facts_of(scan(ZOO / "made_decimal_comma.fits").cards)
    assert facts.exposure_s == 6.4e-5 and str(facts.start) == "2024-04-16T15:33:10.623000000"
    assert facts.cfa == "GRBG" and np.isnan(facts.bias_adu) and np.isnan(facts.gain_e_per_adu)


def test_every_form_of_card_is_read():
    header = read_header(ZOO / "made_header_forms.fits")
    assert len(header["LONGTXT"]) == 141
    assert header["ESO DET OUT1 GAIN"] == 1.25 and list(header["HISTORY"]) == ["first", "second"]
    assert scan(ZOO / "made_header_forms.fits").cards.number("D_EXP") == 150.0


def test_a_wrong_checksum_does_not_stop_the_reader():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_frames(ZOO / "astropy_checksum_false.fits").sizes["time"] == 1


def test_a_colour_cube_has_bands():
    frames = open_frames(ZOO / "made_rgb_cube.fits")
    assert dict(frames.sizes) == {"time": 1, "band": 3, "y": 96, "x": 128}
    np.testing.assert_array_equal(frames.adu[0].values, read_image(ZOO / "made_rgb_cube.fits"))
