"""Colour filter arrays: which colour a pixel sees.

A pattern names the colours of the 2 x 2 cell at the absolute pixels (0, 0), (0, 1), (1, 0), (1, 1), whatever the frame
begins with; the colour of (y, x) follows from the parities of y and x. Who counts pixels from another origin states the
pattern anew: a pixel that moves by (dy, dx) keeps its colour.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from getframes_xr.core.vocabulary import COLOUR_BANDS

CFA_PATTERNS: Final = ("RGGB", "BGGR", "GRBG", "GBRG")
_BAND: Final = dict(zip("RGB", COLOUR_BANDS, strict=True))


def cfa_band(pattern: str, y: int, x: int) -> str:
    """Band of the absolute pixel (y, x): red, green or blue.

    >>> cfa_band("RGGB", 0, 0), cfa_band("RGGB", 0, 1), cfa_band("GRBG", -1, 2)
    ('red', 'green', 'blue')
    """
    return _BAND[pattern[2 * (y & 1) + (x & 1)]]


def cfa_index(pattern: str | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Place in ``COLOUR_BANDS`` of the pixel (y, x) at [y & 1, x & 1], int64 (2, 2); 0 where there is no pattern.

    >>> cfa_index("GBRG").tolist()
    [[1, 2], [0, 1]]
    """
    if pattern is None:
        return np.zeros((2, 2), np.int64)
    return np.array([["RGB".index(pattern[2 * y + x]) for x in (0, 1)] for y in (0, 1)], np.int64)


def moved_cfa(pattern: str, dy: int, dx: int) -> str:
    """The pattern after every pixel moved by (dy, dx).

    >>> moved_cfa("RGGB", 0, 1), moved_cfa("RGGB", 1, 0), moved_cfa("RGGB", 3, -1), moved_cfa("GRBG", 2, 4)
    ('GRBG', 'GBRG', 'BGGR', 'GRBG')
    """
    return "".join(pattern[2 * ((y - dy) & 1) + ((x - dx) & 1)] for y in (0, 1) for x in (0, 1))
