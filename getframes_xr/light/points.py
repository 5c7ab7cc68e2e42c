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
_WIDEST = 2.0  # Gaussians wider than this many stamp radii are left out of the stamp


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
def phi(z: float, value: Floats, slope: Floats) -> float:
    """Normal distribution function by the table."""
    if z <= -_REACH_SIGMA:
        return 0.0
    if z >= _REACH_SIGMA:
        return 1.0
    t = (z + _REACH_SIGMA) * _PER_SIGMA
    i = int(t)
    f = t - i
    p0, p1, m0, m1 = float(value[i]), float(value[i + 1]), float(slope[i]), float(slope[i + 1])
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
    cosine, sine, pivot_y, pivot_x = geometry[0], geometry[1], geometry[2], geometry[3]
    dy, dx = geometry[4], geometry[5]
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
        reach[i] = int(np.ceil(radii[k] * fwhm))


@kernel
def _add_rows(
    out: Floats, y0: int, x0: int, first: int, last: int, begin: int, end: int, even: Floats, odd: Floats, n: int,
    k: int, sigma: Floats, fwhm: float, blur_y: float, centre_y: float, offset_y: Floats, lower: Floats,
    value: Floats, slope: Floats,
) -> None:  # fmt: skip
    """Add one Gaussian, or four together (an absent one has no share), to the rows first .. last."""
    count = end - begin
    width = np.empty(4)
    centre = np.empty(4)
    rise = np.zeros(4)
    for m in range(n):
        width[m] = np.sqrt(sigma[k + m] * fwhm * (sigma[k + m] * fwhm) + blur_y)
        centre[m] = centre_y + offset_y[k + m] * fwhm
    for row in range(first, last):
        for m in range(n):
            upper = phi((row + 0.5 - centre[m]) / width[m], value, slope)
            rise[m] = upper - lower[m]
            lower[m] = upper
        target = out[row - y0, begin - x0 : end - x0]
        profile = odd if (row & 1) == 1 else even
        if n == 1:
            g, a = rise[0], profile[0]
            for j in range(count):
                target[j] += g * a[j]
        else:
            g0, g1, g2, g3 = rise[0], rise[1], rise[2], rise[3]
            a0, a1, a2, a3 = profile[0], profile[1], profile[2], profile[3]
            for j in range(count):
                target[j] += (g0 * a0[j] + g1 * a1[j]) + (g2 * a2[j] + g3 * a3[j])


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
    even = np.zeros((4, out.shape[1]))
    odd = np.zeros((4, out.shape[1]))
    lower = np.empty(4)
    shift = 0.0
    for k in range(weight.size):
        shift = max(shift, max(abs(offset_y[k]), abs(offset_x[k])) * fwhm)
    for i in range(places.shape[0]):
        py, px, vy, vx = places[i, 0], places[i, 1], places[i, 2], places[i, 3]
        half_y = reach[i] + 0.5 * abs(vy)
        half_x = reach[i] + 0.5 * abs(vx)
        if py + half_y < y0 - 1.0 or py - half_y > y1 or px + half_x < x0 - 1.0 or px - half_x > x1:
            continue
        top = max(y0, int(np.floor(py - half_y + 0.5)))
        bottom = min(y1, int(np.floor(py + half_y + 0.5)) + 1)
        left = max(x0, int(np.floor(px - half_x + 0.5)))
        right = min(x1, int(np.floor(px + half_x + 0.5)) + 1)
        if top >= bottom or left >= right:
            continue
        used = 1  # Gaussians that matter inside the stamp
        while used < weight.size and sigma[used] * fwhm <= _WIDEST * reach[i]:
            used += 1
        narrow = 0  # of these, the ones that do not fill the stamp
        span = reach[i] + 1.0 + abs(vy) + abs(vx) + shift
        while narrow < used and _REACH_SIGMA * sigma[narrow] * fwhm < span:
            narrow += 1
        pieces = 1 + int(np.floor(np.sqrt(vy * vy + vx * vx) / (_STEP_FWHM * fwhm)))
        blur_y, blur_x = vy / pieces * (vy / pieces) / 12.0, vx / pieces * (vx / pieces) / 12.0
        for s in range(pieces):
            along = (s + 0.5) / pieces - 0.5
            k = 0
            while k < used:
                n = 1 if k < narrow else min(4, used - k)
                first, last, begin, end = top, bottom, left, right
                for m in range(n):
                    variance = sigma[k + m] * fwhm * (sigma[k + m] * fwhm)
                    sx = np.sqrt(variance + blur_x)
                    sy = np.sqrt(variance + blur_y)
                    cy = py + vy * along + offset_y[k + m] * fwhm
                    cx = px + vx * along + offset_x[k + m] * fwhm
                    if k < narrow:
                        first = max(top, int(np.floor(cy - _REACH_SIGMA * sy + 0.5)))
                        last = min(bottom, int(np.floor(cy + _REACH_SIGMA * sy + 0.5)) + 1)
                        begin = max(left, int(np.floor(cx - _REACH_SIGMA * sx + 0.5)))
                        end = min(right, int(np.floor(cx + _REACH_SIGMA * sx + 0.5)) + 1)
                        if first >= last or begin >= end:
                            break
                    share = weight[k + m] / pieces
                    before = phi((begin - 0.5 - cx) / sx, value, slope)
                    for column in range(begin, end):
                        after = phi((column + 0.5 - cx) / sx, value, slope)
                        g = (after - before) * share
                        before = after
                        even[m, column - begin] = g * photons[i, parity[column & 1]]
                        if colours > 1:
                            odd[m, column - begin] = g * photons[i, parity[2 + (column & 1)]]
                    lower[m] = phi((first - 0.5 - cy) / sy, value, slope)
                if first < last and begin < end:
                    _add_rows(
                        out, y0, x0, first, last, begin, end, even, odd if colours > 1 else even, n, k, sigma, fwhm,
                        blur_y, py + vy * along, offset_y, lower, value, slope,
                    )  # fmt: skip
                k += n
