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
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.engine.tables import loaded
from getframes_xr.measure.affine import affine_transforms
from getframes_xr.measure.matching import (
    CELL_PX,
    extend,
    gather,
    index_stars,
    pair_up,
    settle,
    share_seen,
)
from getframes_xr.measure.pattern import consensus, mutual_pairs, triangles, vote, vote_any_scale
from getframes_xr.measure.stars import elongation_of

Array = np.ndarray[Any, Any]

_CATALOGUE_MOST = 20000
_VERIFY_STARS = 60
_VERIFY_SHARE = 0.30
_VERIFY_FEWEST = 6
_MARGIN_PX = 12.0  # the finder sees no star whose stamp leaves the frame


@dataclass(frozen=True)
class StarLists:
    """Stars of all frames, padded: arrays (frame, source), brightest first; ``count`` says how many are real.

    ``error`` is the centroid's 1 sigma [px]; frames that are not ``trusted`` (trailed) are registered, but say nothing
    about where stars are; ``shape`` the frame's (rows, columns); ``origin`` its first pixel.
    """

    y: Array
    x: Array
    snr: Array
    light: Array
    saturated: Array
    round: Array
    count: Array
    error: Array
    trusted: Array
    shape: tuple[int, int]
    origin: tuple[int, int]

    @property
    def n_frames(self) -> int:
        return len(self.count)


@dataclass(frozen=True)
class Solution:
    """What registration knows: arrays along frames, and the mean catalogue."""

    transform: Array
    verified: Array
    verdict: list[str]
    n_matched: Array
    share: Array
    rms_px: Array
    reference: int
    catalogue_y: Array
    catalogue_x: Array
    match: Array
    n_static: int
    model: str = "similarity"


class _Catalogue:
    """The mean catalogue while it grows: positions on the reference grid and their 12 px index."""

    def __init__(self, lists: StarLists) -> None:
        rows, columns = lists.shape
        diagonal = float(np.hypot(rows, columns))
        self.low_y = lists.origin[0] + 0.5 * rows - 2.0 * diagonal
        self.low_x = lists.origin[1] + 0.5 * columns - 2.0 * diagonal
        self.cells = int(4.0 * diagonal / CELL_PX) + 1
        self.head = np.empty(self.cells * self.cells, np.int32)
        self.link = np.empty(_CATALOGUE_MOST, np.int32)
        self.y, self.x = np.empty(_CATALOGUE_MOST), np.empty(_CATALOGUE_MOST)
        self.size = 0
        self.replace(np.empty(0), np.empty(0), np.empty(0), np.empty(0))

    def replace(self, y: Array, x: Array, error2: Array, light: Array) -> Array:
        """Take new positions, brightest first; returns their order."""
        rank = np.argsort(-light, kind="stable")
        self.size = len(rank)
        self.y[: self.size], self.x[: self.size] = y[rank], x[rank]
        self.error2, self.light = error2[rank], light[rank]
        index_stars(self.y, self.x, self.size, *self.place, self.head, self.link)
        return rank

    def turn_back(self, a: float, b: float, ty: float, tx: float) -> None:
        """Apply the inverse of a similarity to all positions."""
        size = a * a + b * b
        y, x = self.y[: self.size] - ty, self.x[: self.size] - tx
        self.y[: self.size], self.x[: self.size] = (a * y - b * x) / size, (b * y + a * x) / size
        index_stars(self.y, self.x, self.size, *self.place, self.head, self.link)

    @property
    def place(self) -> tuple[float, float, int]:
        return self.low_y, self.low_x, self.cells


