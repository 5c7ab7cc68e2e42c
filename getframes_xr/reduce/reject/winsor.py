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
from getframes_xr.engine.lanes import median_of_lane, medians
from getframes_xr.reduce.reject.sigma_clip import truncation

PULL = 1.5  # standard deviations kept free
GAUSSIAN = 1.134  # 1 / std of a Gaussian clipped at 1.5 sigma
MOST_PULLS = 20
CLOSE = 0.0005


@kernel
def first_guess(block: Array, first: int, last: int, lane: int) -> float:
    """Deviation from the interquartile range of the ranks first <= r < last, or from the whole range where it is 0."""
    quarter = (last - first) >> 2
    width = np.float64(block[last - 1 - quarter, lane]) - np.float64(block[first + quarter, lane])
    return width / 1.349 if width > 0.0 else np.float64(block[last - 1, lane]) - np.float64(block[first, lane])


@kernel
def huber_of_lane(block: Array, first: int, last: int, lane: int, middle: float, start: float) -> float:
    """Winsorised standard deviation of the ranks first <= r < last of one sorted lane about its median."""
    deviation: float = np.float64(start)
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
        close = abs(following - deviation) <= CLOSE * deviation
        deviation = following
        if close:
            break
    return deviation


@kernel
def huber_of_lanes(block: Array, high: Array, middle: Array, deviation: Array) -> None:
    """``huber_of_lane`` of the ranks 0 <= r < high of all lanes side by side; ``deviation`` holds first guesses."""
    n, lanes = block.shape
    total, square = np.empty(lanes, np.float64), np.empty(lanes, np.float64)
    below, above = np.empty(lanes, np.float64), np.empty(lanes, np.float64)
    open_ = np.ones(lanes, np.bool_)
    for _ in range(MOST_PULLS):
        for lane in range(lanes):
            below[lane] = middle[lane] - PULL * deviation[lane]
            above[lane] = middle[lane] + PULL * deviation[lane]
            total[lane] = 0.0
            square[lane] = 0.0
        for r in range(n):
            row = block[r]
            rank = np.int32(r)
            for lane in range(lanes):
                v = np.float64(row[lane])
                v = below[lane] if v < below[lane] else v
                v = above[lane] if v > above[lane] else v
                d = v - middle[lane] if rank < high[lane] else 0.0
                total[lane] += d
                square[lane] += d * d
        some_open = False
        for lane in range(lanes):
            kept = np.float64(high[lane])
            spread = (square[lane] - total[lane] * total[lane] / kept) / (kept - 1.0)
            following = GAUSSIAN * np.sqrt(spread if spread > 0.0 else 0.0)
            close = abs(following - deviation[lane]) <= CLOSE * deviation[lane]
            deviation[lane] = following if open_[lane] else deviation[lane]
            open_[lane] = open_[lane] & (not close)
            some_open |= open_[lane] & (high[lane] > 2)
        if not some_open:
            break


@kernel
def winsor_lanes(blocks: Array, low: Array, high: Array, centre: Array, kappa: float, rounds: int) -> None:
    """Move low and high (groups, lanes) of sorted blocks inward; ``centre`` holds the medians, and again at the end.

    The first round is done in vectors over all lanes, the others only for lanes that lost a sample.
    """
    lanes = blocks.shape[2]
    deviations = np.empty(lanes, np.float64)
    for g in range(blocks.shape[0]):
        b, c, lo, hi = blocks[g], centre[g], low[g], high[g]
        for lane in range(lanes):
            deviations[lane] = first_guess(b, lo[lane], hi[lane], lane) if hi[lane] > 0 else 0.0
        huber_of_lanes(b, hi, c, deviations)
        for lane in range(lanes):
            first, last, middle, deviation = lo[lane], hi[lane], c[lane], deviations[lane]
            for turn in range(rounds):
                if last - first < 3:
                    break
                if turn > 0:
                    deviation = huber_of_lane(b, first, last, lane, middle, first_guess(b, first, last, lane))
                before = last - first
                while first < last and np.float64(b[first, lane]) < middle - kappa * deviation:
                    first += 1
                while last > first and np.float64(b[last - 1, lane]) > middle + kappa * deviation:
                    last -= 1
                if last - first == before:
                    break
                middle = median_of_lane(b, first, last, lane)
            lo[lane] = first
            hi[lane] = last
            c[lane] = middle


class Winsor(WholeTimeRule):
    """Clip at ``kappa`` winsorised standard deviations about the median, at most ``maxiters`` times."""

    kind: Literal["winsor"] = "winsor"
    kappa: Annotated[float, Field(ge=1.0, le=100.0)] = 3.0
    maxiters: Annotated[int, Field(ge=1, le=100)] = 5

    def choose(self, lanes: Lanes) -> None:
        medians(lanes.blocks, lanes.low, lanes.high, lanes.centre)
        winsor_lanes(lanes.blocks, lanes.low, lanes.high, lanes.centre, self.kappa, self.maxiters)
        lanes.about_centre()
        lanes.take_means(truncation(self.kappa, self.kappa))

    @classmethod
    def examples(cls) -> tuple[Winsor, ...]:
        return cls(), cls(kappa=2.0, maxiters=1)
