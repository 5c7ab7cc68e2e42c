"""Aperture photometry: exact overlap of circle and pixels, local sky per colour, errors of the CCD equation.

    F = sum_i o_i (v_i - sky_c(i)),     o_i = area of pixel i inside the circle
    var F = F / g + sum_i o_i^2 s_c^2 + sum_c (A_c s_c)^2 / n_c

s_c, n_c: scatter and number of the sky samples of colour c in the ring (mean after clipping at 3 sigma, started at the
median), A_c the circle's area on that colour, g the gain: 1 in electrons; in ADU the frames' ``gain_e_per_adu``, and
without one the light's own noise is left out. A bad pixel in the circle takes what its good neighbours of the same
colour foretell, scaled by the star's form, and counts in ``masked_fraction``; a hot one only where it really departs.
Source: Merline & Howell 1995, Exp. Astron. 6, 163.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.elementary import exp64
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import OVERFULL, UNUSABLE, Flag
from getframes_xr.core.window import Grid
from getframes_xr.face.frames_in import SAMPLES, FramesLike, dataset_in, frames_in
from getframes_xr.face.tables import Column, per_frame
from getframes_xr.measure.background import lattice_of, select
from getframes_xr.measure.centroid import centre_star, second_moments
from getframes_xr.measure.overlap import overlap

Array = np.ndarray[Any, Any]

_MASKED = UNUSABLE & ~OVERFULL
_HOT = int(Flag.HOT)


@kernel
def _profile(dy: float, dx: float, form: Array) -> float:
    """Form of a star, near enough to scale neighbours with: an elliptic Gaussian core with a faint wing."""
    d2 = form[0] * dy * dy + form[1] * dx * dx + 2.0 * form[2] * dy * dx
    return float(exp64(-0.5 * d2) + 0.02 / (1.0 + d2))


@kernel
def _predicted(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, step: int,
    y: int, x: int, centre_y: float, centre_x: float, form: Array, sky: Array,
) -> float:  # fmt: skip
    """Light above the sky that good neighbours of the same colour and the star's form foretell; NaN without any."""
    ny, nx = image.shape
    level = sky[index[(y + y0) & 1, (x + x0) & 1]]
    total, shape = 0.0, 0.0
    for reach in (step, 2 * step):
        for yy in range(y - reach, y + reach + 1, step):
            for xx in range(x - reach, x + reach + 1, step):
                if yy < 0 or xx < 0 or yy >= ny or xx >= nx or flags[yy, xx] & bad or not np.isfinite(image[yy, xx]):
                    continue
                total += image[yy, xx] - level
                shape += _profile(yy - centre_y, xx - centre_x, form)
        if shape > 0.0:
            return total / shape * _profile(y - centre_y, x - centre_x, form)
    return np.nan


@kernel
def light_of(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, step: int,
    y: int, x: int, centre_y: float, centre_x: float, form: Array, sky: Array, variance: Array, per_signal: float,
) -> tuple[float, bool]:  # fmt: skip
    """Light of a pixel above the sky, and whether it was foretold because the pixel cannot be used.

    A hot pixel still collects light: it is used unless it departs by 4 sigma and half of the star's own light.
    """
    band = index[(y + y0) & 1, (x + x0) & 1]
    v = float(image[y, x]) - sky[band]
    flag = flags[y, x] & bad
    if flag == 0 and np.isfinite(v):
        return v, False
    known = _predicted(image, flags, bad, y0, x0, index, step, y, x, centre_y, centre_x, form, sky)
    if flag == _HOT and np.isfinite(v):
        light = max(known, 0.0)
        if not abs(v - known) > 4.0 * np.sqrt(variance[band] + per_signal * light) + 0.5 * light:
            return v, False
    return known, True


