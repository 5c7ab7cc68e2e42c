"""Lanes: many pixels sorted along time at once, 64 (uint16) or 32 (float32) side by side.

A data-independent sorting network (Batcher's odd-even merge sort for any length, Knuth, TAOCP 3, 5.2.2 M) exchanges
whole rows of lanes, so each exchange is a vector minimum and maximum. After one sort, clipping, medians, trimming and
percentiles are two pointers per pixel and running sums. A missing sample sorts behind all others (65535 or +inf) and
each lane knows how many samples are valid. Sums run relative to the lane's median in float64: exact for uint16.
With 16 lanes LLVM unrolls the loop and no longer vectorises it (measured: 8 times slower), hence the widths.
"""

from __future__ import annotations

import numpy as np

from getframes_xr.core.kernel import kernel

LANES_U16 = 64
LANES_F32 = 32
_NO_MISSING_U16 = np.uint16(65535)
_INFINITY = np.float32(np.inf)


@kernel
def gather_u16(samples, missing, first, blocks, valid):  # type: ignore[no-untyped-def]
    """Copy samples uint16 (n, pixels) from pixel ``first`` on into blocks (groups, n, 64); count the valid ones.

    ``missing`` is bool (n, pixels), or has no pixels where nothing is missing. Lanes past the end are empty.
    """
    groups, n = blocks.shape[0], blocks.shape[1]
    pixels = samples.shape[1]
    some_missing = missing.shape[1] > 0
    for g in range(groups):
        for lane in range(LANES_U16):
            valid[g, lane] = 0
    for f in range(n):
        for g in range(groups):
            start = first + g * LANES_U16
            width = min(LANES_U16, pixels - start)
            if width == LANES_U16:
                for lane in range(LANES_U16):
                    blocks[g, f, lane] = samples[f, start + lane]
            else:
                for lane in range(LANES_U16):
                    blocks[g, f, lane] = _NO_MISSING_U16
                for lane in range(width):
                    blocks[g, f, lane] = samples[f, start + lane]
            if some_missing:
                for lane in range(width):
                    if missing[f, start + lane]:
                        blocks[g, f, lane] = _NO_MISSING_U16
                    else:
                        valid[g, lane] += 1
    if not some_missing:
        for g in range(groups):
            width = min(LANES_U16, pixels - first - g * LANES_U16)
            for lane in range(width):
                valid[g, lane] = n


@kernel
def gather_f32(samples, first, blocks, valid):  # type: ignore[no-untyped-def]
    """Copy samples float32 (n, pixels) from pixel ``first`` on into blocks (groups, n, 32); NaN and inf are missing."""
    groups, n = blocks.shape[0], blocks.shape[1]
    pixels = samples.shape[1]
    for g in range(groups):
        for lane in range(LANES_F32):
            valid[g, lane] = 0
    for f in range(n):
        for g in range(groups):
            start = first + g * LANES_F32
            width = min(LANES_F32, pixels - start)
            if width < LANES_F32:
                for lane in range(LANES_F32):
                    blocks[g, f, lane] = _INFINITY
                for lane in range(width):
                    value = samples[f, start + lane]
                    good = abs(value) < _INFINITY
                    blocks[g, f, lane] = value if good else _INFINITY
                    valid[g, lane] += np.int32(1) if good else np.int32(0)
            else:
                for lane in range(LANES_F32):
                    value = samples[f, start + lane]
                    good = abs(value) < _INFINITY
                    blocks[g, f, lane] = value if good else _INFINITY
                    valid[g, lane] += np.int32(1) if good else np.int32(0)


@kernel
def sort_u16(blocks):  # type: ignore[no-untyped-def]
    """Sort every lane of uint16 blocks (groups, n, 64) along n, in place."""
    n = blocks.shape[1]
    for g in range(blocks.shape[0]):
        b = blocks[g]
        p = 1
        shift = 1
        while p < n:
            k = p
            while k >= 1:
                j = k % p
                while j + k < n:
                    for i in range(min(k, n - j - k)):
                        q = i + j
                        if (q >> shift) == ((q + k) >> shift):
                            for lane in range(LANES_U16):
                                u = b[q, lane]
                                v = b[q + k, lane]
                                b[q, lane] = u if u < v else v
                                b[q + k, lane] = v if u < v else u
                    j += 2 * k
                k >>= 1
            p <<= 1
            shift += 1


