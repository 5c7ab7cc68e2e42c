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

from getframes_xr.core.errors import DataError
from getframes_xr.core.kernel import kernel

Array = np.ndarray[Any, Any]

_CELL_PX = 12.0
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


# --- pattern -----------------------------------------------------------------------------------------------------


@kernel
def triangles(y: Array, x: Array) -> tuple[Array, Array, Array]:
    """All triangles with three clearly different sides, sorted by the longest.

    Returns sides float64 (triangle, 3), a >= b >= c [px], vertices int16 (triangle, 3) in the order opposite a, b, c,
    and the handedness of that order.
    """
    n = len(y)
    most = n * (n - 1) * (n - 2) // 6
    sides = np.empty((most, 3))
    corner = np.empty((most, 3), np.int16)
    hand = np.empty(most, np.int8)
    m = 0
    for i in range(n):
        for j in range(i + 1, n):
            ij = np.sqrt((y[i] - y[j]) ** 2 + (x[i] - x[j]) ** 2)
            for k in range(j + 1, n):
                ik = np.sqrt((y[i] - y[k]) ** 2 + (x[i] - x[k]) ** 2)
                jk = np.sqrt((y[j] - y[k]) ** 2 + (x[j] - x[k]) ** 2)
                a, b, c, p, q, r = jk, ik, ij, i, j, k  # p lies opposite a, and so on
                if b > a:
                    a, b, p, q = b, a, q, p
                if c > b:
                    b, c, q, r = c, b, r, q
                    if b > a:
                        a, b, p, q = b, a, q, p
                if c < 12.0 or a - b < 3.0 or b - c < 3.0:
                    continue
                cross = (y[q] - y[p]) * (x[r] - x[p]) - (x[q] - x[p]) * (y[r] - y[p])
                sides[m, 0], sides[m, 1], sides[m, 2] = a, b, c
                corner[m, 0], corner[m, 1], corner[m, 2] = p, q, r
                hand[m] = 1 if cross > 0.0 else -1
                m += 1
    order = np.argsort(sides[:m, 0], kind="mergesort")
    return sides[:m][order], corner[:m][order], hand[:m][order]


@kernel
def vote(
    sides: Array, corner: Array, hand: Array, sides_2: Array, corner_2: Array, hand_2: Array,
    n: int, n_2: int, fixed_px: float, relative: float,
) -> Array:  # fmt: skip
    """Votes int32 (n, n_2) for pairs of stars from triangles whose sides agree within fixed_px + relative * a."""
    votes = np.zeros((n, n_2), np.int32)
    longest = sides[:, 0]
    for t in range(len(sides_2)):
        a, b, c = sides_2[t, 0], sides_2[t, 1], sides_2[t, 2]
        tolerance = fixed_px + relative * a
        k = np.searchsorted(longest, a - tolerance)
        while k < len(longest) and longest[k] <= a + tolerance:
            if hand[k] == hand_2[t] and abs(sides[k, 1] - b) <= tolerance and abs(sides[k, 2] - c) <= tolerance:
                for v in range(3):
                    votes[corner[k, v], corner_2[t, v]] += 1
            k += 1
    return votes


@kernel
def vote_any_scale(
    sides: Array, corner: Array, hand: Array, sides_2: Array, corner_2: Array, hand_2: Array, n: int, n_2: int
) -> Array:
    """Votes from triangles of equal form: b/a and c/a agree within 0.004, sizes within a factor 3."""
    votes = np.zeros((n, n_2), np.int32)
    order = np.argsort(sides[:, 1] / sides[:, 0], kind="mergesort")
    form = (sides[:, 1] / sides[:, 0])[order]
    for t in range(len(sides_2)):
        a, b, c = sides_2[t, 0], sides_2[t, 1], sides_2[t, 2]
        k = np.searchsorted(form, b / a - 0.004)
        while k < len(form) and form[k] <= b / a + 0.004:
            s = order[k]
            size = sides[s, 0] / a
            if hand[s] == hand_2[t] and abs(sides[s, 2] / sides[s, 0] - c / a) <= 0.004 and 0.33 < size < 3.0:
                for v in range(3):
                    votes[corner[s, v], corner_2[t, v]] += 1
            k += 1
    return votes


