"""What the optics do to all light alike: vignetting dims the corners, radial distortion moves positions.

Vignetting: 1 - strength (r / r_corner)^power, on everything that is seen, the sky included. Distortion:
r' = r (1 + k1 r^2 + k2 r^4), r in px from the frame's centre.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny

from getframes_xr.core.kernel import kernel
from getframes_xr.core.options import Family, Registry
from getframes_xr.core.window import Span, Window

__all__ = ["Optic", "RadialDistortion", "Vignetting"]

Floats = NDArray[np.float64]
OPTICS = Registry("optic")


class Optic(Family):
    """Parent of optics: each may dim a window and move positions."""

    registry: ClassVar[Registry] = OPTICS

    def dim(self, light: Floats, window: Window, y: Span, x: Span) -> None:
        """Dim a window in place; ``light`` is float64 (rows, columns), the spans are the frame's."""

    @property
    def distortion(self) -> tuple[float, float]:
        """k1 [px^-2] and k2 [px^-4]; those of several optics add."""
        return 0.0, 0.0


class Vignetting(Optic):
    """Loss towards the corners: ``strength`` at the corner itself."""

    kind: Literal["vignetting"] = "vignetting"
    strength: Annotated[float, Field(ge=0, le=1)]
    power: Literal[2, 4, 6] = 2

    def dim(self, light: Floats, window: Window, y: Span, x: Span) -> None:
        centre_y, centre_x = 0.5 * (y.start + y.stop - 1), 0.5 * (x.start + x.stop - 1)
        corner = (centre_y - y.start) ** 2 + (centre_x - x.start) ** 2
        scale = 1.0 / max(corner, 1e-12)
        _vignette(light, window.y.start - centre_y, window.x.start - centre_x, scale, self.strength, self.power // 2)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A third lost in the corners."""
        return (cls(strength=0.35), cls(strength=0.2, power=4))


class RadialDistortion(Optic):
    """Barrel (k1 < 0) or pincushion (k1 > 0) distortion of positions."""

    kind: Literal["radial_distortion"] = "radial_distortion"
    k1_per_px2: Annotated[float, Field(ge=-1e-5, le=1e-5)]
    k2_per_px4: Annotated[float, Field(ge=-1e-11, le=1e-11)] = 0.0

    @property
    def distortion(self) -> tuple[float, float]:
        return self.k1_per_px2, self.k2_per_px4

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Pincushion."""
        return (cls(k1_per_px2=1e-8),)


AnyOptic = Annotated[SerializeAsAny[Optic], BeforeValidator(OPTICS.build)]


@kernel
def _vignette(light: Floats, first_y: float, first_x: float, scale: float, strength: float, times: int) -> None:
    for i in range(light.shape[0]):
        dy = first_y + i
        row = light[i]
        for j in range(row.size):
            dx = first_x + j
            q = (dy * dy + dx * dx) * scale
            factor = strength
            for _ in range(times):
                factor *= q
            row[j] *= max(0.0, 1.0 - factor)
