"""Cards of odd headers -> our words; every expected value is worked out by hand or by astropy."""

import math
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from getframes_xr.core.cfa import CFA_PATTERNS, cfa_band
from getframes_xr.core.wcs_text import cards_on, wcs_cards
from getframes_xr.io.fits import Cards, scan
from getframes_xr.io.fits_pixels import FitsSource
from getframes_xr.io.header import (
    facts_of,
    kind_of_text,
    parse_time,
    wcs_of,
)
from getframes_xr.io.levels import Levels, levels_of, same_residues


def cards(*lines):
    """The header made of these card texts."""
    return Cards(b"".join(line.ljust(80).encode() for line in lines))


def start(*lines):
    return str(facts_of(cards(*lines)).start)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["DATE-OBS= '2025-03-27T05:45:00.734589'"], "2025-03-27T05:45:00.734589000"),
        (["DATE-OBS= '2025-03-27 05:45:00Z'"], "2025-03-27T05:45:00.000000000"),
        (["DATE-OBS= '2017-12-19T21:57:15.608-0700'"], "2017-12-20T04:57:15.608000000"),
        (["DATE-OBS= '2017-12-20T06:27:15.608+01:30'"], "2017-12-20T04:57:15.608000000"),
        (["DATE-OBS= '2017-12-19T21:57:15.608-0700'", "UT-OBS  = '2017-12-20T04:57:15.608-0000'"],
         "2017-12-20T04:57:15.608000000"),
        (["DATE-OBS= '2018-04-13'", "TIME-OBS= '21:30:26.5'"], "2018-04-13T21:30:26.500000000"),
        (["DATE-OBS= '26/10/92'", "UT      = '1:02:03'"], "1992-10-26T01:02:03.000000000"),
        (["DATE-OBS= '2025-01-01T23:59:60.5'"], "2025-01-02T00:00:00.000000000"),  # a fraction after :60 is void
        (["DATE-OBS= '2025-01-01T23:59:60'"], "2025-01-02T00:00:00.000000000"),
        (["DATE-OBS= 'yesterday'", "MJD-OBS = 58107.25"], "2017-12-20T06:00:00.000000000"),
        (["JD      = 2458107.75"], "2017-12-20T06:00:00.000000000"),
        (["DATE-BEG= '2026-01-01T00:00:01'", "DATE-OBS= '2026-01-01T00:00:09'"], "2026-01-01T00:00:01.000000000"),
        (["OBJECT  = 'none'"], "NaT"),
    ],
)  # fmt: skip
def test_the_start_is_utc_whatever_way_it_is_written(lines, expected):
    assert start(*lines) == expected


def test_times_in_terrestrial_time_become_utc():
    found = facts_of(cards("DATE-OBS= '2020-06-01T00:00:00'", "TIMESYS = 'TT'")).start
    assert str(found)[:23] == Time("2020-06-01T00:00:00", scale="tt").utc.isot


def test_a_local_time_and_a_rounded_mjd_are_said():
    notes = facts_of(cards("DATE-OBS= '2017-12-19T21:57:15.608-0700'")).notes
    assert any("local time" in note for note in notes)
    notes = facts_of(cards("MJD-OBS = 58107.206")).notes
    assert any("43.2 s wrong" in note for note in notes)  # half of the last of 3 decimals of a day


@pytest.mark.parametrize("text", ["", "T", "2020", "12:00:00", "2020-13-01", "no-da-teT00:00:00"])
def test_what_is_no_time_gives_none(text):
    assert parse_time(text) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["EXPTIME = 060.00"], 60.0),
        (["EXPOSURE=                  10."], 10.0),
        (["EXPTIME = '6,4E-05 '", "EXPOSURE= '6,4E-05 '", "EXPOINUS=                   64"], 6.4e-5),
        (["EXPTIME = 6,4E-05"], 6.4e-5),
        (["EXPTIME = '1.5D1'"], 15.0),
        (["EXPOSNS =              40000.0"], 4e-5),
        (["EXPTIME = 0.0"], 0.0),
        (["OBJECT  = 'x'"], math.nan),
    ],
)
def test_the_exposure_survives_every_dialect(lines, expected):
    found = facts_of(cards(*lines)).exposure_s
    assert found == expected or (math.isnan(expected) and math.isnan(found))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("EGAIN   =   2.5999999046325684 /Electronic gain in e-/ADU", 2.5999999046325684),
        ("GAIN    =                   80 / Gain Value", math.nan),
        ("GAIN    =                   80 / sensor setting", math.nan),
        ("GAIN    =                  1.6 / [e-/ADU] conversion", 1.6),
        ("GAIN    =                  1.6 / electrons per ADU", 1.6),
        ("EGAIN   =                  0.0 / not known", math.nan),
    ],
)
def test_only_a_gain_in_electrons_per_adu_is_a_gain(line, expected):
    np.testing.assert_equal(facts_of(cards(line)).gain_e_per_adu, expected)


