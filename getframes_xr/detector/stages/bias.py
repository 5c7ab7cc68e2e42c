"""Bias: the offset added before conversion, so that noise around zero is not cut off.

    n += offset + offset_amplifier   [adu]

Per-amplifier offsets are stated (``amplifier_offsets_adu``, row by row) or drawn once per camera (``spread_adu``).
Slow structure across the sensor is ``bias_structure``; what moves from frame to frame is ``common_mode``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.detector.amplifiers import amplifier_blocks, amplifier_numbers
from getframes_xr.detector.stages.gain import ANALOGUE
from getframes_xr.engine.stage import Place, Stage


class Bias(Stage):
    """Constant offset, per amplifier where wanted."""

    kind: Literal["bias"] = "bias"
    offset_adu: Annotated[float, Field(ge=-1e6, le=1e6)] = 100.0
    layout: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = (1, 1)
    amplifier_offsets_adu: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] = ()
    spread_adu: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    after: ClassVar = "gain"
    reads: ClassVar = ("adu",)
    writes: ClassVar = ("adu",)
    stream: ClassVar = 7

    @model_validator(mode="after")
    def _one_offset_each(self) -> Bias:
        count = self.layout[0] * self.layout[1]
        if self.amplifier_offsets_adu and len(self.amplifier_offsets_adu) != count:
            raise OptionError(
                "Bias.amplifier_offsets_adu", self.amplifier_offsets_adu, f"none, or one for each of {count} amplifiers"
            )
        if self.amplifier_offsets_adu and self.spread_adu > 0.0:
            raise OptionError("Bias.spread_adu", self.spread_adu, "0 where amplifier_offsets_adu are stated")
        return self

    def apply(self, patch: Patch, place: Place) -> Patch:
        values = patch["adu"]
        offsets = self.amplifier_offsets_adu
        if not offsets and (self.spread_adu == 0.0 or self.layout == (1, 1)):
            values += np.float32(self.offset_adu)
            return patch
        if not offsets:
            deviates = amplifier_numbers(place, self, self.layout)
            offsets = tuple(self.spread_adu * float(z) for z in deviates)
        for block, y, x in amplifier_blocks(place, self.layout):
            values[:, y, x] += np.float32(self.offset_adu + offsets[block])
        return patch

    @classmethod
    def example_planes(cls) -> Mapping[str, Plane]:
        return {"adu": ANALOGUE}

    @classmethod
    def examples(cls) -> tuple[Bias, ...]:
        return cls(), cls(layout=(2, 1), amplifier_offsets_adu=(0.0, 5.5)), cls(layout=(2, 2), spread_adu=4.0)
