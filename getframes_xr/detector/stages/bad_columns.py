"""Bad columns: whole columns that give no charge (a broken transfer, a dead column amplifier).

A share of columns, fixed for the camera; every row of them reads zero electrons and is flagged.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Flag
from getframes_xr.engine.stage import Place, Stage


class BadColumns(Stage):
    """A share ``fraction`` of columns without charge; flagged as bad column."""

    kind: Literal["bad_columns"] = "bad_columns"
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.001
    after: ClassVar = "dead_pixels"
    reads: ClassVar = ("electrons", "flags")
    writes: ClassVar = ("electrons", "flags")
    stream: ClassVar = 10

    def apply(self, patch: Patch, place: Place) -> Patch:
        bad = place.fixed(self).per_column("uniform")[0] < np.float32(self.fraction)
        columns = np.flatnonzero(bad)
        if len(columns):
            patch["electrons"][:, :, columns] = 0.0
            patch["flags"][:, :, columns] |= np.uint16(Flag.BAD_COLUMN)
        return patch

    @classmethod
    def examples(cls) -> tuple[BadColumns, ...]:
        return cls(), cls(fraction=0.2), cls(fraction=0.0)