@kernel
def mutual_pairs(votes: Array) -> tuple[Array, Array]:
    """Pairs that are each other's best, with >= 3 votes and >= 0.3 of the most; ties go to the lowest index."""
    n, m = votes.shape
    top = 0
    for i in range(n):
        for j in range(m):
            top = max(top, votes[i, j])
    first, second = np.empty(n, np.int64), np.empty(n, np.int64)
    count = 0
    for i in range(n):
        j = np.argmax(votes[i])
        if votes[i, j] >= 3 and votes[i, j] >= 0.3 * top and np.argmax(votes[:, j]) == i:
            first[count], second[count] = i, j
            count += 1
    return first[:count], second[:count]


@kernel
def consensus(
    y: Array, x: Array, y_2: Array, x_2: Array, least_scale: float, most_scale: float, apart: float
) -> tuple[int, float, float, float, float]:
    """Similarity (a, b, t_y, t_x) from list 2 to list 1 with most pairs inside 1.5 px, and their number."""
    n = len(y)
    best = (0, 1.0, 0.0, 0.0, 0.0)
    for i in range(n):
        for j in range(i + 1, n):
            dy, dx = y_2[j] - y_2[i], x_2[j] - x_2[i]
            length = dy * dy + dx * dx
            if length < apart * apart:
                continue
            ey, ex = y[j] - y[i], x[j] - x[i]
            a = (ey * dy + ex * dx) / length
            b = (ey * dx - ex * dy) / length
            size = a * a + b * b
            if size < least_scale * least_scale or size > most_scale * most_scale:
                continue
            ty = y[i] - a * y_2[i] - b * x_2[i]
            tx = x[i] + b * y_2[i] - a * x_2[i]
            inliers = 0
            for k in range(n):
                ry = a * y_2[k] + b * x_2[k] + ty - y[k]
                rx = -b * y_2[k] + a * x_2[k] + tx - x[k]
                inliers += ry * ry + rx * rx < 2.25
            if inliers > best[0]:
                best = (inliers, a, b, ty, tx)
    return best


# --- the mean catalogue ------------------------------------------------------------------------------------------


@kernel
def cell_of(y: float, x: float, low_y: float, low_x: float, cells: int) -> int:
    i = min(max(int((y - low_y) / _CELL_PX), 0), cells - 1)
    j = min(max(int((x - low_x) / _CELL_PX), 0), cells - 1)
    return i * cells + j


@kernel
def index_stars(y: Array, x: Array, n: int, low_y: float, low_x: float, cells: int, head: Array, link: Array) -> None:
    """Chain the stars of each 12 px cell, so that a search looks at 9 cells."""
    head[:] = -1
    for k in range(n - 1, -1, -1):
        c = cell_of(y[k], x[k], low_y, low_x, cells)
        link[k] = head[c]
        head[c] = k


@kernel
def nearest(
    qy: float, qx: float, reach: float, y: Array, x: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array
) -> int:  # fmt: skip
    """Index of the nearest indexed star within ``reach`` (<= 12 px), -1 if none; ties go to the lowest index."""
    best, found = reach * reach, -1
    i0 = min(max(int((qy - low_y) / _CELL_PX), 0), cells - 1)
    j0 = min(max(int((qx - low_x) / _CELL_PX), 0), cells - 1)
    for i in range(max(0, i0 - 1), min(cells, i0 + 2)):
        for j in range(max(0, j0 - 1), min(cells, j0 + 2)):
            k = head[i * cells + j]
            while k >= 0:
                d = (y[k] - qy) ** 2 + (x[k] - qx) ** 2
                if d < best or (d == best and found >= 0 and k < found):
                    best, found = d, k
                k = link[k]
    return found


