"""Colour filter arrays: one sign convention, checked pixel by pixel."""

from __future__ import annotations

import pytest

from getframes_xr.core.cfa import CFA_PATTERNS, cfa_band, cfa_index, moved_cfa
from getframes_xr.core.vocabulary import COLOUR_BANDS


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize("shift", [(0, 0), (0, 1), (1, 0), (-3, 5)])
def test_every_pixel_keeps_its_colour_when_all_move(pattern: str, shift: tuple[int, int]) -> None:
    after = moved_cfa(pattern, *shift)
    for y in range(-2, 4):
        for x in range(-2, 4):
            assert cfa_band(after, y + shift[0], x + shift[1]) == cfa_band(pattern, y, x)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_the_index_names_the_band_of_each_parity(pattern: str) -> None:
    colours = {"R": "red", "G": "green", "B": "blue"}
    for y in (-1, 0, 1, 6):
        for x in (-4, 0, 3):
            band = colours[pattern[(y % 2) * 2 + x % 2]]
            assert cfa_band(pattern, y, x) == band == COLOUR_BANDS[cfa_index(pattern)[y & 1, x & 1]]
    assert not cfa_index(None).any()
