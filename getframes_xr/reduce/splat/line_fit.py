"""Line fit: the strongest straight line in a map of bins, and its exact place.

``strongest_line`` sums the bins along 432 angles and all offsets (a discrete Radon transform), 1 and 2 bins wide, minus
the mean of the bins at +-2..4 offsets beside (which removes gradients). ``refine`` works on finer bins: angle within
+-0.5 degrees by the highest profile, then centroids of pieces along the line and a straight fit, outliers dropped.
A line is x cos(angle) + y sin(angle) = offset. The sums are of integers, so no order shows.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array

N_ANGLES = 432
LEAST_BINS = 10  # along a line and beside it
FINE_PX = 2
PIECE_PX = 60.0
FIXED = 20  # bits behind the point of cosines and offsets
COUNT_BIT = 40  # a packed sum counts its bins above this bit, significances below it in steps of 2^-12
STEPS = 4096.0
ANGLE_REACH_DEG = 0.5
REACH_PX = 16
LEAST_LINES = 60  # of one angle, of each width, that tell their own scatter: a trail and its sides are a dozen
SHARED_NOISE = 0.75  # scatter of one angle below 1 / this of all is chance (its own error is 10 %)


@kernel
def radon(packed: Array, cosines: Array, sines: Array, reach: int, sums: Array) -> None:
    """Sum packed bins along all lines.

    The inner loop runs along the axis on which the offset changes most, so that neighbours fall into other sums.

    Parameters
    ----------
    packed : int64 (row, column), 2^40 + significance * 4096, 0 where left out
    cosines, sines : int64 (angle), times 2^20
    reach : int, offset 0 is the column `reach` of the sums
    sums : int64 (angle, offset), added to
    """
    half = (np.int64(reach) << FIXED) + (np.int64(1) << (FIXED - 1))
    turned = np.ascontiguousarray(packed.T)
    for angle in range(cosines.size):
        cosine, sine = cosines[angle], sines[angle]
        bins = packed
        if abs(cosine) < abs(sine):
            bins = turned
            cosine, sine = sine, cosine
        row_of_sums = sums[angle]
        for row in range(bins.shape[0]):
            place = half + row * sine
            line = bins[row]
            for column in range(line.size):
                row_of_sums[np.uint64(place >> FIXED)] += line[column]
                place += cosine


@kernel
def line_significance(sums: Array, out: Array) -> None:
    """Give (mean on the line - mean beside it) / its error for lines 1 and 2 bins wide; NaN where too short.

    Parameters
    ----------
    sums : int64 (angle, offset), packed
    out : float32 (2, angle, offset); a line 2 bins wide covers offset and offset + 1
    """
    offsets = sums.shape[1]
    totals = np.empty(offsets)
    counts = np.empty(offsets, np.int64)
    for angle in range(sums.shape[0]):
        for offset in range(offsets):
            count = (sums[angle, offset] + (np.int64(1) << (COUNT_BIT - 1))) >> COUNT_BIT
            counts[offset] = count
            totals[offset] = (sums[angle, offset] - (count << COUNT_BIT)) / STEPS
        for width in range(1, 3):
            for offset in range(offsets):
                out[width - 1, angle, offset] = np.nan
                if offset < 4 or offset + width + 3 >= offsets:
                    continue
                n_on = counts[offset] + (counts[offset + 1] if width == 2 else 0)
                if n_on < LEAST_BINS * width:
                    continue
                on = totals[offset] + (totals[offset + 1] if width == 2 else 0.0)
                beside = 0.0
                n_beside = 0
                for k in range(2, 5):
                    beside += totals[offset - k] + totals[offset + width - 1 + k]
                    n_beside += counts[offset - k] + counts[offset + width - 1 + k]
                if n_beside >= LEAST_BINS * width:
                    error = math.sqrt(1.0 / n_on + 1.0 / n_beside)
                    out[width - 1, angle, offset] = (on / n_on - beside / n_beside) / error


@kernel
def strip_sums(
    sums: Array, counts: Array, cosine: float, sine: float, offset: float, reach: int, along_first: float, pieces: int,
    out: Array,
) -> None:  # fmt: skip
    """Sum fine bins near a line, by piece along it and by px across it (shared by the two nearest, so centroids stay).

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
                if -reach <= across < reach:
                    piece = np.int64((-x * sine + y * cosine - along_first) / PIECE_PX)
                    if 0 <= piece < pieces:
                        at = np.int64(math.floor(across))
                        right = across - at
                        at += reach
                        out[piece, at, 0] += (1.0 - right) * sums[row, column]
                        out[piece, at, 1] += (1.0 - right) * counts[row, column]
                        out[piece, at + 1, 0] += right * sums[row, column]
                        out[piece, at + 1, 1] += right * counts[row, column]


@cache
def angle_table(n: int = N_ANGLES) -> tuple[Array, Array]:
    """Cosines and sines of n angles over half a turn, int64 in units of 2^-20 (so that no libm shows)."""
    unit = float(1 << FIXED)
    turns = [math.pi * k / n for k in range(n)]
    cosines = np.array([round(math.cos(turn) * unit) for turn in turns], np.int64)
    return cosines, np.array([round(math.sin(turn) * unit) for turn in turns], np.int64)


def strongest_line(significance: Array, valid: Array) -> tuple[float, float, float]:
    """The line with the largest Z of a map of bins.

    Where lines of one angle scatter more than lines do on the whole (rows or columns that share noise), Z counts in
    units of their own scatter.

    Parameters
    ----------
    significance : float32 (row, column), of the bins, clipped to a few units
    valid : uint8 (row, column), 0 = left out

    Returns
    -------
    Z (in units of the scatter of all lines), angle [rad], offset in bins from bin [0, 0]; Z = 0 where no line is long
    enough
    """
    cosines, sines = angle_table()
    reach = math.ceil(math.hypot(*significance.shape)) + 6
    steps = np.rint(significance * np.float32(STEPS)).astype(np.int64)
    packed = np.where(valid > 0, steps + (1 << COUNT_BIT), 0)
    sums = np.zeros((len(cosines), 2 * reach + 1), np.int64)
    radon(packed, cosines, sines, reach, sums)
    z = np.empty((2, *sums.shape), np.float32)
    line_significance(sums, z)
    flat = z.reshape(-1)
    some = flat[:: max(1, flat.size // 100_000)]
    known = some[some == some]
    if known.size < 100:
        return 0.0, 0.0, 0.0
    scatter = 1.4826 * float(np.median(np.abs(known)))
    if not scatter > 0:
        return 0.0, 0.0, 0.0
    known_angles: set[int] = set()
    while True:
        width, angle, offset = np.unravel_index(int(np.nanargmax(flat)), z.shape)
        if angle in known_angles:
            break
        known_angles.add(int(angle))
        lines = z[:, angle][np.isfinite(z[:, angle])]
        own = SHARED_NOISE * 1.4826 * float(np.median(np.abs(lines)))
        if lines.size < 2 * LEAST_LINES or own <= scatter:
            break
        z[:, angle] *= np.float32(scatter / own)
    return float(z[width, angle, offset]) / scatter, math.pi * angle / N_ANGLES, float(offset - reach + 0.5 * width)


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
    reach = REACH_PX
    tries = angle_rad + np.deg2rad(np.linspace(-ANGLE_REACH_DEG, ANGLE_REACH_DEG, 11))
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