@kernel
def ring_sky(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, y: float, x: float,
    inner: float, outer: float, sky: Array, variance: Array, count: Array,
) -> None:  # fmt: skip
    """Clipped mean, variance and number of the ring's samples per band; NaN with fewer than 8."""
    ny, nx = image.shape
    n_bands = len(sky)
    store = np.empty((n_bands, int((2.0 * outer + 3.0) ** 2)), np.float64)
    count[:] = 0
    for yy in range(max(0, int(np.ceil(y - outer))), min(ny, int(np.floor(y + outer)) + 1)):
        for xx in range(max(0, int(np.ceil(x - outer))), min(nx, int(np.floor(x + outer)) + 1)):
            d2 = (yy - y) * (yy - y) + (xx - x) * (xx - x)
            v = image[yy, xx]
            if d2 < inner * inner or d2 > outer * outer or flags[yy, xx] & bad or not np.isfinite(v):
                continue
            band = index[(yy + y0) & 1, (xx + x0) & 1]
            store[band, count[band]] = v
            count[band] += 1
    for band in range(n_bands):
        n = count[band]
        sky[band], variance[band] = np.nan, np.nan
        if n < 8:
            continue
        centre = float(select(store[band], n, n >> 1))
        deviation = np.empty(n)
        for k in range(n):
            deviation[k] = abs(store[band, k] - centre)
        sigma: Any = 1.4826 * float(select(deviation, n, n >> 1))
        if sigma == 0.0:
            sigma = np.mean(deviation) * 1.2533
        kept = 0
        for _ in range(5):
            limit = 3.0 * sigma
            now, total, square = 0, 0.0, 0.0
            for k in range(n):
                d = store[band, k] - centre
                if abs(d) <= limit:
                    now += 1
                    total += d
                    square += d * d
            if now < 2:
                break
            mean = total / now
            centre += mean
            sigma = np.sqrt(max(square / now - mean * mean, 0.0) / 0.9733)
            if now == kept:
                break
            kept = now
        sky[band], variance[band], count[band] = centre, sigma * sigma, kept


@kernel
def circle_flux(
    image: Array, flags: Array, bad: int, saturated: int, y0: int, x0: int, index: Array, step: int,
    y: float, x: float, radius: float, form: Array, sky: Array, variance: Array, count: Array, per_signal: float,
) -> tuple[float, float, float, bool]:  # fmt: skip
    """Flux, its error, the masked share of the circle, and whether it holds a saturated pixel; NaN off the frame."""
    ny, nx = image.shape
    n_bands = len(sky)
    if not (y - radius >= -0.5 and x - radius >= -0.5 and y + radius <= ny - 0.5 and x + radius <= nx - 0.5):
        return np.nan, np.nan, np.nan, False
    area = np.zeros(n_bands)
    flux, noise, masked, full = 0.0, 0.0, 0.0, False
    for yy in range(max(0, int(np.floor(y - radius))), min(ny, int(np.ceil(y + radius)) + 1)):
        for xx in range(max(0, int(np.floor(x - radius))), min(nx, int(np.ceil(x + radius)) + 1)):
            share = overlap(yy - y, xx - x, radius)
            if share == 0.0:
                continue
            band = index[(yy + y0) & 1, (xx + x0) & 1]
            v, mended = light_of(image, flags, bad, y0, x0, index, step, yy, xx, y, x, form, sky, variance, per_signal)
            flux += share * v
            noise += share * share * variance[band]
            area[band] += share
            masked += share if mended else 0.0
            full = full or flags[yy, xx] & saturated != 0
    total = 0.0
    for band in range(n_bands):
        total += area[band]
        if area[band] > 0.0:
            noise += area[band] * area[band] * variance[band] / max(count[band], 1)
    noise += per_signal * max(flux, 0.0)
    return flux, np.sqrt(noise), masked / total, full