@pytest.mark.parametrize(
    ("lines", "bias", "counts"),
    [
        (["PEDESTAL=                 -500 /Correction to add for zero-based ADU"], 500.0, math.nan),
        (["PEDESTAL=                    0"], math.nan, math.nan),
        (["BLKLEVEL=                  200"], 200.0, math.nan),
        (["OFFSET  =                   64"], math.nan, 64.0),
        (["OFFSET  =               1024.0 / ADU"], 1024.0, math.nan),
        (["OFFSET  =                    9 / Brightness(offset) of image"], math.nan, math.nan),
        (["OFFSET  =                   50 / Sensor offset", "SWCREATE= 'N.I.N.A. 3.0'"], math.nan, math.nan),
        (["OFFSET  =                   50", "SWCREATE= 'N.I.N.A. 3.0'"], math.nan, math.nan),
    ],
)
def test_a_pedestal_is_taken_only_where_it_is_one(lines, bias, counts):
    facts = facts_of(cards(*lines))
    np.testing.assert_equal((facts.bias_adu, facts.offset_counts), (bias, counts))


@pytest.mark.parametrize(
    ("step", "median", "offset", "expected"),
    [
        (16, 1056.0, 64.0, 1024.0),  # counts of a 12-bit sensor kept in 16 bits
        (16, 1712.0, 1024.0, 1024.0),  # already ADU of the file: 16 times as much lies above the data
        (1, 512.0, 500.0, 500.0),
        (1, 400.0, 500.0, math.nan),  # above the data: cannot be a pedestal
        (16, 1712.0, math.nan, math.nan),
    ],
)
def test_an_offset_in_counts_of_the_sensor_becomes_adu_of_the_file(step, median, offset, expected):
    np.testing.assert_equal(Levels(step, 0.0, math.nan, median, False).bias_adu(offset), expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CCD-TEMP=               17.875 / sensor temperature in C", 17.875),
        ("CAMTEMP = 271.0 / CCD Camera Temperature in Kelvin, =-1 if no data", -2.15),
        ("CAMTEMP = -1 / CCD Camera Temperature in Kelvin, =-1 if no data", math.nan),
        ("DET-TEMP= 268.15", -5.0),
    ],
)
def test_temperatures_are_celsius(line, expected):
    np.testing.assert_allclose(facts_of(cards(line)).temperature_c, expected, atol=1e-9)


def test_an_altitude_gives_the_airmass_and_a_focal_length_of_zero_no_scale():
    facts = facts_of(cards("TELALT  = +30.0", "FOCALLEN= 0.0", "XPIXSZ  = 9.0"))
    assert abs(facts.airmass - 1.995) < 0.005 and math.isnan(facts.plate_scale_arcsec_per_px)
    facts = facts_of(cards("FOCALLEN= 250", "XPIXSZ  = 2.9"))
    assert abs(facts.plate_scale_arcsec_per_px - 2.3927) < 1e-4


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize("offset", [(0, 1), (1, 0), (1, 1)])
def test_the_cell_of_a_file_begins_at_its_bayer_offset(pattern, offset):
    y0, x0 = offset
    facts = facts_of(cards(f"BAYERPAT= '{pattern}'", f"XBAYROFF= {x0}", f"YBAYROFF= {y0}"))
    for y in range(3):
        for x in range(3):
            assert cfa_band(facts.cfa, y, x) == cfa_band(pattern, y + y0, x + x0)


@pytest.mark.parametrize("rows", [10, 11])
def test_a_file_stored_bottom_up_names_the_colours_of_its_own_rows(rows):
    """The pattern is stated for the picture as shown (top row first); row r of the file is shown row rows - 1 - r."""
    facts = facts_of(cards("BAYERPAT= 'RGGB'", "ROWORDER= 'BOTTOM-UP'"), rows)
    for y in range(4):
        for x in range(2):
            assert cfa_band(facts.cfa, y, x) == cfa_band("RGGB", rows - 1 - y, x)
    assert facts_of(cards("BAYERPAT= 'RGGB'", "ROWORDER= 'TOP-DOWN'"), rows).cfa == "RGGB"


def test_bayer_offsets_are_accounted_for_once():
    assert facts_of(cards("BAYERPAT= 'RGGB'", "XBAYROFF= 1", "YBAYROFF= 0")).cfa == "GRBG"
    assert facts_of(cards("BAYERPAT= 'RGGB'", "XBAYROFF= 0", "YBAYROFF= 1")).cfa == "GBRG"
    assert facts_of(cards("COLORTYP= 'RAW16'")).cfa is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Light Frame", "light"), ("Bias Frame", "bias"), ("Flat Field", "flat"), ("DARK", "dark"), ("OBJECT", "light"),
        ("zero", "bias"), ("Dark Flat", "flat_dark"), ("FlatDark", "flat_dark"), ("Master Dark", "master"),
        ("skyflat_003", "flat"), ("dark_012", "dark"), ("calib-001-bi", None), ("Markarian", None), ("Flatiron", None),
    ],
)  # fmt: skip
def test_kinds_are_named_in_many_ways(text, kind):
    assert kind_of_text(text) == kind


# WCS

