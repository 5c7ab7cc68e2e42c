"""Gaussian PSF: exp(-r^2 / 2 s^2), FWHM = 2 sqrt(2 ln 2) s; what jitter and many small errors make."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np

from getframes_xr.light.psf.family import SIGMA_PER_FWHM, Mixture, Psf


class Gaussian(Psf):
    """A Gaussian profile of given FWHM; it has no wings."""

    kind: Literal["gaussian"] = "gaussian"

    def mixture(self) -> Mixture:
        """One Gaussian."""
        return Mixture(np.ones(1), np.array([SIGMA_PER_FWHM]), np.zeros(1), np.zeros(1))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Under- and well sampled at 1 arcsec/px."""
        return (cls(fwhm_arcsec=1.0), cls(fwhm_arcsec=3.5))
