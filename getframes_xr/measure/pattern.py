"""Star patterns: triangles of two lists vote for pairs, pairs propose similarities, the most agreed one wins.

A triangle's sides are sorted, a >= b >= c, and clearly different, so its vertices have an order and a handedness.
Triangles whose sides agree vote for their three pairs of stars. Nothing is random; ties go to the lowest index.
Transforms map list 2 to list 1: [y_1, x_1] = [[a, b], [-b, a]] @ [y_2, x_2] + [t_y, t_x].
Source: the recipe, section 5; Groth 1986, AJ 91, 1244.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel

Array = np.ndarray[Any, Any]


def triangles(y: Array, x: Array) -> tuple[Array, Array, Array]:
    """All triangles with three clearly different sides, sorted by the longest.

    Returns sides float64 (triangle, 3), a >= b >= c [px], vertices int16 (triangle, 3) in the order opposite a, b, c,
    and the handedness of that order.
    """
    sides, corner, hand, m = _triangles(y, x)
    order = np.argsort(sides[:m, 0], kind="stable")
    return sides[order], corner[order], hand[order]


@kernel
def _triangles(y: Array, x: Array) -> tuple[Array, Array, Array, int]:
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
    return sides, corner, hand, m


@kernel
def first_at_least(sorted_values: Array, value: float) -> int:
    """Index of the first entry >= value (binary search)."""
    low, high = 0, len(sorted_values)
    while low < high:
        middle = (low + high) >> 1
        if sorted_values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def vote(
    longest: Array, sides: Array, corner: Array, hand: Array, sides_2: Array, corner_2: Array, hand_2: Array,
    n: int, n_2: int, fixed_px: float, relative: float,
) -> Array:  # fmt: skip
    """Votes int32 (n, n_2) for pairs of stars from triangles whose sides agree within fixed_px + relative * a."""
    votes = np.zeros((n, n_2), np.int32)
    for t in range(len(sides_2)):
        a, b, c = sides_2[t, 0], sides_2[t, 1], sides_2[t, 2]
        tolerance = fixed_px + relative * a
        k = first_at_least(longest, a - tolerance)
        while k < len(longest) and longest[k] <= a + tolerance:
            if hand[k] == hand_2[t] and abs(sides[k, 1] - b) <= tolerance and abs(sides[k, 2] - c) <= tolerance:
                for v in range(3):
                    votes[corner[k, v], corner_2[t, v]] += 1
            k += 1
    return votes


@kernel
def vote_any_scale(
    order: Array,
    form: Array,
    sides: Array,
    corner: Array,
    hand: Array,
    sides_2: Array,
    corner_2: Array,
    hand_2: Array,
    n: int,
    n_2: int,
) -> Array:
    """Votes from triangles of equal form: b/a (``form``, sorted) and c/a agree to 0.004, sizes within a factor 3."""
    votes = np.zeros((n, n_2), np.int32)
    for t in range(len(sides_2)):
        a, b, c = sides_2[t, 0], sides_2[t, 1], sides_2[t, 2]
        k = first_at_least(form, b / a - 0.004)
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
        j = int(np.argmax(votes[i]))
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
