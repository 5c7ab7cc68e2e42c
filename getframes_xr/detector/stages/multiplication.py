"""Multiplication register: an electron-multiplying CCD amplifies charge before it is read.

    out ~ Gamma(shape = q / (F^2 - 1), scale = G (F^2 - 1)),    E = q G,  V = q G^2 (F^2 - 1)
    F^2 = 2 (G - 1) G^(-(S + 1) / S) + 1 / G

F is the excess noise factor of a register with S stages, so it falls to 1 with the gain; one electron at large G gives
exp(-x / G) / G. Sources: Robbins & Hadwen, IEEE TED 50, 1227 (2003); Basden, Haniff & Mackay, MNRAS 345, 985 (2003).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from getframes_xr.core.elementary import exp64, log64
from getframes_xr.core.patch import Patch
from getframes_xr.engine.stage import Place, Stage


class Multiplication(Stage):
    """Gain register of ``stages`` stages with mean gain ``gain``; gain 1 is the identity."""

    kind: Literal["multiplication"] = "multiplication"
    gain: Annotated[float, Field(ge=1, le=1e5)] = 300.0
    stages: Annotated[int, Field(ge=1, le=2000)] = 536
    after: ClassVar = "serial_cti"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    stream: ClassVar = 12

    @property
    def excess_noise_squared(self) -> float:
        """F^2: variance of the output over G^2 times the variance of a Poisson input."""
        exponent = -(self.stages + 1) / self.stages
        return 2 * (self.gain - 1) * float(exp64(exponent * float(log64(self.gain)))) + 1 / self.gain

    def apply(self, patch: Patch, place: Place) -> Patch:
        excess = self.excess_noise_squared - 1.0
        if self.gain == 1.0 or excess < 1e-9:
            patch["electrons"] *= self.gain
            return patch
        shape = patch["electrons"] * (1.0 / excess)
        patch["electrons"] = place.draws(self).gamma(shape, self.gain * excess)
        return patch

    @classmethod
    def examples(cls) -> tuple[Multiplication, ...]:
        return cls(), cls(gain=1.0), cls(gain=2.0, stages=8)
