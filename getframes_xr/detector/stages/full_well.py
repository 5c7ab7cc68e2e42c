"""Full well: a pixel holds so many electrons and no more; what comes after is lost.

    q = min(q, full well)

The hard limit of a CMOS pixel or of a CCD with an anti-blooming drain; a CCD without one spills (``blooming``).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag
from getframes_xr.engine.stage import Place, Stage

_SATURATED = np.uint16(Flag.SATURATED)
_NONE = np.uint16(0)


@kernel
def clip_at(charge: Array, well: float, flags: Array) -> None:
    """Cut charge at the well and flag the pixels that reached it, in place (flat arrays)."""
    limit = np.float32(well)
    for i in range(charge.size):
        full = charge[i] >= limit
        charge[i] = limit if full else charge[i]
        flags[i] |= _SATURATED if full else _NONE


class FullWell(Stage):
    """Clip at ``full_well_e`` and flag as saturated."""

    kind: Literal["full_well"] = "full_well"
    full_well_e: Annotated[float, Field(gt=0, le=1e9)]
    after: ClassVar = "persistence"
    reads: ClassVar = ("electrons", "flags")
    writes: ClassVar = ("electrons", "flags")

    def apply(self, patch: Patch, place: Place) -> Patch:
        clip_at(patch["electrons"].reshape(-1), self.full_well_e, patch["flags"].reshape(-1))
        return patch

    @classmethod
    def examples(cls) -> tuple[FullWell, ...]:
        return (cls(full_well_e=15000.0),)
