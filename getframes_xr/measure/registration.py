"""Registration: one similarity per exposure, from star lists alone, and a verdict that a false match cannot get.

    pattern       triangles of the brightest stars vote for pairs (sides in px, handedness kept)
    consensus     every two pairs propose a similarity; most inliers win (no random numbers)
    fixed point   nearest neighbours within 4 .. 0.7 px, weighted least squares, 1/(s_star^2 + s_cat^2 + 0.03^2)
    catalogue     the mean of all frames' mapped positions replaces the reference frame's own, 3 rounds
    verification  share of the 60 brightest catalogue stars inside the frame with ANY detection within 1.5 px

A frame whose share is below 0.30 (chance 0.02), or with fewer than 6 such stars, is reported and never used. Detections
that keep their place on the sensor while others move are defects and take no part. Transforms map frame -> reference:
``[y_ref, x_ref] = A[:, :2] @ [y, x] + A[:, 2]`` with A = [[a, b, t_y], [-b, a, t_x]]. Source: the recipe, section 5;
triangles: Groth 1986, AJ 91, 1244.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.verdict import Reason, Verdicts
from getframes_xr.face.tables import loaded
from getframes_xr.measure.affine import affine_transforms
from getframes_xr.measure.defects import defects, static_detections
from getframes_xr.measure.session_fit import VERIFY_FEWEST, VERIFY_SHARE, SessionFit
from getframes_xr.measure.star_lists import Array, StarLists, affine_of
from getframes_xr.measure.stars import elongation_of


@dataclass(frozen=True)
class Solution:
    """What registration knows: arrays along frames, and the mean catalogue."""

    transform: Array
    verdicts: Verdicts
    n_matched: Array
    share: Array
    rms_px: Array
    reference: int
    catalogue_y: Array
    catalogue_x: Array
    match: Array
    n_static: int
    model: str = "similarity"

    @property
    def verified(self) -> Array:
        return self.verdicts.used


def choose_references(count: Array, fwhm: Array, elongation: Array, sky: Array) -> list[int]:
    """Frames in the order in which they should be tried: of the middle third the one with most stars / FWHM^2.

    Elongated frames (median + 0.15) and frames of bright sky (1.4 x median) come last.
    """
    n = len(count)
    width = np.where(np.isfinite(fwhm) & (fwhm > 0.5), fwhm, 1e3)
    merit = count / width**2
    stretched = np.nan_to_num(elongation, nan=1.0)
    level = np.nan_to_num(sky, nan=np.inf)
    typical = np.median(level[np.isfinite(level)]) if np.isfinite(level).any() else 0.0
    odd = (stretched > np.median(stretched) + 0.15) | (level > 1.4 * typical) if typical > 0 else stretched > 0.5
    third = n // 3
    outside = np.ones(n, np.bool_)
    outside[third : n - third] = False
    return [int(f) for f in np.lexsort((-merit, outside, odd))]


def solve(lists: StarLists, references: list[int]) -> Solution:
    """Register a session.

    Parameters
    ----------
    lists : StarLists of all frames, in the order of time
    references : frames to try as the reference, best first; the first that brings half of the frames home is taken,
        else of the first three the one that brings most

    Returns
    -------
    Solution : transforms to the reference frame's grid, verdicts, and the mean catalogue

    Raises
    ------
    DataError : there are no frames
    """
    if lists.n_frames == 0:
        raise DataError("there are no frames to register")
    every = (np.arange(lists.y.shape[1])[None, :] < lists.count[:, None]) & ~lists.saturated
    static = static_detections(lists) & every
    best = _best(lists, every, references)
    if static.any():
        shifted = best.distances()[best.verified]
        if (
            len(shifted) < 0.5 * lists.n_frames or np.median(shifted) < 1.5
        ):  # a sky at rest, or the sensor's own pattern
            moving = _best(lists, every & ~static, references)
            shifted = moving.distances()[moving.verified]
            if len(shifted) >= max(2.0, 0.5 * lists.n_frames) and np.median(shifted) > 3.0:
                best = moving
        bad = defects(best, static)
        if bad.any():
            best = _best(lists, every & ~bad, references)
            return _solution(best, int(bad.sum()))
    return _solution(best, 0)


def _best(lists: StarLists, usable: Array, references: list[int]) -> SessionFit:
    """The session of the first reference that brings half of the frames home, else of the best of three."""
    best: SessionFit | None = None
    for reference in references[:3]:
        session = SessionFit(lists, usable, reference)
        session.run()
        if best is None or session.verified.sum() > best.verified.sum():
            best = session
        if best.verified.sum() >= 0.5 * lists.n_frames:
            break
    assert best is not None
    return best


def _solution(session: SessionFit, n_static: int) -> Solution:
    lists, verdicts = session.lists, _verdicts(session)
    verified = verdicts.used
    n = lists.n_frames
    transform = np.full((n, 2, 3), np.nan)
    transform[verified] = affine_of(session.similarity[verified])
    c = session.catalogue
    match = np.where(verified[:, None], session.pair, -1).astype(np.int32)
    catalogue = np.stack([c.y[: c.size], c.x[: c.size]], 1)
    rms, model = np.where(verified, session.rms, np.nan), "similarity"
    better = affine_transforms(
        lists.y, lists.x, lists.error, match, transform, verified, catalogue, lists.shape, lists.origin,
        session.reference,
    )  # fmt: skip
    if better is not None:
        transform, catalogue, rms = better
        model = "affine"
    return Solution(
        transform=transform, verdicts=verdicts, n_matched=np.where(verified, session.matched, 0), share=session.share,
        rms_px=rms, reference=session.reference, catalogue_y=catalogue[:, 0].copy(),
        catalogue_x=catalogue[:, 1].copy(), match=match, n_static=n_static, model=model,
    )  # fmt: skip


def _verdicts(session: SessionFit) -> Verdicts:
    """What speaks against each frame that the session could not verify."""
    lists, bad = session.lists, ~session.verified
    alone = (np.arange(lists.n_frames) == session.reference) & bad.all()
    stars, seen = session.tested, {"catalogue_stars": session.tested, "elongation": lists.elongation}
    return (
        Verdicts.of(lists.n_frames)
        .leave_out(~session.placed, Reason.NO_MATCH, stars=lists.count, elongation=lists.elongation)
        .leave_out(alone, Reason.NO_OTHER_FRAME)
        .leave_out(bad & (stars < VERIFY_FEWEST), Reason.TOO_FEW_STARS, catalogue_stars=stars, needed=VERIFY_FEWEST)
        .leave_out(bad, Reason.TOO_FEW_SEEN, share=session.share, needed=VERIFY_SHARE, **seen)
    )


def register(stars: xr.Dataset, *, reference: int | None = None, shifts: xr.Dataset | None = None) -> xr.Dataset:
    """Bring every frame onto the grid of one of them, with a verdict for each.

    Parameters
    ----------
    stars : loaded table of ``find_stars``
    reference : number (``frame``) of the reference; default: of the middle third of the session the sharpest and
        richest frame
    shifts : loaded table of ``phase_shifts``, for frames with too few stars: these shifts are taken as they are

    Returns
    -------
    Dataset "moves"
        (time, axis, term) : transform, frame -> reference: [y, x] = transform[:, :2] @ [y, x] + transform[:, 2]
        (time) : verified, reason (a code of ``Reason``: "used", "no_match" ...), verdict (the same as a sentence),
        n_matched, share_matched, rms_px, rotation_deg, scale, fwhm_px and elongation of the matched stars
        (time, number) : reason_numbers, what the reason was decided on
        (catalogue) : catalogue_y, catalogue_x [px on the reference grid], catalogue_flux (mean over the frames)
        (time, source) : match, index of the catalogue star or -1
        attrs : reference_frame, frame_shape, frame_origin, static_detections, model (similarity, or affine where
        the session's residuals ask for it)

    Raises
    ------
    DataError : a table is lazy or lacks columns, or ``reference`` is not one of its frames
    """
    stars = loaded(stars, "y", "x", "snr", "amplitude", "flux", "saturated", "round", "fwhm_px", "elongation")
    frames = stars["frame"].values
    lists = _lists(stars)
    order = choose_references(
        lists.count, stars["fwhm_px"].values, stars["elongation"].values, stars["background"].mean("band").values
    )  # fmt: skip
    if reference is not None:
        order = [_position(frames, reference)]
    solution = solve(lists, order) if shifts is None else _from_shifts(lists, shifts, stars, order)
    return _moves(stars, solution)


def _position(frames: Array, frame: int) -> int:
    found = np.flatnonzero(frames == frame)
    if not len(found):
        raise DataError(f"reference: there is no frame {frame}; known: {frames[0]} .. {frames[-1]}")
    return int(found[0])


def _lists(stars: xr.Dataset) -> StarLists:
    y, x, snr = (np.ascontiguousarray(stars[name].values, np.float64) for name in ("y", "x", "snr"))
    width = stars["fwhm_px"].values
    width = np.where(np.isfinite(width), width, 4.0)
    elongation = stars["elongation"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(0.02**2 + (0.6 * width[:, None] / snr) ** 2)
    rows, columns = stars.attrs["frame_shape"]
    top, left = stars.attrs["frame_origin"]
    return StarLists(
        y=y, x=x, snr=snr, light=np.nan_to_num(stars["amplitude"].values).astype(np.float64),
        saturated=stars["saturated"].values, round=stars["round"].values, count=np.isfinite(y).sum(1),
        error=error, elongation=elongation, trusted=~too_elongated(elongation), shape=(int(rows), int(columns)),
        origin=(int(top), int(left)),
    )  # fmt: skip


def most_elongation(elongation: Array) -> float:
    """The elongation beyond which a frame shows streaks, not stars: max(0.35, median + 6 MAD)."""
    known = elongation[np.isfinite(elongation)]
    if not len(known):
        return 0.35
    middle = np.median(known)
    return max(0.35, float(middle + 6.0 * float(np.median(np.abs(known - middle)))))


def too_elongated(elongation: Array) -> Array:
    """True for frames beyond ``most_elongation``."""
    return np.asarray(np.nan_to_num(elongation) > most_elongation(elongation))


SIMULATED = {"pointing_dy_px", "pointing_dx_px", "rotation_deg", "transparency", "seeing_fwhm_arcsec"}
"""columns of simulated frames that say what is to be measured here; they do not go into the measured table"""


def _moves(stars: xr.Dataset, solution: Solution) -> xr.Dataset:
    """The Dataset of a solution, with width and elongation from the stars that match the catalogue."""
    n = len(solution.verified)
    matched = solution.match >= 0
    size = len(solution.catalogue_y)
    flux = stars["flux"].values
    light, hits = np.zeros(size), np.zeros(size)
    for f in range(n):  # one pass of array sums per frame
        k = np.flatnonzero(matched[f] & np.isfinite(flux[f]))
        np.add.at(light, solution.match[f, k], flux[f, k])
        np.add.at(hits, solution.match[f, k], 1)
    width, elongation = stars["fwhm_px"].values.copy(), stars["elongation"].values.copy()
    usable = matched & ~stars["saturated"].values & np.isfinite(stars["star_fwhm_px"].values)
    for f in range(n):
        best = np.flatnonzero(usable[f])[:120]
        if len(best) >= 6:
            width[f] = np.median(stars["star_fwhm_px"].values[f, best])
            elongation[f] = elongation_of(stars["moment_plus"].values[f, best], stars["moment_cross"].values[f, best])
    streaks = {"elongation": elongation, "most": most_elongation(elongation)}
    verdicts = solution.verdicts.leave_out(too_elongated(elongation), Reason.ELONGATED, **streaks)
    transform = solution.transform.copy()
    transform[~verdicts.used] = np.nan
    a = 0.5 * (transform[:, 0, 0] + transform[:, 1, 1])
    b = 0.5 * (transform[:, 0, 1] - transform[:, 1, 0])
    time = ("time",)
    coordinates = {
        name: stars.coords[name].variable
        for name in stars.coords
        if set(stars.coords[name].dims) <= {"time"} and name not in SIMULATED
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_flux = np.where(hits > 0, light / hits, np.nan)
    return xr.Dataset(
        {
            "transform": (("time", "axis", "term"), transform, {"units": "pixel"}),
            "verified": (time, verdicts.used),
            **verdicts.columns(),
            "n_matched": (time, solution.n_matched),
            "share_matched": (time, solution.share),
            "rms_px": (time, solution.rms_px, {"units": "pixel"}),
            "rotation_deg": (time, np.rad2deg(np.arctan2(b, a)), {"units": "deg"}),
            "scale": (time, np.sqrt(a * a + b * b)),
            "fwhm_px": (time, width, {"units": "pixel"}),
            "elongation": (time, elongation),
            "match": (("time", "source"), solution.match),
            "catalogue_y": (("catalogue",), solution.catalogue_y, {"units": "pixel"}),
            "catalogue_x": (("catalogue",), solution.catalogue_x, {"units": "pixel"}),
            "catalogue_flux": (("catalogue",), mean_flux, {"units": stars.attrs.get("units", "")}),
        },
        coordinates,
        {
            "reference_frame": int(stars["frame"].values[solution.reference]),
            "frame_shape": list(stars.attrs["frame_shape"]), "frame_origin": list(stars.attrs["frame_origin"]),
            "static_detections": solution.n_static, "model": solution.model,
        },
    )  # fmt: skip


def _from_shifts(lists: StarLists, shifts: xr.Dataset, stars: xr.Dataset, order: list[int]) -> Solution:
    """Pure shifts as they were measured; stars are only counted."""
    shifts, frames = loaded(shifts, "dy", "dx", "reason"), stars["frame"].values
    if not np.array_equal(frames, shifts["frame"].values):
        raise DataError("shifts: the table of phase_shifts holds other frames than the stars")
    reference = order[0] if len(order) == 1 else _position(frames, int(shifts.attrs["reference_frame"]))
    dy, dx = shifts["dy"].values, shifts["dx"].values
    dy, dx = dy - dy[reference], dx - dx[reference]
    verdicts = Verdicts.read(shifts).leave_out(~np.isfinite(dy + dx), Reason.NO_SHIFT)
    n, most = lists.y.shape
    transform = np.full((n, 2, 3), np.nan)
    for f in np.flatnonzero(verdicts.used):
        transform[f] = [[1.0, 0.0, dy[f]], [0.0, 1.0, dx[f]]]
    return Solution(
        transform=transform, verdicts=verdicts, n_matched=np.zeros(n, np.int64), share=np.zeros(n),
        rms_px=np.full(n, np.nan), reference=reference, catalogue_y=np.empty(0), catalogue_x=np.empty(0),
        match=np.full((n, most), -1, np.int32), n_static=0,
    )  # fmt: skip
