"""Min-max: drop the ``low`` lowest and the ``high`` highest samples, average the rest.

    noise^2 = SSD_w / (h (h - 1)),   SSD_w: squared deviations with every dropped sample put at its nearest kept one

h samples are kept (Tukey & McLaughlin 1963): the tails cut off do not make the result look too sure. Where no more than
low + high samples are there, nothing is dropped.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.engine.collapse import Lanes, WholeTimeRule


@kernel
def trim_lanes(low: Array, high: Array, share_low: float, share_high: float, drop_low: int, drop_high: int) -> None:
    """Drop floor(share * n) + drop samples of every lane on either side; nothing where none would stay."""
    for g in range(low.shape[0]):
        for lane in range(low.shape[1]):
            n = high[g, lane] - low[g, lane]
            below = np.int32(drop_low + np.int64(np.floor(share_low * n)))
            above = np.int32(drop_high + np.int64(np.floor(share_high * n)))
            if below + above < n:
                low[g, lane] += below
                high[g, lane] -= above


@kernel
def inflate_trimmed(
    blocks: Array,
    valid: Array,
    low: Array,
    high: Array,
    centre: Array,
    total: Array,
    square: Array,
    variance: Array,
    inflation: Array,
) -> None:
    """Turn the variance of the kept samples into the winsorised one, and say by what factor it grew."""
    for g in range(low.shape[0]):
        for lane in range(low.shape[1]):
            first, last = low[g, lane], high[g, lane]
            kept = np.float64(last - first)
            if last - first < 2:
                inflation[g, lane] = 1.0
                continue
            below = np.float64(blocks[g, first, lane]) - centre[g, lane]
            above = np.float64(blocks[g, last - 1, lane]) - centre[g, lane]
            n_below = np.float64(first)
            n_above = np.float64(valid[g, lane] - last)
            t = total[g, lane] + n_below * below + n_above * above
            s = square[g, lane] + n_below * below * below + n_above * above * above
            spread = s - t * t / np.float64(valid[g, lane])
            winsorised = (spread if spread > 0.0 else 0.0) / (kept - 1.0)
            inflation[g, lane] = winsorised / variance[g, lane] if variance[g, lane] > 0.0 else 1.0
            variance[g, lane] = winsorised


def trimmed_means(lanes: Lanes, share: tuple[float, float], drop: tuple[int, int]) -> None:
    """Trim the lanes and take the means with Tukey and McLaughlin's variance."""
    trim_lanes(lanes.low, lanes.high, share[0], share[1], drop[0], drop[1])
    lanes.about_medians()
    lanes.take_means()
    inflate_trimmed(
        lanes.blocks, lanes.valid, lanes.low, lanes.high, lanes.centre, lanes.total, lanes.square, lanes.variance,
        lanes.inflation,
    )  # fmt: skip


class MinMax(WholeTimeRule):
    """Drop the ``low`` lowest and the ``high`` highest samples of every pixel."""

    kind: Literal["min_max"] = "min_max"
    low: Annotated[int, Field(ge=0, le=10_000)] = 1
    high: Annotated[int, Field(ge=0, le=10_000)] = 1

    def choose(self, lanes: Lanes) -> None:
        trimmed_means(lanes, (0.0, 0.0), (self.low, self.high))

    @classmethod
    def examples(cls) -> tuple[MinMax, ...]:
        return cls(), cls(low=0, high=2)
