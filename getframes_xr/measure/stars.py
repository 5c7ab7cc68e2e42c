"""Stars of one frame: found on a binned, matched-filtered sum of all colours, centred and shaped on raw pixels.

    detection    cells of b x b raw px minus the block background, 3 x 3 binomial, local maxima > 5 sigma
    centroid     x += 2 <g I dx> / <g I>,  g Gaussian of sigma 1.8 s,  <= 12 rounds
    width        sigma^2 = 1 / (1/m - 1/(4 s)^2) - c,   m = second moment under a Gaussian of sigma 4 s
    flux         circle of 1.9 FWHM with a fractional edge, minus the clipped level of the ring r+3 .. r+9

The scale s = b / 2 is 1 for FWHM up to 7 px and doubles until it fits, so defocused stars are found as well. Under a
colour filter array pixels pass [1 2 1] x [1 2 1] / 16 on the fly, which is the luminance R/4 + G/2 + B/4 at every
pixel (c = 1/2; mono c = 0). Flagged pixels are replaced BEFORE any smoothing, and so are single pixels that stand
alone (> 8 sigma and > 3.5 times their second brightest neighbour): hot pixels are never stars. Runs of elongated
detections along one line are a trail and are left out. Source: the recipe's scan; Stetson 1987, PASP 99, 191.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from getframes_xr.core.elementary import exp64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.vocabulary import BAD, Flag
from getframes_xr.measure.background import (
    BLOCK_PX,
    Lattice,
    background,
    level_at,
    select,
    smooth_levels,
)

Array = np.ndarray[Any, Any]

REPLACED = BAD & ~int(Flag.SATURATED | Flag.BLOOMED)
SATURATED = int(Flag.SATURATED | Flag.BLOOMED)
FWHM_PER_SIGMA = 2.3548200450309493
_MOST_FLUXES = 600  # apertures are summed for the brightest only


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
            for x in range(bx * BLOCK_PX, min(nx, (bx + 1) * BLOCK_PX)):
                band = index[(y + y0) & 1, (x + x0) & 1]
                v = image[y, x]
                bad = flags[y, x] & replaced != 0 or not np.isfinite(v)
                if not bad and v > limit[band]:
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
                and v >= image[i, j + 1] and v >= image[i + 1, j - 1] and v >= image[i + 1, j] and v >= image[i + 1, j + 1]
                and n < most
            ):  # fmt: skip
                yy[n], xx[n], value[n] = i, j, v
                n += 1
    return yy[:n], xx[:n], value[:n]


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
def drop_twins(y: Array, x: Array, distance: float) -> Array:
    """False for every detection within ``distance`` of an earlier (brighter) one."""
    n = len(y)
    order = np.argsort(y, kind="mergesort")
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
            along[m] = dx * c + dy * s
            who[m] = j
            m += 1
        if m < 8:
            continue
        order = np.argsort(along[:m], kind="mergesort")
        begin = 0
        for k in range(1, m + 1):
            if k == m or along[order[k]] - along[order[k - 1]] > 24.0 * scale:
                if k - begin >= 8 and along[order[k - 1]] - along[order[begin]] >= 80.0 * scale:
                    for q in range(begin, k):
                        member[who[order[q]]] = True
                begin = k
    return member


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
        limit = 3.0 * np.sqrt(mean_variance)
        used = 0
        for _ in range(2):
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


@dataclass(frozen=True)
class Scan:
    """What one read of one frame gives: stars (brightest first), levels, width; see ``scan_frame``."""

    y: Array
    x: Array
    snr: Array
    amplitude: Array
    flux: Array
    flux_err: Array
    sigma_px: Array
    moment_plus: Array
    moment_cross: Array
    saturated: Array
    round: Array
    fwhm_px: float
    elongation: float
    saturated_share: float
    scale: float
    levels: Array
    variance: Array


def elongation_of(plus: Array, cross: Array) -> float:
    """1 - b/a of the median moment vector: only elongation that stars have in common counts."""
    good = np.isfinite(plus) & np.isfinite(cross)
    if not good.any():
        return float("nan")
    e = min(float(np.hypot(np.median(plus[good]), np.median(cross[good]))), 0.999)
    return 1.0 - float(np.sqrt((1.0 - e) / (1.0 + e)))


def scan_frame(
    image: Array,
    flags: Array,
    lattice: Lattice,
    *,
    origin: tuple[int, int] = (0, 0),
    electron: bool = True,
    threshold_sigma: float = 5.0,
    most: int = 2500,
) -> Scan:
    """Find and measure the stars of one frame.

    Parameters
    ----------
    image : float32 (y, x), electron or adu; NaN = no data
    flags : uint16 (y, x), bits of core.vocabulary.Flag
    lattice : Lattice of the frame's bands
    origin : absolute (y, x) of the first pixel
    electron : whether the unit is the electron (adds the light's own noise to flux errors)
    threshold_sigma : detection limit in sigma of the filtered image
    most : longest list

    Returns
    -------
    Scan : positions absolute [px], saturated stars first (by their light), then by amplitude
    """
    y0, x0 = origin
    levels, variance = background(image, flags, lattice, origin, BAD)
    smooth = smooth_levels(levels)
    if lattice.n_bands > 1:
        variance = np.where(np.isfinite(variance), variance, np.nanmean(variance) if np.isfinite(variance).any() else 0)
    clean = repair(image, flags, REPLACED, smooth, np.nan_to_num(variance), y0, x0, lattice.index)
    used = np.nan_to_num(variance)
    found = _detect(clean, flags, smooth, used, lattice, origin, 1.0, threshold_sigma, most)
    scale, brightest, fwhm = 1.0, *_width(found)
    while fwhm > 7.0 * scale and scale < 4.0:
        wider = _detect(clean, flags, smooth, used, lattice, origin, 2.0 * scale, threshold_sigma, most)
        if not _gain(found, wider) > 1.1:  # wide moments of faint light, not wide stars
            break
        found, scale = wider, 2.0 * scale
        brightest, fwhm = _width(found)
    n = min(len(found["y"]), _MOST_FLUXES)
    flux, error = np.full(len(found["y"]), np.nan), np.full(len(found["y"]), np.nan)
    radius = 1.9 * min(max(fwhm if np.isfinite(fwhm) else 3.0, 2.0), 6.0 * scale)
    ring_fluxes(
        clean, smooth, used, y0, x0, lattice.index, electron, found["y"][:n], found["x"][:n], radius, flux[:n], error[:n]
    )  # fmt: skip
    return Scan(
        y=found["y"] + y0, x=found["x"] + x0, snr=found["snr"], amplitude=found["amplitude"],
        flux=flux, flux_err=error, sigma_px=found["sigma"], moment_plus=found["plus"], moment_cross=found["cross"],
        saturated=found["saturated"] > 0, round=found["round"], fwhm_px=fwhm,
        elongation=elongation_of(found["plus"][brightest], found["cross"][brightest]),
        saturated_share=float(np.count_nonzero(flags & SATURATED)) / flags.size,
        scale=scale, levels=levels, variance=variance,
    )  # fmt: skip


def _width(found: dict[str, Array]) -> tuple[Array, float]:
    """The up to 120 brightest unsaturated detections of SNR > 25 (at least 10 if there are) and their median FWHM."""
    usable = np.flatnonzero((found["saturated"] == 0) & np.isfinite(found["sigma"]))
    strong = usable[found["snr"][usable] > 25.0][:120]
    brightest = strong if len(strong) >= 10 else usable[:10]
    if not len(brightest):
        return brightest, float("nan")
    return brightest, FWHM_PER_SIGMA * float(np.median(found["sigma"][brightest]))


def _gain(found: dict[str, Array], wider: dict[str, Array]) -> float:
    """How much the SNR of the 30 best detections grows at the wider scale: that of stars does, when they are wide."""
    before, after = (np.sort(each["snr"])[::-1][:30] for each in (found, wider))
    n = min(len(before), len(after))
    return float(np.median(after[:n]) / np.median(before[:n])) if n else 0.0


def _detect(
    clean: Array, flags: Array, levels: Array, variance: Array, lattice: Lattice, origin: tuple[int, int],
    scale: float, threshold_sigma: float, most: int,
) -> dict[str, Array]:  # fmt: skip
    """Detections at one scale, ranked: arrays y, x (from the first pixel), snr, amplitude, sigma, plus, cross, ..."""
    cell = int(2 * scale)
    pixels = lattice.share * (cell * cell / 4.0)
    filtered = detection_image(clean, np.tensordot(pixels, levels, 1)[None], cell)
    sigma = max(0.375 * float(np.sqrt(pixels @ variance)), difference_sigma(filtered, 4, 4))
    row, column, value = local_maxima(filtered, threshold_sigma * sigma, 20 * most)
    order = np.argsort(-value, kind="stable")[:most]
    start_y, start_x = cell * row[order] + 0.5 * (cell - 1), cell * column[order] + 0.5 * (cell - 1)
    shape = np.empty((len(order), 8))
    y0, x0 = origin
    measure_positions(
        clean, flags, SATURATED, levels, y0, x0, lattice.index, start_y, start_x, scale, shape
    )  # fmt: skip
    star = np.isfinite(shape[:, 0])
    shape, value = shape[star], value[order][star]
    snr = value / sigma if sigma > 0 else np.full(len(value), np.inf)
    saturated = shape[:, 7]
    light = np.where(saturated > 0, np.nan_to_num(shape[:, 4]) * value, 0.0)
    rank = np.lexsort((-value, -light, -saturated))
    shape, value, snr = shape[rank], value[rank], snr[rank]
    keep = drop_twins(shape[:, 0], shape[:, 1], 2.5 * scale)
    narrow = np.sqrt(shape[:, 2] ** 2 + shape[:, 3] ** 2)
    limit = 0.2 + 2.0 / snr
    keep &= ~trail_members(shape[:, 0], shape[:, 1], shape[:, 2], shape[:, 3], (narrow > limit) & keep, scale)
    shape, value, snr, narrow, limit = shape[keep], value[keep], snr[keep], narrow[keep], limit[keep]
    window = (4.0 * scale) ** 2
    moment = np.where((shape[:, 4] > 0) & (shape[:, 4] < 0.97 * window), shape[:, 4], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma2 = 1.0 / (1.0 / moment - 1.0 / window) - (0.5 if lattice.n_bands > 1 else 0.0)
    return {
        "y": shape[:, 0].copy(), "x": shape[:, 1].copy(), "snr": snr, "amplitude": value,
        "sigma": np.sqrt(np.maximum(sigma2, 0.0)), "plus": shape[:, 5], "cross": shape[:, 6],
        "saturated": shape[:, 7], "round": narrow < limit,
    }  # fmt: skip
