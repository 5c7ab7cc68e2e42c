"""Conversion gain: electrons become numbers of the analogue-to-digital converter.

    n(y, x) = q(y, x) / (g * f_amplifier)   [adu, not yet rounded]

A sensor read by several amplifiers (``layout`` rows x columns of them, blocks as equal as possible) has a factor for
each: stated in ``factors`` (row by row), or drawn once per camera as a log-normal of unit median (always positive).
Source: Janesick, Photon Transfer (2007), ch. 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from getframes_xr.core.elementary import exp64
from getframes_xr.core.errors import OptionError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.detector.amplifiers import amplifier_blocks, amplifier_numbers
from getframes_xr.engine.stage import Place, Stage

ANALOGUE = Plane(np.dtype(np.float32), "adu", "before the converter rounds")


class Gain(Stage):
    """Divide by ``e_per_adu`` (times the amplifier's factor); makes the plane ``adu``, still unrounded."""

    kind: Literal["gain"] = "gain"
    e_per_adu: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    layout: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = (1, 1)
    factors: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    spread: Annotated[float, Field(ge=0, le=1)] = 0.0
    after: ClassVar = "row_noise"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("adu",)
    stream: ClassVar = 6

    @model_validator(mode="after")
    def _one_factor_each(self) -> Gain:
        count = self.layout[0] * self.layout[1]
        if self.factors and len(self.factors) != count:
            raise OptionError("Gain.factors", self.factors, f"none, or one for each of {count} amplifiers")
        if self.factors and self.spread > 0.0:
            raise OptionError("Gain.spread", self.spread, "0 where factors are stated")
        return self

    def apply(self, patch: Patch, place: Place) -> Patch:
        charge = patch["electrons"]
        if self.layout == (1, 1) and not self.factors:
            patch["adu"] = charge * np.float32(1.0 / self.e_per_adu)
            return patch
        factors = self.factors
        if not factors:
            deviates = amplifier_numbers(place, self, self.layout)
            factors = tuple(float(exp64(self.spread * float(z))) for z in deviates)
        patch["adu"] = out = np.empty(charge.shape, np.float32)
        for block, y, x in amplifier_blocks(place, self.layout):
            np.multiply(charge[:, y, x], np.float32(1.0 / (self.e_per_adu * factors[block])), out=out[:, y, x])
        return patch

    def planes_out(self, planes: Mapping[str, Plane]) -> dict[str, Plane]:
        return {"adu": ANALOGUE}

    @classmethod
    def examples(cls) -> tuple[Gain, ...]:
        return cls(), cls(e_per_adu=0.25, layout=(2, 2), factors=(1.0, 1.1, 0.9, 1.02)), cls(layout=(1, 3), spread=0.05)
