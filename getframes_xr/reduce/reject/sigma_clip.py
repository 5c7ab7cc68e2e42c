"""Sigma clipping: drop samples farther than kappa standard deviations from the median, until none is.

    keep |v - median| <= kappa * std,   std = sqrt(mean((v - mean)^2)) of what is still kept,   at most maxiters times

The samples kept are those of ``astropy.stats.sigma_clip(cenfunc="median", stdfunc="std")``. On sorted samples a round
moves two pointers inward and subtracts what it passes from the running sums. One enormous outlier among N samples can
be rejected only if N / sqrt(N - 1) > kappa: N >= 9 at 3 sigma; take ``NoiseModel`` below that. Clipping takes the tails
of good samples too; the noise is corrected for that by 1 / (1 - 2 k phi(k) / (2 Phi(k) - 1)), 1.027 in variance at 3.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.engine.collapse import Lanes, WholeTimeRule
from getframes_xr.engine.lanes import everything, median_of_lane


@kernel
def clip_lanes(
    blocks: Array, low: Array, high: Array, centre: Array, total: Array, square: Array,
    kappa_low: float, kappa_high: float, rounds: int,
) -> None:  # fmt: skip
    """Move low and high (groups, lanes) of sorted blocks inward; the moments about ``centre`` follow.

    The first round looks at all lanes in vectors, the others only at lanes that lost a sample in the round before.
    """
    n, lanes = blocks.shape[1], blocks.shape[2]
    bound_low = np.empty(lanes, np.float64)
    bound_high = np.empty(lanes, np.float64)
    middle = np.empty(lanes, np.float64)
    beyond = np.empty(lanes, np.bool_)
    active = np.empty(lanes, np.int64)
    for g in range(blocks.shape[0]):
        b, c, t, s, lo, hi = blocks[g], centre[g], total[g], square[g], low[g], high[g]
        for lane in range(lanes):
            middle[lane] = c[lane]
            kept = np.float64(hi[lane] - lo[lane])
            mean = t[lane] / kept
            variance = s[lane] / kept - mean * mean
            deviation = np.sqrt(variance if variance > 0.0 else 0.0)
            bound_low[lane] = c[lane] - kappa_low * deviation
            bound_high[lane] = c[lane] + kappa_high * deviation
            beyond[lane] = hi[lane] > lo[lane]
        if everything(lo, hi, n):
            lowest, highest = b[0], b[n - 1]
            for lane in range(lanes):
                below = np.float64(lowest[lane]) < bound_low[lane]
                beyond[lane] = below | (np.float64(highest[lane]) > bound_high[lane])
        n_active = 0
        for lane in range(lanes):
            if beyond[lane]:
                active[n_active] = lane
                n_active += 1
        for turn in range(rounds):
            n_moved = 0
            for at in range(n_active):
                lane = active[at]
                first, last, before = lo[lane], hi[lane], s[lane]
                if turn > 0:
                    kept = np.float64(last - first)
                    mean = t[lane] / kept
                    variance = s[lane] / kept - mean * mean
                    deviation = np.sqrt(variance if variance > 0.0 else 0.0)
                    bound_low[lane] = middle[lane] - kappa_low * deviation
                    bound_high[lane] = middle[lane] + kappa_high * deviation
                while first < last and np.float64(b[first, lane]) < bound_low[lane]:
                    d = np.float64(b[first, lane]) - c[lane]
                    t[lane] -= d
                    s[lane] -= d * d
                    first += 1
                while last > first and np.float64(b[last - 1, lane]) > bound_high[lane]:
                    d = np.float64(b[last - 1, lane]) - c[lane]
                    t[lane] -= d
                    s[lane] -= d * d
                    last -= 1
                if first != lo[lane] or last != hi[lane]:
                    lo[lane] = first
                    hi[lane] = last
                    if s[lane] < 1e-6 * before:  # what is left of the sums is rounding of what was taken off
                        t[lane] = 0.0
                        s[lane] = 0.0
                        for r in range(first, last):
                            d = np.float64(b[r, lane]) - c[lane]
                            t[lane] += d
                            s[lane] += d * d
                    middle[lane] = median_of_lane(b, first, last, lane)
                    if last > first:
                        active[n_moved] = lane
                        n_moved += 1
            n_active = n_moved
            if n_active == 0:
                break


def truncation(kappa_low: float, kappa_high: float) -> float:
    """Variance of a Gaussian over that within -kappa_low..kappa_high sigma; rounded so that libm cannot show."""

    def density(z: float) -> float:
        return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)

    inside = 0.5 * (math.erf(kappa_high / math.sqrt(2.0)) + math.erf(kappa_low / math.sqrt(2.0)))
    mean = (density(kappa_low) - density(kappa_high)) / inside
    second = 1.0 - (kappa_low * density(kappa_low) + kappa_high * density(kappa_high)) / inside
    return round(1.0 / (second - mean * mean) * 2**20) / 2**20


class SigmaClip(WholeTimeRule):
    """Clip at ``kappa`` standard deviations about the median, at most ``maxiters`` times."""

    kind: Literal["sigma_clip"] = "sigma_clip"
    kappa: Annotated[float, Field(ge=1.0, le=100.0)] = 3.0
    kappa_low: Annotated[float, Field(ge=1.0, le=100.0)] | None = None  # below the median; ``kappa`` if not given
    maxiters: Annotated[int, Field(ge=1, le=100)] = 5
    fewest: ClassVar[int] = 9

    def choose(self, lanes: Lanes) -> None:
        below = self.kappa if self.kappa_low is None else self.kappa_low
        lanes.about_medians()
        moments = (lanes.centre, lanes.total, lanes.square)
        clip_lanes(lanes.blocks, lanes.low, lanes.high, *moments, below, self.kappa, self.maxiters)
        lanes.take_means(truncation(below, self.kappa))

    @classmethod
    def examples(cls) -> tuple[SigmaClip, ...]:
        return (cls(), cls(kappa=2.0, kappa_low=4.0, maxiters=1))
