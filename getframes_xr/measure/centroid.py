"""Where a star is and how wide: windowed centroid, second moments, and a quick aperture, on raw pixels.

    x += 2 <g I dx> / <g I>   with g a Gaussian of sigma 1.8 s, <= 12 rounds
    m  =   <G I dx^2> / <G I> with G a Gaussian of sigma 4 s

The centroid of a Gaussian window converges to the true centre of any symmetric star. Under a colour filter array the
pixels pass [1 2 1] x [1 2 1] / 16 first: the luminance R/4 + G/2 + B/4 at every pixel, whatever its colour.
Source: the recipe's scan; Bertin & Arnouts (1996), "windowed positions" of SExtractor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.elementary import exp64
from getframes_xr.core.kernel import kernel
from getframes_xr.measure.background import level_at, select

Array = np.ndarray[Any, Any]


@kernel
def fill_stamp(
    clean: Array, levels: Array, y0: int, x0: int, index: Array, cy: int, cx: int, half: int, stamp: Array
) -> bool:
    """Pixels around (cy, cx) minus the block level of their colour, smoothed under a CFA; False where it leaves."""
    ny, nx = clean.shape
    n_bands = levels.shape[0]
    margin = 1 if n_bands > 1 else 0
    if cy - half - margin < 0 or cx - half - margin < 0 or cy + half + margin >= ny or cx + half + margin >= nx:
        return False
    sky = np.empty(n_bands)
    for band in range(n_bands):
        sky[band] = level_at(levels, band, float(cy), float(cx))
    size = 2 * half + 1
    if margin == 0:
        for i in range(size):
            for j in range(size):
                stamp[i, j] = clean[cy - half + i, cx - half + j] - sky[0]
        return True
    line = np.zeros((3, size + 2))
    for i in range(size + 2):
        y = cy - half - 1 + i
        row = line[i % 3]
        for j in range(size + 2):
            x = cx - half - 1 + j
            row[j] = clean[y, x] - sky[index[(y + y0) & 1, (x + x0) & 1]]
        if i >= 2:
            a, b, c = line[(i - 2) % 3], line[(i - 1) % 3], row
            left = a[0] + 2.0 * b[0] + c[0]
            middle = a[1] + 2.0 * b[1] + c[1]
            for j in range(size):
                right = a[j + 2] + 2.0 * b[j + 2] + c[j + 2]
                stamp[i - 2, j] = (left + 2.0 * middle + right) * 0.0625
                left, middle = middle, right
    return True


@kernel
def gaussian_weights(centre: float, sigma: float, out: Array) -> None:
    """Gaussian of unit height at the integers 0 .. len(out) - 1."""
    for i in range(len(out)):
        d = (i - centre) / sigma
        out[i] = exp64(-0.5 * d * d)


@kernel
def centre_star(stamp: Array, size: int, cy: float, cx: float, sigma: float, reach: float) -> tuple[float, float]:
    """Windowed centroid inside a stamp, from the start (cy, cx); NaN where it fails or moves beyond ``reach``."""
    gy, gx = np.empty(size), np.empty(size)
    y, x = cy, cx
    for _ in range(12):
        gaussian_weights(y, sigma, gy)
        gaussian_weights(x, sigma, gx)
        total, ty, tx = 0.0, 0.0, 0.0
        for i in range(size):
            row, row_x = 0.0, 0.0
            for j in range(size):
                w = gx[j] * stamp[i, j]
                row += w
                row_x += w * (j - x)
            total += gy[i] * row
            tx += gy[i] * row_x
            ty += gy[i] * row * (i - y)
        if not total > 0.0:
            return np.nan, np.nan
        dy, dx = 2.0 * ty / total, 2.0 * tx / total
        y += dy
        x += dx
        if not (y - cy) * (y - cy) + (x - cx) * (x - cx) <= reach * reach:
            return np.nan, np.nan
        if dy * dy + dx * dx < 1e-6:
            break
    return y, x


@kernel
def second_moments(stamp: Array, size: int, y: float, x: float, sigma: float) -> tuple[float, float, float]:
    """Moments yy, xx, xy under a Gaussian window; NaN where the light is not positive."""
    gy, gx = np.empty(size), np.empty(size)
    gaussian_weights(y, sigma, gy)
    gaussian_weights(x, sigma, gx)
    total, yy, xx, xy = 0.0, 0.0, 0.0, 0.0
    for i in range(size):
        for j in range(size):
            w = gy[i] * gx[j] * stamp[i, j]
            total += w
            yy += w * (i - y) * (i - y)
            xx += w * (j - x) * (j - x)
            xy += w * (i - y) * (j - x)
    if not total > 0.0:
        return np.nan, np.nan, np.nan
    return yy / total, xx / total, xy / total


@kernel
def measure_positions(
    clean: Array, flags: Array, saturated: int, levels: Array, y0: int, x0: int, index: Array,
    start_y: Array, start_x: Array, scale: float, out: Array,
) -> None:  # fmt: skip
    """Centre and shape of every detection.

    ``out`` float64 (detection, 8): y, x (from the first pixel), narrow e_plus, e_cross, wide moment, e_plus, e_cross,
    saturated (0 or 1). NaN positions are no stars; NaN wide moments are stars too near the edge.
    """
    half = int(np.ceil(6.0 * scale)) + 1
    wide = int(np.ceil(11.0 * scale)) + 1
    size, wide_size = 2 * half + 1, 2 * wide + 1
    stamp = np.empty((size, size))
    wide_stamp = np.empty((wide_size, wide_size))
    ny, nx = clean.shape
    for k in range(len(start_y)):
        out[k, :] = np.nan
        cy, cx = int(np.floor(start_y[k] + 0.5)), int(np.floor(start_x[k] + 0.5))
        if not fill_stamp(clean, levels, y0, x0, index, cy, cx, half, stamp):
            continue
        sy, sx = start_y[k] - cy + half, start_x[k] - cx + half
        y, x = centre_star(stamp, size, sy, sx, 1.8 * scale, 2.5 * scale)
        if np.isnan(y):
            continue
        out[k, 0], out[k, 1] = cy - half + y, cx - half + x
        myy, mxx, mxy = second_moments(stamp, size, y, x, 1.8 * scale)
        if mxx + myy > 0.0:
            out[k, 2], out[k, 3] = (mxx - myy) / (mxx + myy), 2.0 * mxy / (mxx + myy)
        ky, kx = int(np.floor(out[k, 0] + 0.5)), int(np.floor(out[k, 1] + 0.5))
        reach = int(np.ceil(3.0 * scale))
        out[k, 7] = 0.0
        for yy in range(max(0, ky - reach), min(ny, ky + reach + 1)):
            for xx in range(max(0, kx - reach), min(nx, kx + reach + 1)):
                if flags[yy, xx] & saturated:
                    out[k, 7] = 1.0
        if fill_stamp(clean, levels, y0, x0, index, ky, kx, wide, wide_stamp):
            y, x = out[k, 0] - ky + wide, out[k, 1] - kx + wide
            myy, mxx, mxy = second_moments(wide_stamp, wide_size, y, x, 4.0 * scale)
            if mxx + myy > 0.0:
                out[k, 4] = 0.5 * (mxx + myy)
                out[k, 5], out[k, 6] = (mxx - myy) / (mxx + myy), 2.0 * mxy / (mxx + myy)


@kernel
def moments_at(
    clean: Array, levels: Array, y0: int, x0: int, index: Array, y: Array, x: Array, sigma: float, out: Array
) -> None:
    """Mean second moment of each star under a Gaussian window of the given sigma; NaN near the edge."""
    half = int(np.ceil(2.75 * sigma)) + 1
    size = 2 * half + 1
    stamp = np.empty((size, size))
    for k in range(len(y)):
        out[k] = np.nan
        ky, kx = int(np.floor(y[k] + 0.5)), int(np.floor(x[k] + 0.5))
        if fill_stamp(clean, levels, y0, x0, index, ky, kx, half, stamp):
            myy, mxx, _ = second_moments(stamp, size, y[k] - ky + half, x[k] - kx + half, sigma)
            out[k] = 0.5 * (myy + mxx)


@kernel
def ring_fluxes(
    clean: Array, levels: Array, variance: Array, y0: int, x0: int, index: Array, electron: bool,
    y: Array, x: Array, radius: float, flux: Array, error: Array,
) -> None:  # fmt: skip
    """Flux in a circle with a fractional edge, raw pixels of all colours minus block sky and the ring r+3 .. r+9.

    NaN where the circle leaves the frame. The error counts the background, the ring and, in electrons, the light.
    """
    ny, nx = clean.shape
    n_bands = levels.shape[0]
    outer = radius + 9.0
    inner = radius + 3.0
    ring = np.empty(int((2.0 * outer + 3.0) ** 2), np.float32)
    sky = np.empty(n_bands)
    mean_variance = 0.0
    for k in range(4):
        mean_variance += 0.25 * variance[index[k >> 1, k & 1]]
    for k in range(len(y)):
        flux[k], error[k] = np.nan, np.nan
        reach = radius + 1.0
        if y[k] - reach < 0.0 or x[k] - reach < 0.0 or y[k] + reach > ny - 1.0 or x[k] + reach > nx - 1.0:
            continue
        for band in range(n_bands):
            sky[band] = level_at(levels, band, y[k], x[k])
        n, total, area, area2 = 0, 0.0, 0.0, 0.0
        for yy in range(max(0, int(y[k] - outer)), min(ny, int(y[k] + outer) + 2)):
            for xx in range(max(0, int(x[k] - outer)), min(nx, int(x[k] + outer) + 2)):
                d2 = (yy - y[k]) ** 2 + (xx - x[k]) ** 2
                if d2 > outer * outer:
                    continue
                v = clean[yy, xx] - sky[index[(yy + y0) & 1, (xx + x0) & 1]]
                if d2 >= inner * inner:
                    ring[n] = v
                    n += 1
                elif d2 < (radius + 0.5) ** 2:
                    share = min(1.0, radius + 0.5 - np.sqrt(d2))
                    total += share * v
                    area += share
                    area2 += share * share
        if n < 20:
            continue
        centre = float(select(ring, n, n >> 1))
        limit = 2.0 * np.sqrt(mean_variance)
        used = 0
        for _ in range(4):
            used, square, local = 0, 0.0, 0.0
            for i in range(n):
                d = ring[i] - centre
                if abs(d) <= limit:
                    used += 1
                    local += d
                    square += d * d
            if used == 0:
                break
            centre += local / used
        if used == 0:
            continue
        flux[k] = total - area * centre
        light = max(flux[k], 0.0) if electron else 0.0
        error[k] = np.sqrt(area2 * mean_variance + area * area * mean_variance / used + light)
