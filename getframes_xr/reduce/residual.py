"""Residuals: what every frame has more than the first image, in square bins of the frame.

Of each unflagged pixel v - P (P bilinear) is added to its bin where the place is quiet: at least three groups of
the first image know it, and the first image differs by less than the noise of a raw pixel within 3 x 3 (no stars,
no steep nebula); clipped at +-4 sigma, all colours together. The bins that all frames share at one place of the sky
(their mean on a canvas grid of the same bins, after a plane per frame) are no trail: borders of other frames, faint
stars. Nor is what they share at one place of the detector. A bin meets its samples in one order
(blocks of the frame, colour phases, rows), so its bytes do not depend on the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.mapping import Affine
from getframes_xr.core.patch import Array, Patch, by_band, frozen
from getframes_xr.core.vocabulary import UNUSABLE, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every, some
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.engine.reduction import BLOCK_RANKS, Batch, Reduction
from getframes_xr.reduce.canvas import MARGIN_PX, FramePart, canvas_spans
from getframes_xr.reduce.deposit import BLOCK_PX
from getframes_xr.reduce.moves import Moves

TILE_PX = 512
FRAMES_PER_TASK = 8  # they share the first image under a tile
MOST_HULL = 1.5  # of the area one frame needs, that the shared part may take
CLIP_SIGMA = 4.0  # of a raw pixel
LEAST_GROUPS = 3  # valid groups of the first image


@kernel
def local_contrast(first: Array, out: Array) -> None:
    """Give max - min of the first image within 3 x 3, NaN ignored (-inf where all are NaN).

    Parameters
    ----------
    first : float32 (row, column)
    out : float32 (row, column), written
    """
    rows, columns = first.shape
    low = np.full(columns + 2, np.float32(math.inf))
    high = np.full(columns + 2, np.float32(-math.inf))
    for j in range(rows):
        upper, line, lower = first[max(0, j - 1)], first[j], first[min(rows - 1, j + 1)]
        for i in range(columns):
            least, most = np.float32(math.inf), np.float32(-math.inf)
            least = upper[i] if upper[i] < least else least
            most = upper[i] if upper[i] > most else most
            least = line[i] if line[i] < least else least
            most = line[i] if line[i] > most else most
            low[i + 1] = lower[i] if lower[i] < least else least
            high[i + 1] = lower[i] if lower[i] > most else most
        for i in range(columns):
            least = low[i] if low[i] < low[i + 1] else low[i + 1]
            most = high[i] if high[i] > high[i + 1] else high[i + 1]
            least = low[i + 2] if low[i + 2] < least else least
            most = high[i + 2] if high[i + 2] > most else most
            out[j, i] = most - least


@kernel
def add_residuals(
    sums: Array, counts: Array, bin_shift: int, bin_y: int, bin_x: int, image: Array, flags: Array, y_start: int,
    x_start: int, move: Array, phases: Array, step: int, sky: Array, centre: Array, rate: float, sigmas: Array,
    bad: int, first: Array, steep: Array, top: int, left: int,
) -> None:  # fmt: skip
    """Add v - P of the quiet pixels of a frame's window, clipped at 4 sigma, to square bins of the frame.

    Parameters
    ----------
    sums, counts : float32 and uint16 (bin row, bin column), added to; [0, 0] is the bin (bin_y, bin_x) of the frame
    bin_shift : int, bins are 2^bin_shift px wide
    image, flags, y_start, x_start, move, phases, step, sky, centre, rate, bad : as in ``deposit_plain``
    sigmas : float32 (band), sqrt(V'): a pixel is quiet where the first image differs by less in 3 x 3
    first, steep : float32 (band, row, column), the first image and its contrast; [0, 0] is the canvas pixel
        (top, left); NaN is left out
    """
    one = np.float32(1.0)
    rows, columns = np.uint64(first.shape[1] - 3), np.uint64(first.shape[2] - 3)
    half = np.float32(0.5)
    zero = np.float32(0.0)
    next_one = np.uint64(1)
    line = np.uint64(first.shape[2])
    y_stop, x_stop = y_start + image.shape[0], x_start + image.shape[1]
    for block_y in range(y_start // BLOCK_PX * BLOCK_PX, y_stop, BLOCK_PX):
        y_low, y_high = max(block_y, y_start), min(block_y + BLOCK_PX, y_stop)
        for block_x in range(x_start // BLOCK_PX * BLOCK_PX, x_stop, BLOCK_PX):
            x_low, x_high = max(block_x, x_start), min(block_x + BLOCK_PX, x_stop)
            for phase in range(phases.shape[0]):
                band = phases[phase, 2]
                sigma = sigmas[band]
                most = np.float32(CLIP_SIGMA) * sigma
                expected_at = first[band].reshape(-1)
                contrast_at = steep[band].reshape(-1)
                for y in range(y_low + (phases[phase, 0] - y_low) % step, y_high, step):
                    row_y = move[0, 0] * y + move[0, 2]
                    row_x = move[1, 0] * y + move[1, 2]
                    row_sky = sky[band, 0] + sky[band, 1] * (y - centre[0])
                    values = image[y - y_start]
                    marks = flags[y - y_start]
                    sum_row, count_row = sums[(y >> bin_shift) - bin_y], counts[(y >> bin_shift) - bin_y]
                    for x in range(x_low + (phases[phase, 1] - x_low) % step, x_high, step):
                        column = np.uint64(x - x_start)
                        if marks[column] & bad:
                            continue
                        at_y = row_y + move[0, 1] * x
                        at_x = row_x + move[1, 1] * x
                        floor_y = math.floor(at_y)
                        floor_x = math.floor(at_x)
                        j = np.uint64(np.int64(floor_y) - top - 1)
                        i = np.uint64(np.int64(floor_x) - left - 1)
                        if j >= rows or i >= columns:
                            continue
                        below = np.float32(at_y - floor_y)
                        right = np.float32(at_x - floor_x)
                        k = (j + next_one) * line + i + next_one
                        upper = (one - right) * expected_at[k] + right * expected_at[k + next_one]
                        lower = (one - right) * expected_at[k + line] + right * expected_at[k + line + next_one]
                        expected = (one - below) * upper + below * lower
                        level = row_sky + sky[band, 2] * (x - centre[1])
                        difference = np.float32((values[column] - level) * rate) - expected
                        if below >= half:
                            k += line
                        if right >= half:
                            k += next_one
                        # no branch: which pixel is quiet cannot be foreseen (NaN is not quiet)
                        quiet = contrast_at[k] <= sigma and difference == difference
                        clipped = min(max(difference, -most), most)
                        at = np.uint64((x >> bin_shift) - bin_x)
                        sum_row[at] += clipped if quiet else zero
                        count_row[at] += np.uint16(1) if quiet else np.uint16(0)


@dataclass(frozen=True, eq=False)
class ResidualBins(Producer):
    """Residuals of every used frame in square bins: planes ``sum`` and ``samples``; y and x count bins.

    Parameters
    ----------
    clean : Producer with time, planes ``image`` and ``flags``
    first : the first image (Held)
    moves : Moves of the used frames
    bin_px : int, edge of a bin; bins lie on multiples of it
    """

    clean: Producer
    first: Producer
    moves: Moves
    bin_px: int

    @cached_property
    def grid(self) -> Grid:
        frames = self.clean.grid
        y = Span(frames.y.start // self.bin_px, -(-frames.y.stop // self.bin_px))
        x = Span(frames.x.start // self.bin_px, -(-frames.x.stop // self.bin_px))
        return Grid(y, x, {"frame": self.moves.frames})

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        units = self.clean.planes["image"].units
        return {"sum": Plane(np.dtype(np.float32), units), "samples": Plane(np.dtype(np.uint16), "")}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return FRAMES_PER_TASK, -1, -1

    def _tiles(self, window: Window) -> list[tuple[Span, Span]]:
        """The frame's pixels under a window of bins, cut on multiples of the tile."""
        frames, tile = self.clean.grid, TILE_PX
        y = Span(window.y.start * self.bin_px, window.y.stop * self.bin_px).clip(frames.y)
        x = Span(window.x.start * self.bin_px, window.x.stop * self.bin_px).clip(frames.x)
        rows = [Span(at, at + tile).clip(y) for at in range(y.start // tile * tile, y.stop, tile)]
        columns = [Span(at, at + tile).clip(x) for at in range(x.start // tile * tile, x.stop, tile)]
        return [(row, column) for row in rows for column in columns]

    def _under(self, number: int, y: Span, x: Span) -> Window:
        """The window of the first image that a tile of a frame sees."""
        sky = self.first.grid
        move = Affine(self.moves.transforms[number : number + 1])
        top, bottom, left, right = move.under(y, x, sky.y, sky.x, MARGIN_PX)[0].tolist()
        return Window(Span(0, 1), Span(top, bottom), Span(left, right))

    def _shared(self, frames: Sequence[int], y: Span, x: Span) -> list[tuple[list[int], Window]]:
        """Frames that look at nearly the same part of the first image from one tile, with that part."""
        found: list[tuple[list[int], Window]] = []
        for number in frames:
            own = self._under(number, y, x)
            if found:
                together = found[-1][1].hull(own)
                if together.pixels <= MOST_HULL * own.pixels:
                    found[-1] = ([*found[-1][0], number], together)
                    continue
            found.append(([number], own))
        return found

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        tiles = self._tiles(window)
        for y, x in few(tiles, [len(y) * len(x) for y, x in tiles]):
            shared = self._shared(few(range(window.frames.start, window.frames.stop)), y, x)
            for numbers, under in few(shared, [under.pixels for _, under in shared]):
                yield Ask(self.first, under, ("image", "count"), keep="first")
                for number in few(numbers):
                    at = int(self.moves.positions[number])
                    yield Ask(self.clean, Window(Span(at, at + 1), y, x), with_flags(self.clean, "image"), about=number)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        sums = np.zeros(self.grid.shape(window), np.float32)
        samples = np.zeros(sums.shape, np.uint16)
        for ask, patch in given:
            if ask.keep == "first":
                self._look_at(patch)
            elif min(given.kept["first"].window.shape[1:]) >= 4:
                at = ask.about - window.frames.start
                self._add(FramePart.of(ask, patch), window, given.kept["first"], sums[at], samples[at])
        return Patch(window, {"sum": sums, "samples": samples}).only(planes)

    def _look_at(self, first: Patch) -> None:
        """Make the first image NaN where fewer than three groups know the place, and put its contrast beside it."""
        image = by_band(first["image"])
        image[by_band(first["count"]) < LEAST_GROUPS] = np.nan
        first["steep"] = steep = np.empty_like(image)
        for band in range(len(image)):
            local_contrast(image[band], steep[band])

    def _add(self, part: FramePart, window: Window, first: Patch, sums: Array, samples: Array) -> None:
        moves, n, sky = self.moves, part.number, first.window
        add_residuals(
            sums, samples, self.bin_px.bit_length() - 1, window.y.start, window.x.start, part.image, part.flags, part.y,
            part.x, moves.transforms[n], moves.phases, moves.step, moves.sky[n], moves.centre,
            1.0 / moves.transparency[n], np.sqrt(moves.variances[n]).astype(np.float32), UNUSABLE,
            by_band(first["image"]), first["steep"], sky.y.start, sky.x.start,
        )  # fmt: skip

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        asks = list(self.inputs(window, planes, some))
        shared = max((ask.window.pixels for ask in asks if ask.keep == "first"), default=0)
        frame = max((ask.window.pixels for ask in asks if ask.keep is None), default=0)
        other = self.clean.planes["image"].dtype != np.float32
        copies = frame * (4 * other + 2 * ("flags" not in self.clean.planes))
        # the contrast of the first image, and where its count is low
        return len(self.moves.bands) * shared * (4 + 1) + copies + self.bytes_of(window, set(self.planes) - planes)


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


FEWEST_FOR_DETECTOR = 5  # with fewer frames a trail of one would be taken for the detector
FEWEST_FOR_SLOPE = 12
OUTLIER = 3.0  # robust sigma


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
