"""Analogue-to-digital converter: round to whole numbers, cut at its range, store.

    adu = clip(round half even(n), 0, 2^bits - 1) << store_shift

Many cameras of 12 or 14 bits store their numbers left aligned in 16 (``store_shift`` 4 or 2): the file then holds
multiples of 2^shift. Up to 16 bits after the shift the file type is uint16, beyond it uint32. Rounding adds 1/12 adu^2
of variance. A pixel at the top of the range is flagged saturated. Source: EMVA Standard 1288 R4.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag, Plane
from getframes_xr.detector.stages.gain import ANALOGUE
from getframes_xr.engine.stage import Place, Stage

_SATURATED = np.uint16(Flag.SATURATED)
_NONE = np.uint16(0)
_ROUNDER = np.float32(2.0**23)  # x + 2^23 - 2^23 rounds 0 <= x < 2^23 half to even


@kernel
def convert(values: Array, top: int, shift: int, out: Array, flags: Array) -> None:
    """Convert flat float32 values below 2^23; NaN becomes 0."""
    limit = np.float32(top)
    for i in range(out.size):
        value = values[i]
        value = value if value > np.float32(0.0) else np.float32(0.0)
        value = value if value < limit else limit
        rounded = (value + _ROUNDER) - _ROUNDER
        flags[i] |= _SATURATED if rounded >= limit else _NONE
        out[i] = np.uint32(np.int32(rounded)) << np.uint32(shift)


class Converter(Stage):
    """Quantise to ``bits`` bits, stored ``store_shift`` bits to the left."""

    kind: Literal["adc"] = "adc"
    bits: Annotated[int, Field(ge=1, le=22)] = 16
    store_shift: Annotated[int, Field(ge=0, le=15)] = 0
    after: ClassVar = "common_mode"
    reads: ClassVar = ("adu", "flags")
    writes: ClassVar = ("adu", "flags")

    @model_validator(mode="after")
    def _fits_a_word(self) -> Converter:
        if self.bits + self.store_shift > 32:
            raise OptionError(
                "Converter.store_shift", self.store_shift, f"at most {32 - self.bits} for {self.bits} bits"
            )
        return self

    @property
    def largest_adu(self) -> int:
        """The stored number of a pixel at the top of the range."""
        return int(2**self.bits - 1) << self.store_shift

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(np.uint16 if self.bits + self.store_shift <= 16 else np.uint32)

    def apply(self, patch: Patch, place: Place) -> Patch:
        values = patch["adu"]
        patch["adu"] = out = np.empty(values.shape, self.dtype)
        flags = patch["flags"].reshape(-1)
        convert(values.reshape(-1), 2**self.bits - 1, self.store_shift, out.reshape(-1), flags)
        return patch

    def planes_out(self, planes: Mapping[str, Plane]) -> dict[str, Plane]:
        return {**super().planes_out(planes), "adu": Plane(self.dtype, "adu", "what the file holds")}

    @classmethod
    def example_planes(cls) -> Mapping[str, Plane]:
        return {"adu": ANALOGUE, "flags": Plane(np.dtype(np.uint16), "")}

    @classmethod
    def examples(cls) -> tuple[Converter, ...]:
        return cls(), cls(bits=12, store_shift=4), cls(bits=18)
