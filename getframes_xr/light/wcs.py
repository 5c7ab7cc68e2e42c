"""World coordinates: the gnomonic (TAN) projection between sky and pixels, for the frame at reference pointing.

With standard coordinates xi (east), eta (north) in degrees and r = ``rotation_deg``, the position angle of +y:

    x - x_c = (-xi cos r + eta sin r) / s,   y - y_c = (xi sin r + eta cos r) / s     [parity +1: east is at -x]

``parity`` -1 mirrors x. Formulas: Calabretta & Greisen 2002 (A&A 395, 1077). Pixels are counted from 0, FITS from 1.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from getframes_xr.core.errors import DataError
from getframes_xr.core.options import Options
from getframes_xr.light.rounding import rounded_position

Floats = NDArray[np.float64]


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
        turn = np.deg2rad(turned_deg)
        about = centre if pivot is None else pivot
        dy, dx = centre[0] - about[0], centre[1] - about[1]
        y = about[0] + np.cos(turn) * dy + np.sin(turn) * dx + offset_px[0]
        x = about[1] + np.cos(turn) * dx - np.sin(turn) * dy + offset_px[1]
        scale, r = scale_arcsec_per_px / 3600.0, np.deg2rad(self.rotation_deg)
        to_pixel = np.array([[-self.parity * np.cos(r), self.parity * np.sin(r)], [np.sin(r), np.cos(r)]]) / scale
        spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])  # of (x, y)
        cd = np.linalg.inv(spin @ to_pixel)
        numbers = {
            "CRPIX1": x + 1.0, "CRPIX2": y + 1.0, "CD1_1": cd[0, 0], "CD1_2": cd[0, 1], "CD2_1": cd[1, 0],
            "CD2_2": cd[1, 1], "CRVAL1": self.ra_deg, "CRVAL2": self.dec_deg,
        }  # fmt: skip
        lines = ["WCSAXES =                    2", "CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'"]
        lines += ["CUNIT1  = 'deg     '", "CUNIT2  = 'deg     '"]
        lines += [f"{name:8s}= {value + 0.0:20.13G}" for name, value in numbers.items()]
        return "\n".join([*lines, "RADESYS = 'ICRS    '"])
