"""One attempt to register a session: patterns, fixed points, the mean catalogue, verification.

Each frame is matched to the reference, the catalogue becomes the mean of all frames' mapped stars (3 rounds), and each
frame is tested by the brightest stars that OTHER frames know: its own detections are no witnesses. Frames without a
verified match try again through verified neighbours in time. Source: the recipe, section 5.
"""

from __future__ import annotations

import numpy as np

from getframes_xr.measure.matching import CELL_PX, extend, gather, index_stars, pair_up, settle, share_seen
from getframes_xr.measure.pattern import consensus, mutual_pairs, triangles, vote, vote_any_scale
from getframes_xr.measure.star_lists import Array, StarLists, compose, four_of

CATALOGUE_MOST = 20000
VERIFY_STARS = 60
VERIFY_SHARE = 0.30
VERIFY_FEWEST = 6
MARGIN_PX = 12.0  # the finder sees no star whose stamp leaves the frame


class Catalogue:
    """The mean catalogue while it grows: positions on the reference grid and their 12 px index."""

    def __init__(self, lists: StarLists) -> None:
        rows, columns = lists.shape
        diagonal = float(np.hypot(rows, columns))
        self.low_y = lists.origin[0] + 0.5 * rows - 2.0 * diagonal
        self.low_x = lists.origin[1] + 0.5 * columns - 2.0 * diagonal
        self.cells = int(4.0 * diagonal / CELL_PX) + 1
        self.head = np.empty(self.cells * self.cells, np.int32)
        self.link = np.empty(CATALOGUE_MOST, np.int32)
        self.y, self.x = np.empty(CATALOGUE_MOST), np.empty(CATALOGUE_MOST)
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


class SessionFit:
    """One attempt to register a session: lists with the detections to use, transforms as they become known."""

    def __init__(self, lists: StarLists, usable: Array, reference: int) -> None:
        self.lists, self.usable, self.reference = lists, usable, reference
        n, most = lists.y.shape
        self.similarity = np.full((n, 4), np.nan)
        self.similarity[reference] = 1.0, 0.0, 0.0, 0.0
        self.rms = np.full(n, np.nan)
        self.matched = np.zeros(n, np.int64)
        self.share, self.tested = np.zeros(n), np.zeros(n, np.int64)
        self.placed = np.zeros(n, np.bool_)  # a pattern in common was found, verified or not
        self.pair = np.full((n, most), -1, np.int64)
        self.taken = np.empty(CATALOGUE_MOST, np.int64)
        self.catalogue = Catalogue(lists)
        self.broad = Catalogue(lists)
        self.hits, self.fewest = np.zeros(0, np.int64), 1.0
        self.own = np.full((n, most), -1, np.int64)
        self.patterns: dict[tuple[int, int, bool], tuple[Array, Array, Array, Array]] = {}

    def four(self, frame: int) -> tuple[float, float, float, float]:
        """The similarity of a frame: a, b, t_y, t_x."""
        return four_of(self.similarity[frame])

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
            *four_of(start), np.array(tolerances), repeats,
            self.lists.y[frame], self.lists.x[frame], self.lists.error[frame],
            self.usable[frame], n, c.y, c.x, c.error2, *c.place, c.head, c.link, self.pair[frame], self.taken,
        )  # fmt: skip
        if used < 3:
            return False
        self.similarity[frame], self.rms[frame], self.matched[frame] = (a, b, ty, tx), rms, used
        return True

    def start_catalogue(self) -> None:
        f, n = self.reference, self.lists.count[self.reference]
        good = np.flatnonzero(self.usable[f, :n])[:CATALOGUE_MOST]
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
        (top, left), (rows, columns), m = lists.origin, lists.shape, MARGIN_PX
        box = (top + m, left + m, top + rows - 1 - m, left + columns - 1 - m)
        for f in map(int, np.flatnonzero(self.known)):
            others = self.hits - np.bincount(self.own[f][self.own[f] >= 0], minlength=c.size)
            ranked = np.flatnonzero(others >= max(1.0, self.fewest - 1.0))
            seen, of = share_seen(
                *self.four(f), lists.y[f], lists.x[f], lists.count[f], 1.5, c.y[: c.size], c.x[: c.size], ranked,
                *c.place, c.head, c.link, *box, VERIFY_STARS,
            )  # fmt: skip
            self.share[f], self.tested[f] = seen / max(of, 1), of

    @property
    def verified(self) -> Array:
        if self.lists.n_frames == 1:
            return self.known
        return self.known & (self.tested >= VERIFY_FEWEST) & (self.share >= VERIFY_SHARE)

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
        self.placed = self.known
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