@kernel
def pair_up(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, usable: Array, n: int, reach: float,
    cat_y: Array, cat_x: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array,
    pair: Array, distance: Array, taken: Array,
) -> int:  # fmt: skip
    """Nearest catalogue star of every usable detection, each catalogue star given to its nearest detection only."""
    taken[:] = -1
    count = 0
    for k in range(n):
        pair[k] = -1
        if not usable[k]:
            continue
        my, mx = a * y[k] + b * x[k] + ty, -b * y[k] + a * x[k] + tx
        c = nearest(my, mx, reach, cat_y, cat_x, low_y, low_x, cells, head, link)
        if c < 0:
            continue
        distance[k] = (cat_y[c] - my) ** 2 + (cat_x[c] - mx) ** 2
        other = taken[c]
        if other >= 0:
            if distance[other] <= distance[k]:
                continue
            pair[other] = -1
            count -= 1
        taken[c] = k
        pair[k] = c
        count += 1
    return count


@kernel
def fit_similarity(
    y: Array, x: Array, pair: Array, n: int, cat_y: Array, cat_x: Array, weight: Array, residual: Array, limit: float
) -> tuple[int, float, float, float, float]:
    """Weighted least squares over the pairs whose residual is below the limit: number, a, b, t_y, t_x."""
    total, my, mx, cy, cx = 0.0, 0.0, 0.0, 0.0, 0.0
    used = 0
    for k in range(n):
        c = pair[k]
        if c < 0 or residual[k] > limit:
            continue
        w = weight[k]
        total += w
        my += w * y[k]
        mx += w * x[k]
        cy += w * cat_y[c]
        cx += w * cat_x[c]
        used += 1
    if used < 2:
        return used, 1.0, 0.0, 0.0, 0.0
    my, mx, cy, cx = my / total, mx / total, cy / total, cx / total
    size, dot, cross = 0.0, 0.0, 0.0
    for k in range(n):
        c = pair[k]
        if c < 0 or residual[k] > limit:
            continue
        dy, dx = y[k] - my, x[k] - mx
        ey, ex = cat_y[c] - cy, cat_x[c] - cx
        w = weight[k]
        size += w * (dy * dy + dx * dx)
        dot += w * (ey * dy + ex * dx)
        cross += w * (ey * dx - ex * dy)
    if not size > 0.0:
        return 0, 1.0, 0.0, 0.0, 0.0
    a, b = dot / size, cross / size
    return used, a, b, cy - a * my - b * mx, cx + b * my - a * mx


@kernel
def settle(
    a: float, b: float, ty: float, tx: float, tolerances: Array, repeats: int,
    y: Array, x: Array, error: Array, usable: Array, n: int,
    cat_y: Array, cat_x: Array, cat_error2: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array,
    pair: Array, taken: Array,
) -> tuple[int, float, float, float, float, float]:  # fmt: skip
    """Fixed point of pairing and fitting through the tolerances; the last one is repeated until nothing changes.

    Returns the number of stars fitted, a, b, t_y, t_x and the rms residual per star [px]; ``pair`` holds the pairs.
    """
    weight = np.zeros(n)
    residual = np.zeros(n)
    store = np.empty(n)
    before = np.full(n, -2, np.int64)
    used, rms = 0, np.nan
    steps = len(tolerances) + repeats
    for step in range(steps):
        reach = tolerances[min(step, len(tolerances) - 1)]
        count = pair_up(
            a, b, ty, tx, y, x, usable, n, reach, cat_y, cat_x, low_y, low_x, cells, head, link, pair, store, taken
        )  # fmt: skip
        if count < 3:
            return count, a, b, ty, tx, np.nan
        if step >= len(tolerances):
            same = True
            for k in range(n):
                same = same and before[k] == pair[k]
            if same:
                break
        for k in range(n):
            before[k] = pair[k]
            residual[k] = 0.0
            if pair[k] >= 0:
                weight[k] = 1.0 / (error[k] * error[k] + cat_error2[pair[k]] + 0.0009)
        limit = np.inf
        for _ in range(2):
            used, a, b, ty, tx = fit_similarity(y, x, pair, n, cat_y, cat_x, weight, residual, limit)
            if used < 3:
                return used, a, b, ty, tx, np.nan
            m = 0
            for k in range(n):
                if pair[k] >= 0:
                    ry = a * y[k] + b * x[k] + ty - cat_y[pair[k]]
                    rx = -b * y[k] + a * x[k] + tx - cat_x[pair[k]]
                    residual[k] = np.sqrt(ry * ry + rx * rx)
                    store[m] = residual[k]
                    m += 1
            limit = 4.0 * max(np.median(store[:m]), 0.01)
        square, kept = 0.0, 0
        for k in range(n):
            if pair[k] >= 0 and residual[k] <= limit:
                square += residual[k] * residual[k]
                kept += 1
        rms = np.sqrt(square / max(kept, 1))
    return used, a, b, ty, tx, rms