class _Session:
    """One attempt to register a session: lists with the detections to use, transforms as they become known."""

    def __init__(self, lists: StarLists, usable: Array, reference: int) -> None:
        self.lists, self.usable, self.reference = lists, usable, reference
        n, most = lists.y.shape
        self.similarity = np.full((n, 4), np.nan)
        self.similarity[reference] = 1.0, 0.0, 0.0, 0.0
        self.rms = np.full(n, np.nan)
        self.matched = np.zeros(n, np.int64)
        self.share, self.tested = np.zeros(n), np.zeros(n, np.int64)
        self.pair = np.full((n, most), -1, np.int64)
        self.taken = np.empty(_CATALOGUE_MOST, np.int64)
        self.catalogue = _Catalogue(lists)
        self.broad = _Catalogue(lists)
        self.hits, self.fewest = np.zeros(0, np.int64), 1.0
        self.own = np.full((n, most), -1, np.int64)
        self.patterns: dict[tuple[int, int, bool], tuple[Array, Array, Array, Array]] = {}

    def four(self, frame: int) -> tuple[float, float, float, float]:
        """The similarity of a frame: a, b, t_y, t_x."""
        return _four(self.similarity[frame])

    @property
    def known(self) -> Array:
        return np.isfinite(self.similarity[:, 0])

    def pattern(self, frame: int, stars: int, only_round: bool) -> tuple[Array, Array, Array, Array]:
        """Chosen detections of a frame and their triangles; kept, as the reference is asked for every frame."""
        key = (frame, stars, only_round)
        if key not in self.patterns:
            n = self.lists.count[frame]
            good = self.usable[frame, :n] | self.lists.saturated[frame, :n] & ~self.static(frame)[:n]
            good = good & self.lists.round[frame, :n] if only_round else good
            chosen = np.flatnonzero(good)[:stars]
            found = (chosen, *triangles(self.lists.y[frame, chosen], self.lists.x[frame, chosen]))
            if frame != self.reference:
                return found
            self.patterns[key] = found
        return self.patterns[key]

    def static(self, frame: int) -> Array:
        found: Array = ~self.usable[frame] & ~self.lists.saturated[frame]
        return found

    def match(self, frame: int, other: int) -> tuple[float, float, float, float] | None:
        """Similarity frame -> other from the pattern alone: 36 or 70 stars, round or any; then any scale."""
        attempts = [(36, True, 0.0), (36, False, 0.0), (70, True, 0.0), (70, False, 0.0), (36, False, 0.004)]
        tried: set[tuple[int, int, float]] = set()
        for stars, only_round, relative in [*attempts, (36, False, -1.0)]:
            first, *theirs = self.pattern(other, stars, only_round)
            second, *ours = self.pattern(frame, stars, only_round)
            six = (theirs[0], theirs[1], theirs[2], ours[0], ours[1], ours[2])
            sizes = (len(first), len(second), relative)
            if min(sizes[:2]) < 4 or (sizes in tried and not only_round):
                continue
            tried.add(sizes)
            if relative < 0.0:
                ratio = theirs[0][:, 1] / theirs[0][:, 0]
                order = np.argsort(ratio, kind="stable")
                votes = vote_any_scale(order, ratio[order], *six, len(first), len(second))
            else:
                votes = vote(np.ascontiguousarray(theirs[0][:, 0]), *six, len(first), len(second), 1.0, relative)
            i, j = mutual_pairs(votes)
            span = (0.99, 1.01) if relative >= 0.0 else (0.33, 3.0)
            y, x = self.lists.y, self.lists.x
            inliers, a, b, ty, tx = consensus(
                y[other, first[i]], x[other, first[i]], y[frame, second[j]], x[frame, second[j]], *span, 40.0
            )  # fmt: skip
            if inliers >= 5 or (inliers >= 3 and inliers >= 0.8 * min(sizes[:2])):
                return a, b, ty, tx
        return None

    def settle(self, frame: int, start: Array, tolerances: tuple[float, ...], repeats: int) -> bool:
        """Fit a frame to the catalogue from a start; False (and nothing changed) when fewer than 3 stars agree."""
        c, n = self.catalogue, self.lists.count[frame]
        used, a, b, ty, tx, rms = settle(
            *_four(start), np.array(tolerances), repeats,
            self.lists.y[frame], self.lists.x[frame], self.lists.error[frame],
            self.usable[frame], n, c.y, c.x, c.error2, *c.place, c.head, c.link, self.pair[frame], self.taken,
        )  # fmt: skip
        if used < 3:
            return False
        self.similarity[frame], self.rms[frame], self.matched[frame] = (a, b, ty, tx), rms, used
        return True

    def start_catalogue(self) -> None:
        f, n = self.reference, self.lists.count[self.reference]
        good = np.flatnonzero(self.usable[f, :n])[:_CATALOGUE_MOST]
        self.catalogue.replace(
            self.lists.y[f, good], self.lists.x[f, good], self.lists.error[f, good] ** 2, self.lists.light[f, good]
        )  # fmt: skip

    def distances(self) -> Array:
        """How far each known frame's centre and corners lie from the reference's, rms px (inf where unknown)."""
        rows, columns = self.lists.shape
        oy, ox = self.lists.origin
        y = oy + np.array([0.0, 0.0, rows - 1.0, rows - 1.0, 0.5 * (rows - 1)])
        x = ox + np.array([0.0, columns - 1.0, 0.0, columns - 1.0, 0.5 * (columns - 1)])
        a, b, ty, tx = self.similarity.T[:, :, None]
        d = np.sqrt(((a * y + b * x + ty - y) ** 2 + (-b * y + a * x + tx - x) ** 2).mean(1))
        return np.where(np.isfinite(d), d, np.inf)

    def average(self, reach: float) -> None:
        """Extend the catalogue outwards, put every star at the mean of its mapped positions, refit every frame."""
        c, lists = self.catalogue, self.lists
        order = [
            f
            for f in np.argsort(self.distances(), kind="stable")
            if self.known[f] and (self.lists.trusted[f] or f == self.reference)
        ]
        size = c.size
        for f in order:
            size = extend(
                *self.four(f), lists.y[f], lists.x[f], lists.snr[f], self.usable[f], lists.count[f],
                c.y, c.x, size, *c.place, c.head, c.link,
            )  # fmt: skip
        c.size = size
        sums = np.zeros((4, size))
        hits = np.zeros(size, np.int64)
        distance = np.empty(lists.y.shape[1])
        for f in order:
            n = lists.count[f]
            pair_up(
                *self.four(f), lists.y[f], lists.x[f], self.usable[f], n, reach, c.y, c.x, *c.place,
                c.head, c.link, self.pair[f], distance, self.taken,
            )  # fmt: skip
            gather(
                *self.four(f), lists.y[f], lists.x[f], lists.error[f], lists.light[f], self.pair[f], n,
                sums[0], sums[1], sums[2], sums[3], hits,
            )  # fmt: skip
        self.fewest = min(4.0, max(2.0, len(order) / 4)) if len(order) > 1 else 1.0
        kept = np.flatnonzero(hits > 0)
        weight, y, x, light = sums[:, kept]
        rank = self.broad.replace(y / weight, x / weight, 1.0 / weight, light / hits[kept])
        place = np.full(size + 1, -1)
        place[kept[rank]] = np.arange(len(kept))
        self.hits, self.own = hits[kept[rank]], np.full(self.pair.shape, -1, np.int64)
        self.own[order] = place[self.pair[order]]
        kept = np.flatnonzero(hits >= self.fewest)
        weight, y, x, light = sums[:, kept]
        c.replace(y / weight, x / weight, 1.0 / weight, light / hits[kept])
        for f in map(int, np.flatnonzero(self.known)):
            self.settle(f, self.similarity[f], (reach,), 2)
        self.turn_back()

    def turn_back(self) -> None:
        """Make the reference's transform the identity again: the catalogues and all frames move with it."""
        a, b, ty, tx = self.similarity[self.reference]
        self.catalogue.turn_back(a, b, ty, tx)
        self.broad.turn_back(a, b, ty, tx)
        size = a * a + b * b
        fa, fb, fy, fx = self.similarity.T
        self.similarity = np.stack(
            [(a * fa + b * fb) / size, (a * fb - b * fa) / size, (a * (fy - ty) - b * (fx - tx)) / size,
             (b * (fy - ty) + a * (fx - tx)) / size], 1,
        )  # fmt: skip
        self.similarity[self.reference] = 1.0, 0.0, 0.0, 0.0

    def verify(self) -> None:
        """Look for the brightest stars that OTHER frames know in each frame; its own detections are no witnesses."""
        c, lists = self.broad, self.lists
        (top, left), (rows, columns), m = lists.origin, lists.shape, _MARGIN_PX
        box = (top + m, left + m, top + rows - 1 - m, left + columns - 1 - m)
        for f in map(int, np.flatnonzero(self.known)):
            others = self.hits - np.bincount(self.own[f][self.own[f] >= 0], minlength=c.size)
            ranked = np.flatnonzero(others >= max(1.0, self.fewest - 1.0))
            seen, of = share_seen(
                *self.four(f), lists.y[f], lists.x[f], lists.count[f], 1.5, c.y[: c.size], c.x[: c.size], ranked,
                *c.place, c.head, c.link, *box, _VERIFY_STARS,
            )  # fmt: skip
            self.share[f], self.tested[f] = seen / max(of, 1), of

    @property
    def verified(self) -> Array:
        if self.lists.n_frames == 1:
            return self.known
        return self.known & (self.tested >= _VERIFY_FEWEST) & (self.share >= _VERIFY_SHARE)

    def run(self) -> None:
        """Pattern, fixed point, mean catalogue, verification; frames without a match try their neighbours in time."""
        self.start_catalogue()
        n = self.lists.n_frames
        for f in range(n):
            start = None if f == self.reference else self.match(f, self.reference)
            if start is not None and not self.settle(f, np.array(start), (4.0, 2.5, 1.5, 1.0, 0.7), 3):
                self.similarity[f] = np.nan
        self.average(1.5)
        self.verify()
        if self.retry():
            self.verify()
        self.similarity[~self.verified] = np.nan
        self.similarity[self.reference] = 1.0, 0.0, 0.0, 0.0
        for reach in (1.0, 0.8):
            self.average(reach)
        self.verify()

    def retry(self) -> bool:
        """Bring frames without a verified match home through up to 4 verified neighbours in time, then refit them."""
        n, done = self.lists.n_frames, False
        waiting = [f for f in range(n) if not self.verified[f]]
        for _ in range(2):
            for f in list(waiting):
                neighbours = [g for g in sorted(range(n), key=lambda g: (abs(g - f), g)) if self.verified[g] and g != f]
                for g in neighbours[:4]:
                    start = self.match(f, g)
                    if start is None:
                        continue
                    keep = self.similarity[f].copy()
                    if self.settle(f, compose(self.similarity[g], np.array(start)), (4.0, 2.5, 1.5, 1.0, 0.7), 3):
                        self.verify()
                        if self.verified[f]:
                            waiting.remove(f)
                            done = True
                            break
                    self.similarity[f] = keep
            if not done:
                break
        return done


