"""Hot pixels: a few pixels leak much more than the rest.

    d(y, x) += r(y, x) * t * 2 ** ((T - T0) / step),    r = least + Exp(mean)   [e-/s]

Their rates have an exponential tail; each is fixed for the life of the camera and warms faster than the bulk (a step of
about 6 C, activation energy 0.55-0.65 eV). Source: Widenhorn et al., Proc. SPIE 4669, 193 (2002).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.draws import Draws
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag
from getframes_xr.detector.listed_pixels import listed_pixels
from getframes_xr.detector.temperature_law import growth
from getframes_xr.engine.stage import Place, Stage


def _tail(draws: Draws) -> Array:
    numbers: Array = draws.exponential(1)
    return numbers


class HotPixels(Stage):
    """A share ``fraction`` of pixels with an excess rate of ``least_e_per_s`` plus an exponential of the mean."""

    kind: Literal["hot_pixels"] = "hot_pixels"
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.001
    mean_e_per_s: Annotated[float, Field(ge=0, le=1e6)] = 20.0
    least_e_per_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    reference_temperature_c: Annotated[float, Field(ge=-273.15, le=150)] = 20.0
    doubling_temperature_c: Annotated[float, Field(gt=0, le=100)] = 6.0
    after: ClassVar = "dark"
    reads: ClassVar = ("expected_electrons", "flags")
    writes: ClassVar = ("expected_electrons", "flags")
    needs: ClassVar = ("exposure_s", "temperature_c")
    stream: ClassVar = 8

    def apply(self, patch: Patch, place: Place) -> Patch:
        y, x, tail = listed_pixels(place, self, (), self.fraction, _tail)
        factor = growth(place.column("temperature_c"), self.reference_temperature_c, self.doubling_temperature_c)
        rate = np.float32(self.least_e_per_s) + np.float32(self.mean_e_per_s) * tail
        charge, flags = patch["expected_electrons"], patch["flags"]
        for at, seconds in enumerate(factor * place.column("exposure_s")):
            charge[at, y, x] += rate * np.float32(seconds)
            flags[at, y, x] |= np.uint16(Flag.HOT)
        return patch

    @classmethod
    def examples(cls) -> tuple[HotPixels, ...]:
        return cls(), cls(fraction=0.05, mean_e_per_s=100.0, least_e_per_s=10.0), cls(fraction=0.0)
