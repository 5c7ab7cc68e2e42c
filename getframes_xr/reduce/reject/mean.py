"""Mean: every sample counts, nothing is rejected; streams, so memory does not grow with the number of frames.

    image = sum w v / sum w,   noise^2 = sum w^2 (v - image)^2 / ((sum w)^2 - sum w^2)

(s^2 / n for equal weights). Sums run relative to the pixel's first sample, in float64, in the order of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from getframes_xr.core.patch import Array
from getframes_xr.engine.collapse import Collapsed, Samples, StreamingRule
from getframes_xr.engine.lanes import accumulate, combine_sums, finish_sums

SUMS = ("sum_w", "sum_ww", "sum_wd", "sum_wwd", "sum_wwdd")  # of ``engine.lanes.accumulate``


@dataclass
class MeanState:
    """Running sums of some pixels (see ``engine.lanes.accumulate``)."""

    sums: Array
    shift: Array
    count: Array
    limit: Array


class Mean(StreamingRule):
    """The weighted mean of all samples."""

    kind: Literal["mean"] = "mean"

    def start(self, pixels: int) -> MeanState:
        everything = np.full(pixels, np.finfo(np.float64).max)
        return MeanState(np.zeros((5, pixels)), np.full(pixels, np.nan), np.zeros(pixels, np.int32), everything)

    def add(self, state: MeanState, samples: Samples) -> None:
        n = samples.values.shape[0]
        weights = np.ones(n) if samples.weights is None else samples.weights
        accumulate(
            samples.values, samples.missing, weights, -state.limit, state.limit, state.shift, state.sums, state.count
        )

    def combine(self, left: MeanState, right: MeanState) -> MeanState:
        combine_sums(right.sums, right.shift, right.count, left.sums, left.shift, left.count)
        return left

    sums: ClassVar[Mapping[str, str]] = dict.fromkeys(SUMS, "f8") | {"shift": "f8", "number": "i4"}

    def pack(self, state: MeanState) -> dict[str, Array]:
        return dict(zip(SUMS, state.sums, strict=True)) | {"shift": state.shift, "number": state.count}

    def unpack(self, vectors: Mapping[str, Array]) -> MeanState:
        sums = np.stack([vectors[name] for name in SUMS])
        everything = np.full(sums.shape[1], np.finfo(np.float64).max)
        return MeanState(sums, vectors["shift"].copy(), vectors["number"].copy(), everything)

    def finish(self, state: MeanState) -> Collapsed:
        out = Collapsed.empty(len(state.count))
        finish_sums(state.sums, state.shift, state.count, out.value, out.noise, out.weight)
        out.count = out.coverage = state.count
        return out

    @classmethod
    def examples(cls) -> tuple[Mean, ...]:
        return (cls(),)
