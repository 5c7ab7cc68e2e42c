"""New integer grids over old ones: pixel i of the new grid lies at scale * i + offset of the old one.

A superpixel has scale 2, offset 0.5; a bin of b pixels b and (b - 1) / 2. A WCS follows: with 0-based pixels
crpix' = (crpix - offset) / scale, and a step of the new grid is ``scale`` old ones on the sky (SIP terms of order p + q
scale with scale^(p + q - 1); Shupe et al. 2005).
"""

from __future__ import annotations

import re

from getframes_xr.core.window import Span

_SIP = re.compile(r"^(A|B|AP|BP)_(\d+)_(\d+)$")


def span_of_bins(span: Span, size: int) -> Span:
    """The whole bins of ``size`` pixels, counted from absolute pixel 0, inside a span."""
    start = -(-span.start // size)
    return Span(start, max(start, span.stop // size))


def wcs_of_bins(wcs: str | None, scale: int, offset: float) -> str | None:
    """The cards of a WCS (``KEY = value`` lines, absolute pixels) on the grid of bins."""
    if wcs is None or scale == 1:
        return wcs
    lines = dict(line.partition("=")[::2] for line in wcs.splitlines() if "=" in line)
    cards = {key.strip(): value.strip() for key, value in lines.items()}
    has_matrix = any(key.startswith(("CD1_", "CD2_")) for key in cards)
    for axis in "12":
        cards[f"CRPIX{axis}"] = _text((float(cards.get(f"CRPIX{axis}", "0.")) - 1.0 - offset) / scale + 1.0)
        if not has_matrix:
            cards[f"CDELT{axis}"] = _text(float(cards.get(f"CDELT{axis}", "1.")) * scale)
    for key, value in cards.items():
        sip = _SIP.match(key)
        if has_matrix and key.startswith(("CD1_", "CD2_")):
            cards[key] = _text(float(value) * scale)
        elif sip:
            cards[key] = _text(float(value) * scale ** (int(sip.group(2)) + int(sip.group(3)) - 1))
    return "\n".join(f"{key:<8}= {cards[key]}" for key in sorted(cards))


def _text(value: float) -> str:
    return f"{int(value)}." if value.is_integer() and abs(value) < 1e15 else repr(value).upper()
