"""World coordinates: the gnomonic (TAN) projection between sky and pixels, for the frame at reference pointing.

With standard coordinates xi (east), eta (north) in degrees and r = ``rotation_deg``, the position angle of +y:

    x - x_c = (-xi cos r + eta sin r) / s,   y - y_c = (xi sin r + eta cos r) / s     [parity +1: east is at -x]

``parity`` -1 mirrors x. Formulas: Calabretta & Greisen 2002 (A&A 395, 1077). Pixels are counted from 0, FITS from 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from getframes_xr.core.errors import DataError
from getframes_xr.core.options import Options
from getframes_xr.light.rounding import rounded_position

Floats = NDArray[np.float64]
_FIXED_CARDS = (
    "WCSAXES =                    2", "CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CUNIT1  = 'deg     '",
    "CUNIT2  = 'deg     '",
)  # fmt: skip


class Wcs(Options):
    """Where the frame's centre points: right ascension, declination (ICRS), rotation and parity."""

    ra_deg: Annotated[float, Field(ge=0, lt=360)]
    dec_deg: Annotated[float, Field(ge=-90, le=90)]
    rotation_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0  # position angle of +y, east of north
    parity: Literal[1, -1] = 1

    def pixels(
        self, ra_deg: ArrayLike, dec_deg: ArrayLike, centre: tuple[float, float], scale_arcsec_per_px: float
    ) -> tuple[Floats, Floats]:
        """Pixel positions (y, x) of points on the sky, on the grid of 2^-16 px.

        Raises
        ------
        DataError : a point lies 90 degrees or more from the centre
        """
        ra, dec = np.deg2rad(np.asarray(ra_deg, np.float64)), np.deg2rad(np.asarray(dec_deg, np.float64))
        ra0, dec0 = np.deg2rad(self.ra_deg), np.deg2rad(self.dec_deg)
        towards = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
        if (towards <= 1e-6).any():
            raise DataError(f"{int((towards <= 1e-6).sum())} positions lie 90 degrees or more from the scene's centre")
        xi = np.cos(dec) * np.sin(ra - ra0) / towards
        eta = (np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)) / towards
        turn, scale = np.deg2rad(self.rotation_deg), np.deg2rad(scale_arcsec_per_px / 3600.0)
        x = self.parity * (eta * np.sin(turn) - xi * np.cos(turn)) / scale + centre[1]
        y = (xi * np.sin(turn) + eta * np.cos(turn)) / scale + centre[0]
        return rounded_position(y), rounded_position(x)

    def cards(
        self, centre: tuple[float, float], scale_arcsec_per_px: float,
        offset_px: tuple[float, float] = (0.0, 0.0), turned_deg: float = 0.0, pivot: tuple[float, float] | None = None,
    ) -> str:  # fmt: skip
        """FITS cards of one exposure, in absolute pixels, a line each.

        Parameters
        ----------
        centre : (y, x) of the reference point at reference pointing [px]
        offset_px, turned_deg, pivot : how this exposure's stars are moved: turned about the pivot, then shifted
        """
        turn, r = math.radians(turned_deg), math.radians(self.rotation_deg)
        about = centre if pivot is None else pivot
        dy, dx = centre[0] - about[0], centre[1] - about[1]
        y = about[0] + math.cos(turn) * dy + math.sin(turn) * dx + offset_px[0]
        x = about[1] + math.cos(turn) * dx - math.sin(turn) * dy + offset_px[1]
        scale = scale_arcsec_per_px / 3600.0  # CD = (spin by `turn` after the sky's own turn)^-1, both orthogonal
        xi_x, xi_y = -self.parity * math.cos(r), math.sin(r)
        eta_x, eta_y = self.parity * math.sin(r), math.cos(r)
        cosine, sine = math.cos(turn), math.sin(turn)
        numbers = (
            ("CRPIX1", x + 1.0), ("CRPIX2", y + 1.0),
            ("CD1_1", scale * (xi_x * cosine - xi_y * sine)), ("CD1_2", scale * (xi_x * sine + xi_y * cosine)),
            ("CD2_1", scale * (eta_x * cosine - eta_y * sine)), ("CD2_2", scale * (eta_x * sine + eta_y * cosine)),
            ("CRVAL1", self.ra_deg), ("CRVAL2", self.dec_deg),
        )  # fmt: skip
        lines = [f"{name:8s}= {value + 0.0:20.13G}" for name, value in numbers]
        return "\n".join([*_FIXED_CARDS, *lines, "RADESYS = 'ICRS    '"])
