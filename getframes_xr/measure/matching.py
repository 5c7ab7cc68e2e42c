"""Star lists against a catalogue: neighbours through 12 px cells, weighted similarities, sums for mean positions.

    minimise  sum_k |A p_k + t - q_k|^2 / (s_star^2 + s_cat^2 + f^2),   A = [[a, b], [-b, a]]

f is 0.03 px, or as much as the residuals ask.

Pairing and fitting alternate through shrinking tolerances until nothing changes. All loops run in index order, ties
go to the lowest index, so results are the same on every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.measure.background import select

Array = np.ndarray[Any, Any]

CELL_PX = 12.0


@kernel
def cell_of(y: float, x: float, low_y: float, low_x: float, cells: int) -> int:
    i = min(max(int((y - low_y) / CELL_PX), 0), cells - 1)
    j = min(max(int((x - low_x) / CELL_PX), 0), cells - 1)
    return i * cells + j


@kernel
def index_stars(y: Array, x: Array, n: int, low_y: float, low_x: float, cells: int, head: Array, link: Array) -> None:
    """Chain the stars of each 12 px cell, so that a search looks at 9 cells."""
    head[:] = -1
    for k in range(n - 1, -1, -1):
        c = cell_of(y[k], x[k], low_y, low_x, cells)
        link[k] = head[c]
        head[c] = k


@kernel
def nearest(
    qy: float, qx: float, reach: float, y: Array, x: Array, low_y: float, low_x: float, cells: int,
    head: Array, link: Array,
) -> int:  # fmt: skip
    """Index of the nearest indexed star within ``reach`` (<= 12 px), -1 if none; ties go to the lowest index."""
    best, found = reach * reach, -1
    i0 = min(max(int((qy - low_y) / CELL_PX), 0), cells - 1)
    j0 = min(max(int((qx - low_x) / CELL_PX), 0), cells - 1)
    for i in range(max(0, i0 - 1), min(cells, i0 + 2)):
        for j in range(max(0, j0 - 1), min(cells, j0 + 2)):
            k = head[i * cells + j]
            while k >= 0:
                d = (y[k] - qy) ** 2 + (x[k] - qx) ** 2
                if d < best or (d == best and found >= 0 and k < found):
                    best, found = d, k
                k = link[k]
    return found


@kernel
def pair_up(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, usable: Array, n: int, reach: float,
    cat_y: Array, cat_x: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array,
    pair: Array, distance: Array, taken: Array,
) -> int:  # fmt: skip
    """Nearest catalogue star of every usable detection, each catalogue star given to its nearest detection only."""
    taken[:] = -1
    count = 0
    for k in range(n):
        pair[k] = -1
        if not usable[k]:
            continue
        my, mx = a * y[k] + b * x[k] + ty, -b * y[k] + a * x[k] + tx
        c = nearest(my, mx, reach, cat_y, cat_x, low_y, low_x, cells, head, link)
        if c < 0:
            continue
        distance[k] = (cat_y[c] - my) ** 2 + (cat_x[c] - mx) ** 2
        other = taken[c]
        if other >= 0:
            if distance[other] <= distance[k]:
                continue
            pair[other] = -1
            count -= 1
        taken[c] = k
        pair[k] = c
        count += 1
    return count


@kernel
def fit_similarity(
    y: Array, x: Array, pair: Array, n: int, cat_y: Array, cat_x: Array, weight: Array, residual: Array, limit: float
) -> tuple[int, float, float, float, float]:
    """Weighted least squares over the pairs whose residual is below the limit: number, a, b, t_y, t_x."""
    total, my, mx, cy, cx = 0.0, 0.0, 0.0, 0.0, 0.0
    used = 0
    for k in range(n):
        c = pair[k]
        if c < 0 or residual[k] > limit:
            continue
        w = weight[k]
        total += w
        my += w * y[k]
        mx += w * x[k]
        cy += w * cat_y[c]
        cx += w * cat_x[c]
        used += 1
    if used < 2:
        return used, 1.0, 0.0, 0.0, 0.0
    my, mx, cy, cx = my / total, mx / total, cy / total, cx / total
    size, dot, cross = 0.0, 0.0, 0.0
    for k in range(n):
        c = pair[k]
        if c < 0 or residual[k] > limit:
            continue
        dy, dx = y[k] - my, x[k] - mx
        ey, ex = cat_y[c] - cy, cat_x[c] - cx
        w = weight[k]
        size += w * (dy * dy + dx * dx)
        dot += w * (ey * dy + ex * dx)
        cross += w * (ey * dx - ex * dy)
    if not size > 0.0:
        return 0, 1.0, 0.0, 0.0, 0.0
    a, b = dot / size, cross / size
    return used, a, b, cy - a * my - b * mx, cx + b * my - a * mx


@kernel
def common_error2(residual: Array, formal2: Array, n: int) -> float:
    """Variance to add to the formal ones so that the median squared residual is that of two normal coordinates.

    Solves  median(r^2 / (s^2 + f^2)) = 2 ln 2  for f^2 by bisection, at least 0.03^2 px^2: bright stars of real optics
    scatter more than their photons say, and must not outvote the others.
    """
    ratio = np.empty(n)
    rank = (n - 1) >> 1
    low, high = 0.0009, 4.0
    for step in range(14):
        middle = low if step == 0 else np.sqrt(low * high)
        for k in range(n):
            ratio[k] = residual[k] * residual[k] / (formal2[k] + middle)
        if select(ratio, n, rank) > 1.3862943611198906:
            low = middle
        elif step == 0:
            return low
        else:
            high = middle
    return float(np.sqrt(low * high))


@kernel
def settle(
    a: float, b: float, ty: float, tx: float, tolerances: Array, repeats: int,
    y: Array, x: Array, error: Array, usable: Array, n: int,
    cat_y: Array, cat_x: Array, cat_error2: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array,
    pair: Array, taken: Array,
) -> tuple[int, float, float, float, float, float]:  # fmt: skip
    """Fixed point of pairing and fitting through the tolerances; the last one is repeated until nothing changes.

    Returns the number of stars fitted, a, b, t_y, t_x and the rms residual per star [px]; ``pair`` holds the pairs.
    """
    weight = np.zeros(n)
    residual = np.zeros(n)
    store, formal2, extra2 = np.empty(n), np.empty(n), 0.0009
    before = np.full(n, -2, np.int64)
    used, rms = 0, np.nan
    steps = len(tolerances) + repeats
    for step in range(steps):
        reach = tolerances[min(step, len(tolerances) - 1)]
        count = pair_up(
            a, b, ty, tx, y, x, usable, n, reach, cat_y, cat_x, low_y, low_x, cells, head, link, pair, store, taken
        )  # fmt: skip
        if count < 3:
            return count, a, b, ty, tx, np.nan
        if step >= len(tolerances):
            same = True
            for k in range(n):
                same = same and before[k] == pair[k]
            if same:
                break
        for k in range(n):
            before[k] = pair[k]
            residual[k] = 0.0
            if pair[k] >= 0:
                weight[k] = 1.0 / (error[k] * error[k] + cat_error2[pair[k]] + extra2)
        limit = np.inf
        for _ in range(2):
            used, a, b, ty, tx = fit_similarity(y, x, pair, n, cat_y, cat_x, weight, residual, limit)
            if used < 3:
                return used, a, b, ty, tx, np.nan
            m = 0
            for k in range(n):
                if pair[k] >= 0:
                    ry = a * y[k] + b * x[k] + ty - cat_y[pair[k]]
                    rx = -b * y[k] + a * x[k] + tx - cat_x[pair[k]]
                    residual[k] = np.sqrt(ry * ry + rx * rx)
                    store[m] = residual[k]
                    formal2[m] = error[k] * error[k] + cat_error2[pair[k]]
                    m += 1
            extra2 = common_error2(store, formal2, m)
            limit = 4.0 * max(select(store, m, m >> 1), 0.01)
        square, kept = 0.0, 0
        for k in range(n):
            if pair[k] >= 0 and residual[k] <= limit:
                square += residual[k] * residual[k]
                kept += 1
        rms = np.sqrt(square / max(kept, 1))
    return used, a, b, ty, tx, rms


@kernel
def extend(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, snr: Array, usable: Array, n: int,
    cat_y: Array, cat_x: Array, size: int, low_y: float, low_x: float, cells: int, head: Array, link: Array,
) -> int:  # fmt: skip
    """Append stars of SNR > 10 that no catalogue star is within 5 px of; returns the catalogue's new length."""
    for k in range(n):
        if not usable[k] or snr[k] <= 10.0 or size >= len(cat_y):
            continue
        my, mx = a * y[k] + b * x[k] + ty, -b * y[k] + a * x[k] + tx
        if nearest(my, mx, 5.0, cat_y, cat_x, low_y, low_x, cells, head, link) >= 0:
            continue
        cat_y[size], cat_x[size] = my, mx
        c = cell_of(my, mx, low_y, low_x, cells)
        link[size] = head[c]
        head[c] = size
        size += 1
    return size


