"""Interpolation kernels: weights of the taps around a position between pixels, and the loops that sum them.

    bilinear   1 - |d|                                        2 taps
    bicubic    Catmull-Rom (Keys 1981, a = -1/2)              4 taps
    lanczos3   sinc(d) sinc(d / 3), made to sum to 1          6 taps, a table of 1024 steps

A sample is a number only if every tap lies inside the frame and is one itself; nothing is guessed. Positions come in
float64 from absolute coordinates, an integer origin is taken off, the rest is float32: so a pixel does not depend on
the window it is made in. Rows are done in two loops (positions, then sums) with indices that cannot be negative, 2.3
times faster than one loop. A pure shift has the same weights everywhere and is done as two vector passes.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from getframes_xr.core.elementary import sine_cosine_of_turns
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array

Interpolation = Literal["bilinear", "bicubic", "lanczos3"]
TAPS = {"bilinear": 2, "bicubic": 4, "lanczos3": 6}
STEPS = 1024
_PI = 3.141592653589793
_NAN = np.float32(np.nan)


@cache
def lanczos_table() -> Array:
    """Weights float32 (1025, 6) for the fractions i / 1024, multiples of 2^-23 that sum to 1 exactly."""
    table = np.zeros((STEPS + 1, 6))
    for step in range(STEPS + 1):
        for tap in range(6):
            d = step / STEPS - (tap - 2)
            if d == 0.0:
                table[step, tap] = 1.0
            elif d != round(d) and abs(d) < 3.0:
                sines = sine_cosine_of_turns(d / 2)[0] * sine_cosine_of_turns(d / 6)[0]
                table[step, tap] = 3.0 * sines / (_PI * d) / (_PI * d)
    rounded = np.floor(table / table.sum(axis=1, keepdims=True) * 2**23 + 0.5)
    rounded[np.arange(STEPS + 1), np.argmax(rounded, axis=1)] += 2**23 - rounded.sum(axis=1)
    weights: Array = (rounded / 2**23).astype(np.float32)
    weights.setflags(write=False)
    return weights


def shift_weights(kind: Interpolation, fraction: float) -> Array:
    """Weights float32 of the taps for a fraction 0 <= t < 1; taps count from ``1 - len // 2``, one tap for t = 0."""
    t = np.float32(fraction)
    if t == 0.0:
        return np.ones(1, np.float32)
    if kind == "bilinear":
        return np.array([np.float32(1.0) - t, t], np.float32)
    if kind == "bicubic":
        weights = np.empty((4, 1), np.float32)
        cubic_weight_rows(np.array([t]), weights)
        return weights[:, 0].copy()
    chosen: Array = lanczos_table()[int(np.floor(np.float64(t) * STEPS + 0.5))].copy()
    return chosen


@kernel
def row_positions(
    inverse: Array,
    y: int,
    x: int,
    shape: Array,
    taps: int,
    origin: Array,
    at: Array,
    ty: Array,
    tx: Array,
    inside: Array,
) -> None:
    """Where the pixels (y, x), (y, x + 1), ... of a canvas row lie in the source.

    ``inverse`` (2, 3): source = inverse[:, :2] @ (y, x) + inverse[:, 2]; ``origin``, ``shape`` of the source window.
    ``at`` int64: flat index of the first tap; ``ty``, ``tx`` float32 fractions; ``inside``: all taps are in the window.
    """
    before = taps // 2 - 1
    height, width = shape[0], shape[1]
    base_y = inverse[0, 0] * np.float64(y) + inverse[0, 2]
    base_x = inverse[1, 0] * np.float64(y) + inverse[1, 2]
    step_y, step_x = inverse[0, 1], inverse[1, 1]
    for i in range(at.shape[0]):
        place = np.float64(x + i)
        sy = base_y + step_y * place
        sx = base_x + step_x * place
        fy = np.floor(sy)
        fx = np.floor(sx)
        ty[i] = np.float32(sy - fy)
        tx[i] = np.float32(sx - fx)
        top = np.int64(fy) - origin[0] - before
        left = np.int64(fx) - origin[1] - before
        good = (top >= 0) & (left >= 0) & (top + taps <= height) & (left + taps <= width)
        inside[i] = good
        at[i] = top * width + left if good else 0


@kernel
def bilinear_row(
    source: Array, width: int, at: Array, ty: Array, tx: Array, inside: Array, factor: float, out: Array
) -> None:
    """Sums of 2 x 2 taps of a flat source of that width, times ``factor``; NaN where not inside."""
    one = np.float32(1.0)
    stride = np.uint64(width)
    for i in range(at.shape[0]):
        first = np.uint64(at[i])
        second = first + stride
        t, u = ty[i], tx[i]
        upper = (one - u) * source[first] + u * source[first + np.uint64(1)]
        lower = (one - u) * source[second] + u * source[second + np.uint64(1)]
        value = ((one - t) * upper + t * lower) * factor
        out[i] = value if inside[i] else _NAN


