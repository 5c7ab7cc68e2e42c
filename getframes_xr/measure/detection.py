"""Detection: lone bright pixels repaired, a matched-filtered sum of all colours, its local maxima, trails told apart.

    cells of b x b raw px minus the block background  ->  3 x 3 binomial  ->  local maxima above the threshold

A pixel that stands > 8 sigma above its block and > 3.5 times above its second brightest neighbour is no star: the
sharpest one that passes has FWHM 1.5 px. Flagged pixels are replaced by neighbours of their own colour BEFORE any
smoothing. Detections in a run of at least 8 elongated ones along one line are a trail.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.measure.background import BLOCK_PX, level_at, select

Array = np.ndarray[Any, Any]


@kernel
def repair(
    image: Array, flags: Array, replaced: int, levels: Array, variance: Array, y0: int, x0: int, index: Array
) -> Array:
    """Copy of the frame with flagged, NaN and lone bright pixels replaced by neighbours of their own colour."""
    ny, nx = image.shape
    n_bands = levels.shape[0]
    step = 2 if n_bands > 1 else 1
    out = image.copy()
    limit = np.empty(n_bands, np.float32)
    for y in range(ny):
        by = y // BLOCK_PX
        for bx in range(levels.shape[2]):
            for band in range(n_bands):
                limit[band] = levels[band, by, bx] + 8.0 * np.sqrt(variance[band])
            even, odd = limit[index[(y + y0) & 1, x0 & 1]], limit[index[(y + y0) & 1, (x0 + 1) & 1]]
            for x in range(bx * BLOCK_PX, min(nx, (bx + 1) * BLOCK_PX)):
                v = image[y, x]
                if flags[y, x] & replaced == 0 and v <= (odd if x & 1 else even) and v > -np.inf:
                    continue
                bad = flags[y, x] & replaced != 0 or not np.isfinite(v)
                band = index[(y + y0) & 1, (x + x0) & 1]
                if not bad:
                    bad = _stands_alone(image, flags, replaced, levels, variance, y0, x0, index, y, x)
                if bad:
                    total, n = 0.0, 0
                    for reach in range(2):
                        for k in range(4):  # the four in the cross, else the four on the diagonals
                            a = -step if k == 0 or (reach == 1 and k == 1) else step
                            b = -step if (reach == 1 and (k == 0 or k == 2)) else step
                            if reach == 0:
                                a, b = (a if k < 2 else 0), (0 if k < 2 else (step if k == 2 else -step))
                            yy, xx = y + a, x + b
                            if 0 <= yy < ny and 0 <= xx < nx:
                                w = image[yy, xx]
                                if flags[yy, xx] & replaced == 0 and np.isfinite(w):
                                    total += w
                                    n += 1
                        if n > 0:
                            break
                    out[y, x] = total / n if n > 0 else levels[band, by, bx]
    return out


@kernel
def _stands_alone(
    image: Array, flags: Array, replaced: int, levels: Array, variance: Array, y0: int, x0: int, index: Array,
    y: int, x: int,
) -> bool:  # fmt: skip
    """True for a pixel that no star can make: more than 3.5 times its second brightest neighbour of any colour."""
    ny, nx = image.shape
    by, bx = y // BLOCK_PX, x // BLOCK_PX
    first, second = -np.inf, -np.inf
    for yy in range(max(0, y - 1), min(ny, y + 2)):
        for xx in range(max(0, x - 1), min(nx, x + 2)):
            if (yy == y and xx == x) or flags[yy, xx] & replaced != 0 or not np.isfinite(image[yy, xx]):
                continue
            d = image[yy, xx] - levels[index[(yy + y0) & 1, (xx + x0) & 1], by, bx]
            if d > first:
                first, second = d, first
            elif d > second:
                second = d
    band = index[(y + y0) & 1, (x + x0) & 1]
    d = image[y, x] - levels[band, by, bx]
    return bool(d > 3.5 * max(second, 2.0 * np.sqrt(variance[band])))


@kernel
def detection_image(clean: Array, total_level: Array, cell: int) -> Array:
    """Sum of cells of ``cell`` x ``cell`` px minus the background of a cell, smoothed by the 3 x 3 binomial."""
    ny, nx = clean.shape
    rows, columns = ny // cell, nx // cell
    raw = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        line = raw[i]
        for y in range(i * cell, (i + 1) * cell):
            for j in range(columns):
                for x in range(j * cell, (j + 1) * cell):
                    line[j] += clean[y, x]
        cy = i * cell + 0.5 * (cell - 1)
        for j in range(columns):
            line[j] -= level_at(total_level, 0, cy, j * cell + 0.5 * (cell - 1))
    out = np.zeros((rows, columns), np.float32)
    column = np.empty(columns, np.float32)
    quarter = np.float32(0.25)
    two = np.float32(2.0)
    for i in range(1, rows - 1):
        for j in range(columns):
            column[j] = quarter * (raw[i - 1, j] + two * raw[i, j] + raw[i + 1, j])
        for j in range(1, columns - 1):
            out[i, j] = quarter * (column[j - 1] + two * column[j] + column[j + 1])
    return out


@kernel
def difference_sigma(image: Array, distance: int, rows_step: int) -> float:
    """Noise of a smooth image from differences along rows: clipped rms, so that stars and gradients cancel."""
    rows, columns = image.shape
    store = np.empty(((rows + rows_step - 1) // rows_step) * max(columns - distance, 0), np.float32)
    n = 0
    for i in range(0, rows, rows_step):
        for j in range(columns - distance):
            store[n] = abs(image[i, j + distance] - image[i, j])
            n += 1
    if n < 2:
        return 0.0
    sigma = 1.4826 * float(select(store, n, n >> 1))
    kept, square = 0, 0.0
    for k in range(n):
        if store[k] <= 3.0 * sigma:
            kept += 1
            square += float(store[k]) * float(store[k])
    return float(np.sqrt(square / max(kept, 1) / (2.0 * 0.9733)))


@kernel
def local_maxima(image: Array, threshold: float, most: int) -> tuple[Array, Array, Array]:
    """Cells above the threshold that no neighbour exceeds (of equal neighbours the first): row, column, value."""
    rows, columns = image.shape
    yy, xx, value = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.float64)
    n = 0
    for i in range(1, rows - 1):
        for j in range(1, columns - 1):
            v = image[i, j]
            if (
                v > threshold
                and v > image[i - 1, j - 1] and v > image[i - 1, j] and v > image[i - 1, j + 1] and v > image[i, j - 1]
                and v >= image[i, j + 1] and v >= image[i + 1, j - 1] and v >= image[i + 1, j]
                and v >= image[i + 1, j + 1] and n < most
            ):  # fmt: skip
                yy[n], xx[n], value[n] = i, j, v
                n += 1
    return yy[:n], xx[:n], value[:n]


@kernel
def drop_twins(y: Array, x: Array, order: Array, distance: float) -> Array:
    """False for every detection within ``distance`` of an earlier (brighter) one; ``order`` sorts y."""
    n = len(y)
    keep = np.ones(n, np.bool_)
    for a in range(n):
        i = order[a]
        for b in range(a + 1, n):
            j = order[b]
            if y[j] - y[i] > distance:
                break
            if (y[j] - y[i]) ** 2 + (x[j] - x[i]) ** 2 < distance * distance:
                if i < j:
                    keep[j] = False
                else:
                    keep[i] = False
    return keep


@kernel
def trail_members(y: Array, x: Array, plus: Array, cross: Array, elongated: Array, scale: float) -> Array:
    """True for detections in a run of >= 8 elongated ones along one line, gaps <= 24 s, length >= 80 s, all alike."""
    n = len(y)
    member = np.zeros(n, np.bool_)
    along = np.empty(n)
    who = np.empty(n, np.int64)
    for i in range(n):
        if not elongated[i]:
            continue
        length = np.sqrt(plus[i] ** 2 + cross[i] ** 2)
        c2, s2 = plus[i] / length, cross[i] / length
        c = np.sqrt(max(0.0, 0.5 * (1.0 + c2)))
        s = np.sqrt(max(0.0, 0.5 * (1.0 - c2)))
        if s2 < 0.0:
            s = -s
        m = 0
        for j in range(n):
            if not elongated[j]:
                continue
            dy, dx = y[j] - y[i], x[j] - x[i]
            if abs(dy * c - dx * s) > 3.0 * scale:
                continue
            if plus[j] * c2 + cross[j] * s2 < 0.7 * np.sqrt(plus[j] ** 2 + cross[j] ** 2):
                continue
            t = dx * c + dy * s
            k = m
            while k > 0 and along[k - 1] > t:  # kept sorted along the line
                along[k], who[k] = along[k - 1], who[k - 1]
                k -= 1
            along[k], who[k] = t, j
            m += 1
        if m < 8:
            continue
        begin = 0
        for k in range(1, m + 1):
            if k == m or along[k] - along[k - 1] > 24.0 * scale:
                if k - begin >= 8 and along[k - 1] - along[begin] >= 80.0 * scale:
                    for q in range(begin, k):
                        member[who[q]] = True
                begin = k
    return member
