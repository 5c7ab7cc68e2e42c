"""The family of point spread functions: each one is a sum of Gaussians, and only that reaches the kernels.

    psf(y, x) = sum_k w_k N(y - dy_k; s_k) N(x - dx_k; s_k),  lengths in units of the FWHM, sum_k w_k = 1

A Gaussian is integrated over a pixel exactly (two error functions per axis), so the sum is right at any FWHM, also
below one pixel; its wings are whatever the widest members carry; another seeing scales all lengths; jitter and motion
within an exposure add to the variances. Seeing-limited profiles are such sums by nature: a Moffat profile is a
continuous mixture of Gaussians (see moffat.py). Hogg & Lang 2013 (PASP 125, 719) do the same for galaxies.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Family, Registry
from getframes_xr.light.rounding import rounded

PSFS = Registry("psf")
Floats = NDArray[np.float64]

SIGMA_PER_FWHM = 0.42466090014400953  # 1 / (2 sqrt(2 ln 2))
EDGE_PHOTONS = 0.005  # a stamp ends where the profile brings fewer photons to a pixel per exposure, and
EDGE_FRACTION = 1e-3  # where less than this share of the light lies outside
FAR_FWHM = 32.0  # (a profile with more light than that outside this radius is cut by brightness alone)
REACH_FWHM = 300.0  # no stamp reaches further
_RADII = np.array([2.0 ** (k / 4) for k in range(2, 34)])  # 1.4 to 300 FWHM in steps of 2^(1/4)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A sum of Gaussians in units of the FWHM, sorted by width.

    Parameters
    ----------
    weight, sigma, dy, dx : float64 (k,)
        Share of the light; width; offset of the centre [FWHM].

    Raises
    ------
    OptionError : lengths differ, a width is not positive, the weights do not sum to 1 within 1e-6
    """

    weight: Floats
    sigma: Floats
    dy: Floats
    dx: Floats

    def __post_init__(self) -> None:
        lists = [np.atleast_1d(np.asarray(v, np.float64)) for v in (self.weight, self.sigma, self.dy, self.dx)]
        if len({len(values) for values in lists}) != 1 or not (lists[1] > 0).all():
            raise OptionError("Mixture.sigma", lists[1], "as many widths > 0 as weights and offsets")
        if abs(float(lists[0].sum()) - 1.0) > 1e-6:
            raise OptionError("Mixture.weight", float(lists[0].sum()), "weights that sum to 1")
        order = np.argsort(lists[1], kind="stable")
        for name, values in zip(("weight", "sigma", "dy", "dx"), lists, strict=True):
            table = rounded(values[order])
            table.setflags(write=False)
            object.__setattr__(self, name, table)

    def brightness(self, radius_fwhm: ArrayLike) -> Floats:
        """Surface brightness of the profile without offsets [1 / FWHM^2] at a distance from the centre."""
        r = np.asarray(radius_fwhm, np.float64)[..., None]
        s2 = self.sigma**2
        result: Floats = (self.weight / (2.0 * np.pi * s2) * np.exp(-0.5 * r * r / s2)).sum(axis=-1)
        return result

    def outside(self, radius_fwhm: ArrayLike) -> Floats:
        """Share of the light further out than a radius."""
        r = np.asarray(radius_fwhm, np.float64)[..., None]
        result: Floats = (self.weight * np.exp(-0.5 * r * r / self.sigma**2)).sum(axis=-1)
        return result

    @cached_property
    def reach(self) -> tuple[Floats, Floats]:
        """Radii [FWHM] a stamp may have, and for each the photons x FWHM_px^-2 of the brightest star it suits.

        A star of F photons takes the first radius whose entry is >= F / FWHM_px^2.
        """
        offset = float(np.max(np.hypot(self.dy, self.dx)))
        radii = _RADII[(self.outside(_RADII) <= EDGE_FRACTION) | (_RADII >= FAR_FWHM)]
        brightest = EDGE_PHOTONS / np.maximum(self.brightness(radii), 1e-200)
        brightest[-1] = np.inf
        return rounded(radii + offset), rounded(np.maximum.accumulate(brightest))


class Psf(Family):
    """Parent of point spread functions: options with a ``kind``, a width, and their sum of Gaussians."""

    registry: ClassVar[Registry] = PSFS
    fwhm_arcsec: Annotated[float, Field(gt=0, le=3600)]

    @abstractmethod
    def mixture(self) -> Mixture:
        """The profile as a sum of Gaussians in units of its FWHM."""
