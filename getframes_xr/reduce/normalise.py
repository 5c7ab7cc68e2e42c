"""Normalisation: what every exposure saw of the same sky, from tables alone (no pixel is read again).

    v = (e - S_f(y, x)) / t_f          weight w_f = t_f^2 / V_f

Transparency t_f: the fluxes of up to 250 bright stars against their own means over the session, 4 alternations, 1 %
added error; the median over the frames is 1. Sky S_f: a plane per colour on the block levels (clipped one-sidedly,
stars only add light), then self-calibration: a sky map B on a 32 px grid of the reference is the mean of (block - S)/t
over the frames, S is fitted again to block - t B, 12 rounds, so nebulae and star wings cancel because every frame sees
the same B. Frames are left out, and named, for transparency (relative weight < 0.10; or < 0.35 of the
light per second of the best quarter, at less than half the weight), shape (elongation > max(0.35,
median + 6 MAD)) or a missing match; never for seeing or background alone: weights do that. Source: the recipe, 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.verdict import Reason, Verdicts
from getframes_xr.face.tables import loaded
from getframes_xr.measure.background import BLOCK_PX, select
from getframes_xr.measure.registration import most_elongation, too_elongated

Array = np.ndarray[Any, Any]

_MOST_STARS = 250
_LEAST_RELATIVE_WEIGHT = 0.10
_LEAST_LIGHT = 0.35  # of the light per second of the session's upper quartile


@kernel
def fit_plane(value: Array, y: Array, x: Array, low: float, high: float, rounds: int, plane: Array) -> int:
    """Least squares plane (level, slope_y, slope_x) through finite values, clipped at -low, +high robust sigma.

    ``plane`` holds the start where it is finite and the result; returns the number of values kept.
    """
    n = len(value)
    keep = np.empty(n, np.bool_)
    store = np.empty(n)
    kept = 0
    for k in range(n):
        keep[k] = np.isfinite(value[k])
        kept += keep[k]
    for _ in range(rounds):
        if kept < 6:
            return kept
        s, sy, sx, syy, sxx, sxy, v, vy, vx = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(n):
            if keep[k]:
                s += 1.0
                sy += y[k]
                sx += x[k]
                syy += y[k] * y[k]
                sxx += x[k] * x[k]
                sxy += y[k] * x[k]
                v += value[k]
                vy += value[k] * y[k]
                vx += value[k] * x[k]
        my, mx, mv = sy / s, sx / s, v / s
        a, b, c = syy - s * my * my, sxx - s * mx * mx, sxy - s * my * mx
        p, q = vy - s * my * mv, vx - s * mx * mv
        determinant = a * b - c * c
        slope_y, slope_x = 0.0, 0.0
        if determinant > 1e-9 * a * b:
            slope_y, slope_x = (p * b - q * c) / determinant, (q * a - p * c) / determinant
        plane[0], plane[1], plane[2] = mv - slope_y * my - slope_x * mx, slope_y, slope_x
        m = 0
        for k in range(n):
            if keep[k]:
                store[m] = value[k] - plane[0] - plane[1] * y[k] - plane[2] * x[k]
                m += 1
        middle = select(store, m, m >> 1)
        for k in range(m):
            store[k] = abs(store[k] - middle)
        sigma = 1.4826 * select(store, m, m >> 1)
        now, changed = 0, False
        for k in range(n):
            inside = False
            if np.isfinite(value[k]):
                d = value[k] - plane[0] - plane[1] * y[k] - plane[2] * x[k] - middle
                inside = -low * sigma <= d <= high * sigma
            changed = changed or inside != keep[k]
            keep[k] = inside
            now += inside
        if not changed:
            break
        kept = now
    return kept


@kernel
def spread(value: Array, weight: float, v: Array, u: Array, total: Array, weights: Array, frames: Array) -> None:
    """Add a frame's values to the nodes around (v, u), bilinearly; ``frames`` counts the frame's share of each node."""
    rows, columns = total.shape
    for k in range(len(value)):
        if not np.isfinite(value[k]):
            continue
        i, j = int(np.floor(v[k])), int(np.floor(u[k]))
        fv, fu = v[k] - i, u[k] - j
        for a in range(2):
            for b in range(2):
                if 0 <= i + a < rows and 0 <= j + b < columns:
                    q = (fv if a else 1.0 - fv) * (fu if b else 1.0 - fu)
                    total[i + a, j + b] += weight * q * value[k]
                    weights[i + a, j + b] += weight * q
                    frames[i + a, j + b] += q


@kernel
def read_map(sky: Array, frames: Array, fewest: float, v: Array, u: Array, out: Array) -> None:
    """Bilinear value of the map at (v, u); NaN where a node of weight is seen by fewer than ``fewest`` frames."""
    rows, columns = sky.shape
    for k in range(len(out)):
        out[k] = np.nan
        i, j = int(np.floor(v[k])), int(np.floor(u[k]))
        fv, fu = v[k] - i, u[k] - j
        value, share = 0.0, 0.0
        for a in range(2):
            for b in range(2):
                q = (fv if a else 1.0 - fv) * (fu if b else 1.0 - fu)
                if 0 <= i + a < rows and 0 <= j + b < columns and frames[i + a, j + b] >= fewest:
                    value += q * sky[i + a, j + b]
                    share += q
        if share > 0.5:
            out[k] = value / share


def transparencies(flux: Array, error: Array) -> Array:
    """Relative transparency of each frame from star fluxes (frame, star), NaN where unknown; median 1.

    Alternates: a star's flux is the weighted mean of F / t over the frames; a frame's t is the weighted
    mean of F / F_star over the stars, with 1 % added error, clipped at 4 robust sigma.
    """
    n = len(flux)
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    t = np.where(good.any(1), 1.0, np.nan)
    for _ in range(4):
        scale = np.nan_to_num(t)[:, None]
        weight = np.where(good, scale**2 / np.where(good, error, 1.0) ** 2, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            star = (weight * np.where(good, flux, 0.0) / np.where(scale > 0, scale, 1.0)).sum(0) / weight.sum(0)
            ratio = flux / star
            spread2 = (error / star) ** 2 + 0.01**2
        for f in range(n):
            use = good[f] & (star > 0) & np.isfinite(ratio[f])
            if not use.any():
                t[f] = np.nan
                continue
            r, w = ratio[f, use], 1.0 / spread2[f, use]
            middle = np.median(r)
            pull = np.abs(r - middle) * np.sqrt(w)
            keep = pull <= 4.0 * max(1.4826 * float(np.median(pull)), 1.0)
            t[f] = (w * r)[keep].sum() / w[keep].sum()
        t /= np.nanmedian(t)
    return t


def _star_fluxes(stars: xr.Dataset, moves: xr.Dataset) -> tuple[Array, Array]:
    """Fluxes and errors (frame, star) of the brightest catalogue stars that more than half of the frames have."""
    match = moves["match"].values
    size = moves.sizes["catalogue"]
    flux, error = (stars[name].values.astype(np.float64) for name in ("flux", "flux_err"))
    good = (match >= 0) & np.isfinite(flux) & (flux > 0) & np.isfinite(error) & ~stars["saturated"].values
    seen = np.bincount(match[good], minlength=size)
    n = int(moves["verified"].values.sum())
    fewest = next((limit for limit in (0.5 * n, 0.25 * n, 1.0) if (seen > limit).sum() >= 8), 0.0)
    brightness = np.where(seen > fewest, np.nan_to_num(moves["catalogue_flux"].values), 0.0)
    chosen = np.argsort(-brightness, kind="stable")[:_MOST_STARS]
    chosen = chosen[brightness[chosen] > 0]
    column = np.full(size + 1, -1)
    column[chosen] = np.arange(len(chosen))
    shape = (len(match), len(chosen))
    out, out_error = np.full(shape, np.nan), np.full(shape, np.nan)
    frame, source = np.nonzero(good & (column[match] >= 0))
    where = column[match[frame, source]]
    out[frame, where], out_error[frame, where] = flux[frame, source], error[frame, source]
    return out, out_error


def block_centres(shape: tuple[int, int], origin: tuple[int, int]) -> tuple[Array, Array]:
    """Absolute y (block_y,) and x (block_x,) of the blocks' centres; the last ones may be narrower."""

    def along(length: int, start: int) -> Array:
        first = np.arange(0, length, BLOCK_PX)
        return start + 0.5 * (first + np.minimum(first + BLOCK_PX, length) - 1)

    return along(shape[0], origin[0]), along(shape[1], origin[1])


