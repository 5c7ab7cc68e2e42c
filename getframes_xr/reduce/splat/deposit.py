"""Deposit: raw samples of one frame laid down on the canvas, each in the plane of its own colour.

A raw pixel at p = M(y, x) on the canvas gives its four nearest canvas pixels the bilinear shares
q = (1 - |dy|)(1 - |dx|) (drizzle with a drop of one pixel). With t the transparency, S the sky plane and w the weight
of the frame:  v = (e - S(y, x)) / t  and the sums are  sum(w q v), sum(w q), ...  per colour.

Two things make the bytes independent of tile, thread and order of work: positions are formed in GLOBAL canvas
coordinates (float64: floor, then the fraction, and only then the integer origin of the tile is subtracted), and a
frame is walked in 32 x 32 blocks aligned to the FRAME, inside a block one colour phase after the other, then rows; so
every canvas pixel meets its samples in one order whatever the tile. One phase at a time also means one colour, weight
and variance, and the sums of a pixel lie side by side (one cache line). Source: Fruchter & Hook (2002), PASP 114, 144,
for the drop.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from getframes_xr.core.kernel import kernel
from getframes_xr.core.mapping import mapped_bounds
from getframes_xr.core.patch import Array

BLOCK_PX = 32
RING_PX = 2  # the sums reach 2 px beyond the window: 1 for the widened drop, 1 that stays incomplete
PLAIN_SUMS = 2  # w q v, w q
CHECKED_SUMS = 4  # w q v, w q, (w q)^2 V', q
ENOUGH_SAMPLES = 1.2  # of a group of frames, below that its sums are widened
LEAST_SAMPLES = 0.2  # after widening, below that there is no value
LEAST_EFFECTIVE = 4.0  # effective samples of a colour in the stack, below that its sums are widened
LEAST_MONO_SAMPLES = 0.5  # mono frames leave no holes between their samples: widened only where pixels are flagged


@kernel(inline="always")
def _reach(
    inverse: Array, place: Array, y_start: int, y_stop: int, x_start: int, x_stop: int
) -> tuple[int, int, int, int]:
    """Give the part of the frame's window that can reach the part of the canvas being filled."""
    top, left = place[0] + place[2], place[1] + place[4]
    bottom, right = place[0] + place[3], place[1] + place[5]
    least_y, most_y, least_x, most_x = mapped_bounds(inverse, top, bottom, left, right)
    return (
        max(y_start, int(math.floor(least_y)) - 1),
        min(y_stop, int(math.ceil(most_y)) + 2),
        max(x_start, int(math.floor(least_x)) - 1),
        min(x_stop, int(math.ceil(most_x)) + 2),
    )


@kernel(inline="always")
def _misses(move: Array, place: Array, y_low: int, y_high: int, x_low: int, x_high: int) -> Any:
    """Tell whether no sample of a block reaches the part of the canvas being filled."""
    least_y, most_y, least_x, most_x = mapped_bounds(move, y_low, y_high - 1, x_low, x_high - 1)
    return (
        most_y < place[0] + place[2]
        or least_y > place[0] + place[3] + 1
        or most_x < place[1] + place[4]
        or least_x > place[1] + place[5] + 1
    )


@kernel(inline="always")
def contrast(first: Array, j: Any, i: Any) -> Any:
    """Give max - min of the first image in the 3 x 3 pixels around [j, i]; NaN ignored."""
    low = np.float32(math.inf)
    high = np.float32(-math.inf)
    for dj in range(-1, 2):
        for di in range(-1, 2):
            value = first[j + dj, i + di]
            low = min(low, value) if value == value else low
            high = max(high, value) if value == value else high
    return high - low


