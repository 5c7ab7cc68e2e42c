"""Bias structure: the offset is not the same everywhere, but the same in every frame.

    n(y, x) += p (a Y + b X) + c N(x) + s N(y, x),    X, Y in -1..1 across the sensor   [adu]

A plane whose slopes a, b are uniform in -1..1, an offset per column and one per pixel, all drawn once per camera.
A master bias or dark removes it. Source: EMVA Standard 1288 R4.0, sec. 8 (spatial nonuniformity of the dark image).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.draws import Draws
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span
from getframes_xr.detector.fixed_maps import fixed_map, map_bytes
from getframes_xr.detector.stages.gain import ANALOGUE
from getframes_xr.engine.stage import Place, Stage


class BiasStructure(Stage):
    """Fixed pattern of the offset: peak of the plane, rms per column, rms per pixel."""

    kind: Literal["bias_structure"] = "bias_structure"
    plane_adu: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    column_rms_adu: Annotated[float, Field(ge=0, le=1e5)] = 1.0
    pixel_rms_adu: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    after: ClassVar = "bias"
    reads: ClassVar = ("adu",)
    writes: ClassVar = ("adu",)
    stream: ClassVar = 15

    def apply(self, patch: Patch, place: Place) -> Patch:
        values = patch["adu"]
        if self.column_rms_adu > 0.0:
            values += place.fixed(self).per_column("normal")[0] * np.float32(self.column_rms_adu)
        if self.plane_adu > 0.0:
            a, b = 2.0 * place.fixed(self).per_frame(2, "uniform", 1)[0].astype(np.float64) - 1.0
            y = (self.plane_adu * 0.5 * a * _across(place.y, place.grid.y)).astype(np.float32)
            x = (self.plane_adu * 0.5 * b * _across(place.x, place.grid.x)).astype(np.float32)
            values += y[:, None]
            values += x
        if self.pixel_rms_adu > 0.0:
            rms = np.float32(self.pixel_rms_adu)

            def make(draws: Draws) -> Array:
                pattern: Array = draws.normal(2)[0] * rms
                return pattern

            values += fixed_map(place, self, (self.pixel_rms_adu,), make)
        return patch

    @classmethod
    def example_planes(cls) -> Mapping[str, Plane]:
        return {"adu": ANALOGUE}

    def cached_bytes(self, grid: Grid) -> int:
        return map_bytes(grid) if self.pixel_rms_adu > 0.0 else 0

    @classmethod
    def examples(cls) -> tuple[BiasStructure, ...]:
        return cls(), cls(plane_adu=10.0, column_rms_adu=0.5, pixel_rms_adu=2.0), cls(column_rms_adu=0.0)


def _across(index: Array, whole: Span) -> Array:
    """-1 at the first, +1 at the last pixel of the sensor."""
    return (2.0 * (index - whole.start) - (len(whole) - 1)) / max(1, len(whole) - 1)
