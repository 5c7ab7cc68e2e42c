"""Inter-pixel capacitance: a pixel's charge is sensed a little by its four neighbours.

    k = [[0, a, 0], [a, 1 - 4 a, a], [0, a, 0]]

A deterministic mixing of the charge already collected, after the well and before the amplifier: it correlates the noise
of neighbours (covariance 2 a (1 - 4 a) mu, variance falls by sum k^2). At the frame's own edge the coupled charge
leaves. Source: Moore, Ninkov & Forrest, Opt. Eng. 45, 076402 (2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Window
from getframes_xr.engine.stage import Place, Scope, Stage


@kernel
def couple(charge: Array, share: float, out: Array) -> None:
    """Mix (y, x) charge with its four neighbours; outside there is none."""
    n_y, n_x = charge.shape
    part = np.float32(share)
    kept = np.float32(1.0) - np.float32(4.0) * part
    nothing = np.zeros(n_x, np.float32)
    sides = np.empty(n_x, np.float32)
    for y in range(n_y):
        above = charge[y - 1] if y > 0 else nothing
        below = charge[y + 1] if y + 1 < n_y else nothing
        here = charge[y]
        for x in range(1, n_x - 1):
            sides[x] = here[x - 1] + here[x + 1]
        sides[0] = here[1] if n_x > 1 else np.float32(0.0)
        if n_x > 1:
            sides[n_x - 1] = here[n_x - 2]
        for x in range(n_x):
            out[y, x] = kept * here[x] + part * ((above[x] + below[x]) + sides[x])


class InterPixelCapacitance(Stage):
    """Share of the charge that each of the four neighbours senses; zero is the identity."""

    kind: Literal["ipc"] = "ipc"
    coupling: Annotated[float, Field(ge=0, lt=0.25)] = 0.01
    after: ClassVar = "reset_noise"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    scope: ClassVar = Scope.NEIGHBOURS
    conserves_charge: ClassVar = True

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.coupling == 0.0:
            return patch
        charge = patch["electrons"]
        out = np.empty(charge.shape, np.float32)
        for at in range(len(charge)):
            couple(charge[at], self.coupling, out[at])
        patch["electrons"] = out
        return patch

    def peak_bytes(self, window: Window, planes: Mapping[str, Plane]) -> int:
        return 4 * window.pixels + 2**16

    @classmethod
    def examples(cls) -> tuple[InterPixelCapacitance, ...]:
        return cls(), cls(coupling=0.0), cls(coupling=0.2)
