"""Photo-response non-uniformity: every pixel turns light into charge a little better or worse than the mean.

    e(y, x) = QE * photons * LN(s; y, x),    E[LN] = 1

A fixed log-normal map of the camera; it scales light, not dark current, and truth does not know it.
Source: EMVA Standard 1288 R4.0, sec. 4; Janesick, Photon Transfer (2007), ch. 3.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Grid
from getframes_xr.detector.fixed_maps import lognormal_map, map_bytes
from getframes_xr.engine.stage import Place, Stage


class PhotoResponse(Stage):
    """Fixed relative response of each pixel; ``rms`` is the sigma of its logarithm, zero the identity."""

    kind: Literal["prnu"] = "prnu"
    rms: Annotated[float, Field(ge=0, le=1)] = 0.01
    after: ClassVar = "quantum_efficiency"
    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("expected_electrons",)
    stream: ClassVar = 2

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rms > 0.0:
            patch["expected_electrons"] *= lognormal_map(place, self, self.rms)
        return patch

    def cached_bytes(self, grid: Grid) -> int:
        return map_bytes(grid) if self.rms > 0.0 else 0

    @classmethod
    def examples(cls) -> tuple[PhotoResponse, ...]:
        return cls(), cls(rms=0.0), cls(rms=0.1)
