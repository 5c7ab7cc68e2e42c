"""Lanes: many pixels sorted along time at once, 64 (uint16) or 32 (float32) side by side.

A data-independent sorting network (Batcher's odd-even merge sort for any length, Knuth, TAOCP 3, 5.2.2 M) exchanges
whole rows of lanes, so each exchange is a vector minimum and maximum. After one sort, clipping, medians, trimming and
percentiles are two pointers per pixel and running sums. A missing sample sorts behind all others (65535 or +inf) and
each lane knows how many samples are valid. Sums run relative to the lane's median in float64: exact for uint16.
With 16 lanes LLVM unrolls the loop and no longer vectorises it (measured: 8 times slower), hence the widths.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array

LANES_U16 = 64
LANES_F32 = 32
_NO_MISSING_U16 = np.uint16(65535)
_INFINITY = np.float32(np.inf)


@kernel(inline="always")
def lower(one: Any, other: Any) -> Any:
    """The smaller of two numbers that are not NaN."""
    return one if one < other else other


@kernel(inline="always")
def upper(one: Any, other: Any) -> Any:
    """The greater of two numbers that are not NaN."""
    return other if one < other else one


@kernel
def sort_eight(b: Array, q: int) -> None:
    """Sort the rows q..q+7 of every lane in registers: 19 exchanges (Knuth 5.3.4), one load, one store a row."""
    for lane in range(b.shape[1]):
        x0, x1, x2, x3 = b[q, lane], b[q + 1, lane], b[q + 2, lane], b[q + 3, lane]
        x4, x5, x6, x7 = b[q + 4, lane], b[q + 5, lane], b[q + 6, lane], b[q + 7, lane]
        x0, x2 = lower(x0, x2), upper(x0, x2)
        x1, x3 = lower(x1, x3), upper(x1, x3)
        x4, x6 = lower(x4, x6), upper(x4, x6)
        x5, x7 = lower(x5, x7), upper(x5, x7)
        x0, x4 = lower(x0, x4), upper(x0, x4)
        x1, x5 = lower(x1, x5), upper(x1, x5)
        x2, x6 = lower(x2, x6), upper(x2, x6)
        x3, x7 = lower(x3, x7), upper(x3, x7)
        x0, x1 = lower(x0, x1), upper(x0, x1)
        x2, x3 = lower(x2, x3), upper(x2, x3)
        x4, x5 = lower(x4, x5), upper(x4, x5)
        x6, x7 = lower(x6, x7), upper(x6, x7)
        x2, x4 = lower(x2, x4), upper(x2, x4)
        x3, x5 = lower(x3, x5), upper(x3, x5)
        x1, x4 = lower(x1, x4), upper(x1, x4)
        x3, x6 = lower(x3, x6), upper(x3, x6)
        x1, x2 = lower(x1, x2), upper(x1, x2)
        x3, x4 = lower(x3, x4), upper(x3, x4)
        x5, x6 = lower(x5, x6), upper(x5, x6)
        b[q, lane], b[q + 1, lane], b[q + 2, lane], b[q + 3, lane] = x0, x1, x2, x3
        b[q + 4, lane], b[q + 5, lane], b[q + 6, lane], b[q + 7, lane] = x4, x5, x6, x7


@kernel
def merge(b: Array, run: int) -> None:
    """Merge sorted runs of ``run`` rows (a power of 2) of every lane of a block (n, lanes)."""
    n = b.shape[0]
    p = run
    shift = 1
    while (1 << shift) < 2 * p:
        shift += 1
    while p < n:
        k = p
        while k >= 1:
            j = k % p
            while j + k < n:
                for i in range(min(k, n - j - k)):
                    q = i + j
                    if (q >> shift) == ((q + k) >> shift):
                        for lane in range(b.shape[1]):
                            u = b[q, lane]
                            v = b[q + k, lane]
                            b[q, lane] = u if u < v else v
                            b[q + k, lane] = v if u < v else u
                j += 2 * k
            k >>= 1
        p <<= 1
        shift += 1


@kernel
def sort_u16(b: Array) -> None:
    """Sort every lane of a uint16 block (n, 64) along n, in place."""
    whole = b.shape[0] - b.shape[0] % 8
    for q in range(0, whole, 8):
        sort_eight(b, q)
    if whole < b.shape[0]:
        merge(b[whole:], 1)
    merge(b, 8)


@kernel
def sort_f32(b: Array) -> None:
    """Sort every lane of a float32 block (n, 32) along n, in place; there is no NaN in it."""
    whole = b.shape[0] - b.shape[0] % 8
    for q in range(0, whole, 8):
        sort_eight(b, q)
    if whole < b.shape[0]:
        merge(b[whole:], 1)
    merge(b, 8)


@kernel
def load_u16(samples: Array, missing: Array, first: int, blocks: Array, valid: Array) -> None:
    """Take samples uint16 (n, pixels) from ``first`` on into blocks (groups, n, 64), sorted; count the valid.

    ``missing`` is bool (n, pixels), or has no pixels where nothing is missing. Lanes past the end are empty. Frames
    are the outer loop: reading one group of lanes after the other through all frames costs half as much again.
    """
    groups, n = blocks.shape[0], blocks.shape[1]
    pixels = samples.shape[1]
    some_missing = missing.shape[1] > 0
    for g in range(groups):
        width = max(0, min(LANES_U16, pixels - first - g * LANES_U16))
        known = valid[g]
        for lane in range(LANES_U16):
            known[lane] = np.int32(n) if (lane < width) & (not some_missing) else np.int32(0)
    for f in range(n):
        for g in range(groups):
            start = first + g * LANES_U16
            width = max(0, min(LANES_U16, pixels - start))
            source, target = samples[f, start : start + width], blocks[g, f]  # views: no test for negative indices
            if width == LANES_U16:
                for lane in range(LANES_U16):
                    target[lane] = source[lane]
            else:
                for lane in range(width):
                    target[lane] = source[lane]
                for lane in range(width, LANES_U16):
                    target[lane] = _NO_MISSING_U16
            if some_missing:
                gone, known = missing[f, start : start + width], valid[g]
                for lane in range(width):
                    target[lane] = _NO_MISSING_U16 if gone[lane] else target[lane]
                    known[lane] += np.int32(0) if gone[lane] else np.int32(1)
    for g in range(groups):
        sort_u16(blocks[g])


@kernel
def load_f32(samples: Array, first: int, blocks: Array, valid: Array) -> None:
    """Take samples float32 (n, pixels) from ``first`` on into blocks (groups, n, 32), sorted; NaN, inf are missing."""
    groups, n = blocks.shape[0], blocks.shape[1]
    pixels = samples.shape[1]
    for g in range(groups):
        known = valid[g]
        for lane in range(LANES_F32):
            known[lane] = 0
    for f in range(n):
        for g in range(groups):
            start = first + g * LANES_F32
            width = max(0, min(LANES_F32, pixels - start))
            source, target, known = samples[f, start : start + width], blocks[g, f], valid[g]
            if width == LANES_F32:
                for lane in range(LANES_F32):
                    value = source[lane]
                    good = abs(value) < _INFINITY
                    target[lane] = value if good else _INFINITY
                    known[lane] += np.int32(1) if good else np.int32(0)
            else:
                for lane in range(width):
                    value = source[lane]
                    good = abs(value) < _INFINITY
                    target[lane] = value if good else _INFINITY
                    known[lane] += np.int32(1) if good else np.int32(0)
                for lane in range(width, LANES_F32):
                    target[lane] = _INFINITY
    for g in range(groups):
        sort_f32(blocks[g])


@kernel
def median_of_lane(block: Array, low: int, high: int, lane: int) -> float:
    """Median of the ranks low <= r < high of one sorted lane; the mean of the middle two where their number is even."""
    if high <= low:
        return np.nan
    middle = low + high
    below = np.float64(block[(middle - 1) >> 1, lane])
    above = np.float64(block[middle >> 1, lane])
    return 0.5 * (below + above)


@kernel
def everything(low: Array, high: Array, n: int) -> bool:
    """Whether all n ranks of all lanes are kept: then rows of a block are read in vectors."""
    whole = True
    for lane in range(low.shape[0]):
        whole &= (low[lane] == 0) & (high[lane] == n)
    return whole


@kernel
def medians(blocks: Array, low: Array, high: Array, centre: Array) -> None:
    """Median of the ranks low <= r < high of every lane, into centre (groups, lanes)."""
    n = blocks.shape[1]
    for g in range(blocks.shape[0]):
        c = centre[g]
        if everything(low[g], high[g], n):
            below, above = blocks[g, (n - 1) >> 1], blocks[g, n >> 1]
            for lane in range(blocks.shape[2]):
                c[lane] = 0.5 * (np.float64(below[lane]) + np.float64(above[lane]))
        else:
            for lane in range(blocks.shape[2]):
                c[lane] = median_of_lane(blocks[g], low[g, lane], high[g, lane], lane)


@kernel
def moments(blocks: Array, low: Array, high: Array, centre: Array, total: Array, square: Array) -> None:
    """Sums of d and d^2, d = sample - centre, over the ranks low <= r < high of every lane.

    Ranks are added in fours, counted from rank 0, so that neither the other lanes nor the way taken show in the sums.
    """
    n, lanes = blocks.shape[1], blocks.shape[2]
    for g in range(blocks.shape[0]):
        b, c, t, s, lo, hi = blocks[g], centre[g], total[g], square[g], low[g], high[g]
        whole = everything(lo, hi, n)
        for lane in range(lanes):
            t[lane] = 0.0
            s[lane] = 0.0
        r = 0
        while whole and r + 4 <= n:
            row0, row1, row2, row3 = b[r], b[r + 1], b[r + 2], b[r + 3]
            for lane in range(lanes):
                d0 = np.float64(row0[lane]) - c[lane]
                d1 = np.float64(row1[lane]) - c[lane]
                d2 = np.float64(row2[lane]) - c[lane]
                d3 = np.float64(row3[lane]) - c[lane]
                t[lane] += (d0 + d1) + (d2 + d3)
                s[lane] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
            r += 4
        while r < n:
            i1, i2, i3 = min(r + 1, n - 1), min(r + 2, n - 1), min(r + 3, n - 1)
            row0, row1, row2, row3 = b[r], b[i1], b[i2], b[i3]
            r0, end = np.int32(r), np.int32(n)
            for lane in range(lanes):
                first, last = lo[lane], min(hi[lane], end)
                d0 = np.float64(row0[lane]) - c[lane] if (r0 >= first) & (r0 < last) else 0.0
                d1 = np.float64(row1[lane]) - c[lane] if (r0 + 1 >= first) & (r0 + 1 < last) else 0.0
                d2 = np.float64(row2[lane]) - c[lane] if (r0 + 2 >= first) & (r0 + 2 < last) else 0.0
                d3 = np.float64(row3[lane]) - c[lane] if (r0 + 3 >= first) & (r0 + 3 < last) else 0.0
                t[lane] += (d0 + d1) + (d2 + d3)
                s[lane] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
            r += 4


@kernel
def means(low: Array, high: Array, centre: Array, total: Array, square: Array, value: Array, variance: Array) -> None:
    """Mean and sample variance (n - 1) of what is kept in every lane, from its moments; NaN where it says nothing."""
    for g in range(low.shape[0]):
        for lane in range(low.shape[1]):
            n = np.float64(high[g, lane] - low[g, lane])
            value[g, lane] = centre[g, lane] + total[g, lane] / n if n > 0.0 else np.nan
            spread = square[g, lane] - total[g, lane] * total[g, lane] / n
            variance[g, lane] = (spread if spread > 0.0 else 0.0) / (n - 1.0) if n > 1.0 else np.nan


@kernel
def thresholds(blocks: Array, low: Array, high: Array, first: int, low_value: Array, high_value: Array) -> None:
    """Lowest and highest kept sample of every pixel from ``first`` on; a lane that keeps nothing gets low > high."""
    lanes = blocks.shape[2]
    for g in range(blocks.shape[0]):
        for lane in range(min(lanes, low_value.shape[0] - first - g * lanes)):
            at = first + g * lanes + lane
            if high[g, lane] > low[g, lane]:
                low_value[at] = np.float64(blocks[g, low[g, lane], lane])
                high_value[at] = np.float64(blocks[g, high[g, lane] - 1, lane])
            else:
                low_value[at] = 1.0
                high_value[at] = -1.0


@kernel
def spill(source: Array, first: int, target: Array) -> None:
    """Copy values of lanes (groups, lanes) to the pixels they stand for, from ``first`` on."""
    lanes = source.shape[1]
    for g in range(source.shape[0]):
        for lane in range(min(lanes, target.shape[0] - first - g * lanes)):
            target[first + g * lanes + lane] = source[g, lane]


@kernel
def deliver(
    low: Array,
    high: Array,
    value: Array,
    variance: Array,
    first: int,
    out_value: Array,
    out_noise: Array,
    out_count: Array,
    out_weight: Array,
) -> None:
    """Write value, noise = sqrt(variance / kept) and the number kept to the pixels of the lanes, from ``first`` on."""
    lanes = low.shape[1]
    for g in range(low.shape[0]):
        start = first + g * lanes
        width = max(0, min(lanes, out_value.shape[0] - start))
        stop = start + width
        values, noises = out_value[start:stop], out_noise[start:stop]
        counts, weights = out_count[start:stop], out_weight[start:stop]
        for lane in range(width):
            kept = high[g, lane] - low[g, lane]
            values[lane] = value[g, lane]
            noises[lane] = np.sqrt(variance[g, lane] / np.float64(kept))
            counts[lane] = kept
            weights[lane] = np.float64(kept)


@kernel
def accumulate(
    samples: Array,
    missing: Array,
    weights: Array,
    low_value: Array,
    high_value: Array,
    shift: Array,
    sums: Array,
    count: Array,
) -> None:
    """Add samples (n, pixels) within low_value <= v <= high_value to the running sums, frame by frame in order.

    With d = v - shift (``shift`` is the pixel's first sample where it was NaN) the sums are
    ``w, w^2, w d, w^2 d, w^2 d^2``, float64 (5, pixels); ``missing`` as in ``gather_u16``.
    """
    n, pixels = samples.shape
    some_missing = missing.shape[1] > 0
    step = 512
    good = np.empty(step, np.bool_)
    for start in range(0, pixels, step):
        width = min(step, pixels - start)
        stop = start + width
        low, high, origin, number = low_value[start:stop], high_value[start:stop], shift[start:stop], count[start:stop]
        s0, s1, s2 = sums[0, start:stop], sums[1, start:stop], sums[2, start:stop]
        s3, s4 = sums[3, start:stop], sums[4, start:stop]
        for f in range(n):
            w = weights[f]
            ww = w * w
            row = samples[f, start:stop]
            for i in range(width):
                v = np.float64(row[i])
                good[i] = (v >= low[i]) & (v <= high[i])
            if some_missing:
                gone = missing[f, start:stop]
                for i in range(width):
                    good[i] = good[i] & (not gone[i])
            for i in range(width):
                v = np.float64(row[i])
                origin[i] = v if (origin[i] != origin[i]) & good[i] else origin[i]
                number[i] += np.int32(good[i])
            for i in range(width):
                d = np.float64(row[i]) - origin[i]
                d = d if good[i] else 0.0
                u = w if good[i] else 0.0
                s0[i] += u
                s2[i] += u * d
            for i in range(width):
                d = np.float64(row[i]) - origin[i]
                d = d if good[i] else 0.0
                uu = ww if good[i] else 0.0
                s1[i] += uu
                s3[i] += uu * d
                s4[i] += uu * d * d


@kernel
def combine_sums(more: Array, more_shift: Array, more_count: Array, sums: Array, shift: Array, count: Array) -> None:
    """Add later sums of ``accumulate`` to earlier ones, moved to the earlier origin: d' = d + (more_shift - shift)."""
    for i in range(shift.shape[0]):
        if more_shift[i] != more_shift[i]:
            continue  # nothing was added there
        if shift[i] != shift[i]:
            shift[i] = more_shift[i]
        by = more_shift[i] - shift[i]
        w, ww, wd, wwd, wwdd = more[0, i], more[1, i], more[2, i], more[3, i], more[4, i]
        sums[0, i] += w
        sums[1, i] += ww
        sums[2, i] += wd + by * w
        sums[3, i] += wwd + by * ww
        sums[4, i] += wwdd + by * (2.0 * wwd + by * ww)
        count[i] += more_count[i]


@kernel
def finish_sums(sums: Array, shift: Array, count: Array, value: Array, noise: Array, weight: Array) -> None:
    """Weighted mean and its error from the sums of ``accumulate``.

    noise^2 = sum w^2 (v - mean)^2 / (sum w)^2 / (1 - sum w^2 / (sum w)^2): right whatever the weights mean, and the
    usual s^2 / n where they are equal. NaN for one sample.
    """
    for i in range(value.shape[0]):
        w = sums[0, i]
        if count[i] == 0 or not w > 0.0:
            value[i] = np.nan
            noise[i] = np.nan
            weight[i] = 0.0
            continue
        m = sums[2, i] / w
        q = sums[4, i] - 2.0 * m * sums[3, i] + m * m * sums[1, i]
        rest = w * w - sums[1, i]
        value[i] = shift[i] + m
        noise[i] = np.sqrt((q if q > 0.0 else 0.0) / rest) if count[i] > 1 else np.nan
        weight[i] = w
