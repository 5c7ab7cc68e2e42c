"""Where a single source is: a pixel of the reference frame, or a point on the sky."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from getframes_xr.core.errors import OptionError
from getframes_xr.light.rounding import rounded_position
from getframes_xr.light.sight import Sight

Pixel = Annotated[float, Field(ge=-1e9, le=1e9)]
Degrees = Annotated[float, Field(ge=-360, le=360)]


def refuse_both(name: str, y: float | None, x: float | None, ra_deg: float | None, dec_deg: float | None) -> None:
    """Insist on one kind of place.

    Raises
    ------
    OptionError : neither, both, or half of a place is given
    """
    given = tuple(value is not None for value in (y, x, ra_deg, dec_deg))
    if given not in ((True, True, False, False), (False, False, True, True)):
        raise OptionError(f"{name}.y", y, "either y and x, or ra_deg and dec_deg")


def place_of(
    sight: Sight, y: float | None, x: float | None, ra_deg: float | None, dec_deg: float | None
) -> tuple[float, float]:
    """The pixel position of a source.

    Raises
    ------
    DataError : it is on the sky and the scene has no wcs
    """
    if y is not None and x is not None:
        place = rounded_position([y, x])
        return float(place[0]), float(place[1])
    found_y, found_x = sight.pixels(np.array([ra_deg]), np.array([dec_deg]))
    return float(found_y[0]), float(found_x[0])
