"""What the numbers themselves tell about a camera: step of the ADC, saturation, pedestal, what the device did before.

Headers do not say these, and a few megapixels of one frame do. 12-bit counts are often stored times 16: then all values
are multiples of 16 and an ``OFFSET`` card in counts of the sensor is 16 times as many ADU. A device that subtracts a
stored dark (the mean of n frames) from such counts leaves few residues modulo 16, evenly spaced, the same in every
frame at a pixel. Many pixels at exactly the same highest value are saturated; many at exactly 0 were cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from getframes_xr.core.patch import Array
from getframes_xr.core.window import CHUNK_PIXELS, Span
from getframes_xr.io.fits_pixels import FitsSource

BLACK_SHARE = 0.005
_STEP = 16


@dataclass(frozen=True, slots=True)
class Levels:
    """Facts of one sample of pixels.

    ``step_adu`` is the largest power of 2 that divides all values; ``black_share`` the share of pixels at exactly 0 (or
    at the lowest value, where that is cut); ``saturation_adu`` the first value that must be flagged (NaN: not known);
    ``dark_subtracted`` where the residues modulo 16 show a stored dark.
    """

    step_adu: int
    black_share: float
    saturation_adu: float
    median_adu: float
    dark_subtracted: bool

    def bias_adu(self, offset_counts: float) -> float:
        """Pedestal in ADU of the file for an OFFSET in counts of the sensor (else in ADU, else NaN: above the data)."""
        if math.isnan(offset_counts):
            return math.nan
        most = 1.02 * self.median_adu + 2 * self.step_adu
        scaled = offset_counts * self.step_adu
        return scaled if scaled <= most else offset_counts if offset_counts <= most else math.nan


NOTHING = Levels(1, 0.0, math.nan, math.nan, False)


def sample(source: FitsSource) -> Array:
    """At most 4 Mpx of a frame: all of it, or 8 bands of full rows."""
    ny, nx = source.shape
    rows = max(1, min(ny, CHUNK_PIXELS // max(1, nx)))
    if rows == ny:
        out = np.empty((ny, nx), source.layout.dtype)
        source.read(Span(0, ny), Span(0, nx), out)
        return out
    part = max(1, rows // 8)
    bands = np.empty((8, part, nx), source.layout.dtype)
    for band, first in zip(bands, np.linspace(0, ny - part, 8).astype(int), strict=True):
        source.read(Span(int(first), int(first) + part), Span(0, nx), band)
    return bands.reshape(-1, nx)


def levels_of(source: FitsSource) -> Levels:
    """Measure one frame (reads at most 4 Mpx of it).

    Raises
    ------
    DataError : the file cannot be read
    """
    dtype = source.layout.dtype
    if dtype.kind not in "iu" or dtype.itemsize > 2 or min(source.shape) == 0:
        return NOTHING
    values = sample(source)
    counts = np.bincount(values.ravel().view(f"u{dtype.itemsize}"), minlength=1 << (8 * dtype.itemsize))
    if dtype.kind == "i":
        counts = np.roll(counts, len(counts) // 2)
    first = int(np.iinfo(dtype).min)
    occupied = np.flatnonzero(counts)
    low, high = int(occupied[0]) + first, int(occupied[-1]) + first
    step = _step(occupied + first)
    at_zero = int(counts[-first]) if low <= 0 <= high else 0
    dark_subtracted = step == 1 and _few_residues(counts, first)
    cumulative = np.cumsum(counts)
    median = int(np.searchsorted(cumulative, 0.5 * values.size)) + first
    return Levels(
        step_adu=step,
        black_share=at_zero / values.size if low == 0 and median < high else 0.0,
        saturation_adu=_saturation(counts, occupied, first, step, dark_subtracted),
        median_adu=float(median),
        dark_subtracted=dark_subtracted,
    )


def _step(values: Array) -> int:
    common = int(np.bitwise_or.reduce(values[values != 0])) if (values != 0).any() else 1
    return min(256, common & -common)


def _few_residues(counts: Array, first: int) -> bool:
    """True where widely spread values fall into few, equally frequent, separate classes modulo 16."""
    folded = counts.copy()
    folded[-first if first <= 0 else 0] = 0  # pixels cut at 0 belong to no class
    cumulative = np.cumsum(folded)
    total = int(cumulative[-1])
    if total < 10_000:
        return False
    spread = np.searchsorted(cumulative, 0.84 * total) - np.searchsorted(cumulative, 0.16 * total)
    shares = folded.reshape(-1, _STEP).sum(axis=0) / total
    used = shares > 0.02
    n = int(used.sum())
    separate = not (used & np.roll(used, 1)).any()
    even = n > 1 and shares[used].max() < 1.3 * shares[used].min()
    return bool(spread >= 2 * _STEP and 2 <= n <= 8 and separate and even and shares[used].sum() > 0.99)


def _saturation(counts: Array, occupied: Array, first: int, step: int, dark_subtracted: bool) -> float:
    top = int(occupied[-1])
    below = counts[occupied[-21:-1]]
    if counts[top] >= 8 and (len(below) < 4 or counts[top] >= 4 * below.mean()) and len(occupied) > 64:
        return float(top + first)
    if dark_subtracted:
        return float(4095 * _STEP - 8 * _STEP)  # 12-bit ceiling less the largest darks seen at it (28 ADU on m94)
    if first < 0:
        return float(np.iinfo(np.int16 if len(counts) > 256 else np.int8).max)
    if len(counts) == 256:
        return 255.0
    return float(min(4095 * _STEP, 65536 - step))


def same_residues(one: FitsSource, other: FitsSource) -> float:
    """Share of pixels of equal value modulo 16 in two frames (1/5 or less by chance, 1 with one stored dark)."""
    a, b = sample(one), sample(other)
    return float(np.mean((a & (_STEP - 1)) == (b & (_STEP - 1))))
