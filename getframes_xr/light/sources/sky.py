"""The sky: light from everywhere, given per square arcsecond, with a gradient over the frame and a course in time.

rate per px = Z 10^(-0.4 mu) area throughput scale^2, times 1 + g_y (y - y_c) / height + g_x (x - x_c) / width.
It is vignetted like all light, and neither moved by the pointing nor dimmed by the transparency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.window import Window
from getframes_xr.light.light_curve import AnyLightCurve
from getframes_xr.light.sight import Sight, View
from getframes_xr.light.sources.family import Light, Source

Floats = NDArray[np.float64]
Slope = Annotated[float, Field(ge=-1, le=1)]


class Sky(Source):
    """Sky of given surface brightness; ``gradient`` is its relative change from edge to edge, (y, x)."""

    kind: Literal["sky"] = "sky"
    mag_per_arcsec2: Annotated[float, Field(ge=-30, le=40)]
    gradient: tuple[Slope, Slope] = (0.0, 0.0)
    colour: float = 0.8  # B - V
    curve: AnyLightCurve | None = None  # factor in time: moonrise, twilight

    def light(self, sight: Sight, seed: int | str) -> SkyLight:
        per_arcsec2 = sight.rates(np.array([self.mag_per_arcsec2]), np.array([self.colour]))[0]
        return SkyLight(sight, per_arcsec2 * sight.scale * sight.scale, self)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A suburban sky with a gradient."""
        return (cls(mag_per_arcsec2=20.0, gradient=(0.1, -0.05)),)


@dataclass(frozen=True, eq=False)
class SkyLight(Light):
    """Photons per second per px in each band, and the options."""

    sight: Sight
    rates: Floats
    sky: Sky

    def add(self, out: Floats, window: Window, view: View) -> None:
        factor = view.exposure_s
        if self.sky.curve is not None:
            factor *= float(self.sky.curve.mean(view.start_s, view.start_s + view.exposure_s))
        levels = np.ascontiguousarray(self.rates[self.sight.parity] * factor)
        slope_y = self.sky.gradient[0] / len(self.sight.y)
        slope_x = self.sky.gradient[1] / len(self.sight.x)
        centre_y, centre_x = self.sight.centre
        _add_plane(out, window.y.start, window.x.start, levels, centre_y, centre_x, slope_y, slope_x)

    def peak_bytes(self, window: Window, view: View) -> int:
        return 1024


@kernel
def _add_plane(
    out: Floats, y0: int, x0: int, levels: Floats, centre_y: float, centre_x: float, slope_y: float, slope_x: float
) -> None:
    for i in range(out.shape[0]):
        y = y0 + i
        base = 1.0 + slope_y * (y - centre_y)
        even, odd = levels[2 * (y & 1)], levels[2 * (y & 1) + 1]
        row = out[i]
        for j in range(row.size):
            x = x0 + j
            level = odd if (x & 1) == 1 else even
            row[j] += level * max(0.0, base + slope_x * (x - centre_x))
