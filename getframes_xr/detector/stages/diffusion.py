"""Charge diffusion: electrons wander sideways before the pixel catches them.

    mu -> mu * k_y * k_x,    k_i = Phi((i + 1/2) / sigma) - Phi((i - 1/2) / sigma),   |i| <= ceil(4 sigma + 1/2)

A Gaussian of ``fwhm_px`` integrated over the pixel, normalised to one, applied to the expectation (electrons wander
independently, so counts stay Poisson). Beyond the frame's own edge the charge is lost. Source: Janesick, Scientific
CCDs (2001), ch. 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.elementary import erf64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Window
from getframes_xr.engine.stage import Place, Scope, Stage

_SIGMA_OF_FWHM = 1.0 / 2.3548200450309493


@kernel
def spread(charge: Array, weights: Array, out: Array) -> None:
    """Convolve (y, x) with an odd, symmetric kernel along both axes; outside there is nothing."""
    n_y, n_x = charge.shape
    radius = weights.size // 2
    row = np.empty(n_x, np.float32)
    for y in range(n_y):
        for x in range(n_x):
            row[x] = np.float32(0.0)
        for k in range(-radius, radius + 1):
            if 0 <= y + k < n_y:
                weight, source = weights[k + radius], charge[y + k]
                for x in range(n_x):
                    row[x] += weight * source[x]
        target = out[y]
        for x in range(n_x):
            target[x] = np.float32(0.0)
        for k in range(-radius, radius + 1):
            weight = weights[k + radius]
            for x in range(max(0, -k), min(n_x, n_x - k)):
                target[x] += weight * row[x + k]


class ChargeDiffusion(Stage):
    """Gaussian spread of the expected charge; zero is the identity."""

    kind: Literal["diffusion"] = "diffusion"
    fwhm_px: Annotated[float, Field(ge=0, le=20)] = 0.5
    after: ClassVar = "prnu"
    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("expected_electrons",)
    scope: ClassVar = Scope.NEIGHBOURS
    conserves_charge: ClassVar = True

    @property
    def radius(self) -> int:
        return math.ceil(4 * self.fwhm_px * _SIGMA_OF_FWHM + 0.5)

    def weights(self) -> Array:
        """The kernel along one axis, float32 (2 radius + 1,), sum 1."""
        steps = np.arange(-self.radius, self.radius + 2) - 0.5
        scale = 1.0 / (self.fwhm_px * _SIGMA_OF_FWHM * math.sqrt(2.0))
        below = np.array([0.5 * erf64(float(step) * scale) for step in steps])
        shares = np.diff(below)
        return np.asarray(shares / shares.sum(), np.float32)

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.fwhm_px == 0.0:
            return patch
        charge, weights = patch["expected_electrons"], self.weights()
        out = np.empty(charge.shape, np.float32)
        for at in range(len(charge)):
            spread(charge[at], weights, out[at])
        patch["expected_electrons"] = out
        return patch

    def peak_bytes(self, window: Window, planes: Mapping[str, Plane]) -> int:
        return 4 * window.pixels + 2**16

    @classmethod
    def examples(cls) -> tuple[ChargeDiffusion, ...]:
        return cls(), cls(fwhm_px=0.0), cls(fwhm_px=2.0)