@kernel
def extend(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, snr: Array, usable: Array, n: int,
    cat_y: Array, cat_x: Array, size: int, low_y: float, low_x: float, cells: int, head: Array, link: Array,
) -> int:  # fmt: skip
    """Append stars of SNR > 10 that no catalogue star is within 5 px of; returns the catalogue's new length."""
    for k in range(n):
        if not usable[k] or snr[k] <= 10.0 or size >= len(cat_y):
            continue
        my, mx = a * y[k] + b * x[k] + ty, -b * y[k] + a * x[k] + tx
        if nearest(my, mx, 5.0, cat_y, cat_x, low_y, low_x, cells, head, link) >= 0:
            continue
        cat_y[size], cat_x[size] = my, mx
        c = cell_of(my, mx, low_y, low_x, cells)
        link[size] = head[c]
        head[c] = size
        size += 1
    return size


@kernel
def gather(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, error: Array, light: Array, pair: Array, n: int,
    sum_w: Array, sum_y: Array, sum_x: Array, sum_light: Array, hits: Array,
) -> None:  # fmt: skip
    """Add a frame's mapped stars to the sums of their catalogue stars."""
    for k in range(n):
        c = pair[k]
        if c < 0:
            continue
        w = 1.0 / (error[k] * error[k])
        sum_w[c] += w
        sum_y[c] += w * (a * y[k] + b * x[k] + ty)
        sum_x[c] += w * (-b * y[k] + a * x[k] + tx)
        sum_light[c] += light[k]
        hits[c] += 1


@kernel
def share_seen(
    a: float, b: float, ty: float, tx: float, y: Array, x: Array, n: int, reach: float,
    cat_y: Array, cat_x: Array, ranked: Array, low_y: float, low_x: float, cells: int, head: Array, link: Array,
    top: float, left: float, bottom: float, right: float, most: int,
) -> tuple[int, int]:  # fmt: skip
    """How many of the ``most`` brightest catalogue stars inside the frame have any detection within reach: (seen, of)."""
    seen = np.zeros(len(cat_y), np.bool_)
    for k in range(n):
        my, mx = a * y[k] + b * x[k] + ty, -b * y[k] + a * x[k] + tx
        i0 = min(max(int((my - low_y) / _CELL_PX), 0), cells - 1)
        j0 = min(max(int((mx - low_x) / _CELL_PX), 0), cells - 1)
        for i in range(max(0, i0 - 1), min(cells, i0 + 2)):
            for j in range(max(0, j0 - 1), min(cells, j0 + 2)):
                c = head[i * cells + j]
                while c >= 0:
                    if (cat_y[c] - my) ** 2 + (cat_x[c] - mx) ** 2 <= reach * reach:
                        seen[c] = True
                    c = link[c]
    size = a * a + b * b
    of, found = 0, 0
    for c in ranked:
        dy, dx = cat_y[c] - ty, cat_x[c] - tx
        fy, fx = (a * dy - b * dx) / size, (b * dy + a * dx) / size
        if fy < top or fx < left or fy > bottom or fx > right:
            continue
        of += 1
        found += seen[c]
        if of == most:
            break
    return found, of


# --- the session -------------------------------------------------------------------------------------------------


