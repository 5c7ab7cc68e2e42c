"""Dark current: thermal electrons that gather in every pixel, light or no light.

    d(y, x) = rate * t * 2 ** ((T - T0) / step) * LN(s; y, x),    E[LN] = 1   [e-]

``s`` is the dark-signal non-uniformity (DSNU): the sigma of the logarithm of a fixed log-normal map, the same in every
frame of the camera. Shot noise comes later. Source: Janesick, Scientific Charge-Coupled Devices (2001), ch. 7;
Konnik & Welsh, arXiv:1412.4031 (2014), sec. 4.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Grid
from getframes_xr.detector.fixed_maps import lognormal_map, map_bytes
from getframes_xr.detector.temperature_law import growth
from getframes_xr.engine.stage import Place, Stage


@kernel
def add_map(charge: Array, mean: Array, shape: Array) -> None:
    """Add ``mean`` (time,) times ``shape`` (y, x) to charge (time, y, x), float32, in place."""
    for t in range(charge.shape[0]):
        for y in range(charge.shape[1]):
            row, pattern = charge[t, y], shape[y]
            for x in range(row.size):
                row[x] += mean[t] * pattern[x]


class DarkCurrent(Stage):
    """Thermal electrons with mean ``rate_e_per_s * exposure_s``; the zero rate is the identity."""

    kind: Literal["dark"] = "dark"
    rate_e_per_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    nonuniformity: Annotated[float, Field(ge=0, le=2)] = 0.0
    reference_temperature_c: Annotated[float, Field(ge=-273.15, le=150)] = 20.0
    doubling_temperature_c: Annotated[float, Field(gt=0, le=100)] = 6.3
    after: ClassVar = "diffusion"
    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("expected_electrons",)
    needs: ClassVar = ("exposure_s", "temperature_c")
    stream: ClassVar = 3

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rate_e_per_s == 0.0:
            return patch
        factor = growth(place.column("temperature_c"), self.reference_temperature_c, self.doubling_temperature_c)
        mean = (self.rate_e_per_s * factor * place.column("exposure_s")).astype(np.float32)
        if self.nonuniformity > 0.0:
            add_map(patch["expected_electrons"], mean, lognormal_map(place, self, self.nonuniformity))
        else:
            patch["expected_electrons"] += mean[:, None, None]
        return patch

    def cached_bytes(self, grid: Grid) -> int:
        return map_bytes(grid) if self.rate_e_per_s > 0.0 and self.nonuniformity > 0.0 else 0

    @classmethod
    def examples(cls) -> tuple[DarkCurrent, ...]:
        return (
            cls(),
            cls(rate_e_per_s=0.5, reference_temperature_c=-10),
            cls(rate_e_per_s=3.0, nonuniformity=0.3, doubling_temperature_c=6.0),
        )
