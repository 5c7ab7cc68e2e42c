"""Winsorised sigma clipping: the standard deviation is taken after pulling outliers in, so they cannot hide each other.

    v' = clip(v, m - 1.5 s, m + 1.5 s),   s <- 1.134 std(v')   until s stays within 0.05 %       (Huber's proposal)
    keep |v - m| <= kappa s,   m the median of what is still kept,   at most maxiters times

1.134 makes s right for Gaussian samples. Works from about 5 frames on; the way of PixInsight and Siril.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.engine.collapse import Lanes, WholeTimeRule
from getframes_xr.engine.lanes import median_of_lane
from getframes_xr.reduce.reject.sigma_clip import truncation

PULL = 1.5  # standard deviations kept free
GAUSSIAN = 1.134  # 1 / std of a Gaussian clipped at 1.5 sigma
MOST_PULLS = 20


@kernel
def huber_deviation(block: Array, first: int, last: int, lane: int, middle: float, start: float) -> float:
    """Winsorised standard deviation of the ranks first <= r < last of one sorted lane about its median."""
    deviation: float = start
    n = np.float64(last - first)
    for _ in range(MOST_PULLS):
        low = middle - PULL * deviation
        high = middle + PULL * deviation
        total = 0.0
        square = 0.0
        for r in range(first, last):
            v: float = np.float64(block[r, lane])
            v = low if v < low else (high if v > high else v)
            d = v - middle
            total += d
            square += d * d
        spread = (square - total * total / n) / (n - 1.0)
        following = GAUSSIAN * np.sqrt(spread if spread > 0.0 else 0.0)
        close = abs(following - deviation) <= 0.0005 * deviation
        deviation = following
        if close:
            break
    return deviation


@kernel
def winsor_lanes(blocks: Array, low: Array, high: Array, centre: Array, kappa: float, rounds: int) -> None:
    """Move low and high (groups, lanes) of sorted blocks inward; ``centre`` becomes the median of what is kept."""
    lanes = blocks.shape[2]
    for g in range(blocks.shape[0]):
        b = blocks[g]
        for lane in range(lanes):
            first, last = low[g, lane], high[g, lane]
            middle = median_of_lane(b, first, last, lane)
            for _ in range(rounds):
                if last - first < 3:
                    break
                # first guess: the median absolute deviation from the median's own ranks, half the samples' width
                quarter = (last - first) >> 2
                width = np.float64(b[last - 1 - quarter, lane]) - np.float64(b[first + quarter, lane])
                start = width / 1.349 if width > 0.0 else np.float64(b[last - 1, lane]) - np.float64(b[first, lane])
                deviation = huber_deviation(b, first, last, lane, middle, start)
                before = last - first
                while first < last and np.float64(b[first, lane]) < middle - kappa * deviation:
                    first += 1
                while last > first and np.float64(b[last - 1, lane]) > middle + kappa * deviation:
                    last -= 1
                if last - first == before:
                    break
                middle = median_of_lane(b, first, last, lane)
            low[g, lane] = first
            high[g, lane] = last
            centre[g, lane] = middle


class Winsor(WholeTimeRule):
    """Clip at ``kappa`` winsorised standard deviations about the median, at most ``maxiters`` times."""

    kind: Literal["winsor"] = "winsor"
    kappa: Annotated[float, Field(ge=1.0, le=100.0)] = 3.0
    maxiters: Annotated[int, Field(ge=1, le=100)] = 5

    def choose(self, lanes: Lanes) -> None:
        winsor_lanes(lanes.blocks, lanes.low, lanes.high, lanes.centre, self.kappa, self.maxiters)
        lanes.about_centre()
        lanes.take_means(truncation(self.kappa, self.kappa))