@kernel
def gather(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, error: Array, light: Array, pair: Array, n: int,
    sum_w: Array, sum_y: Array, sum_x: Array, sum_light: Array, hits: Array,
) -> None:  # fmt: skip
    """Add a frame's mapped stars to the sums of their catalogue stars."""
    for k in range(n):
        c = pair[k]
        if c < 0:
            continue
        w = 1.0 / (error[k] * error[k])
        sum_w[c] += w
        sum_y[c] += w * (a * y[k] + b * x[k] + ty)
        sum_x[c] += w * (-b * y[k] + a * x[k] + tx)
        sum_light[c] += light[k]
        hits[c] += 1


@kernel
def share_seen(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, n: int, reach: float,
    cat_y: Array, cat_x: Array, ranked: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array,
    top: float, left: float, bottom: float, right: float, most: int,
) -> tuple[int, int]:  # fmt: skip
    """(seen, of): of the ``most`` first ranked stars inside the frame, those with any detection within reach."""
    seen = np.zeros(len(cat_y), np.bool_)
    for k in range(n):
        my, mx = a * y[k] + b * x[k] + ty, -b * y[k] + a * x[k] + tx
        i0 = min(max(int((my - low_y) / CELL_PX), 0), cells - 1)
        j0 = min(max(int((mx - low_x) / CELL_PX), 0), cells - 1)
        for i in range(max(0, i0 - 1), min(cells, i0 + 2)):
            for j in range(max(0, j0 - 1), min(cells, j0 + 2)):
                c = head[i * cells + j]
                while c >= 0:
                    if (cat_y[c] - my) ** 2 + (cat_x[c] - mx) ** 2 <= reach * reach:
                        seen[c] = True
                    c = link[c]
    size = a * a + b * b
    of, found = 0, 0
    for c in ranked:
        dy, dx = cat_y[c] - ty, cat_x[c] - tx
        fy, fx = (a * dy - b * dx) / size, (b * dy + a * dx) / size
        if fy < top or fx < left or fy > bottom or fx > right:
            continue
        of += 1
        found += seen[c]
        if of == most:
            break
    return found, of
