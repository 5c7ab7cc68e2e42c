"""Kinds of faults in reading headers: time scales, zones, signs, offsets along the right axis, thresholds of levels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from getframes_xr.io.fits import Cards, scan
from getframes_xr.io.fits_pixels import FitsSource
from getframes_xr.io.header import FrameFacts, facts_of
from getframes_xr.io.levels import Levels, levels_of

NOON = "2020-06-01T12:00:00"


def facts(*lines: str, rows: int | None = None) -> FrameFacts:
    return facts_of(Cards(b"".join(line.ljust(80).encode() for line in lines)), rows)


@pytest.mark.parametrize(
    ("scale", "ahead_s"),
    [("UTC", 0.0), ("TAI", 37.0), ("GPS", 18.0), ("TT", 69.184), ("TDT", 69.184), ("TDB", 69.184)],
)
def test_clocks_of_other_scales_are_set_back_to_utc(scale: str, ahead_s: float) -> None:
    """In June 2020 TAI - UTC is 37 s; GPS time is TAI - 19 s for ever; TT is TAI + 32.184 s; TDB is TT to 2 ms."""
    found = facts(f"DATE-OBS= '{NOON}'", f"TIMESYS = '{scale}'").start
    late = (np.datetime64(NOON, "ns") - found) / np.timedelta64(1, "ns") / 1e9
    assert late == pytest.approx(ahead_s, abs=0.003 if scale == "TDB" else 1e-6)


def test_a_leap_second_lies_between_tai_and_utc() -> None:
    """36 s before the one at the end of 2016, 37 after."""
    for day, seconds in (("2016-12-31", 36), ("2017-01-02", 37)):
        found = facts(f"DATE-OBS= '{day}T12:00:00'", "TIMESYS = 'TAI'").start
        assert np.datetime64(f"{day}T12:00:00", "ns") - found == np.timedelta64(seconds, "s")
        assert str(found)[:23] == Time(f"{day}T12:00:00", scale="tai").utc.isot


@pytest.mark.parametrize(("zone", "hours"), [("-0700", 7.0), ("+01:30", -1.5), ("+0000", 0.0), ("-03:30", 3.5)])
def test_a_zone_east_of_greenwich_is_ahead_of_utc(zone: str, hours: float) -> None:
    found = facts(f"DATE-OBS= '{NOON}{zone}'").start
    assert (found - np.datetime64(NOON, "ns")) / np.timedelta64(1, "m") == 60 * hours


@pytest.mark.parametrize(("key", "value"), [("MJD-OBS", 59001.75), ("MJD", 59001.75), ("JD", 2459002.25)])
def test_julian_dates_have_their_own_origins(key: str, value: float) -> None:
    assert facts(f"{key:<8}= {value:.8f}").start == np.datetime64("2020-06-01T18:00:00", "ns")


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG"])
def test_a_bayer_offset_along_x_moves_columns_and_one_along_y_rows(pattern: str) -> None:
    (a, b), (c, d) = pattern[:2], pattern[2:]
    assert facts(f"BAYERPAT= '{pattern}'", "XBAYROFF= 1", "YBAYROFF= 0").cfa == b + a + d + c
    assert facts(f"BAYERPAT= '{pattern}'", "XBAYROFF= 0", "YBAYROFF= 1").cfa == c + d + a + b
    assert facts(f"BAYERPAT= '{pattern}'", "ROWORDER= 'BOTTOM-UP'", rows=100).cfa == c + d + a + b
    assert facts(f"BAYERPAT= '{pattern}'", "ROWORDER= 'BOTTOM-UP'", rows=101).cfa == pattern


def test_a_pedestal_is_what_was_added_whatever_its_sign() -> None:
    """SBFITSEXT writes the number to add to come back to zero: -100 for a pedestal of 100."""
    for card in ("PEDESTAL= -100", "PEDESTAL= 100", "BLKLEVEL= 100"):
        assert facts(card).bias_adu == 100.0 and math.isnan(facts(card).offset_counts), card
    assert math.isnan(facts("PEDESTAL= 0").bias_adu)


def test_exposures_are_in_seconds_and_temperatures_in_celsius() -> None:
    assert facts("EXPOINUS= 2500000").exposure_s == 2.5 and facts("EXPOSMS = 250").exposure_s == 0.25
    assert facts("EXPTIME = 3.0", "EXPOINUS= 2500000").exposure_s == 3.0
    assert facts("CCD-TEMP= 263.15").temperature_c == pytest.approx(-10.0)
    assert facts("CCD-TEMP= 10 / [Kelvin]").temperature_c == pytest.approx(-263.15)


def test_an_airmass_is_one_at_the_zenith_and_two_at_thirty_degrees() -> None:
    assert facts("CENTALT = 90.0").airmass == pytest.approx(1.0, abs=1e-4)
    assert facts("CENTALT = 30.0").airmass == pytest.approx(1.995, abs=0.003)  # Pickering 2002
    assert facts("AIRMASS = 1.25", "CENTALT = 90.0").airmass == 1.25
    assert math.isnan(facts("AIRMASS = 0.5").airmass)


def test_a_plate_scale_is_pixel_over_focal_length() -> None:
    made = facts("XPIXSZ  = 3.76", "FOCALLEN= 400.0").plate_scale_arcsec_per_px
    assert made == pytest.approx(np.rad2deg(3.76e-6 / 0.4) * 3600, rel=1e-8)


# --- levels --------------------------------------------------------------------------------------------------------


def levels(tmp_path: Path, values: np.ndarray) -> Levels:
    fits.PrimaryHDU(values).writeto(tmp_path / "a.fits", overwrite=True)
    return levels_of(FitsSource.of(scan(tmp_path / "a.fits")))


@pytest.mark.parametrize(("piled", "found"), [(0, 65520.0), (7, 65520.0), (8, 30000.0), (500, 30000.0)])
def test_eight_pixels_at_one_highest_value_are_saturated_and_seven_are_chance(
    tmp_path: Path, piled: int, found: float
) -> None:
    """With none, the top of 12-bit counts times 16 is all that can be said."""
    values = np.random.default_rng(6).exponential(900, (200, 200)).astype(np.uint16)  # single pixels at the far end
    values.ravel()[:piled] = 30000
    assert levels(tmp_path, values).saturation_adu == found


@pytest.mark.parametrize("step", [1, 4, 16])
def test_the_step_of_left_aligned_counts_is_seen_and_offsets_are_scaled_by_it(tmp_path: Path, step: int) -> None:
    values = (np.random.default_rng(7).integers(50, 900, (100, 100)) * step).astype(np.uint16)
    found = levels(tmp_path, values)
    assert found.step_adu == step
    assert found.bias_adu(40.0) == 40.0 * step
    assert math.isnan(found.bias_adu(float(values.max()) * 2)) and math.isnan(found.bias_adu(math.nan))
    assert found.bias_adu(300.0) == 300.0 * step  # below the median of 475 steps


def test_black_is_counted_only_where_the_level_was_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    values = np.maximum(rng.normal(100, 66, (200, 200)), 0).astype(np.int16)
    share = float((values == 0).mean())
    assert levels(tmp_path, values).black_share == share > 0.05
    values[0, 0] = -3  # numbers below zero exist: nothing was cut
    assert levels(tmp_path, values).black_share == 0.0
