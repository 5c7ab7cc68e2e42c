"""Differential light curves, measured on the unresampled pixels of each frame.

    f(time) = F_target / sum_j F_comparison,j     normalised to the median of the curve

The target's place is given in one frame, snapped to the catalogue star nearby, brought to the reference grid and from
there into each frame by the inverse transform, and centred again on the frame's own pixels. Where no radius is given,
the data choose: the one of twelve (0.7 .. 3 FWHM) with the least point-to-point scatter, sd(f_{i+1} - f_i) / sqrt 2,
differences beyond 5 robust sigma left out. Times are mid-exposure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.core.mapping import apply
from getframes_xr.face.frames_in import SAMPLES, FramesLike, dataset_in
from getframes_xr.face.tables import loaded
from getframes_xr.measure.photometry import checked_annulus, checked_radii, measured_stars

Array = np.ndarray[Any, Any]

_FWHM_SHARES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)
_SNAP_PX = 5.0


def positions_in(moves: xr.Dataset, points: Array, at: int | None) -> Array:
    """Places of the points in every frame of the moves, (time, point, 2); NaN in frames that are not verified.

    Parameters
    ----------
    moves : loaded table of ``register``
    points : (point, 2), (y, x) in the frame ``at``; the verified frame with the lowest number by default

    Raises
    ------
    DataError : there is no frame ``at``
    RegistrationError : no frame is verified, or ``at`` is not
    """
    frames, verified = moves["frame"].values, moves["verified"].values
    if not verified.any():
        raise RegistrationError("no frame is verified: a light curve needs registered frames")
    where = int(np.flatnonzero(verified)[0])
    if at is not None:
        found = np.flatnonzero(frames == at)
        if not len(found):
            raise DataError(f"at: there is no frame {at}; known: {frames[0]} .. {frames[-1]}")
        where = int(found[0])
        if not verified[where]:
            raise RegistrationError(f"at: frame {at} is not verified ({moves['verdict'].values[where]})")
    transform = moves["transform"].values
    place = apply(transform[where], points)
    catalogue = np.stack([moves["catalogue_y"].values, moves["catalogue_x"].values], 1)
    for k, point in enumerate(place):
        if len(catalogue):
            distance = np.hypot(*(catalogue - point).T)
            if distance.min() <= _SNAP_PX:
                place[k] = catalogue[int(distance.argmin())]
    out = np.full((len(frames), len(points), 2), np.nan)
    for f in np.flatnonzero(verified):
        out[f] = np.linalg.solve(transform[f, :, :2], (place - transform[f, :, 2]).T).T
    return out


def light_curve(
    clean: FramesLike,
    moves: xr.Dataset,
    target: tuple[float, float],
    comparisons: Sequence[tuple[float, float]],
    *,
    radius_px: float | None = None,
    annulus: tuple[float, float] | None = None,
    at: int | None = None,
) -> xr.Dataset:
    """Brightness of a star relative to comparison stars in every frame; lazy.

    Parameters
    ----------
    clean : calibrated frames, not resampled
    moves : loaded table of ``register`` (or ``normalise``) for these frames
    target : (y, x) in the frame ``at`` [px]
    comparisons : (y, x) of at least one comparison star, in the same frame
    radius_px : radius of the circle; None = chosen by the data
    annulus : (inner, outer) radius of the sky ring [px]
    at : number of the frame the positions refer to; default the verified frame with the lowest number

    Returns
    -------
    Dataset (time) : flux (relative, median 1), flux_err, target_flux, comparison_flux [units of the frames],
        y, x, sky, masked_fraction (time, star), star 0 = target; saturated (time);
        radius_px (scalar), and scatter (radius)

    Raises
    ------
    OptionError : a radius is out of range, or there is no comparison star
    DataError : tables are lazy or do not belong together, or a star lies on none of the frames
    RegistrationError : no frame is verified
    """
    if len(comparisons) == 0:
        raise OptionError("light_curve.comparisons", comparisons, "at least one (y, x)")
    points = np.array([target, *comparisons], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise OptionError("light_curve.target and comparisons", points.tolist(), "pairs (y, x) of finite pixels")
    moves = loaded(moves, "transform", "verified", "verdict", "fwhm_px", "catalogue_y", "catalogue_x")
    width = moves["fwhm_px"].values[moves["verified"].values]
    fwhm = float(np.median(width[np.isfinite(width)])) if np.isfinite(width).any() else 4.0
    shares = [round(fwhm * share, 2) for share in _FWHM_SHARES]
    radii = checked_radii(shares if radius_px is None else radius_px, "light_curve.radius_px")
    ring = checked_annulus(radii, annulus, "light_curve.annulus")
    clean = dataset_in(clean, "light_curve", SAMPLES)
    positions = _for_frames(clean, moves, positions_in(moves, points, at))
    _check_seen(clean, points, positions)
    table = measured_stars(clean, positions, radii, ring, fwhm_px=fwhm, reach=max(3.0, fwhm))
    units = table.attrs["units"]
    per_frame = ["time", "star", "radius"]
    curve, curve_error, one, many, saturated, scatter, radius = xr.apply_ufunc(
        _curve, table["flux"], table["flux_err"], table["saturated"], table["radius"],
        input_core_dims=[per_frame, per_frame, per_frame, ["radius"]],
        output_core_dims=[*[["time"]] * 5, ["radius"], []],
        dask="parallelized", dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float64] * 4 + [np.bool_] + [np.float64] * 2,
    )  # fmt: skip
    return xr.Dataset(
        {
            "flux": curve,
            "flux_err": curve_error,
            "target_flux": one.assign_attrs(units=units),
            "comparison_flux": many.assign_attrs(units=units),
            "saturated": saturated,
            "y": table["y"], "x": table["x"], "sky": table["sky"], "masked_fraction": table["masked_fraction"],
            "scatter": scatter,
            "radius_px": radius.assign_attrs(units="pixel"),
        },
        attrs={"units": units, "annulus_px": list(ring), "fwhm_px": fwhm},
    )  # fmt: skip


def _curve(flux: Array, error: Array, saturated: Array, radii: Array) -> tuple[Any, ...]:
    """The curve of the best radius from all apertures (time, star, radius), and the scatter of each radius."""
    with np.errstate(invalid="ignore", divide="ignore"):
        one, many = flux[:, 0], flux[:, 1:].sum(1)
        ratio = one / many
        relative = np.sqrt((error[:, 0] / one) ** 2 + (error[:, 1:] ** 2).sum(1) / many**2)
        scatter = np.array([point_to_point(each) for each in ratio.T])
    best = int(np.argmin(np.where(np.isfinite(scatter), scatter, np.inf)))
    curve = ratio[:, best]
    middle = np.median(curve[np.isfinite(curve)]) if np.isfinite(curve).any() else np.nan
    return (
        curve / middle, np.abs(curve * relative[:, best] / middle), one[:, best], many[:, best],
        saturated[:, :, best].any(1), scatter, np.float64(radii[best]),
    )  # fmt: skip


def point_to_point(curve: Array) -> float:
    """Scatter of a curve from one point to the next: sd of successive differences / sqrt 2, relative to its mean.

    Frames without a value are skipped; differences beyond 5 robust sigma are left out. NaN with fewer than 3 values.
    """
    known = curve[np.isfinite(curve)]
    if len(known) < 3:
        return float("nan")
    step = np.diff(known)
    limit = 5.0 * 1.4826 * float(np.median(np.abs(step)))
    step = step[np.abs(step) <= limit] if limit > 0 else step
    return float(np.sqrt(np.mean(step**2) / 2.0) / np.abs(known.mean()))


def _check_seen(clean: xr.Dataset, points: Array, positions: Array) -> None:
    """Refuse stars that no frame shows; ``positions`` (time, star, 2) are those of the ``points``."""
    spans = [clean[dim].values if dim in clean.coords else np.arange(clean.sizes[dim]) for dim in ("y", "x")]
    low, high = ([float(edge(span)) for span in spans] for edge in (np.min, np.max))
    seen: Array = np.asarray(((positions >= low) & (positions <= high)).all(axis=2).any(axis=0))
    if not seen.all():
        name = "target" if not seen[0] else "comparison star"
        y, x = points[int(np.argmin(seen))]
        rows, columns = (f"{int(first)}..{int(last)}" for first, last in zip(low, high, strict=True))
        raise DataError(f"the {name} ({y:g}, {x:g}) lies on none of the frames: rows {rows}, columns {columns} (y, x)")


def _for_frames(clean: xr.Dataset, moves: xr.Dataset, positions: Array) -> Array:
    """Positions in the order of the frames of ``clean``, matched by frame number; NaN for frames not in the moves."""
    numbers = np.atleast_1d(clean["frame"].values) if "frame" in clean.coords else np.arange(clean.sizes["time"])
    row = {int(frame): k for k, frame in enumerate(moves["frame"].values)}
    out = np.full((len(numbers), *positions.shape[1:]), np.nan)
    for k, frame in enumerate(numbers):
        if int(frame) in row:
            out[k] = positions[row[int(frame)]]
    if not np.isfinite(out).any():
        raise DataError("light_curve: none of these frames is in the moves; register these frames")
    return out
