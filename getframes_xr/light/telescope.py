"""The telescope: collecting area, throughput, image scale and band turn magnitudes into photons per second.

area = pi/4 D^2 (1 - obstruction^2);  rate = Z(band) 10^(-0.4 m) area throughput
scale = 206.265 pixel_um / focal_length_mm  arcsec/px
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, Field, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Options
from getframes_xr.light.bands import band, photon_ratio

Floats = NDArray[np.float64]
ARCSEC_PER_RADIAN = 206264.80624709636


def _known_band(name: str) -> str:
    return band(name).name


class Telescope(Options):
    """Aperture, obstruction (of the diameter), throughput (optics x filter peak x atmosphere), scale and band.

    The scale is given as ``plate_scale_arcsec_per_px``, or as ``focal_length_m`` and ``pixel_um``.

    Raises
    ------
    OptionError : neither or both ways of the scale are given; an unknown band; a value out of range
    """

    aperture_diameter_m: Annotated[float, Field(gt=0, le=100)]
    obstruction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    throughput: Annotated[float, Field(gt=0, le=1)] = 1.0
    plate_scale_arcsec_per_px: Annotated[float, Field(gt=0, le=3600)] | None = None
    focal_length_m: Annotated[float, Field(gt=0, le=1000)] | None = None
    pixel_um: Annotated[float, Field(gt=0, le=1000)] | None = None
    band: Annotated[str, AfterValidator(_known_band)] = "johnson_V"

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        by_focus = self.focal_length_m is not None and self.pixel_um is not None
        half = (self.focal_length_m is None) != (self.pixel_um is None)
        if half or by_focus == (self.plate_scale_arcsec_per_px is not None):
            raise OptionError(
                "Telescope.plate_scale_arcsec_per_px", self.plate_scale_arcsec_per_px,
                "either this one, or focal_length_m and pixel_um together",
            )  # fmt: skip
        return self

    @property
    def scale_arcsec_per_px(self) -> float:
        """Image scale, however it was given."""
        if self.plate_scale_arcsec_per_px is not None:
            return self.plate_scale_arcsec_per_px
        return ARCSEC_PER_RADIAN * (self.pixel_um or 0.0) * 1e-6 / (self.focal_length_m or 1.0)

    @property
    def collecting_area_m2(self) -> float:
        """Area of the pupil without its obstruction."""
        return 0.25 * np.pi * self.aperture_diameter_m**2 * (1.0 - self.obstruction**2)

    def photon_rate(self, magnitude: ArrayLike, colour: ArrayLike = 0.0, band_name: str | None = None) -> Floats:
        """Photons per second that reach the detector from a source.

        Parameters
        ----------
        magnitude : float (n,) [mag], in the telescope's band and that band's system
        colour : float (n,) [mag], B - V; matters only where another band is asked for
        band_name : band of the photons; the telescope's own where None

        Returns
        -------
        float64 (n,) [photon/s]
        """
        zero_point = band(self.band).zero_point
        own = zero_point * 10.0 ** (-0.4 * np.asarray(magnitude, np.float64))
        rate: Floats = own * self.collecting_area_m2 * self.throughput
        if band_name is None or band_name == self.band:
            return rate
        return rate * photon_ratio(band_name, self.band, colour)
