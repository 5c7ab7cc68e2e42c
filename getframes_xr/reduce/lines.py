"""Lines: trails of satellites and aeroplanes, found in what a frame has more than the first image.

A faint trail hides from every rule that looks at one pixel, yet summed along its line it stands far above the noise.
Residuals v - P of quiet pixels are summed in 8 x 8 px bins; what all frames share at one place of the sky is no trail and
is taken out; the clipped significance of the bins is summed along all lines (432 angles, Radon), 1 and 2 bins wide, minus
the bins at +-2..4 beside. Above Z = 7 the line is refined on 2 x 2 px bins (centroids in pieces, straight fit) and masked
across the frame with the half width

    1 + s sqrt(2 ln(max(5, 3 A) / 0.3)) px,   s = 1.155 FWHM / 2.355,   A the peak in tenths of the noise of a raw pixel,

where the profile has fallen far below the noise of a stack; then the next line, at most 4 per frame. Lines are written
x cos(angle) + y sin(angle) = offset in absolute pixels of the frame. Source: the recipe of docs/explanation/stacking.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.held import Held
from getframes_xr.engine.lazy import as_producer, lazy
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.tables import loaded
from getframes_xr.reduce.canvas import canvas_spans, mapped_box, read_frame
from getframes_xr.reduce.deposit import BLOCK_PX, contrast
from getframes_xr.reduce.first_image import LEFT_OUT, clean_frames, first_image_of
from getframes_xr.reduce.moves import Moves, read_moves

COARSE_PX, FINE_PX = 8, 2
TILE_PX = 512
N_ANGLES = 432
MOST_LINES = 4
LEAST_Z = 7.0
LEAST_BINS = 10  # along a line and beside it
CLIP_SIGMA = 4.0  # of a raw pixel
CLIP_Z = 2.0  # of a bin
LEAST_GROUPS = 3  # valid groups of the first image
USUAL_FWHM_PX = 4.5
PIECE_PX = 60.0
COLUMNS = ("angle_deg", "offset_px", "half_width_px", "z", "amplitude")


@kernel
def add_residuals(
    sums: Array, counts: Array, bin_px: int, bin_y: int, bin_x: int, image: Array, flags: Array, y_start: int,
    x_start: int, move: Array, phases: Array, step: int, sky: Array, centre: Array, rate: float, sigmas: Array,
    bad: int, first: Array, top: int, left: int,
) -> None:  # fmt: skip
    """Add v - P of the quiet pixels of a frame's window, clipped at 4 sigma, to square bins of the frame.

    Parameters
    ----------
    sums, counts : float32 and uint16 (bin row, bin column), added to; [0, 0] is the bin (bin_y, bin_x) of the frame
    image, flags, y_start, x_start, move, phases, step, sky, centre, rate, bad : as in ``deposit_plain``
    sigmas : float32 (band), sqrt(V'): a pixel is quiet where the first image differs by less in 3 x 3
    first : float32 (band, rows, columns), the first image; [0, 0] is the canvas pixel (top, left); NaN is left out
    """
    one = np.float32(1.0)
    rows, columns = np.uint64(first.shape[1] - 3), np.uint64(first.shape[2] - 3)
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
                reference = first[band]
                expected_at = reference.reshape(-1)
                for y in range(y_low + (phases[phase, 0] - y_low) % step, y_high, step):
                    row_y = move[0, 0] * y + move[0, 2]
                    row_x = move[1, 0] * y + move[1, 2]
                    row_sky = sky[band, 0] + sky[band, 1] * (y - centre[0])
                    values = image[y - y_start]
                    marks = flags[y - y_start]
                    bin_row = y // bin_px - bin_y
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
                        if difference != difference:
                            continue
                        near_j = np.int64(j) + (2 if below >= np.float32(0.5) else 1)
                        near_i = np.int64(i) + (2 if right >= np.float32(0.5) else 1)
                        if contrast(reference, near_j, near_i) > sigma:
                            continue
                        at = x // bin_px - bin_x
                        sums[bin_row, at] += min(max(difference, -most), most)
                        counts[bin_row, at] += 1


@kernel
def radon(
    significance: Array, valid: Array, cosines: Array, sines: Array, least: int, sums: Array, counts: Array
) -> None:
    """Sum bins along all lines.

    Parameters
    ----------
    significance : float32 (row, column)
    valid : uint8 (row, column), 0 = left out
    cosines, sines : float64 (angle)
    least : int, offset of the first column of the sums
    sums, counts : float32 and int32 (angle, offset), added to
    """
    for angle in range(cosines.size):
        for row in range(significance.shape[0]):
            base = row * sines[angle] - least + 0.5
            for column in range(significance.shape[1]):
                if valid[row, column]:
                    at = np.int64(base + column * cosines[angle])
                    sums[angle, at] += significance[row, column]
                    counts[angle, at] += 1


@kernel
def line_significance(sums: Array, counts: Array, out: Array) -> None:
    """Give (mean on the line - mean beside it) / its error for lines 1 and 2 bins wide; NaN where too short.

    Parameters
    ----------
    sums, counts : float32 and int32 (angle, offset)
    out : float32 (2, angle, offset); a line 2 bins wide covers offset and offset + 1
    """
    for width in range(1, 3):
        for angle in range(sums.shape[0]):
            for offset in range(sums.shape[1]):
                out[width - 1, angle, offset] = np.nan
                if offset < 4 or offset + width + 3 >= sums.shape[1]:
                    continue
                on = np.float32(0.0)
                beside = np.float32(0.0)
                n_on = 0
                n_beside = 0
                for k in range(width):
                    on += sums[angle, offset + k]
                    n_on += counts[angle, offset + k]
                for k in range(2, 5):
                    beside += sums[angle, offset - k] + sums[angle, offset + width - 1 + k]
                    n_beside += counts[angle, offset - k] + counts[angle, offset + width - 1 + k]
                if n_on >= LEAST_BINS * width and n_beside >= LEAST_BINS * width:
                    error = math.sqrt(1.0 / n_on + 1.0 / n_beside)
                    out[width - 1, angle, offset] = (on / n_on - beside / n_beside) / error


@kernel
def strip_sums(
    sums: Array, counts: Array, cosine: float, sine: float, offset: float, reach: int, along_first: float, pieces: int,
    out: Array,
) -> None:  # fmt: skip
    """Sum fine bins near a line, by piece along it and by whole px across it.

    Parameters
    ----------
    sums, counts : float32 (row, column), residuals and number of samples per fine bin
    cosine, sine, offset : of the line x cosine + y sine = offset [px], bin centres at 2 index + 0.5
    reach : int, px to each side
    along_first : float, -x sine + y cosine where the first piece begins
    out : float64 (piece, 2 reach + 1, 2), sums and counts, added to
    """
    for row in range(sums.shape[0]):
        y = FINE_PX * row + 0.5 * (FINE_PX - 1)
        for column in range(sums.shape[1]):
            if counts[row, column] > 0:
                x = FINE_PX * column + 0.5 * (FINE_PX - 1)
                across = x * cosine + y * sine - offset
                if -reach - 0.5 <= across < reach + 0.5:
                    piece = np.int64((-x * sine + y * cosine - along_first) / PIECE_PX)
                    at = np.int64(across + reach + 0.5)
                    if 0 <= piece < pieces:
                        out[piece, at, 0] += sums[row, column]
                        out[piece, at, 1] += counts[row, column]


@kernel
def mark_line(
    flags: Array, y_start: int, x_start: int, cosine: float, sine: float, offset: float, half_width: float, bit: int
) -> None:
    """Set a flag within `half_width` px of a line; flags : uint16 (y, x), written, begin at (y_start, x_start)."""
    for row in range(flags.shape[0]):
        base = (row + y_start) * sine - offset
        for column in range(flags.shape[1]):
            if abs(base + (column + x_start) * cosine) <= half_width:
                flags[row, column] |= np.uint16(bit)


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
        return 1, -1, -1

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
        least_y, most_y, least_x, most_x = mapped_box(self.moves.transforms[number], y, x)
        rows = Span(math.floor(least_y) - 2, math.floor(most_y) + 4)
        columns = Span(math.floor(least_x) - 2, math.floor(most_x) + 4)
        return Window(Span(0, 1), rows, columns).clip(self.first.grid.window)

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        found: list[tuple[Producer, Window]] = []
        for number in range(window.frames.start, window.frames.stop):
            at = int(self.moves.positions[number])
            for y, x in self._tiles(window):
                found.append((self.clean, Window(Span(at, at + 1), y, x)))
                found.append((self.first, self._under(number, y, x)))
        return found

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        sums = np.zeros(self.grid.shape(window), np.float32)
        samples = np.zeros(sums.shape, np.uint16)
        moves = self.moves
        for number in range(window.frames.start, window.frames.stop):
            at, k = int(moves.positions[number]), number - window.frames.start
            sigmas = np.sqrt(moves.variances[number]).astype(np.float32)
            for y, x in self._tiles(window):
                part = read_frame(self.clean, number, Window(Span(at, at + 1), y, x))
                under = self._under(number, y, x)
                first = self._first(under)
                if min(first.shape) == 0:
                    continue
                add_residuals(
                    sums[k], samples[k], self.bin_px, window.y.start, window.x.start, part.image, part.flags, part.y,
                    part.x, moves.transforms[number], moves.phases, moves.step, moves.sky[number], moves.centre,
                    1.0 / moves.transparency[number], sigmas, LEFT_OUT, first, under.y.start, under.x.start,
                )  # fmt: skip
        return Patch(window, {"sum": sums, "samples": samples}).only(planes)

    def _first(self, under: Window) -> Array:
        """The first image, NaN where fewer than three groups (or all, if there are fewer) know the place."""
        patch = self.first.produce(under, ("image", "count"))
        image = patch["image"]
        image[patch["count"] < LEAST_GROUPS] = np.nan
        return image if self.first.grid.bands else image[None]

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        side = 2 * TILE_PX + 8  # a tile turned by 45 degrees, and its margins
        bands = len(self.moves.bands)
        first = min(side * side, self.first.grid.window.pixels) * bands * 7
        tile = Window(Span(0, 1), self.clean.grid.y, self.clean.grid.x)
        tile = Window(tile.frames, Span(tile.y.start, min(tile.y.stop, tile.y.start + TILE_PX)), tile.x)
        tile = Window(tile.frames, tile.y, Span(tile.x.start, min(tile.x.stop, tile.x.start + TILE_PX)))
        clean = self.clean.peak_bytes(tile, tuple(n for n in ("image", "flags") if n in self.clean.planes))
        return self.bytes_of(window, self.planes) + first + clean + 6 * tile.pixels


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
def spread(means: Array, samples: Array, move: Array, bin_px: int, bin_y: int, bin_x: int, top: int, left: int, over: Array, under: Array) -> None:  # fmt: skip
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


@dataclass(frozen=True, eq=False)
class CommonBins(Producer):
    """What the frames share at one place of the sky: mean of all frames' bins on the canvas; y and x count bins."""

    bins: Producer
    moves: Moves
    bin_px: int

    @cached_property
    def grid(self) -> Grid:
        parent = self.bins.grid
        y = Span(parent.y.start * self.bin_px, parent.y.stop * self.bin_px)
        x = Span(parent.x.start * self.bin_px, parent.x.stop * self.bin_px)
        rows, columns = canvas_spans(self.moves.transforms, y, x)
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

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        over, under = (np.zeros((len(self.grid.y), len(self.grid.x))) for _ in range(2))
        whole = self.bins.grid.window
        for number, move in enumerate(self.moves.transforms):
            patch = self.bins.produce(whole.with_frames(Span(number, number + 1)), ("sum", "samples"))
            means, _ = without_plane(patch["sum"][0], patch["samples"][0])
            spread(
                means, patch["samples"][0], move, self.bin_px, whole.y.start, whole.x.start, self.grid.y.start,
                self.grid.x.start, over, under,
            )  # fmt: skip
        mean = np.where(under > 0, over / np.maximum(under, 1e-12), 0.0).astype(np.float32)
        return Patch(self.grid.window, {"mean": mean}, timed=False).crop(window)

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        one = self.bins.grid.window.with_frames(Span(0, 1))
        scratch = 96 * one.pixels  # the fit of the plane, float64
        return 28 * self.grid.window.pixels + scratch + self.bins.peak_bytes(one, ("sum", "samples"))


@dataclass(frozen=True)
class Line:
    """One line of a frame: x cos(angle) + y sin(angle) = offset in absolute pixels."""

    angle_rad: float
    offset_px: float
    half_width_px: float
    z: float
    amplitude: float


def angle_table(n: int = N_ANGLES) -> tuple[Array, Array]:
    """Cosines and sines of n angles over half a turn, float64, rounded to 2^-20 so that no libm shows."""
    turns = [math.pi * k / n for k in range(n)]
    unit = 2.0**20
    return (
        np.array([round(math.cos(turn) * unit) / unit for turn in turns]),
        np.array([round(math.sin(turn) * unit) / unit for turn in turns]),
    )


def strongest_line(significance: Array, valid: Array, cosines: Array, sines: Array) -> tuple[float, int, float]:
    """The line with the largest Z of a map of bins.

    Parameters
    ----------
    significance : float32 (row, column), of the bins, clipped
    valid : uint8 (row, column)
    cosines, sines : float64 (angle)

    Returns
    -------
    Z, number of the angle, offset in bins from bin [0, 0]; Z = 0 where no line is long enough
    """
    reach = int(math.ceil(math.hypot(*significance.shape))) + 5
    sums = np.zeros((len(cosines), 2 * reach + 1), np.float32)
    counts = np.zeros(sums.shape, np.int32)
    radon(significance, valid, cosines, sines, -reach, sums, counts)
    z = np.empty((2, *sums.shape), np.float32)
    line_significance(sums, counts, z)
    known = z[np.isfinite(z)]
    if known.size < 100:
        return 0.0, 0, 0.0
    scatter = 1.4826 * float(np.median(np.abs(known - np.median(known))))
    if not scatter > 0:
        return 0.0, 0, 0.0
    width, angle, offset = np.unravel_index(int(np.nanargmax(z)), z.shape)
    return float(z[width, angle, offset]) / scatter, int(angle), float(offset - reach + 0.5 * width)


def refine(sums: Array, counts: Array, angle_rad: float, offset_px: float) -> tuple[float, float, float]:
    """Straight fit of a line on fine bins.

    Parameters
    ----------
    sums, counts : float32 (row, column), residuals and samples in 2 x 2 px bins
    angle_rad, offset_px : first guess, good to 0.4 degrees and 8 px; offset from the first pixel of the bins

    Returns
    -------
    angle_rad, offset_px, peak of the profile [units of the residuals per raw pixel]
    """
    reach = 16
    tries = angle_rad + np.deg2rad(np.linspace(-0.5, 0.5, 11))
    best = (-math.inf, angle_rad, offset_px)
    centre_y, centre_x = FINE_PX * sums.shape[0] / 2, FINE_PX * sums.shape[1] / 2
    arm = -centre_x * math.sin(angle_rad) + centre_y * math.cos(angle_rad)
    for angle in tries:
        # turn about the middle of the line, not about the corner of the frame
        guess = offset_px + arm * (angle - angle_rad)
        strip = _strips(sums, counts, angle, guess, reach).sum(axis=0)
        on, n = (np.convolve(strip[:, k], np.ones(5), "valid") for k in (0, 1))
        z = np.where(n > 0, on / np.sqrt(np.maximum(n, 1)), 0.0)
        at = int(np.argmax(z))
        if z[at] > best[0]:
            best = (float(z[at]), float(angle), guess + at + 2 - reach)
    _, angle, offset = best
    for window_px in (10, 8, 6, 6):
        angle, offset = _straight_fit(sums, counts, angle, offset, window_px)
    return angle, offset, _peak(sums, counts, angle, offset)


def _strips(sums: Array, counts: Array, angle: float, offset: float, reach: int) -> Array:
    diagonal = FINE_PX * math.hypot(*sums.shape) + PIECE_PX
    pieces = int(2 * diagonal / PIECE_PX)
    out = np.zeros((pieces, 2 * reach + 1, 2))
    strip_sums(sums, counts, math.cos(angle), math.sin(angle), offset, reach, -diagonal, pieces, out)
    return out


def _along(sums: Array, pieces: int) -> Array:
    """Middle of each piece along the line."""
    diagonal = FINE_PX * math.hypot(*sums.shape) + PIECE_PX
    return -diagonal + PIECE_PX * (np.arange(pieces) + 0.5)


def _straight_fit(sums: Array, counts: Array, angle: float, offset: float, window_px: int) -> tuple[float, float]:
    """One round: centroid of every piece within +-window, weighted straight line through them, outliers dropped."""
    reach = 2 * window_px
    strips = _strips(sums, counts, angle, offset, reach)
    across = np.arange(-reach, reach + 1.0)
    inner = np.abs(across) <= window_px
    n_side = strips[:, ~inner, 1].sum(axis=1)
    level = strips[:, ~inner, 0].sum(axis=1) / np.maximum(n_side, 1)
    excess = (strips[:, :, 0] - level[:, None] * strips[:, :, 1])[:, inner]
    n_inner = strips[:, inner, 1].sum(axis=1)
    total = excess.sum(axis=1)
    known = (n_side > 0) & (n_inner > 0.4 * n_inner.max(initial=0)) & (total > 0)
    if known.sum() < 2:
        return angle, offset
    total, n_inner = total[known], n_inner[known]
    centroid = (excess[known] @ across[inner]) / total
    along = _along(sums, len(strips))[known]
    weight = np.minimum(total / np.sqrt(n_inner), np.median(total / np.sqrt(n_inner)) * 3) ** 2
    keep = np.abs(centroid) <= window_px
    for _ in range(3):
        if keep.sum() < 2:
            return angle, offset
        middle = np.average(along[keep], weights=weight[keep])
        level_px = np.average(centroid[keep], weights=weight[keep])
        lever = weight[keep] * (along[keep] - middle)
        slope = (lever @ centroid[keep]) / max(lever @ (along[keep] - middle), 1e-9)
        rest = np.abs(centroid - level_px - slope * (along - middle))
        keep = rest <= max(4 * float(np.median(rest[keep])), 0.5)
    # the line across = level + slope (along - middle), written with its own normal
    turn = math.atan(slope)
    distance = (level_px - slope * middle) * math.cos(turn)
    base_x = offset * math.cos(angle)
    base_y = offset * math.sin(angle)
    turned = angle - turn
    return turned, base_x * math.cos(turned) + base_y * math.sin(turned) + distance


def _peak(sums: Array, counts: Array, angle: float, offset: float) -> float:
    """Highest mean over 3 px within +-3 px of the line, over the pieces where there is light."""
    strips = _strips(sums, counts, angle, offset, 16)
    inner, outer = strips[:, 10:23], np.concatenate([strips[:, :8], strips[:, 25:]], axis=1)
    n_in, n_out = inner[..., 1].sum(axis=1), outer[..., 1].sum(axis=1)
    level = outer[..., 0].sum(axis=1) / np.maximum(n_out, 1)
    light = (inner[..., 0].sum(axis=1) - level * n_in) / np.sqrt(np.maximum(n_in, 1))
    lit = light > 0.3 * light.max(initial=0)
    profile = (strips[:, :, 0] - level[:, None] * strips[:, :, 1])[lit].sum(axis=0)
    samples = strips[lit, :, 1].sum(axis=0)
    on, n = (np.convolve(values, np.ones(3), "valid") for values in (profile, samples))
    return float(np.max((on / np.maximum(n, 1))[12:19]))


def half_width_px(peak_sigma: float, fwhm_px: float) -> tuple[float, float]:
    """Half width of the mask and the amplitude it is made for.

    Parameters
    ----------
    peak_sigma : peak of the (clipped) profile in standard deviations of a raw pixel
    fwhm_px : of the stars of the frame

    Returns
    -------
    half width [px], amplitude [standard deviations]: ten times the peak where the clip has cut it (above 1.5)
    """
    tenths = 10.0 * max(peak_sigma, 0.0)
    amplitude = tenths * 10.0 if tenths > 15.0 else tenths
    spread_px = 1.1 * 1.05 * fwhm_px / 2.355
    return 1.0 + spread_px * math.sqrt(2.0 * math.log(max(5.0, 3.0 * amplitude) / 0.3)), amplitude / 10.0


@dataclass(frozen=True, eq=False)
class FrameLines(Producer):
    """The lines of every used frame: plane ``line``, rows along y, ``COLUMNS`` along x; NaN where there is none.

    Parameters
    ----------
    coarse : bins of 8 px of all frames (Held)
    common : what they share (Held)
    fine : bins of 2 px, made for the frames that show a line
    moves : Moves of the used frames
    """

    coarse: Producer
    common: Producer
    fine: Producer
    moves: Moves

    @cached_property
    def grid(self) -> Grid:
        return Grid(Span(0, MOST_LINES), Span(0, len(COLUMNS)), self.coarse.grid.columns)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"line": Plane(np.dtype(np.float64), "")}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, -1, -1

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        return [
            (self.coarse, self.coarse.grid.window.with_frames(window.frames)),
            (self.common, self.common.grid.window),
            (self.fine, self.fine.grid.window.with_frames(window.frames)),
        ]

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        whole = window.frames
        out = np.full((len(whole), MOST_LINES, len(COLUMNS)), np.nan)
        for at, number in enumerate(range(whole.start, whole.stop)):
            for row, line in enumerate(self._lines(number)):
                # one way to write a line: 0 <= angle < 180
                half_turns = math.floor(line.angle_rad / math.pi)
                angle = line.angle_rad - half_turns * math.pi
                offset = -line.offset_px if half_turns % 2 else line.offset_px
                out[at, row] = math.degrees(angle), offset, line.half_width_px, line.z, line.amplitude
        every = Window(whole, self.grid.y, self.grid.x)
        return Patch(every, {"line": out}).crop(window)

    def _lines(self, number: int) -> list[Line]:
        """Search one frame: strongest line, refine, mask, again."""
        one = self.coarse.grid.window.with_frames(Span(number, number + 1))
        patch = self.coarse.produce(one, ("sum", "samples"))
        samples = patch["samples"][0]
        means, plane = without_plane(patch["sum"][0], samples)
        shared = self.common.produce(self.common.grid.window, ("mean",))["mean"]
        background = np.empty_like(means)
        look_up(
            shared, self.moves.transforms[number], COARSE_PX, one.y.start, one.x.start, self.common.grid.y.start,
            self.common.grid.x.start, background,
        )  # fmt: skip
        valid = (samples >= COARSE_PX * COARSE_PX // 8).astype(np.uint8)
        if valid.sum() < 100:
            return []
        z = (means - background) * np.sqrt(samples, dtype=np.float32)
        good = z[valid > 0]
        scatter = 1.4826 * np.median(np.abs(good - np.median(good)))
        if not scatter > 0:
            return []
        significance = np.clip(z / scatter, -CLIP_Z, CLIP_Z).astype(np.float32)
        cosines, sines = angle_table()
        found: list[Line] = []
        fine: tuple[Array, Array] | None = None
        while len(found) < MOST_LINES:
            largest, angle, offset = strongest_line(significance, valid, cosines, sines)
            if largest <= LEAST_Z:
                break
            if fine is None:
                fine = self._fine(number, plane + background)
            line = self._refined(number, fine, math.pi * angle / len(cosines), offset, largest)
            found.append(line)
            _erase(valid, COARSE_PX, one.y.start, one.x.start, line, COARSE_PX * 0.75)
            _erase(fine[1], FINE_PX, self.fine.grid.y.start, self.fine.grid.x.start, line, FINE_PX * 0.75)
        return found

    def _fine(self, number: int, background: Array) -> tuple[Array, Array]:
        """Fine bins of one frame, the background of the coarse ones taken off."""
        one = self.fine.grid.window.with_frames(Span(number, number + 1))
        patch = self.fine.produce(one, ("sum", "samples"))
        counts = patch["samples"][0].astype(np.float32)
        ratio = COARSE_PX // FINE_PX
        coarse = self.coarse.grid.window
        rows = (one.y.indices() // ratio - coarse.y.start)[:, None]
        columns = (one.x.indices() // ratio - coarse.x.start)[None, :]
        return patch["sum"][0] - counts * background[rows, columns], counts

    def _refined(self, number: int, fine: tuple[Array, Array], angle: float, offset_bins: float, z: float) -> Line:
        """Refine a line given in coarse bins; offsets become absolute pixels."""
        coarse, own = self.coarse.grid, self.fine.grid
        half = 0.5 * (COARSE_PX - 1)
        first_y = coarse.y.start * COARSE_PX + half - own.y.start * FINE_PX
        first_x = coarse.x.start * COARSE_PX + half - own.x.start * FINE_PX
        guess = offset_bins * COARSE_PX + first_x * math.cos(angle) + first_y * math.sin(angle)
        angle, offset, peak = refine(*fine, angle, guess)
        offset += own.x.start * FINE_PX * math.cos(angle) + own.y.start * FINE_PX * math.sin(angle)
        sigma = math.sqrt(float(np.median(self.moves.variances[number])))
        fwhm = self.moves.fwhm_px[number]
        fwhm = float(np.clip(fwhm, 2.0, 10.0)) if np.isfinite(fwhm) else USUAL_FWHM_PX
        width, amplitude = half_width_px(peak / sigma, fwhm)
        return Line(angle, offset, width, z, amplitude)

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        one = self.coarse.grid.window.with_frames(Span(0, 1))
        fine = self.fine.grid.window.with_frames(Span(0, 1))
        reach = 2 * (int(math.hypot(len(one.y), len(one.x))) + 6)
        search = N_ANGLES * reach * (8 + 8 + 24) + 128 * one.pixels + self.common.grid.window.pixels * 4
        refining = 16 * fine.pixels + self.fine.peak_bytes(fine, ("sum", "samples"))
        return search + refining + self.coarse.peak_bytes(one, ("sum", "samples"))


def _erase(counts: Array, bin_px: int, bin_y: int, bin_x: int, line: Line, margin_px: float) -> None:
    """Leave out the bins that a line's mask touches."""
    half = 0.5 * (bin_px - 1)
    y = ((np.arange(counts.shape[0]) + bin_y) * bin_px + half)[:, None]
    x = ((np.arange(counts.shape[1]) + bin_x) * bin_px + half)[None, :]
    across = x * math.cos(line.angle_rad) + y * math.sin(line.angle_rad) - line.offset_px
    counts[np.abs(across) <= line.half_width_px + margin_px] = 0


def find_lines(
    clean: xr.Dataset | xr.DataArray, moves: xr.Dataset, first: xr.Dataset | xr.DataArray | None = None
) -> xr.Dataset:
    """Lines (trails) of every used frame, lazily.

    Parameters
    ----------
    clean : calibrated frames (time, y, x), planes ``image`` and ``flags``
    moves : loaded table of ``normalise(stars, register(stars))``
    first : Dataset of ``first_image(clean, moves)``; made on the way if not given

    Returns
    -------
    Dataset (time, line), one row per used frame, at most 4 lines each, NaN where there is none: ``angle_deg`` and
    ``offset_px`` (x cos(angle) + y sin(angle) = offset, absolute pixels of the frame), ``half_width_px`` of the mask, ``z``,
    ``amplitude`` (standard deviations of a raw pixel)

    Raises
    ------
    DataError : frames, moves and first image cannot be used together
    RegistrationError : none of the frames is used
    """
    frames = clean_frames(clean)
    table = read_moves(moves, frames.grid, frames.planes["image"].units or "adu")
    picture = first_image_of(clean, moves) if first is None else as_producer(first, ("image", "count"))
    if picture.grid.timed or set(picture.grid.bands or ("mono",)) != set(table.bands):
        raise DataError("first must be the Dataset of first_image(clean, moves): image and count, without time")
    held = Held(picture)
    coarse = Held(ResidualBins(frames, held, table, COARSE_PX))
    common = Held(CommonBins(coarse, table, COARSE_PX))
    found = FrameLines(coarse, common, ResidualBins(frames, held, table, FINE_PX), table)
    rows = lazy(found)["line"].rename(y="line").drop_vars(["line"], errors="ignore")
    units = ("deg", "pixel", "pixel", "", "")
    columns = {name: rows.isel(x=k, drop=True).assign_attrs(units=units[k]) for k, name in enumerate(COLUMNS)}
    return xr.Dataset(columns)


def read_lines(lines: xr.Dataset | None) -> Array:
    """Rows (frame, cos, sin, offset, half width) of a table of ``find_lines``, float64 (line, 5).

    Raises
    ------
    DataError : the table is lazy or lacks a column
    """
    if lines is None:
        return np.empty((0, 5))
    table = loaded(lines, "angle_deg", "offset_px", "half_width_px")
    frames = np.broadcast_to(table["frame"].values[:, None], table["angle_deg"].shape)
    turns = [math.radians(angle) for angle in table["angle_deg"].values.ravel()]
    rows = np.stack(
        [
            frames.ravel().astype(np.float64),
            np.array([math.cos(turn) for turn in turns]),
            np.array([math.sin(turn) for turn in turns]),
            table["offset_px"].values.ravel(),
            table["half_width_px"].values.ravel(),
        ],
        axis=1,
    )
    return np.ascontiguousarray(rows[np.isfinite(rows).all(axis=1)])
