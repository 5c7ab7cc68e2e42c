"""Glow: read-out electronics shine faintly into the sensor from its edge or a corner.

    edges:   g(y, x) = A exp(-d / L),                          d = distance to the nearest edge, 0 at the border
    corner:  g(y, x) = A exp(-(y - y0)^2 / L^2) exp(-(x - x0)^2 / L^2)

A is chosen so that the mean over the sensor is ``mean_e_per_s`` (a sum over rows and columns, never over pixels).
Adds to the expectation per second of exposure; it depends neither on temperature nor on the dark non-uniformity.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.elementary import exp64
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Span
from getframes_xr.engine.stage import Place, Stage

Where = Literal["edges", "top_left", "top_right", "bottom_left", "bottom_right"]


class Glow(Stage):
    """Light of the electronics; ``where`` it comes from, ``scale_px`` how far it reaches."""

    kind: Literal["glow"] = "glow"
    mean_e_per_s: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    scale_px: Annotated[float, Field(ge=0.1, le=1e5)] = 40.0
    where: Where = "edges"
    after: ClassVar = "hot_pixels"
    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("expected_electrons",)
    needs: ClassVar = ("exposure_s",)

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.mean_e_per_s == 0.0:
            return patch
        y_profile, x_profile, mean = _profiles(self.where, self.scale_px, place.grid.y, place.grid.x)
        y = y_profile[place.window.y.slice_in(place.grid.y)][:, None]
        x = x_profile[place.window.x.slice_in(place.grid.x)][None, :]
        shape = np.maximum(y, x) if self.where == "edges" else y * x
        per_second = np.float32(self.mean_e_per_s / mean) * shape
        patch["expected_electrons"] += place.exposure_s * per_second
        return patch

    @classmethod
    def examples(cls) -> tuple[Glow, ...]:
        return cls(), cls(mean_e_per_s=5.0, scale_px=8.0), cls(where="bottom_right", scale_px=30.0)


@lru_cache(maxsize=32)
def _profiles(where: Where, scale_px: float, y: Span, x: Span) -> tuple[Array, Array, float]:
    """Row and column profile, float32, and the mean of what they make over the sensor."""
    if where == "edges":
        near = [np.minimum(np.arange(len(span)), np.arange(len(span))[::-1]) for span in (y, x)]
        rows, columns = (_exponential(distance / scale_px) for distance in near)
        total = 0.0  # of max(row, column): each value counts where it is the larger one
        ordered, below = np.sort(columns), np.concatenate([[0.0], np.cumsum(np.sort(columns))])
        for value in rows:
            at = int(np.searchsorted(ordered, value))
            total += value * at + (below[-1] - below[at])
        mean = total / (len(rows) * len(columns))
    else:
        from_top, from_left = where.startswith("top"), where.endswith("left")
        distance_y = np.arange(len(y)) if from_top else np.arange(len(y))[::-1]
        distance_x = np.arange(len(x)) if from_left else np.arange(len(x))[::-1]
        rows, columns = (_exponential((d / scale_px) ** 2) for d in (distance_y, distance_x))
        mean = float(rows.mean() * columns.mean())
    return rows.astype(np.float32), columns.astype(np.float32), mean


def _exponential(values: Array) -> Array:
    return np.array([exp64(-float(value)) for value in values])