@kernel
def recentre(
    image: Array, flags: Array, bad: int, y0: int, x0: int, index: Array, step: int, y: float, x: float,
    sky: Array, variance: Array, form: Array, window: float, reach: float,
) -> tuple[float, float]:  # fmt: skip
    """Windowed centroid near (y, x); the start itself where it fails, moves beyond ``reach`` or leaves the frame.

    ``form`` (inverse covariance yy, xx, yx) holds a first idea of the star's form and then what its moments say.
    """
    ny, nx = image.shape
    half = int(np.ceil(3.3 * window)) + 1
    cy, cx = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
    margin = step - 1
    if cy - half - margin < 0 or cx - half - margin < 0 or cy + half + margin >= ny or cx + half + margin >= nx:
        return y, x
    size = 2 * half + 1
    raw = np.empty((size + 2 * margin, size + 2 * margin))
    my, mx = y - cy + half, x - cx + half
    for turn in range(2):  # the second time with the star's own form for pixels that cannot be used
        sy, sx = cy - half + my, cx - half + mx
        for i in range(size + 2 * margin):
            for j in range(size + 2 * margin):
                yy, xx = cy - half - margin + i, cx - half - margin + j
                raw[i, j], _ = light_of(
                    image, flags, bad, y0, x0, index, step, yy, xx, sy, sx, form, sky, variance, 0.0
                )
        stamp = raw
        if margin:  # [1 2 1] x [1 2 1] / 16: the luminance at every pixel of a colour filter array
            stamp = np.empty((size, size))
            for i in range(size):
                for j in range(size):
                    total = 0.0
                    for a in range(3):
                        for b in range(3):
                            total += (2 - abs(a - 1)) * (2 - abs(b - 1)) * raw[i + a, j + b]
                    stamp[i, j] = total * 0.0625
        ny_, nx_ = centre_star(stamp, size, y - cy + half, x - cx + half, window, reach)
        if np.isnan(ny_):
            return y, x
        my, mx = ny_, nx_
        if turn == 0:
            _learn_form(*second_moments(stamp, size, my, mx, window), window, form)
    return cy - half + my, cx - half + mx


@kernel
def _learn_form(myy: float, mxx: float, myx: float, window: float, form: Array) -> None:
    """Inverse covariance of a Gaussian star from its moments under a Gaussian window: C^-1 = M^-1 - I / w^2."""
    determinant = myy * mxx - myx * myx
    if not determinant > 0.0:
        return
    p, q, s = mxx / determinant - 1.0 / window**2, myy / determinant - 1.0 / window**2, -myx / determinant
    if p > 0.005 and q > 0.005 and p * q > s * s and p < 4.0 and q < 4.0:
        form[0], form[1], form[2] = p, q, s


@kernel
def measure_stars(
    image: Array, flags: Array, bad: int, saturated: int, y0: int, x0: int, index: Array, n_bands: int,
    y: Array, x: Array, radii: Array, inner: float, outer: float, per_signal: float,
    sigma: float, window: float, reach: float,
    place: Array, level: Array, flux: Array, error: Array, masked: Array, full: Array,
) -> None:  # fmt: skip
    """All apertures of all stars of one frame; centred again where ``reach`` > 0. Rows of ``flux`` are stars."""
    step = 2 if n_bands > 1 else 1
    sky, variance, count = np.empty(n_bands), np.empty(n_bands), np.empty(n_bands, np.int64)
    form = np.empty(3)
    for k in range(len(y)):
        place[k, 0], place[k, 1] = y[k], x[k]
        level[k] = np.nan
        masked[k] = np.nan
        for r in range(len(radii)):
            flux[k, r], error[k, r] = np.nan, np.nan
            full[k, r] = False
        if not (np.isfinite(y[k]) and np.isfinite(x[k])):
            continue
        a, b = y[k] - y0, x[k] - x0
        form[0], form[1], form[2] = 1.0 / sigma**2, 1.0 / sigma**2, 0.0
        ring_sky(image, flags, bad | saturated, y0, x0, index, a, b, inner, outer, sky, variance, count)
        if reach > 0.0:
            a, b = recentre(image, flags, bad, y0, x0, index, step, a, b, sky, variance, form, window, reach)
            ring_sky(image, flags, bad | saturated, y0, x0, index, a, b, inner, outer, sky, variance, count)
        place[k, 0], place[k, 1] = a + y0, b + x0
        level[k] = np.mean(sky)
        for r in range(len(radii)):
            flux[k, r], error[k, r], masked[k], full[k, r] = circle_flux(
                image,
                flags,
                bad,
                saturated,
                y0,
                x0,
                index,
                step,
                a,
                b,
                radii[r],
                form,
                sky,
                variance,
                count,
                per_signal,
            )