def _four(similarity: Array) -> tuple[float, float, float, float]:
    return float(similarity[0]), float(similarity[1]), float(similarity[2]), float(similarity[3])


def compose(outer: Array, inner: Array) -> Array:
    """Similarity (a, b, t_y, t_x) of ``outer`` after ``inner``."""
    a, b, ty, tx = outer
    c, d, sy, sx = inner
    return np.array([a * c - b * d, a * d + b * c, a * sy + b * sx + ty, -b * sy + a * sx + tx])


def invert(similarity: Array) -> Array:
    """Inverse of a similarity (a, b, t_y, t_x)."""
    a, b, ty, tx = similarity
    size = a * a + b * b
    return np.array([a / size, -b / size, -(a * ty - b * tx) / size, -(b * ty + a * tx) / size])


def _sample(n: int) -> Array:
    return np.unique(np.round(np.linspace(0, n - 1, min(n, 16))).astype(int))


def _sightings(lists: StarLists) -> Any:
    """For each of 16 sampled frames: its position, and for every frame which detections it shares (+-1 px)."""
    rows, columns = lists.shape
    places = []
    for f in range(lists.n_frames):
        k = lists.count[f]
        y = np.clip(np.rint(lists.y[f, :k] - lists.origin[0]).astype(int), 0, rows - 1)
        x = np.clip(np.rint(lists.x[f, :k] - lists.origin[1]).astype(int), 0, columns - 1)
        places.append((y + 1, x + 1))
    for g in _sample(lists.n_frames):
        seen = np.zeros((rows + 2, columns + 2), np.bool_)
        y, x = places[g]
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                seen[y + dy, x + dx] = True
        yield g, [seen[y, x] for y, x in places]


