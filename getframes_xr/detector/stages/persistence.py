"""Persistence: charge caught in traps at one exposure and let go during the next ones.

    captured_i = c_i min(q, full well)                      taken out of the frame that catches it
    released_i = L_i (1 - exp(-t / tau_i))                  during an exposure t; Poisson electrons are added
    L_i       <- L_i exp(-gap / tau_i)                      between exposures (what is let go there is reset away)

L_i is the charge held by the traps of release time tau_i. Time is clock time, not a count of frames, and a pixel can
not catch more than its well gives. One stage between cosmic tracks and full well: sums of Poisson numbers are Poisson.
State runs along the frames, anchored (engine/history). Source: Smith et al., Proc. SPIE 7021 (2008); Tulloch et al.,
JATIS 5, 036004 (2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from getframes_xr.core.elementary import exp64
from getframes_xr.core.errors import OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag, Plane
from getframes_xr.core.window import Window
from getframes_xr.engine.stage import HistoryStage, HistoryState, Place

_PERSISTENCE = np.uint16(Flag.PERSISTENCE)
_NONE = np.uint16(0)


@kernel
def let_go(traps: Array, kept_in_gap: Array, kept_in_exposure: Array, released: Array) -> None:
    """Decay the traps (species, pixels), float32, over gap and exposure; sum what is released in the exposure."""
    for i in range(released.size):
        released[i] = np.float32(0.0)
    for s in range(traps.shape[0]):
        gap, exposure = kept_in_gap[s], kept_in_exposure[s]
        for i in range(released.size):
            held = traps[s, i] * gap
            stays = held * exposure
            released[i] += held - stays
            traps[s, i] = stays


@kernel
def catch(charge: Array, well: np.float32, shares: Array, traps: Array) -> None:
    """Move a share of min(charge, well) from the pixels into the traps of each species, in place (flat)."""
    for i in range(charge.size):
        here = charge[i] if charge[i] < well else well
        here = here if here > np.float32(0.0) else np.float32(0.0)
        for s in range(shares.size):
            moved = here * shares[s]
            traps[s, i] += moved
            charge[i] -= moved


class Persistence(HistoryStage):
    """Traps of one or more release times.

    Parameters
    ----------
    capture : share of the (well-limited) charge that each species catches per exposure; the sum stays below 1
    release_time_s : 1/e release time of each species
    full_well_e : electrons beyond which a pixel offers no more to catch
    flag_above_e : a pixel is flagged where the mean release of one exposure exceeds this
    horizon_frames : how many exposures a state remembers before an anchor
    period_frames : distance of the anchors
    """

    kind: Literal["persistence"] = "persistence"
    full_well_e: Annotated[float, Field(gt=0, le=1e9)]
    capture: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.002,)
    release_time_s: tuple[Annotated[float, Field(gt=0, le=1e7)], ...] = (60.0,)
    flag_above_e: Annotated[float, Field(ge=0, le=1e9)] = 5.0
    horizon_frames: Annotated[int, Field(ge=1, le=1000)] = 16
    period_frames: Annotated[int, Field(ge=1, le=1000)] = 16
    after: ClassVar = "cosmic_rays"
    reads: ClassVar = ("electrons", "flags")
    writes: ClassVar = ("electrons", "flags")
    needs: ClassVar = ("start", "exposure_s")
    stream: ClassVar = 5

    @model_validator(mode="after")
    def _species_agree(self) -> Persistence:
        if len(self.capture) != len(self.release_time_s) or not self.capture:
            raise OptionError(
                "Persistence.release_time_s",
                self.release_time_s,
                f"one time per share in capture ({len(self.capture)})",
            )
        if sum(self.capture) >= 1.0:
            raise OptionError("Persistence.capture", self.capture, "shares whose sum is below 1")
        return self

    @property
    def horizon(self) -> int:
        return self.horizon_frames

    @property
    def period(self) -> int:
        return self.period_frames

    def start(self, shape: tuple[int, int]) -> HistoryState:
        return HistoryState({"traps": np.zeros((len(self.capture), shape[0] * shape[1]), np.float32)})

    def step(self, patch: Patch, state: HistoryState, place: Place) -> Patch:
        traps, charge = state.arrays["traps"], patch["electrons"]
        gap_s, exposure_s = self._times(place)
        released = np.empty(charge.shape, np.float32)
        let_go(traps, self._kept(gap_s), self._kept(exposure_s), released.reshape(-1))
        patch["flags"] |= np.where(released > np.float32(self.flag_above_e), _PERSISTENCE, _NONE)
        if released.any():
            charge += place.draws(self).poisson(released, out=released)
        catch(charge.reshape(-1), np.float32(self.full_well_e), np.array(self.capture, np.float32), traps)
        return patch

    def _kept(self, time_s: float) -> Array:
        return np.array([exp64(-time_s / tau) for tau in self.release_time_s], np.float32)

    @staticmethod
    def _times(place: Place) -> tuple[float, float]:
        """Seconds since the end of the exposure before, and of this exposure."""
        at = place.window.frames.start
        exposure_s = place.grid.column("exposure_s")
        if at == 0:
            return 0.0, float(exposure_s[at])
        start = place.grid.column("start")
        since_s = float((start[at] - start[at - 1]) / np.timedelta64(1, "ns")) * 1e-9
        return max(0.0, since_s - float(exposure_s[at - 1])), float(exposure_s[at])

    def peak_bytes(self, window: Window, planes: Mapping[str, Plane]) -> int:
        return 8 * window.pixels

    def state_bytes(self, window: Window) -> int:
        return 4 * len(self.capture) * len(window.y) * len(window.x)

    @classmethod
    def examples(cls) -> tuple[Persistence, ...]:
        return (
            cls(full_well_e=1000.0, horizon_frames=2, period_frames=2),
            cls(
                full_well_e=1000.0,
                capture=(0.01, 0.02),
                release_time_s=(10.0, 300.0),
                horizon_frames=3,
                period_frames=2,
            ),
        )
