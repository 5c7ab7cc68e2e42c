"""Shifts between frames without stars: correlation of what is neither pixel noise nor a gradient.

    c(d) = <G_f(p), G_ref(p + d)> / sqrt(<G_f^2> <G_ref^2>),   G = gauss(1 cell) - gauss(8 cells) of binned frames

Pixels repeat from frame to frame (hot pixels, fixed pattern, row offsets), the sky moves. So rows and columns lose
their medians, outliers are cut at 4 sigma, pixels are averaged into cells of 2 px or more, the band-pass leaves
structures of 1 to 8 cells, and what a pattern still adds, a peak at no shift of exactly known form, is fitted on top
of a smooth surface and taken away. The highest point is refined by a paraboloid. A frame is verified when its peak
stands 6 sigma above the map and a coarser band finds the same place. A peak at no shift is believed only in a session
that moves. Source: the m13 frames of the data folder, where plain correlation locks onto the sensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import xarray as xr
from scipy.ndimage import gaussian_filter

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.verdict import NUMBERS, Reason, Verdicts
from getframes_xr.core.vocabulary import BAD
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.tables import Column, per_frame

Array = np.ndarray[Any, Any]

_MOST_CELLS = 100_000
_FINE, _COARSE = (1.0, 8.0), (2.0, 16.0)
_PEAK_SIGMA = 6.0  # pure noise reaches 4.9 in fields of 40 x 50 to 250 x 300 cells (30 each)
_LEAST_OVERLAP = 0.1
_MOST_APART = 2.0  # cells between the peaks of the fine and the coarse band
_STILL_PX = 1.5


@dataclass(frozen=True)
class BinFrame:
    """The function of one frame behind ``phase_shifts``: cell means after rows, columns and outliers are levelled."""

    plane: str
    cell: int

    def __call__(self, patch: Patch) -> dict[str, Any]:
        image = patch[self.plane][0]
        image = (image.mean(0) if image.ndim == 3 else image).astype(np.float32)
        bad = ~np.isfinite(image)
        if "flags" in patch:
            flags = patch["flags"][0]
            bad |= (np.bitwise_or.reduce(flags, 0) if flags.ndim == 3 else flags) & BAD != 0
        good = image[~bad]
        image[bad] = np.median(good) if good.size else 0.0
        image -= np.median(image, axis=1, keepdims=True)
        image -= np.median(image, axis=0, keepdims=True)
        limit = 4.0 * 1.4826 * float(np.median(np.abs(image)))
        if limit > 0:
            np.clip(image, -limit, limit, out=image)
        rows, columns = (length // self.cell for length in image.shape)
        cut = image[: rows * self.cell, : columns * self.cell]
        return {"cells": cut.reshape(rows, self.cell, columns, self.cell).mean((1, 3))}


def band_pass(cells: Array, band: tuple[float, float]) -> Array:
    """Difference of two Gaussians, faded to 0 over an eighth of the field at each edge."""
    fine = gaussian_filter(cells.astype(np.float64), band[0], mode="nearest")
    fine -= gaussian_filter(cells.astype(np.float64), band[1], mode="nearest")
    return np.asarray(fine * faded(fine.shape))


def faded(shape: tuple[int, ...]) -> Array:
    """Weights 1 inside, falling to 0 over an eighth of the field at each edge."""
    ramps = [np.minimum(1.0, (np.arange(length) + 0.5) / (length / 8.0)) for length in shape]
    y, x = (np.minimum(ramp, ramp[::-1]) for ramp in ramps)
    return np.asarray(y[:, None] * x[None, :])


def in_sigma(found: Array, shape: tuple[int, ...]) -> Array:
    """A correlation map in units of its own noise; 0 where frames overlap by less than a tenth.

    The correlation of two frames of noise has a variance in proportion to the weights that overlap at that shift:
    without this the middle of the map stands 10 to 20 robust sigma high for nothing.
    """
    overlap = correlation(faded(shape) ** 2, faded(shape) ** 2)
    known = overlap > _LEAST_OVERLAP
    scaled = np.where(known, found / np.sqrt(np.where(known, overlap, 1.0)), 0.0)
    inside = scaled[known]
    sigma = 1.4826 * float(np.median(np.abs(inside - np.median(inside)))) if inside.size else 0.0
    return np.asarray(scaled / sigma) if sigma > 0 else np.zeros_like(scaled)


def correlation(one: Array, other: Array) -> Array:
    """Normalised correlation; entry (i, j) of the map is the shift (i, j) - centre of ``other`` onto ``one``."""
    shape = tuple(scipy.fft.next_fast_len(2 * length, real=True) for length in one.shape)
    product = scipy.fft.rfft2(one, shape) * np.conj(scipy.fft.rfft2(other, shape))
    found: Array = scipy.fft.fftshift(scipy.fft.irfft2(product, shape))
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return found / power if power > 0 else found


def pattern_kernel(band: tuple[float, float], half: int) -> Array:
    """Correlation map of a pattern of independent cells with itself: a narrow peak at no shift, height 1."""
    size = 4 * int(np.ceil(4.0 * band[1])) + 1
    point = np.zeros((size, size))
    point[size // 2, size // 2] = 1.0
    passed = gaussian_filter(point, band[0]) - gaussian_filter(point, band[1])
    found = np.fft.fftshift(np.fft.irfft2(np.abs(np.fft.rfft2(passed)) ** 2, passed.shape))
    i, j = (int(k) for k in np.unravel_index(int(found.argmax()), found.shape))
    half = min(half, size // 2)
    cut: Array = found[i - half : i + half + 1, j - half : j + half + 1]
    return np.asarray(cut / found[i, j])


def without_pattern(found: Array, band: tuple[float, float]) -> Array:
    """The map minus what the sensor's own pattern adds: a narrow peak at no shift on top of a smooth surface."""
    reach = 6.5 * np.sqrt(2.0) * band[0]
    half = min(int(np.ceil(reach)), min(found.shape) // 2 - 1)
    kernel = pattern_kernel(band, half)
    half = kernel.shape[0] // 2
    cy, cx = found.shape[0] // 2, found.shape[1] // 2
    middle = (slice(cy - half, cy + half + 1), slice(cx - half, cx + half + 1))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    inside = np.hypot(y, x) <= reach
    surface = np.stack([np.ones_like(y), y, x, y * y, x * x, y * x, kernel], -1)[inside]
    height = np.linalg.lstsq(surface, found[middle][inside], rcond=None)[0][-1]
    out = found.copy()
    out[middle] -= max(float(height), 0.0) * kernel
    return out


def peak_of(found: Array) -> tuple[float, float, float]:
    """Place of the highest peak from the centre, by a paraboloid, and its height."""
    rows, columns = found.shape
    inner = found[3:-3, 3:-3]
    i, j = (int(k) + 3 for k in np.unravel_index(int(inner.argmax()), inner.shape))
    y, x = (each.ravel() for each in np.mgrid[-3:4, -3:4].astype(np.float64))
    surface = np.stack([np.ones_like(y), y, x, y * y, x * x, y * x], 1)
    _, b, c, d, e, f = np.linalg.lstsq(surface, found[i - 3 : i + 4, j - 3 : j + 4].ravel(), rcond=None)[0]
    determinant = 4.0 * d * e - f * f
    dy, dx = 0.0, 0.0
    if determinant > 0 and d < 0:
        dy, dx = (f * c - 2.0 * e * b) / determinant, (f * b - 2.0 * d * c) / determinant
        if np.hypot(dy, dx) > 3.0:
            dy, dx = 0.0, 0.0
    return i + dy - rows // 2, j + dx - columns // 2, float(found[i, j])


def shifts_between(cells: Array, cell: int, reference: int) -> tuple[Array, Array, Array, Verdicts]:
    """Along time: dy, dx [px] that bring a frame onto the reference, peak height [sigma], verdicts."""
    n = len(cells)
    dy, dx, height = np.zeros(n), np.zeros(n), np.full(n, np.inf)
    apart = np.zeros(n)
    fine, coarse = band_pass(cells[reference], _FINE), band_pass(cells[reference], _COARSE)
    for f in range(n):
        if f == reference:
            continue
        maps = [
            in_sigma(without_pattern(correlation(reference_band, band_pass(cells[f], band)), band), fine.shape)
            for reference_band, band in ((fine, _FINE), (coarse, _COARSE))
        ]
        (y, x, height[f]), (yy, xx, _) = map(peak_of, maps)
        apart[f] = np.hypot(y - yy, x - xx)
        dy[f], dx[f] = y * cell, x * cell
    high, agree = height >= _PEAK_SIGMA, apart <= _MOST_APART
    strong = high & agree
    still = np.hypot(dy, dx) < _STILL_PX
    others = np.arange(n) != reference
    moves = bool((strong & ~still & others).sum() >= max(1.0, 0.5 * (strong & others).sum()))
    verified = strong & (~still | moves | (n == 1))
    alone = ~others & (n > 1) & (not verified[others].any())
    verdicts = (
        Verdicts.of(n)
        .leave_out(alone, Reason.NO_OTHER_FRAME)
        .leave_out(~high, Reason.NO_STRUCTURE, peak_sigma=height, needed=_PEAK_SIGMA)
        .leave_out(~agree, Reason.SCALES_DISAGREE, apart=apart, most=_MOST_APART)
        .leave_out(~verified, Reason.SENSOR_PATTERN)
    )
    return dy, dx, height, verdicts


def phase_shifts(clean: FramesLike, *, reference: int | None = None) -> xr.Dataset:
    """Shift of every frame relative to one of them, for frames with too few stars to match; lazy.

    Parameters
    ----------
    clean : frames with the plane ``image`` (or ``adu``) and perhaps ``flags``
    reference : number (``frame``) of the reference; default the first frame

    Returns
    -------
    Dataset (time) : dy, dx [px], add them to a position to come onto the reference; peak_sigma, verified, reason,
        verdict and (time, number) reason_numbers, as in ``register``; attrs reference_frame. Load it and give it to
        ``register(stars, shifts=...)``. Rotation is not measured

    Raises
    ------
    DataError : the frames have neither plane, are smaller than 64 px, or lack the reference
    """
    given = frames_in(clean, "phase_shifts", timed=True)
    grid = given.producer.grid
    shape = len(grid.y), len(grid.x)
    if min(shape) < 64:
        raise DataError(f"phase_shifts needs frames of at least 64 x 64 px, these have {shape[0]} x {shape[1]}")
    frames = grid.column("frame")
    at = 0 if reference is None else int(np.argmax(frames == reference))
    if reference is not None and frames[at] != reference:
        raise DataError(f"reference: there is no frame {reference}; known: {frames.min()} .. {frames.max()}")
    cell = max(2, int(np.ceil(np.sqrt(shape[0] * shape[1] / _MOST_CELLS))))
    size = {"cell_y": shape[0] // cell, "cell_x": shape[1] // cell}
    cells = per_frame(
        given.producer, given.planes, BinFrame(given.plane, cell), {"cells": Column(np.dtype(np.float32), "", size)}
    )
    results = xr.apply_ufunc(
        _all_shifts, cells["cells"], kwargs={"cell": cell, "reference": at},
        input_core_dims=[["time", "cell_y", "cell_x"]],
        output_core_dims=[["time"]] * 6 + [["time", "number"]],
        dask="parallelized", dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": {"number": len(NUMBERS)}},
        output_dtypes=[np.float64] * 3 + [np.bool_, object, object, np.float64],
    )  # fmt: skip
    names = ("dy", "dx", "peak_sigma", "verified", "reason", "verdict", "reason_numbers")
    numbers = {"number": np.array(NUMBERS, object)}
    table = xr.Dataset(dict(zip(names, results, strict=True)), cells.coords).assign_coords(numbers)
    for name in ("dy", "dx"):
        table[name].attrs["units"] = "pixel"
    return table.assign_attrs(reference_frame=int(frames[at]), cell_px=cell)


def _all_shifts(cells: Array, cell: int, reference: int) -> tuple[Array, ...]:
    """``shifts_between`` as the arrays of a table."""
    dy, dx, height, verdicts = shifts_between(cells, cell, reference)
    return dy, dx, height, verdicts.used, verdicts.reasons, verdicts.sentences, verdicts.numbers
