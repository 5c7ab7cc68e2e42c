"""Quantum efficiency: the share of photons that free an electron; in a colour camera each colour has its own.

    expected(y, x) = QE_colour(y, x) * photons(y, x)   [e-]
    truth = expected, before anything else has touched it

The colour of a pixel follows from the filter pattern stated for absolute pixel (0, 0), so a crop keeps its colours.
The photons of a pixel are already those of its own colour (light/scene). Source: EMVA Standard 1288 R4.0, sec. 2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.cfa import cfa_band
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.engine.stage import Place, Stage

Share = Annotated[float, Field(ge=0, le=1)]


@kernel
def detect(photons: Array, y: int, x: int, efficiency: Array, expected: Array, truth: Array) -> None:
    """Multiply (time, y, x) photons by float32 efficiency (2, 2) of their place in the colour pattern."""
    for t in range(photons.shape[0]):
        for j in range(photons.shape[1]):
            first = efficiency[(y + j) & 1, x & 1]
            second = efficiency[(y + j) & 1, (x + 1) & 1]
            for i in range(photons.shape[2]):
                value = photons[t, j, i] * (second if i & 1 else first)
                expected[t, j, i] = value
                truth[t, j, i] = value


class QuantumEfficiency(Stage):
    """Photons to expected electrons.

    Parameters
    ----------
    efficiency : share of photons detected; for a camera without colour filters, and for colours not stated
    red, green, blue : share of the photons of the pixel's own colour
    """

    kind: Literal["quantum_efficiency"] = "quantum_efficiency"
    efficiency: Share = 1.0
    red: Share | None = None
    green: Share | None = None
    blue: Share | None = None
    after: ClassVar = None
    reads: ClassVar = ("photons",)
    writes: ClassVar = ("expected_electrons", "truth_electrons")

    def of_band(self, band: str | None) -> float:
        """Efficiency of ``red``, ``green``, ``blue``, or of a camera without colours (None)."""
        own = {"red": self.red, "green": self.green, "blue": self.blue}.get(band or "")
        return self.efficiency if own is None else own

    def apply(self, patch: Patch, place: Place) -> Patch:
        photons, cfa = patch["photons"], place.grid.cfa
        pattern = [[self.of_band(cfa_band(cfa, y, x) if cfa else None) for x in (0, 1)] for y in (0, 1)]
        expected, truth = np.empty(photons.shape, np.float32), np.empty(photons.shape, np.float32)
        table = np.array(pattern, np.float32)
        detect(photons, place.window.y.start & 1, place.window.x.start & 1, table, expected, truth)
        patch["expected_electrons"], patch["truth_electrons"] = expected, truth
        return patch

    @classmethod
    def examples(cls) -> tuple[QuantumEfficiency, ...]:
        return cls(), cls(efficiency=0.8), cls(efficiency=0.5, red=0.6, green=0.8, blue=0.7)