TAN = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 315.44, "CRVAL2": 68.126, "CRPIX1": 540.5, "CRPIX2": 960.5,
    "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "FK5", "EQUINOX": 2000.0, "LONPOLE": 180.0, "LATPOLE": 68.126,
}  # fmt: skip
FORMS = {
    "pc": {"PC1_1": 3.5e-4, "PC1_2": 5.6e-4, "PC2_1": -5.6e-4, "PC2_2": 3.5e-4, "CDELT1": 1.0, "CDELT2": 1.0},
    "cd": {"CD1_1": -6e-4, "CD1_2": 2e-5, "CD2_1": 1e-5, "CD2_2": 6.1e-4},
    "cdelt": {"CDELT1": -6e-4, "CDELT2": 6.1e-4},
    "sip": {
        "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CD1_1": -6e-4, "CD1_2": 2e-5, "CD2_1": 1e-5,
        "CD2_2": 6.1e-4, "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 3e-6, "A_1_1": -2e-6, "B_0_2": 4e-6, "B_1_1": 1e-6,
    },
}  # fmt: skip


def header_of(values):
    header = fits.Header()
    for key, value in values.items():
        header[key] = int(value) if key.endswith("_ORDER") else value
    return header


def sky(header, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(WCS(header).all_pix2world(x, y, 0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("y0", "x0", "step"), [(0, 0, 1), (100, 37, 1), (-20, -7, 1), (11, 3, 2)])
def test_the_canonical_wcs_gives_the_same_sky_after_any_cut(form, y0, x0, step):
    original = header_of(TAN | FORMS[form])
    text = wcs_of(Cards("".join(str(c) for c in original.cards).encode()))
    cut = header_of(cards_on(text, (y0, x0), step))
    rows, columns = np.array([0.0, 5.0, 300.0]), np.array([0.0, 77.0, 200.0])
    there = sky(original, x0 + step * columns, y0 + step * rows)
    np.testing.assert_allclose(sky(cut, columns, rows), there, rtol=0, atol=1e-11)


def test_the_canonical_wcs_is_one_text_for_one_wcs():
    text = wcs_of(Cards("".join(str(c) for c in header_of(TAN | FORMS["pc"]).cards).encode()))
    turned = dict(reversed(list((TAN | FORMS["pc"]).items())))
    assert wcs_of(Cards("".join(str(c) for c in header_of(turned).cards).encode())) == text
    assert wcs_cards(text)["CRPIX1"] == 540.5 and wcs_cards(text)["CTYPE1"] == "RA---TAN"
    both = TAN | FORMS["cd"] | {"PC1_1": -6e-4, "CDELT1": 1.0, "CDELT2": 1.0}
    assert "PC1_1" not in wcs_of(Cards("".join(str(c) for c in header_of(both).cards).encode()))


def test_coordinates_of_a_target_are_no_wcs():
    assert facts_of(cards("RA      = 193.07", "DEC     = 40.98", "EQUINOX = 2000.0")).wcs is None


# Levels


def source_of(tmp_path, values, name="a.fits"):
    path = tmp_path / name
    fits.PrimaryHDU(values).writeto(path)
    return FitsSource.of(scan(path))


def test_a_stored_dark_shows_in_the_residues_modulo_16(tmp_path):
    rng = np.random.default_rng(3)
    dark = np.rint(rng.integers(0, 40, (200, 200)) * 16 / 5)  # mean of 5 frames of 12-bit counts times 16
    raws = [16 * rng.poisson(60, (200, 200)) + 160 - dark for _ in range(2)]
    one, two = (source_of(tmp_path, raw.astype(np.uint16), f"{i}.fits") for i, raw in enumerate(raws))
    assert levels_of(one).dark_subtracted and same_residues(one, two) == 1.0
    plain = source_of(tmp_path, (16 * rng.poisson(60, (200, 200))).astype(np.uint16), "p.fits")
    assert levels_of(plain).step_adu == 16 and not levels_of(plain).dark_subtracted
    smooth = source_of(tmp_path, rng.normal(1000, 90, (200, 200)).astype(np.uint16), "s.fits")
    assert levels_of(smooth).step_adu == 1 and not levels_of(smooth).dark_subtracted
    quiet = source_of(tmp_path, rng.normal(1000, 1.2, (200, 200)).astype(np.uint16), "q.fits")
    assert not levels_of(quiet).dark_subtracted  # few classes, but only because the noise is small


def test_saturation_is_where_the_values_pile_up(tmp_path):
    rng = np.random.default_rng(4)
    values = np.minimum(rng.exponential(900, (200, 200)), 4095).astype(np.int16)
    assert levels_of(source_of(tmp_path, values)).saturation_adu == 4095
    values = rng.normal(900, 50, (200, 200)).astype(np.uint16)
    assert levels_of(source_of(tmp_path, values, "u.fits")).saturation_adu == 65520


def test_a_black_level_that_was_cut_is_seen(tmp_path):
    rng = np.random.default_rng(5)
    values = np.maximum(rng.normal(100, 66, (200, 200)), 0).astype(np.uint16)  # 6.5 % below 0
    share = levels_of(source_of(tmp_path, values)).black_share
    assert abs(share - 0.0665) < 5 * math.sqrt(0.066 * 0.934 / 40000)