@kernel
def cubic_weight_rows(fractions: Array, weights: Array) -> None:
    """Weights float32 (4, pixels) of a row of fractions: a loop of its own, so that it is done in vectors."""
    half, one = np.float32(0.5), np.float32(1.0)
    two, three = np.float32(2.0), np.float32(3.0)
    four, five = np.float32(4.0), np.float32(5.0)
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(fractions.shape[0]):
        t = fractions[i]
        w0[i] = half * t * (t * (two - t) - one)
        w1[i] = half * (t * t * (three * t - five) + two)
        w2[i] = half * t * (t * (four - three * t) + one)
        w3[i] = half * t * t * (t - one)


@kernel
def bicubic_row(
    source: Array, width: int, at: Array, wy: Array, wx: Array, inside: Array, factor: float, out: Array
) -> None:
    """Sums of 4 x 4 taps of a flat source of that width, weights (4, pixels), times ``factor``; NaN if not inside."""
    stride = np.uint64(width)
    o1, o2, o3 = np.uint64(1), np.uint64(2), np.uint64(3)
    a0, a1, a2, a3 = wy[0], wy[1], wy[2], wy[3]
    b0, b1, b2, b3 = wx[0], wx[1], wx[2], wx[3]
    for i in range(at.shape[0]):
        r0 = np.uint64(at[i])
        r1 = r0 + stride
        r2 = r1 + stride
        r3 = r2 + stride
        w0, w1, w2, w3 = b0[i], b1[i], b2[i], b3[i]
        s0 = w0 * source[r0] + w1 * source[r0 + o1] + (w2 * source[r0 + o2] + w3 * source[r0 + o3])
        s1 = w0 * source[r1] + w1 * source[r1 + o1] + (w2 * source[r1 + o2] + w3 * source[r1 + o3])
        s2 = w0 * source[r2] + w1 * source[r2 + o1] + (w2 * source[r2 + o2] + w3 * source[r2 + o3])
        s3 = w0 * source[r3] + w1 * source[r3 + o1] + (w2 * source[r3 + o2] + w3 * source[r3 + o3])
        out[i] = (a0[i] * s0 + a1[i] * s1 + (a2[i] * s2 + a3[i] * s3)) * factor
    for i in range(at.shape[0]):
        out[i] = out[i] if inside[i] else _NAN


@kernel
def lanczos_row(
    source: Array, width: int, at: Array, ty: Array, tx: Array, inside: Array, table: Array, factor: float, out: Array
) -> None:
    """Sums of 6 x 6 taps of a flat source of that width, times ``factor``; NaN where not inside."""
    stride = np.uint64(width)
    steps, half = np.float32(STEPS), np.float32(0.5)
    o1, o2, o3, o4, o5 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)
    for i in range(at.shape[0]):
        wy = table[np.uint64(ty[i] * steps + half)]
        wx = table[np.uint64(tx[i] * steps + half)]
        w0, w1, w2, w3, w4, w5 = wx[0], wx[1], wx[2], wx[3], wx[4], wx[5]
        value = np.float32(0.0)
        r = np.uint64(at[i])
        for k in range(6):
            upper = w0 * source[r] + w1 * source[r + o1] + w2 * source[r + o2]
            lower = w3 * source[r + o3] + w4 * source[r + o4] + w5 * source[r + o5]
            value += wy[k] * (upper + lower)
            r += stride
        out[i] = value * factor if inside[i] else _NAN


@kernel
def warp_plane(
    kind: int, source: Array, origin: Array, inverse: Array, y: int, x: int, table: Array, factor: float, out: Array
) -> None:
    """Fill out float32 (y, x), whose first pixel is the canvas pixel (y, x), from a source window (y, x) at ``origin``.

    ``kind`` is the number of taps: 2 bilinear, 4 bicubic, 6 Lanczos.
    """
    columns = out.shape[1]
    shape = np.array([source.shape[0], source.shape[1]])
    flat = source.reshape(source.shape[0] * source.shape[1])
    at = np.empty(columns, np.int64)
    ty = np.empty(columns, np.float32)
    tx = np.empty(columns, np.float32)
    inside = np.empty(columns, np.bool_)
    wy = np.empty((4, columns), np.float32)
    wx = np.empty((4, columns), np.float32)
    amount: float = np.float32(factor)  # type: ignore[assignment]  # float32 inside the kernel
    for row in range(out.shape[0]):
        row_positions(inverse, y + row, x, shape, kind, origin, at, ty, tx, inside)
        if kind == 2:
            bilinear_row(flat, source.shape[1], at, ty, tx, inside, amount, out[row])
        elif kind == 4:
            cubic_weight_rows(ty, wy)
            cubic_weight_rows(tx, wx)
            bicubic_row(flat, source.shape[1], at, wy, wx, inside, amount, out[row])
        else:
            lanczos_row(flat, source.shape[1], at, ty, tx, inside, table, amount, out[row])