@kernel
def deposit_plain(
    out: Array, columns: int, place: Array, image: Array, flags: Array, y_start: int, x_start: int, move: Array,
    inverse: Array, phases: Array, step: int, sky: Array, centre: Array, rate: float, weights: Array, bad: int,
) -> None:  # fmt: skip
    """Add sum(w q v) and sum(w q) of one frame's window, without any rejection.

    Parameters
    ----------
    out : float32 (rows * columns * bands * 2), added to; pixel 0 is canvas pixel (top, left)
    columns : int
    place : int64 (6), top, left, and the part filled now: rows [2] <= j < [3], columns [4] <= i < [5] (below the last)
    image, flags : float32 and uint16 (y, x), the frame's window that begins at absolute (y_start, x_start)
    move, inverse : float64 (2, 3), [y, x] of the frame -> canvas and back
    phases : int64 (phase, 3), rows of (y offset, x offset, band) of the colour filter array of period `step`
    sky : float64 (band, 3), level at `centre`, slope along y, slope along x
    rate : float, 1 / transparency
    weights : float32 (band)
    bad : int, flags whose pixels are left out
    """
    one = np.float32(1.0)
    part_rows, part_columns = np.uint64(place[3] - place[2]), np.uint64(place[5] - place[4])
    first_row, first_column = np.uint64(place[2]), np.uint64(place[4])
    pixel = np.uint64(2 * weights.size)
    line = np.uint64(2 * weights.size * columns)
    next_sum = np.uint64(1)
    y_from, y_to, x_from, x_to = _reach(
        inverse, place, y_start, y_start + image.shape[0], x_start, x_start + image.shape[1]
    )
    for block_y in range(y_from // BLOCK_PX * BLOCK_PX, y_to, BLOCK_PX):
        y_low, y_high = max(block_y, y_from), min(block_y + BLOCK_PX, y_to)
        for block_x in range(x_from // BLOCK_PX * BLOCK_PX, x_to, BLOCK_PX):
            x_low, x_high = max(block_x, x_from), min(block_x + BLOCK_PX, x_to)
            if _misses(move, place, y_low, y_high, x_low, x_high):
                continue
            for phase in range(phases.shape[0]):
                band = phases[phase, 2]
                weight = weights[band]
                at = np.uint64(2 * band)
                for y in range(y_low + (phases[phase, 0] - y_low) % step, y_high, step):
                    row_y = move[0, 0] * y + move[0, 2]
                    row_x = move[1, 0] * y + move[1, 2]
                    row_sky = sky[band, 0] + sky[band, 1] * (y - centre[0])
                    values = image[y - y_start]
                    marks = flags[y - y_start]
                    for x in range(x_low + (phases[phase, 1] - x_low) % step, x_high, step):
                        column = np.uint64(x - x_start)
                        if marks[column] & bad:
                            continue
                        at_y = row_y + move[0, 1] * x
                        at_x = row_x + move[1, 1] * x
                        floor_y = math.floor(at_y)
                        floor_x = math.floor(at_x)
                        j = np.uint64(np.int64(floor_y) - place[0] - place[2])
                        i = np.uint64(np.int64(floor_x) - place[1] - place[4])
                        if j >= part_rows or i >= part_columns:
                            continue
                        level = row_sky + sky[band, 2] * (x - centre[1])
                        value = np.float32((values[column] - level) * rate)
                        if value != value:
                            continue
                        below = np.float32(at_y - floor_y)
                        right = np.float32(at_x - floor_x)
                        upper = weight * (one - below)
                        lower = weight * below
                        k = (j + first_row) * line + (i + first_column) * pixel + at
                        share = upper * (one - right)
                        out[k] += share * value
                        out[k + next_sum] += share
                        share = upper * right
                        out[k + pixel] += share * value
                        out[k + pixel + next_sum] += share
                        share = lower * (one - right)
                        out[k + line] += share * value
                        out[k + line + next_sum] += share
                        share = lower * right
                        out[k + line + pixel] += share * value
                        out[k + line + pixel + next_sum] += share


@intrinsic  # type: ignore[untyped-decorator]  # Numba does not type it
def _add_lanes(_: Any, out: Any, at: Any, share: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Add share * (a, b, c, d) to out[at], ..., out[at + 3] as one vector of four float32.

    Numba leaves these as twelve scalar instructions; as one vector they cost a quarter. Each lane is a multiply and an
    add of its own, so the bytes are those of the scalars.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        lanes = ir.VectorType(ir.FloatType(), CHECKED_SUMS)
        place = builder.bitcast(builder.gep(data, [args[1]]), lanes.as_pointer())
        shares, terms = ir.Constant(lanes, ir.Undefined), ir.Constant(lanes, ir.Undefined)
        for lane in range(CHECKED_SUMS):
            number = ir.Constant(ir.IntType(32), lane)
            shares = builder.insert_element(shares, args[2], number)
            terms = builder.insert_element(terms, args[3 + lane], number)
        total = builder.fadd(builder.load(place, align=4), builder.fmul(shares, terms))
        builder.store(total, place, align=4)
        return context.get_dummy_value()

    return types.void(out, at, share, a, b, c, d), generate


@kernel(inline="always")
def _add(out: Array, at: Any, share: Any, weight: Any, weighted_value: Any, spread: Any) -> None:
    _add_lanes(out, at, share, weighted_value, weight, share * spread, np.float32(1.0))


@kernel
def deposit_checked(
    out: Array, saturated_out: Array, place: Array, image: Array, flags: Array, y_start: int, x_start: int,
    move: Array, inverse: Array, phases: Array, step: int, sky: Array, centre: Array, rate: float, weights: Array,
    bad: int, variances: Array, saturated: int, first: Array, check: bool, kappa_squared: np.float32,
    per_signal: np.float32, tolerance: np.float32,
) -> None:  # fmt: skip
    """Add the four sums of one frame's window, each sample first compared with the first image P.

    A sample is kept when |v - r| <= kappa sqrt(V' + max(r, 0) per_signal) + tolerance * (max - min of P in 3 x 3), with
    r bilinear and the 3 x 3 at the nearest pixel; the test is squared, and the contrast looked at only where noise
    alone does not explain the difference. Kept where r is NaN.

    Parameters (beyond those of `deposit_plain`)
    ----------
    out : float32 (rows * columns * bands * 4): sums of w q v, w q, (w q)^2 V', q
    saturated_out : float32 (rows, columns, bands): sum of w q of samples with the flag `saturated`
    variances : float32 (band), V' = V / t^2
    first : float32 (band, rows + 2, columns + 2), the first image around the sums' pixels
    check : bool, False keeps every sample
    kappa_squared, tolerance : float32
    per_signal : float32, variance of v per unit of signal r: 1 / (t gain)
    """
    columns, bands = saturated_out.shape[1], saturated_out.shape[2]
    one = np.float32(1.0)
    zero = np.float32(0.0)
    half = np.float32(0.5)
    part_rows, part_columns = np.uint64(place[3] - place[2]), np.uint64(place[5] - place[4])
    first_row, first_column = np.uint64(place[2]), np.uint64(place[4])
    next_one = np.uint64(1)
    pixel = np.uint64(4 * bands)
    line = np.uint64(4 * bands * columns)
    first_line = np.uint64(first.shape[2])
    y_from, y_to, x_from, x_to = _reach(
        inverse, place, y_start, y_start + image.shape[0], x_start, x_start + image.shape[1]
    )
    for block_y in range(y_from // BLOCK_PX * BLOCK_PX, y_to, BLOCK_PX):
        y_low, y_high = max(block_y, y_from), min(block_y + BLOCK_PX, y_to)
        for block_x in range(x_from // BLOCK_PX * BLOCK_PX, x_to, BLOCK_PX):
            x_low, x_high = max(block_x, x_from), min(block_x + BLOCK_PX, x_to)
            if _misses(move, place, y_low, y_high, x_low, x_high):
                continue
            for phase in range(phases.shape[0]):
                band = phases[phase, 2]
                weight = weights[band]
                limit = kappa_squared * variances[band]
                spread = weight * weight * variances[band]
                at = np.uint64(4 * band)
                reference = first[band]
                expected_at = reference.reshape(-1)
                for y in range(y_low + (phases[phase, 0] - y_low) % step, y_high, step):
                    row_y = move[0, 0] * y + move[0, 2]
                    row_x = move[1, 0] * y + move[1, 2]
                    row_sky = sky[band, 0] + sky[band, 1] * (y - centre[0])
                    values = image[y - y_start]
                    marks = flags[y - y_start]
                    for x in range(x_low + (phases[phase, 1] - x_low) % step, x_high, step):
                        column = np.uint64(x - x_start)
                        mark = marks[column]
                        if mark & bad:
                            continue
                        at_y = row_y + move[0, 1] * x
                        at_x = row_x + move[1, 1] * x
                        floor_y = math.floor(at_y)
                        floor_x = math.floor(at_x)
                        j = np.uint64(np.int64(floor_y) - place[0] - place[2])
                        i = np.uint64(np.int64(floor_x) - place[1] - place[4])
                        if j >= part_rows or i >= part_columns:
                            continue
                        j += first_row
                        i += first_column
                        level = row_sky + sky[band, 2] * (x - centre[1])
                        value = np.float32((values[column] - level) * rate)
                        if value != value:
                            continue
                        below = np.float32(at_y - floor_y)
                        right = np.float32(at_x - floor_x)
                        above = one - below
                        beside = one - right
                        q00 = above * beside
                        q01 = above * right
                        q10 = below * beside
                        q11 = below * right
                        if check:
                            k = (j + next_one) * first_line + i + next_one
                            expected = (
                                q00 * expected_at[k] + q01 * expected_at[k + next_one]
                                + q10 * expected_at[k + first_line] + q11 * expected_at[k + first_line + next_one]
                            )  # fmt: skip
                            difference = value - expected
                            allowed = limit + kappa_squared * (per_signal * max(expected, zero))
                            if difference * difference > allowed:
                                near_j = np.int64(j) + 1 + (1 if below >= half else 0)
                                near_i = np.int64(i) + 1 + (1 if right >= half else 0)
                                rest = abs(difference) - tolerance * contrast(reference, near_j, near_i)
                                if rest > zero and rest * rest > allowed:
                                    continue
                        k = j * line + i * pixel + at
                        weighted_value = weight * value
                        _add(out, k, q00, weight, weighted_value, spread)
                        _add(out, k + pixel, q01, weight, weighted_value, spread)
                        _add(out, k + line, q10, weight, weighted_value, spread)
                        _add(out, k + line + pixel, q11, weight, weighted_value, spread)
                        if mark & saturated:
                            saturated_out[j, i, band] += weight * q00
                            saturated_out[j, i + next_one, band] += weight * q01
                            saturated_out[j + next_one, i, band] += weight * q10
                            saturated_out[j + next_one, i + next_one, band] += weight * q11


@kernel
def group_image(sums: Array, sample_weight: Array, out: Array) -> None:
    """Divide the plain sums of a group of frames; where it has < 1.2 samples, both sums are widened first.

    Widened means convolved with the binomial [1 2 1] x [1 2 1] / 16; NaN under 0.2 widened samples.

    Parameters
    ----------
    sums : float32 (rows + 4, columns + 4, 2 bands)
    sample_weight : float32 (band), weight of one sample: sum(w q) / it is the number of samples
    out : float32 (band, rows, columns)
    """
    sixteenth = np.float32(0.0625)
    for band in range(out.shape[0]):
        enough = np.float32(ENOUGH_SAMPLES) * sample_weight[band]
        least = np.float32(LEAST_SAMPLES) * sample_weight[band]
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                over = sums[j + 2, i + 2, 2 * band]
                under = sums[j + 2, i + 2, 2 * band + 1]
                if under < enough:
                    over = np.float32(0.0)
                    under = np.float32(0.0)
                    for dj in range(3):
                        for di in range(3):
                            share = sixteenth * np.float32((2 - abs(dj - 1)) * (2 - abs(di - 1)))
                            over += share * sums[j + 1 + dj, i + 1 + di, 2 * band]
                            under += share * sums[j + 1 + dj, i + 1 + di, 2 * band + 1]
                    if under < least:
                        out[band, j, i] = np.nan
                        continue
                out[band, j, i] = over / under


@kernel
def middle(images: Array, out: Array, count: Array) -> None:
    """Give the median of K group images, NaN ignored; of two the smaller one.

    Parameters
    ----------
    images : float32 (group, band, rows, columns)
    out : float32 (band, rows, columns)
    count : uint16 (band, rows, columns), valid groups
    """
    groups = images.shape[0]
    held = np.empty(groups, np.float32)
    for band in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                n = 0
                for group in range(groups):
                    value = images[group, band, j, i]
                    if value == value:
                        k = n
                        while k > 0 and held[k - 1] > value:
                            held[k] = held[k - 1]
                            k -= 1
                        held[k] = value
                        n += 1
                count[band, j, i] = n
                if n == 0:
                    out[band, j, i] = np.nan
                elif n == 2 or n % 2 == 1:
                    out[band, j, i] = held[(n - 1) // 2]
                else:
                    out[band, j, i] = np.float32(0.5) * (held[n // 2 - 1] + held[n // 2])


@kernel
def finish(
    sums: Array, typical_variance: Array, raw_per_sample: Array, image: Array, noise: Array, weight: Array, count: Array
) -> None:
    """Turn the four sums into the planes of the stack, widened by the 3 x 3 binomial where a colour has n_eff < 4.

    n_eff = sum(w q)^2 V'_typical / sum((w q)^2 V'), which is sum(w q)^2 / sum((w q)^2) of frames of equal noise;
    image = sum(w q v) / sum(w q); variance = sum((w q)^2 V') / sum(w q)^2, the widened one
    sum(k^2 sum((w q)^2 V')) / (sum k sum(w q))^2 with the binomial k.

    Parameters
    ----------
    sums : float32 (rows + 4, columns + 4, 4 bands)
    typical_variance : float32 (band), median of V' over the frames
    raw_per_sample : float32 (band), 2 for green, 4 for red and blue of a colour filter array, 1 for mono
    image, noise, weight : float32 (band, rows, columns), written
    count : uint16 (band, rows, columns), written: shares of the kept samples, in frames
    """
    zero = np.float32(0.0)
    least = np.float32(LEAST_MONO_SAMPLES)
    sixteenth = np.float32(0.0625)
    for band in range(image.shape[0]):
        at = 4 * band
        few = np.float32(LEAST_EFFECTIVE) / typical_variance[band]
        mono = raw_per_sample[band] < np.float32(1.5)
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                over = sums[j + 2, i + 2, at]
                under = sums[j + 2, i + 2, at + 1]
                spread = sums[j + 2, i + 2, at + 2]
                shares = sums[j + 2, i + 2, at + 3]
                lacking = shares < least if mono else under * under < few * spread
                if lacking or under <= zero:
                    over = zero
                    under = zero
                    spread = zero
                    shares = zero
                    for dj in range(3):
                        for di in range(3):
                            k = sixteenth * np.float32((2 - abs(dj - 1)) * (2 - abs(di - 1)))
                            over += k * sums[j + 1 + dj, i + 1 + di, at]
                            under += k * sums[j + 1 + dj, i + 1 + di, at + 1]
                            spread += k * k * sums[j + 1 + dj, i + 1 + di, at + 2]
                            shares += k * sums[j + 1 + dj, i + 1 + di, at + 3]
                if under > zero:
                    image[band, j, i] = over / under
                    noise[band, j, i] = math.sqrt(spread) / under
                    weight[band, j, i] = under
                    frames = np.int64(shares * raw_per_sample[band] + np.float32(0.5))
                    count[band, j, i] = min(65535, max(1, frames))
                else:
                    image[band, j, i] = np.nan
                    noise[band, j, i] = np.nan
                    weight[band, j, i] = zero
                    count[band, j, i] = 0