class _Catalogue:
    """The mean catalogue while it grows: positions on the reference grid and their 12 px index."""

    def __init__(self, lists: StarLists) -> None:
        rows, columns = lists.shape
        diagonal = float(np.hypot(rows, columns))
        self.low_y = lists.origin[0] + 0.5 * rows - 2.0 * diagonal
        self.low_x = lists.origin[1] + 0.5 * columns - 2.0 * diagonal
        self.cells = int(4.0 * diagonal / _CELL_PX) + 1
        self.head = np.empty(self.cells * self.cells, np.int32)
        self.link = np.empty(_CATALOGUE_MOST, np.int32)
        self.y, self.x = np.empty(_CATALOGUE_MOST), np.empty(_CATALOGUE_MOST)
        self.size = 0
        self.replace(np.empty(0), np.empty(0), np.empty(0), np.empty(0))

    def replace(self, y: Array, x: Array, error2: Array, light: Array) -> None:
        """Take new positions, brightest first."""
        rank = np.argsort(-light, kind="stable")
        self.size = len(rank)
        self.y[: self.size], self.x[: self.size] = y[rank], x[rank]
        self.error2, self.light = error2[rank], light[rank]
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
        self.patterns: dict[tuple[int, int, bool], Any] = {}

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
        return ~self.usable[frame] & ~self.lists.saturated[frame]

    def match(self, frame: int, other: int) -> tuple[float, float, float, float] | None:
        """Similarity frame -> other from the pattern alone: 36 or 70 stars, round or any; then any scale."""
        attempts = [(36, True, 0.0), (36, False, 0.0), (70, True, 0.0), (70, False, 0.0), (36, False, 0.004)]
        tried: set[tuple[int, int, float]] = set()
        for stars, only_round, relative in [*attempts, (36, False, -1.0)]:
            first, *theirs = self.pattern(other, stars, only_round)
            second, *ours = self.pattern(frame, stars, only_round)
            sizes = (len(first), len(second), relative)
            if min(sizes[:2]) < 4 or (sizes in tried and not only_round):
                continue
            tried.add(sizes)
            if relative < 0.0:
                votes = vote_any_scale(*theirs, *ours, len(first), len(second))
            else:
                votes = vote(*theirs, *ours, len(first), len(second), 1.0, relative)
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
            *start, np.array(tolerances), repeats, self.lists.y[frame], self.lists.x[frame], self.lists.error[frame],
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
                *self.similarity[f], lists.y[f], lists.x[f], lists.snr[f], self.usable[f], lists.count[f],
                c.y, c.x, size, *c.place, c.head, c.link,
            )  # fmt: skip
        c.size = size
        sums = np.zeros((4, size))
        hits = np.zeros(size, np.int64)
        distance = np.empty(lists.y.shape[1])
        for f in order:
            n = lists.count[f]
            pair_up(
                *self.similarity[f], lists.y[f], lists.x[f], self.usable[f], n, reach, c.y, c.x, *c.place,
                c.head, c.link, self.pair[f], distance, self.taken,
            )  # fmt: skip
            gather(
                *self.similarity[f], lists.y[f], lists.x[f], lists.error[f], lists.light[f], self.pair[f], n, *sums, hits
            )  # fmt: skip
        fewest = min(4.0, max(2.0, len(order) / 4)) if len(order) > 1 else 1.0
        kept = np.flatnonzero(hits >= fewest)
        weight, y, x, light = sums[:, kept]
        c.replace(y / weight, x / weight, 1.0 / weight, light / hits[kept])
        for f in np.flatnonzero(self.known):
            self.settle(f, self.similarity[f], (reach,), 2)
        self.turn_back()

    def turn_back(self) -> None:
        """Make the reference's transform the identity again: the catalogue and all frames move with it."""
        c = self.catalogue
        a, b, ty, tx = self.similarity[self.reference]
        size = a * a + b * b
        y, x = c.y[: c.size] - ty, c.x[: c.size] - tx
        c.replace((a * y - b * x) / size, (b * y + a * x) / size, c.error2, c.light)
        fa, fb, fy, fx = self.similarity.T
        self.similarity = np.stack(
            [(a * fa + b * fb) / size, (a * fb - b * fa) / size, (a * (fy - ty) - b * (fx - tx)) / size,
             (b * (fy - ty) + a * (fx - tx)) / size], 1,
        )  # fmt: skip
        self.similarity[self.reference] = 1.0, 0.0, 0.0, 0.0

    def verify(self) -> None:
        c, lists = self.catalogue, self.lists
        oy, ox = lists.origin
        box = (
            oy + _MARGIN_PX,
            ox + _MARGIN_PX,
            oy + lists.shape[0] - 1 - _MARGIN_PX,
            ox + lists.shape[1] - 1 - _MARGIN_PX,
        )
        ranked = np.arange(c.size)
        for f in np.flatnonzero(self.known):
            seen, of = share_seen(
                *self.similarity[f], lists.y[f], lists.x[f], lists.count[f], 1.5, c.y[: c.size], c.x[: c.size], ranked,
                *c.place, c.head, c.link, *box, _VERIFY_STARS,
            )  # fmt: skip
            self.share[f], self.tested[f] = seen / max(of, 1), of

    @property
    def verified(self) -> Array:
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
        """Bring frames without a verified match on through up to 4 verified neighbours in time; refit to the catalogue."""
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


