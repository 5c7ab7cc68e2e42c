"""Light without a sky: the same photons every second on every pixel, or a still picture of them.

    photons(y, x) = rate(y, x) * t

For darks (rate 0), flats and tests of a camera. ``rate`` is a number or an array of the sensor's shape.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.producer import Producer


@dataclass(frozen=True, eq=False)
class Illumination(Producer):
    """Producer of the plane ``photons`` from a rate in photons per pixel and second.

    Raises
    ------
    DataError : the rate has another shape than the grid, or holds negative numbers or NaN
    """

    grid: Grid
    photons_per_s: float | Array = 0.0

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

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        exposure_s = self.grid.column("exposure_s")[window.frames.start : window.frames.stop]
        out = np.empty(window.shape, np.float32)
        rate = self.photons_per_s
        if isinstance(rate, np.ndarray):
            rate = rate[window.y.slice_in(self.grid.y), window.x.slice_in(self.grid.x)]
        for at, seconds in enumerate(exposure_s):
            out[at] = rate * seconds
        return Patch(window, dict.fromkeys(planes, out))

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        return 4 * window.pixels + (8 * window.pixels // max(1, len(window.frames)))
