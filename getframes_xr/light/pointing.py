"""Pointing: where the stars stand on each exposure, and how they move while the shutter is open.

    position = pivot + R(angle) (reference - pivot) + drift t + dither + jitter

Angles are positive from +x towards +y; offsets are how far the stars move on the detector, (y, x). The columns
``pointing_dy_px, pointing_dx_px, rotation_deg`` hold mid-exposure values; drift and rotation within an exposure smear
the stars. Jitter and dither are keyed by the frame number, so a longer night begins like a shorter one.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from getframes_xr.core.draws import key_of
from getframes_xr.core.options import Options
from getframes_xr.light.rounding import rounded_position
from getframes_xr.light.smooth_series import frame_normals, frame_uniforms

__all__ = ["FieldRotation", "Jolt", "Pointing"]

Floats = NDArray[np.float64]
ArcsecPerSecond = Annotated[float, Field(ge=-3600, le=3600)]
Arcsec = Annotated[float, Field(ge=-36000, le=36000)]


class FieldRotation(Options):
    """Rotation of the field about a pivot, as behind an alt-azimuth mount."""

    rate_deg_per_s: Annotated[float, Field(ge=-1, le=1)]
    start_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    pivot_px: tuple[float, float] | None = None  # (y, x); None: the frame's centre


class Jolt(Options):
    """A knock during one exposure: its stars are drawn out along (dy, dx); the next exposure is as if nothing was."""

    frame: Annotated[int, Field(ge=0)]
    dy_arcsec: Arcsec
    dx_arcsec: Arcsec


class Pointing(Options):
    """Jitter per frame and axis (rms), steady drift (y, x), random dither in a square, field rotation, jolts."""

    jitter_arcsec: Annotated[float, Field(ge=0, le=3600)] = 0.0
    drift_arcsec_per_s: tuple[ArcsecPerSecond, ArcsecPerSecond] = (0.0, 0.0)
    dither_arcsec: Annotated[float, Field(ge=0, le=36000)] = 0.0  # half side of the square
    dither_every: Annotated[int, Field(ge=1)] = 1
    field_rotation: FieldRotation | None = None
    jolts: tuple[Jolt, ...] = ()

    @property
    def steady(self) -> bool:
        """True where every exposure sees the same field at the same place."""
        return self.replace(jolts=()) == Pointing()

    def columns(
        self, frame: NDArray[np.int64], middle_s: Floats, scale_arcsec_per_px: float, seed: int | str
    ) -> dict[str, Floats]:
        """Per-frame columns of the pointing.

        Parameters
        ----------
        frame : int64 (n,)
        middle_s : float64 (n,) [s], mid-exposure from the start of frame 0
        """
        key = key_of(seed, "light", "pointing")
        offset = np.asarray(self.drift_arcsec_per_s) * middle_s[:, None]
        offset = offset + self.jitter_arcsec * frame_normals(key, frame, 2, stream=1)
        steps = frame_uniforms(key, frame // self.dither_every, 2, stream=2)
        offset = offset + self.dither_arcsec * (2.0 * steps - 1.0)
        pixels = rounded_position(offset / scale_arcsec_per_px)
        angle = np.zeros(len(frame))
        if self.field_rotation is not None:
            angle = self.field_rotation.start_deg + self.field_rotation.rate_deg_per_s * middle_s
        return {"pointing_dy_px": pixels[:, 0], "pointing_dx_px": pixels[:, 1], "rotation_deg": angle}

    def path_px(self, frame: int, exposure_s: float, scale_arcsec_per_px: float) -> tuple[float, float]:
        """How far all stars move during one exposure by drift and jolts, (y, x)."""
        dy, dx = (rate * exposure_s for rate in self.drift_arcsec_per_s)
        for jolt in self.jolts:
            if jolt.frame == frame:
                dy, dx = dy + jolt.dy_arcsec, dx + jolt.dx_arcsec
        return dy / scale_arcsec_per_px, dx / scale_arcsec_per_px
