"""Moffat PSF: (1 + r^2/a^2)^-beta, a = FWHM / (2 sqrt(2^(1/beta) - 1)); the seeing disc with its wings (Moffat 1969).

By the Gamma integral it is a mixture of Gaussians: (1 + c)^-beta = 1/Gamma(beta) int e^(beta u - e^u) e^(-e^u c) du, so
with c = r^2/a^2 each u is a Gaussian of variance a^2 / (2 e^u) that holds the share e^((beta-1) u - e^u) of the light.
The trapezoidal sum with step h converges like |Gamma(beta + 2 pi i/h)| / Gamma(beta); h is chosen for a relative error
of 1e-4 of the brightness at every radius up to 300 FWHM. Light beyond R: (1 + R^2/a^2)^(1-beta).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field
from scipy.special import loggamma

from getframes_xr.light.psf.family import REACH_FWHM, Mixture, Psf

_RIPPLE = 1e-4  # relative error of the brightness
_LEAST_SHARE = 1e-11  # Gaussians with less light than this are left out


class Moffat(Psf):
    """A Moffat profile of given FWHM; ``beta`` 2.5 to 4.8 for the atmosphere, smaller means stronger wings."""

    kind: Literal["moffat"] = "moffat"
    beta: Annotated[float, Field(ge=1.2, le=20)] = 3.0

    def mixture(self) -> Mixture:
        """The trapezoidal sum over u = log of the inverse variance."""
        beta = self.beta
        width = 0.5 / np.sqrt(2.0 ** (1.0 / beta) - 1.0)
        step = 1.2
        while 2.0 * np.exp((loggamma(beta + 2j * np.pi / step) - loggamma(beta)).real) > _RIPPLE:
            step -= 0.01
        lowest = np.log(0.05) - 2.0 * np.log(REACH_FWHM / width)
        u = step * np.arange(np.floor(lowest / step), np.ceil(np.log(beta + 40.0) / step) + 1)
        share = np.exp((beta - 1.0) * u - np.exp(u))
        share /= share.sum()
        keep = share > _LEAST_SHARE
        share = share[keep] / share[keep].sum()
        sigma = width * np.sqrt(0.5) * np.exp(-0.5 * u[keep])
        return Mixture(share, sigma, np.zeros_like(sigma), np.zeros_like(sigma))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Undersampled; strong wings; nearly Gaussian."""
        return (cls(fwhm_arcsec=1.0), cls(fwhm_arcsec=3.0, beta=2.5), cls(fwhm_arcsec=3.0, beta=4.765))
