"""The words of the house: bits, planes, units and columns that everything else leans on."""

from __future__ import annotations

import numpy as np
from astropy import units

from getframes_xr.core.cfa import CFA_PATTERNS
from getframes_xr.core.vocabulary import BAD, COLOUR_BANDS, COLUMNS, OVERFULL, PLANES, UNUSABLE, Flag


def test_every_flag_has_a_bit_of_its_own_in_a_uint16() -> None:
    bits = [int(flag) for flag in Flag]
    assert all(bit.bit_count() == 1 for bit in bits) and len(set(bits)) == len(bits)
    assert PLANES["flags"].dtype == np.uint16 and sum(bits) <= np.iinfo(np.uint16).max


def test_the_bits_in_stores_of_yesterday_mean_the_same_today() -> None:
    """Flags are written into files: a bit may be added, never moved. The numbers are those of version 0.1."""
    written = {
        "NO_DATA": 1, "SATURATED": 2, "COSMIC": 4, "HOT": 8, "DEAD": 16, "BAD_COLUMN": 32, "TRAIL": 64, "EDGE": 128,
        "INTERPOLATED": 256, "REJECTED": 512, "BLOOMED": 1024, "NONLINEAR": 2048, "PERSISTENCE": 4096,
        "LOW_RESPONSE": 8192,
    }  # fmt: skip
    assert {name: int(Flag[name]) for name in written} == written


def names_of(bits: int) -> set[str]:
    return {str(flag.name) for flag in Flag if bits & int(flag)}


def test_bad_is_what_no_sum_may_use_and_an_image_keeps_the_cores_of_bright_stars() -> None:
    assert names_of(BAD) == {
        "NO_DATA", "SATURATED", "COSMIC", "HOT", "DEAD", "BAD_COLUMN", "TRAIL", "REJECTED", "BLOOMED",
    }  # fmt: skip
    assert names_of(BAD) - names_of(UNUSABLE) == {"SATURATED"} and names_of(OVERFULL) == {"SATURATED", "BLOOMED"}
    assert UNUSABLE & ~BAD == 0 and BAD & ~sum(int(flag) for flag in Flag) == 0


def test_planes_have_units_that_astropy_reads_and_one_dtype_for_each_meaning() -> None:
    for name, plane in PLANES.items():
        assert plane.units == "" or units.Unit(plane.units) is not None
        assert plane.description, name
    unit_of = {name: plane.units for name, plane in PLANES.items()}
    assert unit_of["adu"] == unit_of["image"] == unit_of["noise"] == "adu"
    assert unit_of["electrons"] == unit_of["expected_electrons"] == unit_of["truth_electrons"] == "electron"
    assert unit_of["photons"] == "photon"
    assert {unit_of[name] for name in ("flags", "count", "coverage", "weight")} == {""}
    whole = {name for name, plane in PLANES.items() if plane.dtype == np.uint16}
    assert whole == {"adu", "flags", "count", "coverage"}
    assert {plane.dtype for name, plane in PLANES.items() if name not in whole} == {np.dtype(np.float32)}


def test_a_plane_s_token_says_dtype_and_units() -> None:
    tokens = {plane.token() for plane in PLANES.values()}
    assert PLANES["adu"].token() != PLANES["image"].token() != PLANES["electrons"].token()
    assert tokens == {f"{plane.dtype.str} {plane.units}" for plane in PLANES.values()}


def test_columns_end_in_the_unit_they_have() -> None:
    """``exposure_s`` is in seconds: the ending of a name is its unit."""
    ending = {
        "_s": "s", "_e": "electron", "_adu": "adu", "_c": "deg_C", "_mag": "mag", "_px": "pixel", "_deg": "deg",
        "_arcsec": "arcsec", "_e_per_adu": "electron/adu",
    }  # fmt: skip
    for name, unit in COLUMNS.items():
        fitting = [end for end in ending if name.endswith(end)]
        if fitting:
            assert unit == ending[max(fitting, key=len)], name
        if unit:
            units.Unit(unit)
    assert {"frame", "start", "exposure_s", "gain_e_per_adu", "read_noise_e", "bias_adu"} <= set(COLUMNS)


def test_bands_and_patterns() -> None:
    assert COLOUR_BANDS == ("red", "green", "blue")
    assert len(set(CFA_PATTERNS)) == 4 and all(sorted(pattern) == ["B", "G", "G", "R"] for pattern in CFA_PATTERNS)
    for pattern in CFA_PATTERNS:  # the two greens meet at a corner
        assert "G" in pattern[:2] and "G" in pattern[2:] and pattern[0] != pattern[2] and pattern[1] != pattern[3]
