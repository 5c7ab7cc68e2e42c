"""Satellite trails: straight tracks of light, drawn per frame as events and rendered in every window they touch.

A satellite of magnitude m that moves at w arcsec/s leaves rate(m) scale / w photons on each px of its track, whatever
the exposure; across the track the light falls like the PSF's line profile

    p(d) = sum_k w_k N(d; sqrt(s_k^2 + 1/12)),

the 1/12 being the variance of a pixel, and the ends are rounded with the width of the PSF. Which trails a frame has
follows from (seed, frame) alone.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from getframes_xr.core.draws import events_of_frame, key_of, stream_word
from getframes_xr.core.elementary import sine_cosine_of_turns
from getframes_xr.core.errors import OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.window import Window
from getframes_xr.light.points import phi, phi_table
from getframes_xr.light.psf.family import EDGE_PHOTONS
from getframes_xr.light.rounding import rounded, rounded_position
from getframes_xr.light.sight import Sight, View, frame_diagonal
from getframes_xr.light.sources.family import Light, Source

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_PER_PX = 32  # entries of the line profile per px
_COLOUR = 0.65  # B - V of sunlight
_REACH_PX = 4096.0


class SatelliteTrail(Source):
    """One track on one frame: it passes (y, x) at mid-exposure, in the direction ``angle_deg`` from +x towards +y."""

    kind: Literal["satellite_trail"] = "satellite_trail"
    frame: Annotated[int, Field(ge=0)]
    y: float
    x: float
    angle_deg: Annotated[float, Field(ge=-360, le=360)]
    magnitude: Annotated[float, Field(ge=-30, le=40)]
    speed_arcsec_per_s: Annotated[float, Field(gt=0, le=1e6)]

    def light(self, sight: Sight, seed: int | str) -> TrailLight:
        return _OneTrail(sight, self)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A track that begins and ends on the frame."""
        return (cls(frame=0, y=30.2, x=40.0, angle_deg=25, magnitude=8, speed_arcsec_per_s=1.5),)


