"""Reset noise (kTC): the sense node starts each exposure at a slightly different level.

    q += N(0, sigma),    sigma = sqrt(k T C) / e   [e-]

Cameras with correlated double sampling cancel it; state it only for those that do not.
Source: Janesick, Photon Transfer (2007), ch. 11.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.patch import Patch
from getframes_xr.engine.stage import Place, Stage


class ResetNoise(Stage):
    """Gaussian noise of the reset in electrons; zero is the identity."""

    kind: Literal["reset_noise"] = "reset_noise"
    rms_e: Annotated[float, Field(ge=0, le=1e5)] = 10.0
    after: ClassVar = "multiplication"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    stream: ClassVar = 13

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rms_e > 0.0:
            patch["electrons"] += place.draws(self).normal() * np.float32(self.rms_e)
        return patch

    @classmethod
    def examples(cls) -> tuple[ResetNoise, ...]:
        return cls(), cls(rms_e=0.0)
