"""Blooming: charge beyond the full well spills along the column, half of it up, half of it down.

    excess = max(q - well, 0);  each direction one sweep:  fill = min(carry + excess / 2, room);  carry on the rest

Implants separate the columns of a CCD, so charge runs along y only, until a pixel has room. What passes
the first or the last row is lost; all else is kept. The sweep towards increasing y comes first, the other fills
what room is left. Scope: the whole column; columns without excess are not touched.
Source: Janesick, Scientific CCDs (2001), ch. 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag, Plane
from getframes_xr.core.window import Window
from getframes_xr.engine.stage import Place, Scope, Stage

_SATURATED = np.uint16(Flag.SATURATED)
_BLOOMED = np.uint16(Flag.BLOOMED)
_NONE = np.uint16(0)


@kernel
def spill(charge: Array, well: float, flags: Array) -> None:
    """Let the columns of one frame, charge float32 and flags uint16 (y, x), overflow in place."""
    n_y, n_x = charge.shape
    limit = np.float32(well)
    overfull = np.zeros(n_x, np.bool_)
    for y in range(n_y):
        row = charge[y]
        for x in range(n_x):
            overfull[x] |= row[x] > limit
            flags[y, x] |= _SATURATED if row[x] >= limit else _NONE
    column = np.empty(n_y, np.float64)
    half = np.empty(n_y, np.float64)
    for x in range(n_x):
        if not overfull[x]:
            continue
        for y in range(n_y):
            excess = np.float64(charge[y, x]) - well
            half[y] = 0.5 * excess if excess > 0.0 else 0.0
            column[y] = well if excess > 0.0 else np.float64(charge[y, x])
        carry = 0.0
        for y in range(n_y):
            carry += half[y]
            fill = min(carry, well - column[y])
            column[y] += fill
            carry -= fill
        carry = 0.0
        for y in range(n_y - 1, -1, -1):
            carry += half[y]
            fill = min(carry, well - column[y])
            column[y] += fill
            carry -= fill
        for y in range(n_y):
            after = np.float32(column[y])
            if after > charge[y, x]:
                flags[y, x] |= _BLOOMED | (_SATURATED if after >= limit else _NONE)
            charge[y, x] = after


class Blooming(Stage):
    """Spill beyond ``full_well_e`` along y; bloomed and saturated pixels are flagged."""

    kind: Literal["blooming"] = "blooming"
    full_well_e: Annotated[float, Field(gt=0, le=1e9)]
    after: ClassVar = "full_well"
    reads: ClassVar = ("electrons", "flags")
    writes: ClassVar = ("electrons", "flags")
    scope: ClassVar = Scope.LINES
    conserves_charge: ClassVar = True
    axis: ClassVar = "y"

    def apply(self, patch: Patch, place: Place) -> Patch:
        for charge, flags in zip(patch["electrons"], patch["flags"], strict=True):
            spill(charge, self.full_well_e, flags)
        return patch

    def peak_bytes(self, window: Window, planes: Mapping[str, Plane]) -> int:
        return 16 * len(window.y) + 2 * len(window.x) + 2**14

    @classmethod
    def examples(cls) -> tuple[Blooming, ...]:
        return cls(full_well_e=1000.0), cls(full_well_e=100000.0)