class SatelliteTrails(Source):
    """Tracks at random: ``per_frame`` on average cross a frame during an exposure, everywhere and in all directions."""

    kind: Literal["satellite_trails"] = "satellite_trails"
    per_frame: Annotated[float, Field(ge=0, le=1000)]
    magnitude: tuple[float, float] = (4.0, 8.0)
    speed_arcsec_per_s: tuple[float, float] = (300.0, 2500.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (np.isfinite(self.magnitude).all() and self.magnitude[0] <= self.magnitude[1]):
            raise OptionError("SatelliteTrails.magnitude", self.magnitude, "(bright, faint): the smaller number first")
        low, high = self.speed_arcsec_per_s
        if not 0 < low <= high <= 1e6:
            raise OptionError("SatelliteTrails.speed_arcsec_per_s", (low, high), "0 < slow <= fast <= 1e6")
        return self

    def light(self, sight: Sight, seed: int | str) -> TrailLight:
        return _RandomTrails(sight, self, key_of(seed, "light", "trails"))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Two a frame."""
        return (cls(per_frame=2.0, magnitude=(6.0, 9.0)),)


@dataclass(frozen=True, eq=False)
class TrailLight(Light):
    """Tracks of each frame; a subclass says which."""

    sight: Sight

    @abstractmethod
    def tracks(self, view: View) -> Floats:
        """float64 (n, 6): y, x of the middle, angle [deg], length [px], magnitude, speed [arcsec/s]."""

    def add(self, out: Floats, window: Window, view: View) -> None:
        tracks = self.tracks(view)
        if len(tracks) == 0:
            return
        rates = self.sight.rates(tracks[:, 4], np.full(len(tracks), _COLOUR))
        per_px = rounded(rates * (view.transparency * self.sight.scale) / tracks[:, 5:6])
        places = rounded_position(tracks[:, [0, 1, 3]])
        value, slope = phi_table()
        for track in range(len(tracks)):  # a handful a frame
            profile = self._profile(view.fwhm_px, float(per_px[track].max()))
            sine, cosine = sine_cosine_of_turns(float(tracks[track, 2]) / 360.0)
            _add_track(
                out, window.y.start, window.x.start, places[track], sine, cosine,
                np.ascontiguousarray(per_px[track][self.sight.parity]), profile, 0.42466 * view.fwhm_px, value, slope,
            )  # fmt: skip

    def _profile(self, fwhm_px: float, per_px: float) -> Floats:
        """Line profile [1/px] at d = 0, 1/32, 2/32, ... px, as far as it matters."""
        mixture = self.sight.mixture
        sigma = np.sqrt((mixture.sigma * fwhm_px) ** 2 + 1.0 / 12.0)
        coarse = np.minimum(2.0 ** np.arange(0, 12.25, 0.25), _REACH_PX)
        far = (mixture.weight / sigma * np.exp(-0.5 * (coarse[:, None] / sigma) ** 2)).sum(axis=1) * per_px
        enough = np.flatnonzero(far < EDGE_PHOTONS)
        reach = float(coarse[enough[0]]) if len(enough) else _REACH_PX
        d = np.arange(0, int(np.ceil(max(reach, 2 * fwhm_px) * _PER_PX)) + 2) / _PER_PX
        value = (mixture.weight / sigma * 0.3989422804014327 * np.exp(-0.5 * (d[:, None] / sigma) ** 2)).sum(axis=1)
        return rounded(value)

    def peak_bytes(self, window: Window, view: View) -> int:
        return 1 << 20  # a profile of 4096 px and its making


@dataclass(frozen=True, eq=False)
class _OneTrail(TrailLight):
    trail: SatelliteTrail

    def tracks(self, view: View) -> Floats:
        if view.frame != self.trail.frame:
            return np.empty((0, 6))
        trail = self.trail
        length = trail.speed_arcsec_per_s * view.exposure_s / self.sight.scale
        return np.array([[trail.y, trail.x, trail.angle_deg, length, trail.magnitude, trail.speed_arcsec_per_s]])


@dataclass(frozen=True, eq=False)
class _RandomTrails(TrailLight):
    trails: SatelliteTrails
    key: tuple[int, int]

    def tracks(self, view: View) -> Floats:
        numbers = events_of_frame(self.key, view.frame, stream_word(1), self.trails.per_frame, 6)
        sight, trails = self.sight, self.trails
        slow, fast = trails.speed_arcsec_per_s
        speed = slow * (fast / slow) ** numbers[:, 4]
        length = np.minimum(speed * view.exposure_s / sight.scale, 1e7)
        angle = 360.0 * numbers[:, 2]
        along = (numbers[:, 5] - 0.5) * (length + frame_diagonal(sight.y, sight.x))
        y = sight.y.start + numbers[:, 0] * len(sight.y) + along * np.sin(np.deg2rad(angle))
        x = sight.x.start + numbers[:, 1] * len(sight.x) + along * np.cos(np.deg2rad(angle))
        magnitude = trails.magnitude[0] + numbers[:, 3] * (trails.magnitude[1] - trails.magnitude[0])
        return np.stack([y, x, angle, length, magnitude, speed], axis=1)


@kernel
def _add_track(
    out: Floats, y0: int, x0: int, place: Floats, sine: float, cosine: float, per_px: Floats, profile: Floats,
    end_width: float, value: Floats, slope: Floats,
) -> None:  # fmt: skip
    """Add a track; ``place`` is its middle (y, x) and length, ``per_px`` its photons per px at the four parities."""
    py, px, half = place[0], place[1], 0.5 * place[2]
    reach = (profile.size - 2.0) / _PER_PX
    for i in range(out.shape[0]):
        dy = y0 + i - py
        first, last = x0, x0 + out.shape[1]
        if abs(sine) > 1e-9:  # |dy cos - dx sin| <= reach
            low, high = (dy * cosine - reach) / sine, (dy * cosine + reach) / sine
            if low > high:
                low, high = high, low
            first = max(first, int(np.floor(max(px + low, -1e9))) - 1)
            last = min(last, int(np.ceil(min(px + high, 1e9))) + 2)
        for x in range(first, last):
            dx = x - px
            across = abs(dy * cosine - dx * sine)
            if across >= reach:
                continue
            along = dy * sine + dx * cosine
            t = across * _PER_PX
            k = int(t)
            f = t - k
            light = profile[k] + f * (profile[k + 1] - profile[k])
            ends = phi((along + half) / end_width, value, slope) - phi((along - half) / end_width, value, slope)
            out[i, x - x0] += light * ends * per_px[2 * ((y0 + i) & 1) + (x & 1)]
