"""Dead pixels: no charge is collected there, light or dark.

A share of pixels, fixed for the camera, whose charge is void. The effect lies in the pixel, so it comes before
charge is moved or coupled to neighbours: a dead pixel still senses its neighbours through capacitance.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.draws import Draws
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag
from getframes_xr.detector.listed_pixels import listed_pixels
from getframes_xr.engine.stage import Place, Stage


def _nothing(draws: Draws) -> Array:
    return np.zeros(draws.shape, np.float32)


class DeadPixels(Stage):
    """A share ``fraction`` of pixels that hold no charge; flagged as dead."""

    kind: Literal["dead_pixels"] = "dead_pixels"
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.0001
    after: ClassVar = "clock_charge"
    reads: ClassVar = ("electrons", "flags")
    writes: ClassVar = ("electrons", "flags")
    stream: ClassVar = 9

    def apply(self, patch: Patch, place: Place) -> Patch:
        y, x, _ = listed_pixels(place, self, (), self.fraction, _nothing)
        patch["electrons"][:, y, x] = 0.0
        patch["flags"][:, y, x] |= np.uint16(Flag.DEAD)
        return patch

    @classmethod
    def examples(cls) -> tuple[DeadPixels, ...]:
        return cls(), cls(fraction=0.05), cls(fraction=0.0)