@dataclass(frozen=True)
class MeasureStars:
    """The function of one frame behind ``aperture_photometry`` and ``light_curve``.

    ``positions`` is float64 (frame of the producer, star, 2), absolute; ``per_signal`` (frame,) is 1 / gain.
    """

    plane: str
    cfa: str | None
    positions: Array
    radii: Array
    annulus: tuple[float, float]
    per_signal: Array
    star_sigma: float
    window_sigma: float
    reach: float

    def __call__(self, patch: Patch) -> dict[str, Any]:
        image = np.ascontiguousarray(patch[self.plane][0], np.float32)
        flags = np.zeros(image.shape, np.uint16)
        if "flags" in patch:
            flags = np.ascontiguousarray(patch["flags"][0], np.uint16)
        at = patch.window.frames.start
        lattice = lattice_of(self.cfa)
        y, x = (np.ascontiguousarray(self.positions[at, :, axis]) for axis in (0, 1))
        n, m = len(y), len(self.radii)
        place, level, masked = np.empty((n, 2)), np.empty(n), np.empty(n)
        flux, error, full = np.empty((n, m)), np.empty((n, m)), np.empty((n, m), np.bool_)
        measure_stars(
            image, flags, _MASKED, OVERFULL, patch.window.y.start, patch.window.x.start,
            lattice.index, lattice.n_bands,
            y, x, self.radii, *self.annulus, float(self.per_signal[at]), self.star_sigma, self.window_sigma, self.reach,
            place, level, flux, error, masked, full,
        )  # fmt: skip
        return {
            "flux": flux, "flux_err": error, "sky": level, "y": place[:, 0], "x": place[:, 1],
            "masked_fraction": masked, "saturated": full,
        }  # fmt: skip


def per_signal_of(grid: Grid, units: str) -> Array:
    """Variance per unit of signal, (frame,): 1 in electrons, 1 / gain in ADU where the gain is known, else 0."""
    if units == "electron":
        return np.ones(grid.n_frames)
    if grid.columns is not None and "gain_e_per_adu" in grid.columns:
        gain = grid.column("gain_e_per_adu").astype(np.float64)
        return np.where(np.isfinite(gain) & (gain > 0), 1.0 / np.where(gain > 0, gain, 1.0), 0.0)
    return np.zeros(grid.n_frames)


def measured_stars(
    frames: FramesLike, positions: Array, radii: Array, annulus: tuple[float, float],
    *, fwhm_px: float, reach: float = 0.0,
) -> xr.Dataset:  # fmt: skip
    """Lazy table of apertures at positions (time, star, 2): flux and flux_err (time, star, radius), y, x, sky, ...

    Raises
    ------
    DataError : the frames have neither ``image`` nor ``adu``, or bands
    """
    star_sigma, window_sigma = 0.42 * fwhm_px, max(1.2, 0.6 * fwhm_px)
    box = dataset_in(frames, "aperture_photometry", SAMPLES)
    finite = positions[np.isfinite(positions).all(2)]
    if len(finite) and {"y", "x"} <= set(box.coords):  # read no more than the stars and their rings
        margin = annulus[1] + 8.0 + 4.0 * window_sigma
        cut = {}
        for axis, dim in enumerate(("y", "x")):
            labels = box[dim].values
            low, high = finite[:, axis].min() - margin, finite[:, axis].max() + margin
            start, stop = np.searchsorted(labels, low), np.searchsorted(labels, high, side="right")
            if stop > start:
                cut[dim] = slice(int(start), int(stop))
        box = box.isel(cut)
    given = frames_in(box, "aperture_photometry")
    producer, plane = given.producer, given.plane
    grid = producer.grid
    if grid.bands:
        raise DataError("aperture photometry takes one plane per frame; select a band first")
    units = producer.planes[plane].units or "adu"
    star = {"star": positions.shape[1]}
    both = star | {"radius": len(radii)}
    double, truth = np.dtype(np.float64), np.dtype(np.bool_)
    columns = {
        "flux": Column(double, units, both), "flux_err": Column(double, units, both),
        "sky": Column(double, units, star),
        "y": Column(double, "pixel", star), "x": Column(double, "pixel", star),
        "masked_fraction": Column(double, "", star), "saturated": Column(truth, "", both),
    }  # fmt: skip
    function = MeasureStars(
        plane, grid.cfa, np.ascontiguousarray(positions, np.float64), np.ascontiguousarray(radii, np.float64),
        (float(annulus[0]), float(annulus[1])), per_signal_of(grid, units), star_sigma, window_sigma, float(reach),
    )  # fmt: skip
    table = per_frame(producer, given.planes, function, columns)
    return table.assign_coords(radius=np.asarray(radii, np.float64)).assign_attrs(
        units=units, annulus_px=[float(annulus[0]), float(annulus[1])]
    )