@kernel
def sort_f32(blocks):  # type: ignore[no-untyped-def]
    """Sort every lane of float32 blocks (groups, n, 32) along n, in place; there is no NaN in them."""
    n = blocks.shape[1]
    for g in range(blocks.shape[0]):
        b = blocks[g]
        p = 1
        shift = 1
        while p < n:
            k = p
            while k >= 1:
                j = k % p
                while j + k < n:
                    for i in range(min(k, n - j - k)):
                        q = i + j
                        if (q >> shift) == ((q + k) >> shift):
                            for lane in range(LANES_F32):
                                u = b[q, lane]
                                v = b[q + k, lane]
                                b[q, lane] = u if u < v else v
                                b[q + k, lane] = v if u < v else u
                    j += 2 * k
                k >>= 1
            p <<= 1
            shift += 1


@kernel
def median_of_lane(block, low, high, lane):  # type: ignore[no-untyped-def]
    """Median of the ranks low <= r < high of one sorted lane; the mean of the middle two where their number is even."""
    if high <= low:
        return np.nan
    middle = low + high
    below = np.float64(block[(middle - 1) >> 1, lane])
    above = np.float64(block[middle >> 1, lane])
    return 0.5 * (below + above)


@kernel
def medians(blocks, low, high, centre):  # type: ignore[no-untyped-def]
    """Median of the ranks low <= r < high of every lane, into centre (groups, lanes)."""
    for g in range(blocks.shape[0]):
        for lane in range(blocks.shape[2]):
            centre[g, lane] = median_of_lane(blocks[g], low[g, lane], high[g, lane], lane)


@kernel
def moments(blocks, low, high, centre, total, square):  # type: ignore[no-untyped-def]
    """Sums of d and d^2, d = sample - centre, over the ranks low <= r < high of every lane, in the order of ranks."""
    n, lanes = blocks.shape[1], blocks.shape[2]
    for g in range(blocks.shape[0]):
        b, c, t, s, lo, hi = blocks[g], centre[g], total[g], square[g], low[g], high[g]
        first, last = n, 0
        for lane in range(lanes):
            t[lane] = 0.0
            s[lane] = 0.0
            if hi[lane] > lo[lane]:
                first = min(first, np.int64(lo[lane]))
                last = max(last, np.int64(hi[lane]))
        for r in range(first, last):
            rank = np.int32(r)
            for lane in range(lanes):
                d = np.float64(b[r, lane]) - c[lane]
                d = d if (rank >= lo[lane]) & (rank < hi[lane]) else 0.0
                t[lane] += d
                s[lane] += d * d


@kernel
def means(low, high, centre, total, square, value, variance):  # type: ignore[no-untyped-def]
    """Mean and sample variance (n - 1) of what is kept in every lane, from its moments; NaN where it says nothing."""
    for g in range(low.shape[0]):
        for lane in range(low.shape[1]):
            n = np.float64(high[g, lane] - low[g, lane])
            value[g, lane] = centre[g, lane] + total[g, lane] / n if n > 0.0 else np.nan
            spread = square[g, lane] - total[g, lane] * total[g, lane] / n
            variance[g, lane] = (spread if spread > 0.0 else 0.0) / (n - 1.0) if n > 1.0 else np.nan


@kernel
def thresholds(blocks, low, high, first, low_value, high_value):  # type: ignore[no-untyped-def]
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
def spill(source, first, target):  # type: ignore[no-untyped-def]
    """Copy values of lanes (groups, lanes) to the pixels they stand for, from ``first`` on."""
    lanes = source.shape[1]
    for g in range(source.shape[0]):
        for lane in range(min(lanes, target.shape[0] - first - g * lanes)):
            target[first + g * lanes + lane] = source[g, lane]


@kernel
def accumulate(samples, missing, weights, low_value, high_value, shift, sums, count):  # type: ignore[no-untyped-def]
    """Add samples (n, pixels) within low_value <= v <= high_value to the running sums, frame by frame in order.

    With d = v - shift (``shift`` is the pixel's first sample where it was NaN) the sums are
    ``w, w^2, w d, w^2 d, w^2 d^2``, float64 (5, pixels); ``missing`` as in ``gather_u16``.
    """
    n, pixels = samples.shape
    some_missing = missing.shape[1] > 0
    step = 512
    for start in range(0, pixels, step):
        stop = min(start + step, pixels)
        for f in range(n):
            w = weights[f]
            for i in range(start, stop):
                v = np.float64(samples[f, i])
                good = (v >= low_value[i]) & (v <= high_value[i])
                if some_missing:
                    good = good & (not missing[f, i])
                origin = shift[i]
                origin = v if (origin != origin) & good else origin
                shift[i] = origin
                d = v - origin if good else 0.0
                u = w if good else 0.0
                uu = u * u
                sums[0, i] += u
                sums[1, i] += uu
                sums[2, i] += u * d
                sums[3, i] += uu * d
                sums[4, i] += uu * d * d
                count[i] += np.int32(1) if good else np.int32(0)


@kernel
def finish_sums(sums, shift, count, value, noise, weight):  # type: ignore[no-untyped-def]
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
