"""The atmosphere from frame to frame: seeing (width of the PSF) and transparency (share of the light that arrives).

Both wander smoothly in time (`smooth_series`) and jump a little from frame to frame; both are keyed so that a longer
night begins like a shorter one. Seeing multiplies the FWHM of the scene's PSF (log-normal); transparency dims the
sources, not the sky.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from getframes_xr.core.draws import key_of
from getframes_xr.core.options import Options
from getframes_xr.light.light_curve import AnyLightCurve
from getframes_xr.light.rounding import rounded
from getframes_xr.light.smooth_series import frame_normals, smooth_series

__all__ = ["Seeing", "Transparency"]

Floats = NDArray[np.float64]


class Seeing(Options):
    """FWHM of each frame: the PSF's times exp of (a smooth series + a number per frame), times an optional curve."""

    rms_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    correlation_s: Annotated[float, Field(gt=0, le=1e6)] = 900.0
    jitter_fraction: Annotated[float, Field(ge=0, le=1)] = 0.02
    curve: AnyLightCurve | None = None  # factor on the FWHM in time

    def fwhm_arcsec(
        self, median_arcsec: float, frame: NDArray[np.int64], start_s: Floats, stop_s: Floats, seed: int | str
    ) -> Floats:
        """FWHM of each frame [arcsec], at least a tenth of the median."""
        key = key_of(seed, "light", "seeing")
        wander = self.rms_fraction * smooth_series(key, 0.5 * (start_s + stop_s), self.correlation_s, stream=1)
        wander = wander + self.jitter_fraction * frame_normals(key, frame, 1, stream=2)[:, 0]
        factor = np.exp(wander) * (1.0 if self.curve is None else self.curve.mean(start_s, stop_s))
        return rounded(median_arcsec * np.maximum(factor, 0.1))


class Transparency(Options):
    """Share of the light that arrives: 10^(-0.4 loss), loss = |smooth series| of given rms, times an optional curve."""

    rms_mag: Annotated[float, Field(ge=0, le=5)] = 0.05
    correlation_s: Annotated[float, Field(gt=0, le=1e6)] = 1800.0
    jitter_mag: Annotated[float, Field(ge=0, le=5)] = 0.0
    curve: AnyLightCurve | None = None  # clouds: factor in time

    def share(self, frame: NDArray[np.int64], start_s: Floats, stop_s: Floats, seed: int | str) -> Floats:
        """Transparency of each frame, 0 .. 1 (a curve may lift it)."""
        key = key_of(seed, "light", "transparency")
        loss = self.rms_mag * np.abs(smooth_series(key, 0.5 * (start_s + stop_s), self.correlation_s, stream=1))
        loss = loss + self.jitter_mag * np.abs(frame_normals(key, frame, 1, stream=2)[:, 0])
        return rounded(10.0 ** (-0.4 * loss) * (1.0 if self.curve is None else self.curve.mean(start_s, stop_s)))
