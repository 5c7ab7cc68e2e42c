"""A picture as a source: a nebula or any brightness map, placed, scaled, turned and convolved with the PSF once.

Values coarser than the PSF become squares that are smoothed by a square of their own size, so no steps are seen.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.light.column import Raster
from getframes_xr.light.sight import Sight
from getframes_xr.light.sources.extended import TemplateLight, convolved
from getframes_xr.light.sources.family import Source
from getframes_xr.light.sources.place import Degrees, Pixel, place_of, refuse_both

_LARGEST = 4096  # cells along a side of the fine template


class Picture(Source):
    """Brightness ``values`` (y, x), their sum worth ``magnitude``, centred on a place, ``scale_arcsec`` per value.

    ``angle_deg`` turns the picture's x axis from +x towards +y. Values are relative, finite and not negative.
    """

    kind: Literal["picture"] = "picture"
    values: Raster
    scale_arcsec: Annotated[float, Field(gt=0, le=36000)]
    y: Pixel | None = None
    x: Pixel | None = None
    ra_deg: Degrees | None = None
    dec_deg: Degrees | None = None
    magnitude: Annotated[float, Field(ge=-30, le=40)]
    angle_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    colour: float = 0.8  # B - V

    @model_validator(mode="after")
    def _usable(self) -> Self:
        refuse_both("Picture", self.y, self.x, self.ra_deg, self.dec_deg)
        values = self.values.values
        if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
            raise OptionError("Picture.values", self.values, "finite, >= 0, not all 0")
        return self

    def light(self, sight: Sight, seed: int | str) -> TemplateLight:
        y, x = place_of(sight, self.y, self.x, self.ra_deg, self.dec_deg)
        fwhm_px = sight.psf.fwhm_arcsec / sight.scale
        cell_px = self.scale_arcsec / sight.scale
        values = self.values.values
        parts = max(1, int(np.ceil(cell_px / min(1.0, 0.4 * fwhm_px))))  # fine enough for the PSF
        parts = max(1, min(parts, _LARGEST // max(values.shape)))
        brightness = np.repeat(np.repeat(values / (values.sum() * cell_px * cell_px), parts, axis=0), parts, axis=1)
        fine_px = cell_px / parts
        border = int(np.ceil((8.0 * fwhm_px + cell_px + 3.0) / fine_px)) + 3
        template = convolved(np.pad(brightness, border), fine_px, sight, fwhm_px, cell_px if parts > 1 else 0.0)
        rates = sight.rates(np.array([self.magnitude]), np.array([self.colour]))[0]
        return TemplateLight(sight, y, x, rates, template, fine_px, self.angle_deg)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A small cross."""
        cross = [[0.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 0.0]]
        return (cls(values=cross, scale_arcsec=4.0, y=31.4, x=28.0, magnitude=10, angle_deg=20),)
