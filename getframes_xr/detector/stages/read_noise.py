"""Read noise: the output amplifier's own white noise, added once per read.

    q += N(0, sigma(y, x)),    sigma = rms * LN(s; y, x) * (f where U(y, x) < share)   [e-]

CMOS sensors have an amplifier per pixel, so sigma differs from pixel to pixel: a log-normal core (``nonuniformity`` s)
and a share of pixels with random telegraph signal whose noise is ``telegraph_factor`` times wider. A CCD has s = 0.
``rms_e`` is the median of sigma. Source: Janesick, Photon Transfer (2007), ch. 11; scientific CMOS sheets quote the
median and the rms of this distribution.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.draws import Draws
from getframes_xr.core.elementary import exp64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Grid
from getframes_xr.detector.fixed_maps import fixed_map, map_bytes
from getframes_xr.engine.stage import Place, Stage


@kernel
def _sigma(
    deviates: Array, uniforms: Array, nonuniformity: float, share: float, factor: float, rms: float, out: Array
) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            sigma = rms * exp64(nonuniformity * np.float64(deviates[y, x]))
            out[y, x] = np.float32(sigma * factor if uniforms[y, x] < share else sigma)


class ReadNoise(Stage):
    """Gaussian noise of the read-out in electrons; zero is the identity."""

    kind: Literal["read_noise"] = "read_noise"
    rms_e: Annotated[float, Field(ge=0, le=1e5)] = 3.0
    nonuniformity: Annotated[float, Field(ge=0, le=2)] = 0.0
    telegraph_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    telegraph_factor: Annotated[float, Field(ge=1, le=100)] = 2.5
    after: ClassVar = "nonlinearity"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    stream: ClassVar = 4

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rms_e == 0.0:
            return patch
        noise = place.draws(self).normal()
        noise *= self._sigma_map(place)
        patch["electrons"] += noise
        return patch

    def _sigma_map(self, place: Place) -> Array | np.float32:
        if self.nonuniformity == 0.0 and self.telegraph_share == 0.0:
            return np.float32(self.rms_e)
        numbers = (self.nonuniformity, self.telegraph_share, self.telegraph_factor, self.rms_e)

        def make(draws: Draws) -> Array:
            deviates, uniforms = draws.normal(1)[0], draws.uniform(2)[0]
            out = np.empty(deviates.shape, np.float32)
            _sigma(deviates, uniforms, *numbers, out)
            return out

        return fixed_map(place, self, numbers, make)

    def cached_bytes(self, grid: Grid) -> int:
        return map_bytes(grid) if self.rms_e > 0.0 and (self.nonuniformity > 0.0 or self.telegraph_share > 0.0) else 0

    @classmethod
    def examples(cls) -> tuple[ReadNoise, ...]:
        return cls(), cls(rms_e=0.0), cls(rms_e=1.4, nonuniformity=0.2, telegraph_share=0.016, telegraph_factor=2.65)