def static_detections(lists: StarLists) -> Array:
    """True for detections that half of 16 sampled frames have at the same place of the sensor."""
    counts = np.zeros(lists.y.shape, np.int64)
    if lists.n_frames < 2:
        return counts > 0
    for _, seen in _sightings(lists):
        for f, each in enumerate(seen):
            counts[f, : len(each)] += each
    return counts >= max(2.0, 0.5 * len(_sample(lists.n_frames)))


def defects(session: _Session, static: Array) -> Array:
    """Static detections that stay although the sky at their place moves by more than 3 px between the frames."""
    lists = session.lists
    moved, stayed = np.zeros(lists.y.shape, np.int64), np.zeros(lists.y.shape, np.int64)
    known = session.verified
    for g, seen in _sightings(lists):
        if not known[g]:
            continue
        back = invert(session.similarity[g])
        for f in np.flatnonzero(known):
            a, b, ty, tx = compose(back, session.similarity[f])
            y, x = lists.y[f, : len(seen[f])], lists.x[f, : len(seen[f])]
            far = (a * y + b * x + ty - y) ** 2 + (-b * y + a * x + tx - x) ** 2 > 9.0
            moved[f, : len(far)] += far
            stayed[f, : len(far)] += far & seen[f]
    found = static & (stayed >= np.maximum(1.0, 0.5 * moved))
    if found.any():
        found[~known] = static[~known]
    return np.asarray(found)


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


def _best(lists: StarLists, usable: Array, references: list[int]) -> _Session:
    """The session of the first reference that brings half of the frames home, else of the best of three."""
    best: _Session | None = None
    for reference in references[:3]:
        session = _Session(lists, usable, reference)
        session.run()
        if best is None or session.verified.sum() > best.verified.sum():
            best = session
        if best.verified.sum() >= 0.5 * lists.n_frames:
            break
    assert best is not None
    return best


