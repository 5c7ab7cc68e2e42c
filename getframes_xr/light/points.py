"""The kernel of point sources: every star is added to a window as its PSF integrated over each pixel.

A pixel's share of a Gaussian is (Phi(y + 1/2) - Phi(y - 1/2)) (Phi(x + 1/2) - Phi(x - 1/2)), Phi from a table of the
error function (step 1/128 sigma, cubic Hermite, error 5e-12). A star that moves during the exposure is a row of short
pieces, each widened by the variance of its own length (v^2/12 per axis), so first and second moments are exact.

Every pixel sums star after star in catalogue order, piece after piece, Gaussian after Gaussian; which of them reach it
follows from the star and the frame alone. So a window of a frame holds the same bytes as the frame.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.elementary import erf64, exp64
from getframes_xr.core.kernel import kernel
from getframes_xr.light.rounding import on_position_grid

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_PER_SIGMA = 128
_REACH_SIGMA = 6.25  # Phi(-6.25) = 2e-10
_ENTRIES = 1601
_STEP_FWHM = 0.25  # longest piece of a track
_WIDEST = 4.0  # Gaussians wider than this many stamp radii are left out of the stamp


@kernel
def _fill_phi(value: Floats, slope: Floats) -> None:
    for i in range(value.size):
        z = (i - _REACH_SIGMA * _PER_SIGMA) / _PER_SIGMA
        value[i] = 0.5 + 0.5 * erf64(z * 0.7071067811865476)
        slope[i] = exp64(-0.5 * z * z) * 0.3989422804014327 / _PER_SIGMA


@cache
def phi_table() -> tuple[Floats, Floats]:
    """Values and slopes (per table step) of the normal distribution function."""
    value, slope = np.empty(_ENTRIES), np.empty(_ENTRIES)
    _fill_phi(value, slope)
    value.setflags(write=False)
    slope.setflags(write=False)
    return value, slope


@kernel(inline="always")
def phi(z, value, slope):  # type: ignore[no-untyped-def]
    """Normal distribution function by the table."""
    if z <= -_REACH_SIGMA:
        return 0.0
    if z >= _REACH_SIGMA:
        return 1.0
    t = (z + _REACH_SIGMA) * _PER_SIGMA
    i = np.int64(t)
    f = t - i
    p0, p1, m0, m1 = value[i], value[i + 1], slope[i], slope[i + 1]
    d = p1 - p0
    return p0 + f * (m0 + f * (3.0 * d - 2.0 * m0 - m1 + f * (m0 + m1 - 2.0 * d)))


@kernel
def place_points(
    chosen: Integers, y: Floats, x: Floats, motion: Floats, strength: Floats, geometry: Floats,
    radii: Floats, brightest: Floats, fwhm: float, out: Floats, reach: Integers,
) -> None:  # fmt: skip
    """Where stars are in one exposure, how far they move in it, and how large their stamps are.

    Parameters
    ----------
    chosen : int64 (m,), rows of the catalogue
    y, x : float64 (n,) [px], on the reference frame at the first exposure's start
    motion : float64 (n or 0, 2) [px/s], own motion (y, x)
    strength : float64 (n,) [photon], light that decides the size of the stamp
    geometry : float64 (15,), see `View.geometry`
    radii, brightest : float64 (r,), `Mixture.reach`
    fwhm : float [px]
    out : float64 (m, 4), written: y, x at mid-exposure on the grid of 2^-16 px; path during the exposure [px]
    reach : int64 (m,), written: half size of the stamp [px]
    """
    cosine, sine, pivot_y, pivot_x, dy, dx = (
        geometry[0],
        geometry[1],
        geometry[2],
        geometry[3],
        geometry[4],
        geometry[5],
    )
    drift_y, drift_x, turn, middle, exposure = geometry[6], geometry[7], geometry[8], geometry[9], geometry[10]
    centre_y, centre_x, k1, k2 = geometry[11], geometry[12], geometry[13], geometry[14]
    for i in range(chosen.size):
        star = chosen[i]
        u, v = y[star] - pivot_y, x[star] - pivot_x
        path_y, path_x = 0.0, 0.0
        if motion.shape[0] > 0:
            u += motion[star, 0] * middle
            v += motion[star, 1] * middle
            path_y = (cosine * motion[star, 0] + sine * motion[star, 1]) * exposure
            path_x = (cosine * motion[star, 1] - sine * motion[star, 0]) * exposure
        turned_y = cosine * u + sine * v
        turned_x = cosine * v - sine * u
        path_y += drift_y + turn * turned_x
        path_x += drift_x - turn * turned_y
        py = pivot_y + turned_y + dy
        px = pivot_x + turned_x + dx
        if k1 != 0.0 or k2 != 0.0:
            a, b = py - centre_y, px - centre_x
            r2 = a * a + b * b
            stretch = r2 * (k1 + k2 * r2)
            py += a * stretch
            px += b * stretch
        out[i, 0] = on_position_grid(py)
        out[i, 1] = on_position_grid(px)
        out[i, 2] = on_position_grid(path_y)
        out[i, 3] = on_position_grid(path_x)
        level = strength[star] / (fwhm * fwhm)
        k = 0
        while k < radii.size - 1 and brightest[k] < level:
            k += 1
        reach[i] = np.int64(np.ceil(radii[k] * fwhm))


@kernel
def add_points(
    out: Floats, y0: int, x0: int, places: Floats, reach: Integers, photons: Floats, parity: Integers, fwhm: float,
    weight: Floats, sigma: Floats, offset_y: Floats, offset_x: Floats, value: Floats, slope: Floats,
) -> None:  # fmt: skip
    """Add stars to a window.

    Parameters
    ----------
    out : float64 (rows, columns) [photon], added to; its first pixel is the absolute (y0, x0)
    places, reach : from `place_points`
    photons : float64 (m, b) [photon], of each star in each colour
    parity : int64 (4,), colour of the pixel with (y & 1, x & 1) at 2 (y & 1) + (x & 1)
    fwhm : float [px]
    weight, sigma, offset_y, offset_x : float64 (k,) [FWHM], the PSF; sorted by sigma
    value, slope : from `phi_table`
    """
    y1, x1 = y0 + out.shape[0], x0 + out.shape[1]
    colours = photons.shape[1]
    even = np.empty(out.shape[1])
    odd = np.empty(out.shape[1])
    for i in range(places.shape[0]):
        py, px, vy, vx = places[i, 0], places[i, 1], places[i, 2], places[i, 3]
        half_y = reach[i] + 0.5 * abs(vy)
        half_x = reach[i] + 0.5 * abs(vx)
        if py + half_y < y0 - 1.0 or py - half_y > y1 or px + half_x < x0 - 1.0 or px - half_x > x1:
            continue
        top = max(y0, np.int64(np.floor(py - half_y + 0.5)))
        bottom = min(y1, np.int64(np.floor(py + half_y + 0.5)) + 1)
        left = max(x0, np.int64(np.floor(px - half_x + 0.5)))
        right = min(x1, np.int64(np.floor(px + half_x + 0.5)) + 1)
        if top >= bottom or left >= right:
            continue
        pieces = 1 + np.int64(np.floor(np.sqrt(vy * vy + vx * vx) / (_STEP_FWHM * fwhm)))
        piece_y, piece_x = vy / pieces, vx / pieces
        for s in range(pieces):
            along = (s + 0.5) / pieces - 0.5
            for k in range(weight.size):
                width = sigma[k] * fwhm
                if k > 0 and width > _WIDEST * reach[i]:
                    break
                sy = np.sqrt(width * width + piece_y * piece_y / 12.0)
                sx = np.sqrt(width * width + piece_x * piece_x / 12.0)
                cy = py + vy * along + offset_y[k] * fwhm
                cx = px + vx * along + offset_x[k] * fwhm
                first = max(top, np.int64(np.floor(cy - _REACH_SIGMA * sy + 0.5)))
                last = min(bottom, np.int64(np.floor(cy + _REACH_SIGMA * sy + 0.5)) + 1)
                begin = max(left, np.int64(np.floor(cx - _REACH_SIGMA * sx + 0.5)))
                end = min(right, np.int64(np.floor(cx + _REACH_SIGMA * sx + 0.5)) + 1)
                if first >= last or begin >= end:
                    continue
                share = weight[k] / pieces
                lower = phi((begin - 0.5 - cx) / sx, value, slope)
                for column in range(begin, end):
                    upper = phi((column + 0.5 - cx) / sx, value, slope)
                    g = (upper - lower) * share
                    lower = upper
                    even[column - begin] = g * photons[i, parity[column & 1]]
                    if colours > 1:
                        odd[column - begin] = g * photons[i, parity[2 + (column & 1)]]
                n = end - begin
                lower = phi((first - 0.5 - cy) / sy, value, slope)
                for row in range(first, last):
                    upper = phi((row + 0.5 - cy) / sy, value, slope)
                    g = upper - lower
                    lower = upper
                    target = out[row - y0, begin - x0 : end - x0]
                    if colours > 1 and (row & 1) == 1:
                        for j in range(n):
                            target[j] += g * odd[j]
                    else:
                        for j in range(n):
                            target[j] += g * even[j]