@kernel
def warp_flags(kind: int, flags: Array, origin: Array, inverse: Array, y: int, x: int, out: Array) -> None:
    """Fill out uint16 (y, x) with all flags of the taps of each pixel; 0 where not all taps are inside."""
    columns = out.shape[1]
    height, width = flags.shape
    spread = np.zeros((height, width), np.uint16)  # spread[y, x]: all flags of the taps that start at (y, x)
    for r in range(height - kind + 1):
        target = spread[r]
        for k in range(kind):
            row = flags[r + k]
            for c in range(width):
                target[c] |= row[c]
    line = np.empty(width, np.uint16)
    for r in range(height - kind + 1):
        target = spread[r]
        for c in range(width):
            line[c] = target[c]
        for k in range(1, kind):
            later = line[k:]
            for c in range(width - k):
                target[c] |= later[c]
    shape = np.array([height, width])
    flat = spread.reshape(height * width)
    at = np.empty(columns, np.int64)
    ty = np.empty(columns, np.float32)
    tx = np.empty(columns, np.float32)
    inside = np.empty(columns, np.bool_)
    for row in range(out.shape[0]):
        row_positions(inverse, y + row, x, shape, kind, origin, at, ty, tx, inside)
        target = out[row]
        for i in range(columns):
            target[i] = flat[np.uint64(at[i])] if inside[i] else np.uint16(0)


@kernel
def shift_plane(source: Array, top: int, left: int, wy: Array, wx: Array, out: Array) -> None:
    """Fill out float32 (y, x) by a pure shift: its pixel (0, 0) has its first tap at source[top, left].

    Both indices may lie outside; taps outside the source make NaN.
    """
    height, width = source.shape
    rows, columns = out.shape
    n_y, n_x = wy.shape[0], wx.shape[0]
    first = max(0, -left)
    last = max(first, min(columns, width - n_x + 1 - left))
    line = np.empty(max(0, last - first) + n_x - 1, np.float32)
    for row in range(rows):
        target = out[row]
        start = top + row
        if start < 0 or start + n_y > height or last <= first:
            for i in range(columns):
                target[i] = _NAN
            continue
        begin = left + first
        if n_y == 1:
            only = source[start, begin : begin + line.shape[0]]
            for i in range(line.shape[0]):
                line[i] = only[i]
        else:
            for i in range(line.shape[0]):
                line[i] = np.float32(0.0)
            for k in range(0, n_y, 2):
                upper = source[start + k, begin : begin + line.shape[0]]
                lower = source[start + k + 1, begin : begin + line.shape[0]]
                w, v = wy[k], wy[k + 1]
                for i in range(line.shape[0]):
                    line[i] += w * upper[i] + v * lower[i]
        for i in range(first):
            target[i] = _NAN
        for i in range(last, columns):
            target[i] = _NAN
        middle = target[first:last]
        if n_x == 1:
            for i in range(last - first):
                middle[i] = line[i]
        elif n_x == 2:
            l1 = line[1:]
            for i in range(last - first):
                middle[i] = wx[0] * line[i] + wx[1] * l1[i]
        elif n_x == 4:
            l1, l2, l3 = line[1:], line[2:], line[3:]
            for i in range(last - first):
                middle[i] = wx[0] * line[i] + wx[1] * l1[i] + (wx[2] * l2[i] + wx[3] * l3[i])
        else:
            l1, l2, l3, l4, l5 = line[1:], line[2:], line[3:], line[4:], line[5:]
            for i in range(last - first):
                left_part = wx[0] * line[i] + wx[1] * l1[i] + wx[2] * l2[i]
                middle[i] = left_part + (wx[3] * l3[i] + wx[4] * l4[i] + wx[5] * l5[i])


@kernel
def shift_flags(flags: Array, top: int, left: int, n_y: int, n_x: int, out: Array) -> None:
    """Fill out uint16 (y, x) with all flags of the n_y x n_x taps of each pixel; 0 where not all are inside."""
    height, width = flags.shape
    rows, columns = out.shape
    first = max(0, -left)
    last = max(first, min(columns, width - n_x + 1 - left))
    for row in range(rows):
        target = out[row]
        for i in range(columns):
            target[i] = np.uint16(0)
        start = top + row
        if start < 0 or start + n_y > height:
            continue
        middle = target[first:last]
        for k in range(n_y):
            for j in range(n_x):
                taps = flags[start + k, left + first + j : left + last + j]
                for i in range(last - first):
                    middle[i] |= taps[i]