def checked_annulus(radii: Array, annulus: tuple[float, float] | None, option: str) -> tuple[float, float]:
    """The ring (inner, outer) in px: as given, else from the largest radius + 3 on, 10 px wide.

    Raises
    ------
    OptionError : it is no ring
    """
    if annulus is None:
        inner = float(np.max(radii)) + 3.0
        return inner, inner + 10.0
    inner, outer = float(annulus[0]), float(annulus[1])
    if not (np.isfinite([inner, outer]).all() and 0 <= inner and inner + 1 <= outer <= 500):
        raise OptionError(option, annulus, "0 <= inner, inner + 1 <= outer <= 500 px")
    return inner, outer


def checked_radii(radius_px: float | Sequence[float], option: str) -> Array:
    """Radii as an increasing float64 vector.

    Raises
    ------
    OptionError : a radius is not within 0.5 .. 200 px
    """
    radii = np.unique(np.atleast_1d(np.asarray(radius_px, np.float64)))
    if not (len(radii) and np.isfinite(radii).all() and radii[0] >= 0.5 and radii[-1] <= 200):
        raise OptionError(option, radius_px, "0.5 .. 200 px")
    return radii


def aperture_photometry(
    frames: FramesLike,
    positions: Any,
    radius_px: float | Sequence[float],
    annulus: tuple[float, float] | None = None,
    *,
    recentre_px: float = 0.0,
    fwhm_px: float | None = None,
) -> xr.Dataset:
    """Sum the light inside circles, with exact pixel overlap, in every frame; lazy.

    Parameters
    ----------
    frames : Dataset with ``image`` (or ``adu``) and perhaps ``flags``, with time; colour filter frames too
    positions : (star, 2) or (time, star, 2), (y, x) absolute [px]; NaN is not measured
    radius_px : one radius or several, 0.5 .. 200
    annulus : (inner, outer) radius of the sky ring [px]; default from the largest radius + 3 on, 10 px wide
    recentre_px : move each circle to the centroid, if that is within this distance; 0 = as given
    fwhm_px : width of the stars, for centring and for pixels that cannot be used; default the smallest radius

    Returns
    -------
    Dataset : flux, flux_err (time, star, radius) [units of the frames], sky (level per pixel), y, x, masked_fraction
        (time, star), saturated (time, star, radius); NaN where a circle leaves the frame

    Raises
    ------
    OptionError : a radius or the ring is out of range
    DataError : positions have another shape, or there is nothing to measure
    """
    radii = checked_radii(radius_px, "aperture_photometry.radius_px")
    ring = checked_annulus(radii, annulus, "aperture_photometry.annulus")
    frames = dataset_in(frames, "aperture_photometry", SAMPLES)
    n = frames.sizes.get("time", 1)
    where = np.asarray(positions, np.float64)
    if where.ndim == 2 and where.shape[1] == 2:
        where = np.broadcast_to(where, (n, *where.shape))
    if where.ndim != 3 or where.shape[2] != 2 or where.shape[0] != n:
        raise DataError(f"positions: shape {where.shape}, expected (star, 2) or ({n}, star, 2) of (y, x)")
    width = float(radii[0]) if fwhm_px is None else float(fwhm_px)
    if not 0.5 <= width <= 100:
        raise OptionError("aperture_photometry.fwhm_px", fwhm_px, "0.5 .. 100 px")
    return measured_stars(frames, where, radii, ring, fwhm_px=width, reach=recentre_px)