def _solution(session: _Session, n_static: int) -> Solution:
    lists, verified = session.lists, session.verified
    n = lists.n_frames
    transform = np.full((n, 2, 3), np.nan)
    verdict = []
    for f in range(n):
        a, b, ty, tx = session.similarity[f]
        if verified[f]:
            transform[f] = [[a, b, ty], [-b, a, tx]]
            verdict.append("used")
        elif not session.known[f]:
            verdict.append(f"no match: {lists.count[f]} stars found, no pattern in common with the reference")
        elif f == session.reference:
            verdict.append("unverified: no other frame could be matched to this reference")
        elif session.tested[f] < _VERIFY_FEWEST:
            verdict.append(
                f"unverified: only {session.tested[f]} catalogue stars lie in the frame, {_VERIFY_FEWEST} needed"
            )
        else:
            verdict.append(
                f"unverified: {session.share[f]:.0%} of {session.tested[f]} catalogue stars seen, 30% needed"
            )
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
        transform=transform, verified=verified, verdict=verdict, n_matched=np.where(verified, session.matched, 0),
        share=session.share, rms_px=rms, reference=session.reference, catalogue_y=catalogue[:, 0].copy(),
        catalogue_x=catalogue[:, 1].copy(), match=match, n_static=n_static, model=model,
    )  # fmt: skip


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
        (time) : verified, verdict ("used" or the reason), n_matched, share_matched, rms_px, rotation_deg, scale,
        fwhm_px and elongation of the matched stars
        (catalogue) : catalogue_y, catalogue_x [px on the reference grid], catalogue_flux (mean over the frames)
        (time, source) : match, index of the catalogue star or -1
        attrs : reference_frame, frame_shape, frame_origin, static_detections, model (similarity, or affine where
        the session's residuals ask for it)

    Raises
    ------
    DataError : the table is lazy or lacks columns, or ``reference`` is not one of its frames
    """
    stars = loaded(stars, "y", "x", "snr", "amplitude", "flux", "saturated", "round", "fwhm_px", "elongation")
    frames = stars["frame"].values
    lists = _lists(stars)
    order = choose_references(
        lists.count, stars["fwhm_px"].values, stars["elongation"].values, stars["background"].mean("band").values
    )  # fmt: skip
    if reference is not None:
        order = [_position(frames, reference)]
    solution = solve(lists, order) if shifts is None else _from_shifts(lists, loaded(shifts, "dy", "dx"), stars, order)
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
        error=error, trusted=~too_elongated(elongation), shape=(int(rows), int(columns)), origin=(int(top), int(left)),
    )  # fmt: skip


def too_elongated(elongation: Array) -> Array:
    """True for frames beyond max(0.35, median + 6 MAD): streaks, not stars."""
    known = elongation[np.isfinite(elongation)]
    if not len(known):
        return np.zeros(len(elongation), np.bool_)
    middle = np.median(known)
    limit = max(0.35, middle + 6.0 * float(np.median(np.abs(known - middle))))
    return np.asarray(np.nan_to_num(elongation) > limit)


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
    stretched = solution.verified & too_elongated(elongation)
    verified, transform = solution.verified & ~stretched, solution.transform.copy()
    transform[stretched] = np.nan
    verdict = np.array(solution.verdict, object)
    for f in map(int, np.flatnonzero(stretched)):
        verdict[f] = f"shape: elongation {elongation[f]:.2f}"
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
            "verified": (time, verified),
            "verdict": (time, verdict),
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
    frames = stars["frame"].values
    if not np.array_equal(frames, shifts["frame"].values):
        raise DataError("shifts: the table of phase_shifts holds other frames than the stars")
    reference = order[0] if len(order) == 1 else _position(frames, int(shifts.attrs["reference_frame"]))
    dy, dx = shifts["dy"].values, shifts["dx"].values
    dy, dx = dy - dy[reference], dx - dx[reference]
    verified = shifts["verified"].values & np.isfinite(dy)
    n, most = lists.y.shape
    transform = np.full((n, 2, 3), np.nan)
    for f in np.flatnonzero(verified):
        transform[f] = [[1.0, 0.0, dy[f]], [0.0, 1.0, dx[f]]]
    return Solution(
        transform=transform, verified=verified,
        verdict=["used" if good else str(why) for good, why in zip(verified, shifts["verdict"].values, strict=True)],
        n_matched=np.zeros(n, np.int64), share=np.zeros(n), rms_px=np.full(n, np.nan), reference=reference,
        catalogue_y=np.empty(0), catalogue_x=np.empty(0), match=np.full((n, most), -1, np.int32), n_static=0,
    )  # fmt: skip
