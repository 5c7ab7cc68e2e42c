"""Light without a sky: the same photons every second on every pixel, or a still picture of them.

    photons(y, x) = rate(y, x) * dimming(y, x) * t

For darks (rate 0), flats and tests of a camera. ``rate`` is a number or an array of the sensor's shape; optics (light's
vignetting) dim it as they dim the sky.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import Producer


class Dimmer(Protocol):
    """What optics must do here: dim float64 (y, x) light of a window in place; the spans are the frame's."""

    def dim(self, light: Array, window: Window, y: Span, x: Span) -> None: ...


@dataclass(frozen=True, eq=False)
class Illumination(Producer):
    """Producer of the plane ``photons`` from a rate in photons per pixel and second.

    Raises
    ------
    DataError : the rate has another shape than the grid, or holds negative numbers or NaN
    """

    grid: Grid
    photons_per_s: float | Array = 0.0
    optics: tuple[Dimmer, ...] = ()

    def __post_init__(self) -> None:
        rate = np.array(self.photons_per_s, np.float64)
        shape = (len(self.grid.y), len(self.grid.x))
        if rate.ndim and rate.shape != shape:
            raise DataError(f"a rate of shape {rate.shape} does not fit the sensor {shape}; give a number or (y, x)")
        if not (np.isfinite(rate).all() and (rate >= 0).all()):
            raise DataError("a rate of photons is finite and not negative; look for NaN or negative pixels")
        rate.setflags(write=False)
        object.__setattr__(self, "photons_per_s", rate if rate.ndim else float(rate))

    @property
    def planes(self) -> Mapping[str, Plane]:
        return {"photons": PLANES["photons"]}

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        exposure_s = self.grid.column("exposure_s")[window.frames.start : window.frames.stop]
        out = np.empty(window.shape, np.float32)
        rate = self._rate(window)
        for at, seconds in enumerate(exposure_s):
            out[at] = rate * seconds
        return Patch(window, dict.fromkeys(planes, out))

    def _rate(self, window: Window) -> float | Array:
        rate = self.photons_per_s
        if isinstance(rate, np.ndarray):
            rate = rate[window.y.slice_in(self.grid.y), window.x.slice_in(self.grid.x)]
        if not self.optics:
            return rate
        light = np.empty(window.shape[1:], np.float64)
        light[:] = rate
        for optic in self.optics:
            optic.dim(light, window, self.grid.y, self.grid.x)
        return light

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return 16 * len(window.y) * len(window.x)

    def select(self, positions: Array) -> Producer:
        return Illumination(self.grid.select(positions), self.photons_per_s, self.optics)
