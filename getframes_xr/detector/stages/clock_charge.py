"""Clock-induced charge: moving charge through a CCD makes a few electrons per pixel and read, exposure or not.

    q += Poisson(mean)

Independent of exposure and light; the floor of electron-multiplying CCDs.
Source: Janesick, Scientific CCDs (2001), ch. 7.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from getframes_xr.core.patch import Patch
from getframes_xr.engine.stage import Place, Stage


class ClockCharge(Stage):
    """Spurious electrons of mean ``mean_e`` per read."""

    kind: Literal["clock_charge"] = "clock_charge"
    mean_e: Annotated[float, Field(ge=0, le=1e4)] = 0.005
    after: ClassVar = "blooming"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    stream: ClassVar = 11

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.mean_e > 0.0:
            patch["electrons"] += place.draws(self).poisson(self.mean_e)
        return patch

    @classmethod
    def examples(cls) -> tuple[ClockCharge, ...]:
        return cls(), cls(mean_e=0.0), cls(mean_e=2.0)