def sky_planes(
    levels: Array, y: Array, x: Array, transform: Array, transparency: Array, variance: Array, used: Array
) -> Array:
    """Sky plane of every frame and band, (frame, band, 3): level at (0, 0) of y, x, slope_y, slope_x.

    Parameters
    ----------
    levels : (frame, band, block_y, block_x), NaN allowed
    y, x : of the blocks' centres from the frame's centre [px]
    transform : (frame, 2, 3) from these y, x to the reference's
    transparency, used : (frame,)
    variance : (frame, band)
    """
    n, n_bands = levels.shape[:2]
    yy, xx = (np.ascontiguousarray(each).ravel() for each in np.meshgrid(y, x, indexing="ij"))
    flat = np.ascontiguousarray(levels.reshape(n, n_bands, -1), np.float64)
    planes = np.full((n, n_bands, 3), np.nan)
    for f in range(n):
        for band in range(n_bands):
            if fit_plane(flat[f, band], yy, xx, 3.0, 1.5, 8, planes[f, band]) < 6 and np.isfinite(flat[f, band]).any():
                planes[f, band] = np.nanmedian(flat[f, band]), 0.0, 0.0
    frames = np.flatnonzero(used)
    if len(frames) < 3:
        return planes
    v = np.stack([transform[f, 0, 0] * yy + transform[f, 0, 1] * xx + transform[f, 0, 2] for f in frames]) / BLOCK_PX
    u = np.stack([transform[f, 1, 0] * yy + transform[f, 1, 1] * xx + transform[f, 1, 2] for f in frames]) / BLOCK_PX
    v -= np.floor(v.min())
    u -= np.floor(u.min())
    shape = (int(v.max()) + 2, int(u.max()) + 2)
    at = np.empty(len(yy))
    for band in range(n_bands):
        for _ in range(12):
            total, weights, seen = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            for k, f in enumerate(map(int, frames)):
                level, slope_y, slope_x = planes[f, band]
                rest = (flat[f, band] - level - slope_y * yy - slope_x * xx) / transparency[f]
                spread(rest, transparency[f] ** 2 / variance[f, band], v[k], u[k], total, weights, seen)
            sky = total / np.where(weights > 0, weights, 1.0)
            for k, f in enumerate(map(int, frames)):
                read_map(sky, seen, 2.0, v[k], u[k], at)
                plane = planes[f, band].copy()
                if fit_plane(flat[f, band] - transparency[f] * at, yy, xx, 2.5, 2.5, 2, plane) >= 20:
                    planes[f, band] = plane
    return planes


