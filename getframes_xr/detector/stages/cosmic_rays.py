"""Cosmic rays: charged particles cross the silicon and leave straight tracks.

    N ~ Poisson(rate * area * t);   cos(theta) = U^(1/4);   length in the plane = thickness * tan(theta)
    charge = path * (m + w z),  path = thickness / cos(theta),  z = -ln(n^2), n ~ N(0, 1)  (Moyal's law)   [e-]

Muons at the ground come with an intensity cos^2(theta) about the zenith, so through a level surface as cos^3(theta)
d(cos theta): U^(1/4). Sea level: 0.017 per cm^2 and s; four times that at 3000 m; 5 in deep space. The energy loss is a
Landau distribution, here in Moyal's closed form; m is the most probable charge per um (about 60 in 10 um of silicon).
Tracks are a list per frame, keyed by (frame, event), and every window draws the parts that lie in it; they may begin
outside the sensor and are cut at its edge, never moved inside. The charge of a pixel follows from the exact length of
the track in it. Sources: Groom, in Scientific Detectors for Astronomy (2004), ASSL 300, 81; Moyal, Phil. Mag. 46, 263
(1955); PDG Review of Particle Physics, sec. 30 (cosmic rays).
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.draws import events_of_frame, stream_word
from getframes_xr.core.elementary import log64, sine_cosine_of_turns
from getframes_xr.core.kernel import kernel
from getframes_xr.core.normal import normal_of_word
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Grid
from getframes_xr.detector.fixed_maps import CountedCache
from getframes_xr.engine.stage import Place, Stage

_COSMIC = np.uint16(Flag.COSMIC)
_TRACKS = CountedCache(16 * 2**20)
_STEEPEST = 20.0  # tan(theta) is cut here: 0.0006 % of the muons


@kernel
def _tracks(numbers: Array, top: float, left: float, n_y: float, n_x: float, facts: Array, out: Array) -> None:
    """Turn uniforms (n, 5) into tracks (n, 5): start y, x, end y, x [px] and charge [e-]."""
    thickness_um, pixel_um, probable, width, steepest = facts[0], facts[1], facts[2], facts[3], facts[4]
    for e in range(numbers.shape[0]):
        cosine = np.sqrt(np.sqrt(numbers[e, 2]))
        tangent = np.sqrt(1.0 - cosine * cosine) / cosine
        tangent = tangent if tangent < steepest else steepest
        sine_phi, cosine_phi = sine_cosine_of_turns(numbers[e, 3])
        length_px = thickness_um * tangent / pixel_um
        path_um = thickness_um * np.sqrt(1.0 + tangent * tangent)
        deviate = np.float64(normal_of_word(np.uint32(np.int64(numbers[e, 4] * 4294967296.0))))
        square = deviate * deviate
        z = -log64(square if square > 1e-12 else 1e-12)
        charge = path_um * (probable + width * z)
        out[e, 0] = top + numbers[e, 0] * n_y
        out[e, 1] = left + numbers[e, 1] * n_x
        out[e, 2] = out[e, 0] + length_px * sine_phi
        out[e, 3] = out[e, 1] + length_px * cosine_phi
        out[e, 4] = charge if charge > 0.0 else 0.0


@kernel
def paint(tracks: Array, top: int, left: int, charge: Array, flags: Array) -> None:
    """Add tracks to (y, x) charge whose first pixel is (top, left); pixel (i, j) covers i - 1/2 .. i + 1/2.

    Each pixel gets the share of the charge that the track's length in it has of the whole length. The walk goes from
    one pixel border to the next and is the same whatever the window, so the shares do not depend on it.
    """
    n_y, n_x = charge.shape
    for e in range(tracks.shape[0]):
        y0, x0 = tracks[e, 0] + 0.5, tracks[e, 1] + 0.5
        dy, dx = tracks[e, 2] + 0.5 - y0, tracks[e, 3] + 0.5 - x0
        low_y, high_y = min(y0, y0 + dy), max(y0, y0 + dy)
        low_x, high_x = min(x0, x0 + dx), max(x0, x0 + dx)
        if high_y < top or low_y >= top + n_y or high_x < left or low_x >= left + n_x:
            continue
        y, x = np.int64(np.floor(y0)), np.int64(np.floor(x0))
        step_y, step_x = (1 if dy > 0.0 else -1), (1 if dx > 0.0 else -1)
        per_y = abs(1.0 / dy) if dy != 0.0 else 1e300
        per_x = abs(1.0 / dx) if dx != 0.0 else 1e300
        next_y = ((y + 1 - y0) if dy > 0.0 else (y0 - y)) * per_y if dy != 0.0 else 1e300
        next_x = ((x + 1 - x0) if dx > 0.0 else (x0 - x)) * per_x if dx != 0.0 else 1e300
        done = 0.0
        while done < 1.0:
            until = min(1.0, min(next_y, next_x))
            j, i = y - top, x - left
            if 0 <= j < n_y and 0 <= i < n_x:
                charge[j, i] += np.float32(tracks[e, 4] * (until - done))
                flags[j, i] |= _COSMIC
            done = until
            if next_y < next_x:
                y += step_y
                next_y += per_y
            else:
                x += step_x
                next_x += per_x


class CosmicRays(Stage):
    """Straight muon tracks.

    Parameters
    ----------
    rate_per_cm2_s : particles through the sensor's surface
    pixel_um, thickness_um : pitch of the pixels and depth of the silicon that collects charge
    charge_e_per_um, spread_e_per_um : most probable charge per length and Moyal's width of it
    """

    kind: Literal["cosmic_rays"] = "cosmic_rays"
    pixel_um: Annotated[float, Field(gt=0, le=1000)]
    rate_per_cm2_s: Annotated[float, Field(ge=0, le=1e4)] = 0.017
    thickness_um: Annotated[float, Field(gt=0, le=5000)] = 10.0
    charge_e_per_um: Annotated[float, Field(gt=0, le=1e4)] = 60.0
    spread_e_per_um: Annotated[float, Field(ge=0, le=1e4)] = 12.0
    after: ClassVar = "shot"
    reads: ClassVar = ("electrons", "flags")
    writes: ClassVar = ("electrons", "flags")
    needs: ClassVar = ("exposure_s",)
    stream: ClassVar = 17

    def tracks(self, place: Place, frame: int, exposure_s: float) -> Array:
        """The frame's whole list of tracks, float64 (n, 5): start y, x, end y, x [px], charge [e-]."""
        grid = place.grid
        word = stream_word(self.stream_number, place.number)
        facts = (self.thickness_um, self.pixel_um, self.charge_e_per_um, self.spread_e_per_um, _STEEPEST)
        key = (place.key, word, frame, exposure_s, self.rate_per_cm2_s, facts, grid.y, grid.x)

        def made() -> Array:
            top, left, n_y, n_x = self._catchment(grid)
            mean = self.rate_per_cm2_s * n_y * n_x * (self.pixel_um * 1e-4) ** 2 * exposure_s
            numbers = events_of_frame(place.key, frame, word, mean, 5)
            out = np.empty(numbers.shape, np.float64)
            _tracks(numbers, top, left, n_y, n_x, np.array(facts), out)
            return out

        tracks: Array = _TRACKS.get(key, made, lambda item: item.nbytes + 200)
        return tracks

    def _catchment(self, grid: Grid) -> tuple[float, float, float, float]:
        """Where tracks begin: the sensor and a margin of the longest track, so the border is hit like the middle."""
        margin = math.ceil(self.thickness_um * _STEEPEST / self.pixel_um)
        height, width = len(grid.y) + 2.0 * margin, len(grid.x) + 2.0 * margin
        return grid.y.start - margin - 0.5, grid.x.start - margin - 0.5, height, width

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.rate_per_cm2_s == 0.0:
            return patch
        top, left = place.window.y.start, place.window.x.start
        for at, (frame, exposure_s) in enumerate(zip(place.frames, place.column("exposure_s"), strict=True)):
            tracks = self.tracks(place, int(frame), float(exposure_s))
            paint(tracks, top, left, patch["electrons"][at], patch["flags"][at])
        return patch

    @classmethod
    def examples(cls) -> tuple[CosmicRays, ...]:
        return (
            cls(pixel_um=5.0, rate_per_cm2_s=0.0),
            cls(pixel_um=5.0, rate_per_cm2_s=5000.0),
            cls(pixel_um=3.0, rate_per_cm2_s=5000.0, thickness_um=100.0),
        )
