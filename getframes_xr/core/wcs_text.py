"""World coordinates as text: FITS cards in absolute pixels, ``KEY = value``, one a line.

FITS counts pixels from 1: the absolute pixel (0, 0) is FITS pixel (1, 1). On a new grid whose pixel i lies at
``step * i + offset`` of the old one

    CRPIX' = (CRPIX - 1 - offset) / step + 1,    CD' = step CD  (CDELT' = step CDELT where there is no CD)

and SIP terms of order p + q grow by step^(p + q - 1) (Shupe et al. 2005). A superpixel has step 2 and offset 1/2, a bin
of b pixels b and (b - 1) / 2; pixels that all move by d have offset -d; an array that begins at pixel a has offset a.
The canonical text is sorted by keyword, numbers in shortest form, without WCSAXES. Source of the cards: Calabretta and
Greisen 2002.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.window import Grid

Cards = dict[str, "str | float"]
_SIP: Final = re.compile(r"^(A|B|AP|BP)_(\d+)_(\d+)$")


def wcs_cards(text: str) -> Cards:
    """The cards of a text; numbers are float, orders of SIP terms int; WCSAXES is left out, for it follows from them.

    Raises
    ------
    DataError : a value is neither a number nor quoted
    """
    found: Cards = {}
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name == "WCSAXES":
            continue
        if value.startswith("'"):
            found[name] = value[1:].rpartition("'")[0].replace("''", "'").rstrip()
            continue
        try:
            number = float(value.partition("/")[0])  # what follows is a comment
        except ValueError:
            raise DataError(f"wcs: the card {line.strip()!r} has no number and no text in quotes") from None
        found[name] = int(number) if name.endswith("_ORDER") else number
    return found


def wcs_text(cards: Mapping[str, str | float]) -> str:
    """Cards as the canonical text."""
    return "\n".join(f"{key:<8}= {_value(cards[key])}" for key in sorted(cards))


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(int(value)) + "." if float(value).is_integer() and abs(value) < 1e15 else repr(float(value)).upper()


def has_matrix(cards: Mapping[str, str | float]) -> bool:
    """Whether scale and rotation are stated as a CD matrix."""
    return any(key.startswith(("CD1_", "CD2_")) for key in cards)


def cards_on(text: str, offset: tuple[float, float], step: int = 1) -> Cards:
    """Cards on a grid whose pixel (0, 0) is (y, x) = ``offset`` of the old one, ``step`` old pixels to a new one."""
    cards = wcs_cards(text)
    matrix = has_matrix(cards)
    for axis, origin in (("1", offset[1]), ("2", offset[0])):
        cards[f"CRPIX{axis}"] = (float(cards.get(f"CRPIX{axis}", 0.0)) - 1 - origin) / step + 1
        if step != 1 and not matrix:
            cards[f"CDELT{axis}"] = float(cards.get(f"CDELT{axis}", 1.0)) * step
    for key, value in cards.items() if step != 1 else ():
        sip = _SIP.match(key)
        if matrix and key.startswith(("CD1_", "CD2_")):
            cards[key] = float(value) * step
        elif sip:
            cards[key] = float(value) * step ** (int(sip.group(2)) + int(sip.group(3)) - 1)
    return cards


def wcs_on(grid: Grid, offset: tuple[float, float], step: int = 1) -> dict[str, Any]:
    """What changes of a grid's ``wcs`` and ``columns`` where its pixels are counted as in ``cards_on``."""

    def follow(text: str) -> str:
        return wcs_text(cards_on(text, offset, step)) if text.strip() else text

    changes: dict[str, Any] = {"wcs": None if grid.wcs is None else follow(grid.wcs)}
    if grid.columns is not None and "wcs" in grid.columns:
        texts = [follow(str(text)) for text in grid.columns["wcs"]]
        changes["columns"] = {**grid.columns, "wcs": np.array(texts, dtype=object)}
    return changes


def astropy_wcs(text: str) -> Any:
    """The ``astropy.wcs.WCS`` of a text.

    Raises
    ------
    DataError : astropy cannot read it
    """
    from astropy.wcs import WCS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return WCS(wcs_cards(text))
    except (ValueError, KeyError, MemoryError) as error:
        raise DataError(f"the wcs cannot be read: {error}") from error
