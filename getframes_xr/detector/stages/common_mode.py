"""Common mode: the whole frame's offset moves a little from frame to frame.

    n += N(0, sigma) of the frame   [adu]

Drift of references and temperature between reads; keyed by the frame, so every window of it moves alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.detector.stages.gain import ANALOGUE
from getframes_xr.engine.stage import Place, Stage


class CommonMode(Stage):
    """One Gaussian offset per frame; zero is the identity."""

    kind: Literal["common_mode"] = "common_mode"
    rms_adu: Annotated[float, Field(ge=0, le=1e5)] = 1.0
    after: ClassVar = "bias_structure"
    reads: ClassVar = ("adu",)
    writes: ClassVar = ("adu",)
    stream: ClassVar = 16

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rms_adu > 0.0:
            patch["adu"] += (place.draws(self).per_frame() * np.float32(self.rms_adu))[:, :, None]
        return patch

    @classmethod
    def example_planes(cls) -> Mapping[str, Plane]:
        return {"adu": ANALOGUE}

    @classmethod
    def examples(cls) -> tuple[CommonMode, ...]:
        return cls(), cls(rms_adu=0.0)