def compose(outer: Array, inner: Array) -> Array:
    """Similarity (a, b, t_y, t_x) of ``outer`` after ``inner``."""
    a, b, ty, tx = outer
    c, d, sy, sx = inner
    return np.array([a * c - b * d, a * d + b * c, a * sy + b * sx + ty, -b * sy + a * sx + tx])


def static_detections(lists: StarLists) -> Array:
    """True for detections that come back at the same place of the sensor (+-1 px) in half of 16 sampled frames."""
    rows, columns = lists.shape
    n = lists.n_frames
    static = np.zeros(lists.y.shape, np.bool_)
    if n < 2:
        return static
    sample = np.unique(np.round(np.linspace(0, n - 1, min(n, 16))).astype(int))
    counts = np.zeros((rows + 2, columns + 2), np.int16)
    places = []
    for f in range(n):
        k = lists.count[f]
        y = np.clip(np.rint(lists.y[f, :k] - lists.origin[0]).astype(int), 0, rows - 1)
        x = np.clip(np.rint(lists.x[f, :k] - lists.origin[1]).astype(int), 0, columns - 1)
        places.append((y, x))
    for f in sample:
        seen = np.zeros((rows + 2, columns + 2), np.bool_)
        y, x = places[f]
        for dy in (0, 1, 2):
            for dx in (0, 1, 2):
                seen[y + dy, x + dx] = True
        counts += seen
    for f, (y, x) in enumerate(places):
        static[f, : len(y)] = counts[y + 1, x + 1] >= max(2.0, 0.5 * len(sample))
    return static


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
    real = np.arange(lists.y.shape[1])[None, :] < lists.count[:, None]
    every = real & ~lists.saturated
    static = static_detections(lists) & real
    moving = every & ~static
    choices: list[tuple[Array, bool]] = [(every, False)]
    if static.any() and lists.n_frames > 1 and np.median(moving.sum(1)) >= _VERIFY_FEWEST:
        choices.insert(0, (moving, True))
    best: _Session | None = None
    for usable, without_static in choices:
        for reference in references[:3]:
            session = _Session(lists, usable, reference)
            session.run()
            if without_static:  # stars that stand still are stars: only a field that moves makes statics defects
                shifted = session.distances()[session.verified]
                if len(shifted) < max(2, 0.5 * lists.n_frames) or np.median(shifted) < 1.5:
                    break
            if best is None or session.verified.sum() > best.verified.sum():
                best = session
            if session.verified.sum() >= 0.5 * lists.n_frames:
                break
        if without_static and best is not None:
            break
    assert best is not None
    return _solution(best, int((static & (best.usable != every)).sum()))


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
    return Solution(
        transform=transform, verified=verified, verdict=verdict, n_matched=np.where(verified, session.matched, 0),
        share=session.share, rms_px=np.where(verified, session.rms, np.nan), reference=session.reference,
        catalogue_y=c.y[: c.size].copy(), catalogue_x=c.x[: c.size].copy(), match=match, n_static=n_static,
    )  # fmt: skip
