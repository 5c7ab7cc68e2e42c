"""What the frames' residual bins share: at one place of the sky, and at one place of the detector. It is no trail.

What they share at one place of the sky is the mean of all on a canvas grid of the same bins, after a plane per frame:
borders of other frames, faint stars. What they share at one place of the detector, level + slope x sky, is glow, rows
that differ, what vignetting leaves at the edges. Sums run in the order of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch, frozen
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, every
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.reduction import BLOCK_RANKS, Batch, Reduction
from getframes_xr.reduce.canvas import canvas_spans
from getframes_xr.reduce.splat.moves import Moves

FEWEST_FOR_DETECTOR = 5  # with fewer frames a trail of one would be taken for the detector
FEWEST_FOR_SLOPE = 12
OUTLIER = 3.0  # robust sigma


def without_plane(sums: Array, samples: Array) -> tuple[Array, Array]:
    """Means of the bins minus their plane over the frame.

    Parameters
    ----------
    sums, samples : (row, column)

    Returns
    -------
    float32 (row, column) minus the plane, 0 where empty; and the plane, float32 (row, column)
    """
    rows, columns = sums.shape
    weights = samples.astype(np.float64)
    means = np.where(samples > 0, sums / np.maximum(samples, 1), 0.0)
    y, x = np.mgrid[:rows, :columns]
    terms = np.stack([np.ones(sums.size), y.ravel() - (rows - 1) / 2, x.ravel() - (columns - 1) / 2])
    weighted = terms * weights.ravel()
    normal = weighted @ terms.T
    if np.linalg.matrix_rank(normal) < 3:
        return means.astype(np.float32), np.zeros(sums.shape, np.float32)
    plane = (np.linalg.solve(normal, weighted @ means.ravel()) @ terms).reshape(sums.shape)
    return np.where(samples > 0, means - plane, 0.0).astype(np.float32), plane.astype(np.float32)


@kernel
def spread(
    means: Array, samples: Array, move: Array, bin_px: int, bin_y: int, bin_x: int, top: int, left: int, over: Array,
    under: Array,
) -> None:  # fmt: skip
    """Add the bins of one frame to a canvas grid of the same bins, bilinearly.

    Parameters
    ----------
    means, samples : float32, uint16 (row, column) of the frame's bins that begin at bin (bin_y, bin_x)
    move : float64 (2, 3), frame -> canvas [px]
    top, left : first bin of the canvas grid
    over, under : float64 (row, column), sums of n * mean and n, added to
    """
    half = 0.5 * (bin_px - 1)
    for row in range(means.shape[0]):
        for column in range(means.shape[1]):
            if samples[row, column] > 0:
                y = (row + bin_y) * bin_px + half
                x = (column + bin_x) * bin_px + half
                at_y = (move[0, 0] * y + move[0, 1] * x + move[0, 2] - half) / bin_px - top
                at_x = (move[1, 0] * y + move[1, 1] * x + move[1, 2] - half) / bin_px - left
                j, i = np.int64(math.floor(at_y)), np.int64(math.floor(at_x))
                for dj in range(2):
                    for di in range(2):
                        share = samples[row, column] * (1 - abs(at_y - j - dj)) * (1 - abs(at_x - i - di))
                        if 0 <= j + dj < over.shape[0] and 0 <= i + di < over.shape[1]:
                            over[j + dj, i + di] += share * means[row, column]
                            under[j + dj, i + di] += share


@kernel
def look_up(common: Array, move: Array, bin_px: int, bin_y: int, bin_x: int, top: int, left: int, out: Array) -> None:
    """Read the canvas grid at the bins of one frame, bilinearly, 0 outside; the inverse of ``spread``."""
    half = 0.5 * (bin_px - 1)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            y = (row + bin_y) * bin_px + half
            x = (column + bin_x) * bin_px + half
            at_y = (move[0, 0] * y + move[0, 1] * x + move[0, 2] - half) / bin_px - top
            at_x = (move[1, 0] * y + move[1, 1] * x + move[1, 2] - half) / bin_px - left
            j, i = np.int64(math.floor(at_y)), np.int64(math.floor(at_x))
            value = 0.0
            for dj in range(2):
                for di in range(2):
                    if 0 <= j + dj < common.shape[0] and 0 <= i + di < common.shape[1]:
                        share = (1 - abs(at_y - j - dj)) * (1 - abs(at_x - i - di))
                        value += share * common[j + dj, i + di]
            out[row, column] = value


@dataclass
class SpreadSums:
    """Sums of n * mean and of n on the canvas grid of bins."""

    over: Array
    under: Array


@dataclass(frozen=True, eq=False)
class CommonBins(Reduction):
    """What the frames share at one place of the sky: mean of all frames' bins on the canvas; y and x count bins."""

    bins: Producer
    moves: Moves
    bin_px: int

    @cached_property
    def grid(self) -> Grid:
        parent = self.bins.grid
        y = Span(parent.y.start * self.bin_px, parent.y.stop * self.bin_px)
        x = Span(parent.x.start * self.bin_px, parent.x.stop * self.bin_px)
        rows, columns = canvas_spans("union", self.moves.transforms, y, x)
        return Grid(
            Span(rows.start // self.bin_px - 1, rows.stop // self.bin_px + 2),
            Span(columns.start // self.bin_px - 1, columns.stop // self.bin_px + 2),
        )

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"mean": Plane(np.dtype(np.float32), self.bins.planes["sum"].units)}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, -1, -1

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        for number in few(range(len(self.moves))):
            yield Batch(number, [bins_of(self.bins, number)])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> SpreadSums:
        shape = (len(self.grid.y), len(self.grid.x))
        return SpreadSums(np.zeros(shape), np.zeros(shape))

    def add(self, state: SpreadSums, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        sums, samples, own = patches[0]["sum"][0], frozen(patches[0]["samples"][0]), asks[0].window
        means, _ = without_plane(sums, samples)
        spread(
            means, samples, self.moves.transforms[asks[0].about], self.bin_px, own.y.start, own.x.start,
            self.grid.y.start, self.grid.x.start, state.over, state.under,
        )  # fmt: skip

    def finish(self, state: SpreadSums, out: Patch) -> None:
        mean = np.where(state.under > 0, state.over / np.maximum(state.under, 1e-12), 0.0).astype(np.float32)
        out["mean"][...] = mean[out.window.y.slice_in(self.grid.y), out.window.x.slice_in(self.grid.x)]

    @property
    def folds(self) -> bool:
        return True

    def combine(self, left: SpreadSums, right: SpreadSums) -> SpreadSums:
        left.over += right.over
        left.under += right.under
        return left

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        one = self.bins.grid.window.with_frames(Span(0, 1))
        fitting = 96 * one.pixels  # the plane, float64
        alive = 2 if len(self.moves) > BLOCK_RANKS else 1
        return (28 + 16 * (alive - 1)) * self.grid.window.pixels + fitting


def bins_of(bins: Producer, number: int) -> Ask:
    """The bins of one whole frame."""
    whole = bins.grid.window
    return Ask(bins, whole.with_frames(Span(number, number + 1)), ("sum", "samples"), shared=True, about=number)


@dataclass
class LeftOver:
    """What every frame has left in its bins (frame, row, column) when what is common on the sky is taken off."""

    left: Array
    common: Array
    background: Array


@dataclass(frozen=True, eq=False)
class DetectorBins(Reduction):
    """What the frames share at one place of the detector: ``level`` + ``slope`` x (sky of the frame - mean sky).

    Glow and rows that differ are constant, what vignetting leaves at the edges goes with the sky. Each bin is fitted
    over all frames, once more without what is far off (trails); what is common on the sky is taken off before.
    """

    bins: Producer
    common: Producer
    moves: Moves
    bin_px: int

    @cached_property
    def grid(self) -> Grid:
        return Grid(self.bins.grid.y, self.bins.grid.x)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {name: Plane(np.dtype(np.float32), self.bins.planes["sum"].units) for name in ("level", "slope")}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, -1, -1

    @cached_property
    def sky(self) -> Array:
        """Sky of each frame about the mean of all, in units of its spread; float64 (frame), 0 where it is steady."""
        level = self.moves.sky[:, :, 0].mean(axis=1)
        spread = level.std()
        steady = len(level) < FEWEST_FOR_SLOPE or not spread > 1e-3 * abs(level.mean())
        sky: Array = np.zeros(len(level)) if steady else (level - level.mean()) / spread
        return sky

    def ground(self, tile: Window, planes: frozenset[str]) -> list[Ask]:
        enough = len(self.moves) >= FEWEST_FOR_DETECTOR
        return [Ask(self.common, self.common.grid.window, ("mean",), keep="common", shared=True)] if enough else []

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        if len(self.moves) >= FEWEST_FOR_DETECTOR:
            for number in few(range(len(self.moves))):
                yield Batch(number, [bins_of(self.bins, number)])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> LeftOver:
        shape = (len(self.grid.y), len(self.grid.x))
        n_frames = len(self.moves) if len(self.moves) >= FEWEST_FOR_DETECTOR else 0
        common = frozen(kept["common"]["mean"]) if n_frames else np.empty((0, 0), np.float32)
        return LeftOver(np.empty((n_frames, *shape), np.float32), common, np.empty(shape, np.float32))

    def add(self, state: LeftOver, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        number, sums, samples = asks[0].about, patches[0]["sum"][0], patches[0]["samples"][0]
        state.left[number] = excess(sums, samples, state.common, self, number, state.background)

    def finish(self, state: LeftOver, out: Patch) -> None:
        level, slope = (np.zeros((len(self.grid.y), len(self.grid.x)), np.float32) for _ in range(2))
        if len(state.left):
            fit_bins(state.left, self.sky, level, slope)
        inside = (out.window.y.slice_in(self.grid.y), out.window.x.slice_in(self.grid.x))
        for name, values in (("level", level), ("slope", slope)):
            if name in out:
                out[name][...] = values[inside]

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        one = self.bins.grid.window.with_frames(Span(0, 1))
        return (4 * len(self.moves) + 96 + 12) * one.pixels + 8 * len(self.moves)


@kernel
def _median(values: Array, n: int) -> float:
    """Give the median of the first n values, which are sorted in place; 0 where there are none."""
    if n == 0:
        return 0.0
    held = values[:n]
    held.sort()
    return held[n // 2] if n % 2 == 1 else 0.5 * (held[n // 2 - 1] + held[n // 2])  # type: ignore[no-any-return]


@kernel
def fit_bins(values: Array, sky: Array, level: Array, slope: Array) -> None:
    """Fit level and slope against the sky to every bin, twice, the second time without outliers.

    Parameters
    ----------
    values : float32 (frame, row, column), NaN where a bin is empty
    sky : float64 (frame)
    level, slope : float32 (row, column), written; 0 where nothing is known
    """
    frames = values.shape[0]
    held = np.empty(frames)
    for row in range(values.shape[1]):
        for column in range(values.shape[2]):
            n_seen = 0
            for frame in range(frames):
                value = np.float64(values[frame, row, column])
                if value == value:
                    held[n_seen] = value
                    n_seen += 1
            base = _median(held, n_seen)
            rise = 0.0
            for _ in range(2):
                n_seen = 0
                for frame in range(frames):
                    value = np.float64(values[frame, row, column])
                    if value == value:
                        held[n_seen] = abs(value - base - sky[frame] * rise)
                        n_seen += 1
                limit = OUTLIER * 1.4826 * _median(held, n_seen)
                n, s, ss, v, sv = 0.0, 0.0, 0.0, 0.0, 0.0
                for frame in range(frames):
                    value = np.float64(values[frame, row, column])
                    if value == value and abs(value - base - sky[frame] * rise) <= limit:
                        n += 1.0
                        s += sky[frame]
                        ss += sky[frame] * sky[frame]
                        v += value
                        sv += sky[frame] * value
                spread = n * ss - s * s
                rise = (n * sv - s * v) / spread if spread > 1e-3 * n * n else 0.0
                base = (v - rise * s) / n if n > 0.0 else 0.0
            level[row, column] = base
            slope[row, column] = rise


def excess(sums: Array, samples: Array, shared: Array, detector: DetectorBins, number: int, background: Array) -> Array:
    """Means of a frame's bins minus their plane and what is common on the sky; NaN where a bin is empty."""
    means, _ = without_plane(sums, samples)
    own, sky = detector.bins.grid, detector.common.grid
    look_up(
        shared, detector.moves.transforms[number], detector.bin_px, own.y.start, own.x.start, sky.y.start,
        sky.x.start, background,
    )  # fmt: skip
    return np.where(samples > 0, means - background, np.float32(np.nan))