def normalise(stars: xr.Dataset, moves: xr.Dataset) -> xr.Dataset:
    """Add transparency, sky, variance and weight to the moves, and decide which frames are used.

    What ``moves`` leaves out stays out for the reason it has there.

    Parameters
    ----------
    stars : loaded table of ``find_stars``
    moves : Dataset of ``register`` for the same frames

    Returns
    -------
    Dataset : the moves and
        (time) : transparency (median 1; 1 for all where no star is shared), used, reason, verdict as in ``register``
        (time, band) : variance of a raw pixel [units^2], weight = transparency^2 / variance, 0 where not used
        (time, band, plane_term) : sky: level at ``centre_px`` [units], slope_y, slope_x [units per px]
        attrs : centre_px, units, n_transparency_stars

    Raises
    ------
    DataError : a table is lazy, lacks columns, or the two hold different frames
    """
    stars = loaded(stars, "flux", "flux_err", "saturated", "sky", "variance")
    moves = loaded(moves, "transform", "verified", "reason", "match", "catalogue_flux", "elongation")
    if not np.array_equal(stars["frame"].values, moves["frame"].values):
        raise DataError("stars and moves hold different frames; register this table of stars")
    verdicts = Verdicts.read(moves)
    verified = verdicts.used
    variance = stars["variance"].values
    measured = np.isfinite(variance).all(1) & (np.nan_to_num(variance) > 0).all(1)
    flux, error = _star_fluxes(stars, moves)
    flux[~verified] = np.nan
    t = transparencies(flux, error) if flux.shape[1] >= 3 else np.where(verified, 1.0, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = t[:, None] ** 2 / variance
        known = verified & measured & np.isfinite(t)
        middle = np.median(weight[known], axis=0) if known.any() else np.ones(variance.shape[1])
        relative = (weight / middle).mean(1)
    dim, light = known & (relative < _LEAST_RELATIVE_WEIGHT), np.full(len(t), np.nan)
    rate = t / (stars["exposure_s"].values if "exposure_s" in stars.coords else 1.0)
    if known.any():
        best = np.sort(rate[known])[-max(1, int(known.sum()) // 4)]
        dim |= known & (rate < _LEAST_LIGHT * best) & (relative < 0.5)
        light = rate / best
    elongation = moves["elongation"].values
    streaks = {"elongation": elongation, "most": most_elongation(elongation)}
    verdicts = (
        verdicts.leave_out(~measured, Reason.NO_BACKGROUND)
        .leave_out(~np.isfinite(t), Reason.NO_SHARED_STAR)
        .leave_out(dim, Reason.TOO_DIM, transparency=t, weight=relative, light=light)
        .leave_out(too_elongated(elongation), Reason.ELONGATED, **streaks)
    )
    rows, columns = (int(length) for length in stars.attrs["frame_shape"])
    top, left = (int(start) for start in stars.attrs["frame_origin"])
    y, x = block_centres((rows, columns), (top, left))
    centre = np.array([top + 0.5 * (rows - 1), left + 0.5 * (columns - 1)])
    transform = moves["transform"].values
    shifted = transform.copy()
    shifted[:, :, 2] += transform[:, :, :2] @ centre
    sky = sky_planes(stars["sky"].values, y - centre[0], x - centre[1], shifted, t, variance, verdicts.used)
    no_sky = np.asarray(~np.isfinite(sky).all((1, 2)))
    verdicts = verdicts.leave_out(no_sky, Reason.NO_SKY)
    units = str(stars.attrs.get("units", ""))
    time, band = ("time",), ("time", "band")
    found = moves.assign(
        transparency=(time, t), variance=(band, variance, {"units": f"{units}2"}), weight=(band, np.nan_to_num(weight)),
        relative_weight=(time, relative), sky=((*band, "plane_term"), sky, {"units": units}),
    ).assign_coords(band=stars["band"].values).assign_attrs(
        moves.attrs | {"centre_px": centre.tolist(), "units": units, "n_transparency_stars": int(flux.shape[1])}
    )  # fmt: skip
    return verdicts.write(found)
