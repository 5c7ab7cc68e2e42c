"""Background of one frame: clipped levels on 32 x 32 px blocks per colour, and the variance of a raw pixel.

    level(block, band)  = mean of the samples within 2.5 s of the centre; 3 rounds from the median, s = sqrt(variance)
    variance(band)      = median over blocks of  <d^2> / (2 * 0.9733),   d = v(y, x+2) - v(y, x),  |d| < 3 sigma_d

Every second row (pair of rows under a colour filter array) gives the levels. The variance comes from differences of
equal colour, so gradients and nebulae cancel; the rms of the clipped differences is used and not their median,
because the median is quantised by the converter's step. 0.9733 and 0.9113 are the variances of a unit normal cut at
3 and 2.5 sigma. Bands are told by the parity of the ABSOLUTE pixel; blocks are counted from the frame's first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from getframes_xr.core.cfa import cfa_index
from getframes_xr.core.kernel import kernel
from getframes_xr.core.vocabulary import COLOUR_BANDS

Array = np.ndarray[Any, Any]

BLOCK_PX = 32
_FEWEST = 16  # samples of a colour below which a block has no level


@dataclass(frozen=True)
class Lattice:
    """Which band each raw pixel belongs to, by parity of its absolute place.

    ``index`` is int64 (2, 2), ``bands`` the names, ``step`` the distance of neighbours of equal colour.
    """

    bands: tuple[str, ...]
    index: Array
    step: int

    @property
    def n_bands(self) -> int:
        return len(self.bands)

    @property
    def share(self) -> Array:
        """Raw pixels of each band in a 2 x 2 cell, (band,)."""
        return np.bincount(self.index.ravel(), minlength=self.n_bands).astype(np.float64)


def lattice_of(cfa: str | None) -> Lattice:
    """Lattice of a colour filter array stated for absolute pixel (0, 0); None is a mono frame, band "mono"."""
    if cfa is None:
        return Lattice(("mono",), cfa_index(None), 1)
    return Lattice(COLOUR_BANDS, cfa_index(cfa), 2)


@kernel
def select(values: Array, count: int, rank: int) -> Any:
    """Value of the given rank (0 = smallest) among the first ``count``; reorders them (Hoare's quickselect)."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@kernel
def rough_median(values: Array, count: int, scratch: Array) -> Any:
    """Median of about 64 evenly taken samples: a start for clipping rounds that does not cost a full selection."""
    stride = max(1, count >> 6)
    n = 0
    for i in range(0, count, stride):
        scratch[n] = values[i]
        n += 1
    return select(scratch, n, n >> 1)


@kernel
def clipped_level(values: Array, count: int, sigma: float, scratch: Array) -> Any:
    """Mean of the samples within 2.5 sigma of the centre: 3 rounds, started at the rough median and the given sigma."""
    centre = rough_median(values, count, scratch)
    spread: Any = sigma
    for _ in range(3):
        limit = np.float32(2.5 * spread)
        kept = 0
        total: Any = 0.0
        square: Any = 0.0
        for i in range(count):
            d: Any = values[i] - centre
            inside = abs(d) <= limit
            d = d if inside else np.float32(0.0)
            kept += inside
            total += d
            square += d * d
        if kept < 2:
            break
        mean = total / kept
        centre = np.float32(centre + mean)
        spread = np.sqrt(max(square / kept - mean * mean, 0.0) / 0.9113)
    return centre


@kernel
def block_levels(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, variance: Array, out: Array
) -> None:
    """Fill ``out`` float32 (band, block_y, block_x) with the clipped level of each block; NaN with < 16 samples."""
    ny, nx = image.shape
    n_bands = out.shape[0]
    colour_rows = 1 if n_bands > 1 else 0  # rows are taken in pairs under a colour filter array
    values = np.empty((n_bands, BLOCK_PX * BLOCK_PX + 1), np.float32)
    scratch = np.empty(128, np.float32)
    count = np.empty(n_bands, np.int64)
    for by in range(out.shape[1]):
        for bx in range(out.shape[2]):
            count[:] = 0
            for y in range(by * BLOCK_PX, min(ny, (by + 1) * BLOCK_PX)):
                if (y >> colour_rows) & 1:
                    continue
                parity = (y + y0) & 1
                for x in range(bx * BLOCK_PX, min(nx, (bx + 1) * BLOCK_PX)):
                    band = index[parity, (x + x0) & 1]
                    v = image[y, x]
                    values[band, count[band]] = v
                    count[band] += flags[y, x] & bad == 0 and abs(v) < np.inf
            for band in range(n_bands):
                level = np.nan
                if count[band] >= _FEWEST:
                    level = clipped_level(values[band], count[band], np.sqrt(variance[band]), scratch)
                out[band, by, bx] = level


@kernel
def _block_variance(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, top: int, left: int, store: Array, out: Array
) -> None:
    """Variance of a pixel per band from differences at distance 2 inside one block; NaN with < 16 pairs."""
    ny, nx = image.shape
    n_bands = out.shape[0]
    count = np.zeros(n_bands, np.int64)
    scratch = np.empty(128, np.float32)
    for y in range(top, min(ny, top + BLOCK_PX)):
        parity = (y + y0) & 1
        for x in range(left, min(nx, left + BLOCK_PX) - 2):
            d = abs(image[y, x + 2] - image[y, x])
            band = index[parity, (x + x0) & 1]
            store[band, count[band]] = d
            count[band] += (flags[y, x] | flags[y, x + 2]) & bad == 0 and d < np.inf
    for band in range(n_bands):
        out[band] = np.nan
        n = count[band]
        if n < _FEWEST:
            continue
        sigma: Any = 1.4826 * float(rough_median(store[band], n, scratch))
        if sigma == 0.0:  # more than half of the pixels share one quantised value
            total = 0.0
            for i in range(n):
                total += store[band, i]
            sigma = 1.2533 * total / n
        for _ in range(2):
            limit = np.float32(3.0 * sigma)
            kept = 0
            square: Any = 0.0
            for i in range(n):
                size: Any = store[band, i]
                inside = size <= limit
                size = size if inside else np.float32(0.0)
                kept += inside
                square += size * size
            sigma = np.sqrt(square / max(kept, 1) / 0.9733)
        out[band] = 0.5 * sigma * sigma


@kernel
def block_variances(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, n_bands: int, stride: int
) -> Array:
    """Variance of a raw pixel per band, float64 (band, blocks), in every ``stride``-th block along both axes."""
    ny, nx = image.shape
    rows = (ny + BLOCK_PX - 1) // BLOCK_PX
    columns = (nx + BLOCK_PX - 1) // BLOCK_PX
    n_rows, n_columns = (rows + stride - 1) // stride, (columns + stride - 1) // stride
    found = np.empty((n_bands, n_rows * n_columns))
    store = np.empty((n_bands, BLOCK_PX * BLOCK_PX + 1), np.float32)
    one = np.empty(n_bands)
    for i in range(n_rows):
        for j in range(n_columns):
            top, left = i * stride * BLOCK_PX, j * stride * BLOCK_PX
            _block_variance(image, flags, bad, y0, x0, index, top, left, store, one)
            for band in range(n_bands):
                found[band, i * n_columns + j] = one[band]
    return found


@kernel
def smooth_levels(levels: Array) -> Array:
    """3 x 3 median of the block levels; blocks without a level take the median of their neighbours, else of all."""
    n_bands, rows, columns = levels.shape
    out = np.empty((n_bands, rows, columns), np.float64)
    window = np.empty(max(9, rows * columns), np.float64)
    for band in range(n_bands):
        n = 0
        for i in range(rows):
            for j in range(columns):
                if np.isfinite(levels[band, i, j]):
                    window[n] = levels[band, i, j]
                    n += 1
        whole = float(select(window, n, n >> 1)) if n > 0 else 0.0
        for i in range(rows):
            for j in range(columns):
                n = 0
                for k in range(max(0, i - 1), min(rows, i + 2)):
                    for m in range(max(0, j - 1), min(columns, j + 2)):
                        if np.isfinite(levels[band, k, m]):
                            window[n] = levels[band, k, m]
                            n += 1
                if n == 0:
                    out[band, i, j] = whole
                else:  # even counts at the borders: the mean of the two middle values
                    high = float(select(window, n, n >> 1))
                    low = high if n & 1 else float(select(window, n, (n >> 1) - 1))
                    out[band, i, j] = 0.5 * (low + high)
    return out


@kernel
def level_at(levels: Array, band: int, y: float, x: float) -> Any:
    """Bilinear block level at a place of the frame (pixels from its first one); held constant beyond the centres."""
    rows, columns = levels.shape[1], levels.shape[2]
    v = min(max((y - 15.5) / 32.0, 0.0), rows - 1.0)
    u = min(max((x - 15.5) / 32.0, 0.0), columns - 1.0)
    i, j = min(int(v), max(rows - 2, 0)), min(int(u), max(columns - 2, 0))
    i1, j1 = min(i + 1, rows - 1), min(j + 1, columns - 1)
    fv, fu = v - i, u - j
    upper = levels[band, i, j] * (1.0 - fu) + levels[band, i, j1] * fu
    lower = levels[band, i1, j] * (1.0 - fu) + levels[band, i1, j1] * fu
    return upper * (1.0 - fv) + lower * fv


def background(
    image: Array, flags: Array, lattice: Lattice, origin: tuple[int, int] = (0, 0), bad: int = 0xFFFF
) -> tuple[Array, Array]:
    """Block levels and pixel variances of one frame.

    Parameters
    ----------
    image : float32 (y, x)
    flags : uint16 (y, x); pixels with a bit of ``bad`` and NaN are left out
    lattice : Lattice of the frame
    origin : absolute (y, x) of the first pixel
    bad : int, flag bits that exclude a pixel

    Returns
    -------
    levels : float32 (band, block_y, block_x), NaN where a block holds fewer than 16 good samples of the band
    variance : float64 (band,), of one raw pixel, NaN where no block could be measured
    """
    ny, nx = image.shape
    shape = (lattice.n_bands, -(-ny // BLOCK_PX), -(-nx // BLOCK_PX))
    levels = np.empty(shape, np.float32)
    y0, x0 = origin
    stride = 2 if shape[1] * shape[2] >= 64 else 1
    blocks = block_variances(image, flags, bad, y0, x0, lattice.index, lattice.n_bands, stride)
    variance = np.full(lattice.n_bands, np.nan)
    for band, found in enumerate(blocks):
        good = np.sort(found[np.isfinite(found)])
        if len(good):
            variance[band] = 0.5 * (good[(len(good) - 1) // 2] + good[len(good) // 2])
    start = np.nan_to_num(variance, nan=np.inf)  # no pairs: no clipping in the first round
    block_levels(image, flags, bad, y0, x0, lattice.index, start, levels)
    return levels, variance
