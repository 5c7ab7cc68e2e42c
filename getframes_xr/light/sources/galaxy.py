"""A galaxy: an elliptical Sersic profile, convolved with the PSF once.

I(r) = I_e exp(-b ((r/r_e)^(1/n) - 1)), r^2 = u^2 + (v/q)^2 along and across the major axis; half of the light lies
within r_e: P(2n, b) = 1/2. Total: 2 pi n q r_e^2 e^b b^(-2n) Gamma(2n) I_e (Sersic 1968; Graham & Driver 2005). The
template holds 99.8 % of the light or 1024 fine cells about the centre, whichever ends first; cells near the cusp are
means over finer points.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import gamma, gammaincinv

from getframes_xr.light.sight import Sight
from getframes_xr.light.sources.extended import TemplateLight, convolved
from getframes_xr.light.sources.family import Source
from getframes_xr.light.sources.place import Degrees, Pixel, place_of, refuse_both

Floats = NDArray[np.float64]
_SHARE = 0.998
_HALF_CELLS = 1024


class Galaxy(Source):
    """A Sersic profile of total ``magnitude``; ``angle_deg`` of its major axis from +x towards +y."""

    kind: Literal["galaxy"] = "galaxy"
    y: Pixel | None = None
    x: Pixel | None = None
    ra_deg: Degrees | None = None
    dec_deg: Degrees | None = None
    magnitude: Annotated[float, Field(ge=-30, le=40)]
    half_light_radius_arcsec: Annotated[float, Field(gt=0, le=36000)]
    sersic_n: Annotated[float, Field(ge=0.3, le=8)] = 1.0
    axis_ratio: Annotated[float, Field(gt=0.02, le=1)] = 1.0
    angle_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    colour: float = 0.8  # B - V

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        refuse_both("Galaxy", self.y, self.x, self.ra_deg, self.dec_deg)
        return self

    def light(self, sight: Sight, seed: int | str) -> TemplateLight:
        y, x = place_of(sight, self.y, self.x, self.ra_deg, self.dec_deg)
        fwhm_px = sight.psf.fwhm_arcsec / sight.scale
        cell_px = 1.0 / min(8, max(2, int(np.ceil(4.0 / fwhm_px))))
        radius_px = self.half_light_radius_arcsec / sight.scale
        template = convolved(self._brightness(radius_px, cell_px, fwhm_px), cell_px, sight, fwhm_px)
        rates = sight.rates(np.array([self.magnitude]), np.array([self.colour]))[0]
        return TemplateLight(sight, y, x, rates, template, cell_px, self.angle_deg)

    def _brightness(self, radius_px: float, cell_px: float, fwhm_px: float) -> Floats:
        """Share of the light per px^2 on the fine grid, major axis along x."""
        n, q = self.sersic_n, self.axis_ratio
        b = float(gammaincinv(2.0 * n, 0.5))
        reach = radius_px * (float(gammaincinv(2.0 * n, _SHARE)) / b) ** n
        margin = 8.0 * fwhm_px + 3.0
        across, along = (min(_HALF_CELLS, int(np.ceil((size + margin) / cell_px))) for size in (q * reach, reach))
        total = 2.0 * np.pi * n * q * radius_px**2 * np.exp(b) * b ** (-2.0 * n) * gamma(2.0 * n)

        def profile(v: NDArray[Any], u: NDArray[Any]) -> Floats:
            r = np.sqrt(u**2 + (v / q) ** 2) / radius_px
            value: Floats = np.exp(-b * (r ** (1.0 / n) - 1.0)) / total
            return value

        v, u = np.arange(-across, across + 1) * cell_px, np.arange(-along, along + 1) * cell_px
        image = profile(v[:, None], u[None, :])
        for half, parts in ((12, 8), (1, 128)):  # the cusp: means over parts x parts points of each cell
            inner_y = slice(max(0, across - half), across + half + 1)
            inner_x = slice(max(0, along - half), along + half + 1)
            step = ((np.arange(parts) + 0.5) / parts - 0.5) * cell_px
            fine_v = (v[inner_y][:, None] + step).reshape(-1, 1)
            fine_u = (u[inner_x][:, None] + step).reshape(1, -1)
            fine = profile(fine_v, fine_u).reshape(-1, parts, fine_u.size // parts, parts)
            image[inner_y, inner_x] = fine.mean(axis=(1, 3))
        return image

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A disc seen aslant; an elliptical galaxy."""
        return (
            cls(y=30.0, x=33.3, magnitude=11, half_light_radius_arcsec=6.0, axis_ratio=0.4, angle_deg=30),
            cls(y=20.0, x=41.0, magnitude=11, half_light_radius_arcsec=3.0, sersic_n=4.0),
        )
