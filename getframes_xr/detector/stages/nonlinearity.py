"""Nonlinearity of the output: the amplifier gives a little less (or more) as the well fills.

    q -> q * (1 + c1 u + c2 u^2 + ...),    u = clip(q / full well, 0, 1)

It acts after the well, so u stays within 0..1; beyond, the last factor holds, and the response never turns back. The
response must rise everywhere within the well: this is checked when the stage is made. Source: EMVA 1288 R4.0, sec. 7.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.engine.stage import Place, Stage


@kernel
def bend(charge: Array, well: float, coefficients: Array) -> None:
    """Apply the polynomial in place to flat float32 charge."""
    scale = np.float32(1.0 / well)
    for i in range(charge.size):
        u = charge[i] * scale
        u = u if u > np.float32(0.0) else np.float32(0.0)
        u = u if u < np.float32(1.0) else np.float32(1.0)
        p = np.float32(0.0)
        for k in range(coefficients.size - 1, -1, -1):
            p = (p + coefficients[k]) * u
        charge[i] += charge[i] * p


class Nonlinearity(Stage):
    """Polynomial response; ``coefficients`` are c1, c2, ... of u = charge / full_well_e."""

    kind: Literal["nonlinearity"] = "nonlinearity"
    full_well_e: Annotated[float, Field(gt=0, le=1e9)]
    coefficients: tuple[Annotated[float, Field(ge=-10, le=10)], ...] = (-0.01,)
    after: ClassVar = "ipc"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)

    @model_validator(mode="after")
    def _rises(self) -> Nonlinearity:
        u = np.linspace(0.0, 1.0, 1001)
        slope = np.polynomial.Polynomial([0.0, 1.0, *self.coefficients]).deriv()(u)
        if slope.min() <= 0.0:
            allowed = f"a response that rises up to the full well; it turns back at {u[slope <= 0][0]:.2f} of it"
            raise OptionError("Nonlinearity.coefficients", self.coefficients, allowed)
        return self

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.coefficients:
            coefficients = np.array(self.coefficients, np.float32)
            bend(patch["electrons"].reshape(-1), self.full_well_e, coefficients)
        return patch

    @classmethod
    def examples(cls) -> tuple[Nonlinearity, ...]:
        return cls(full_well_e=1000.0), cls(full_well_e=1000.0, coefficients=(-0.02, 0.01, -0.1))
