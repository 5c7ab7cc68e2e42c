"""Residuals: what every frame has more than the first image, in square bins of the frame.

Of each unflagged pixel v - P (P bilinear) is added to its bin where the place is quiet: at least three groups of
the first image know it, and the first image differs by less than the noise of a raw pixel within 3 x 3 (no stars,
no steep nebula); clipped at +-4 sigma, all colours together. A bin meets its samples in one order (blocks of the
frame, colour phases, rows), so its bytes do not depend on the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.mapping import Affine
from getframes_xr.core.patch import Array, Patch, by_band
from getframes_xr.core.vocabulary import UNUSABLE, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every, some
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.reduce.splat.deposit import BLOCK_PX
from getframes_xr.reduce.splat.moves import Moves
from getframes_xr.reduce.splat.tiles import MARGIN_PX, FramePart

TILE_PX = 512
FRAMES_PER_TASK = 8  # they share the first image under a tile
TASK_PIXELS = 2**19  # of the frames of one task, where they are small
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
        return frames_per_task(self.clean.grid, FRAMES_PER_TASK), -1, -1

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


def frames_per_task(grid: Grid, fewest: int, bin_px: int = 1) -> int:
    """How many frames a task takes: some, and more of small ones, for a task costs a millisecond by itself."""
    pixels = len(grid.y) * len(grid.x) * bin_px**2
    return max(fewest, TASK_PIXELS // max(1, pixels))
