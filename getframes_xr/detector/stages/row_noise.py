"""Row noise: each row is read at its own moment, with its own small offset.

    q(y, x) += N(0, sigma) of (frame, y)   [e-]

Typical of CMOS sensors with column-parallel converters, 5 to 15 % of the read noise, and seen long before that as
stripes. Source: EMVA Standard 1288 R4.0, sec. 8 (row and column variances).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.patch import Patch
from getframes_xr.engine.stage import Place, Stage


class RowNoise(Stage):
    """One Gaussian number per frame and row; zero is the identity."""

    kind: Literal["row_noise"] = "row_noise"
    rms_e: Annotated[float, Field(ge=0, le=1e5)] = 0.2
    after: ClassVar = "read_noise"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    stream: ClassVar = 14

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rms_e > 0.0:
            patch["electrons"] += (place.draws(self).per_row() * np.float32(self.rms_e))[:, :, None]
        return patch

    @classmethod
    def examples(cls) -> tuple[RowNoise, ...]:
        return cls(), cls(rms_e=0.0)
