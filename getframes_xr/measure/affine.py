"""From similarity to affine, where a session's residuals ask for it (differential refraction, a tilted camera).

    minimise  sum_k w_k |A p_k + t - q_k|^2      6 parameters instead of 4

Every frame is fitted both ways to the mean catalogue. The gain in chi^2, in units of the robust residual, is 2 +- 2 per
frame where the similarity is right; when the session's sum lies 5 sigma above that and the change moves a corner by
more than 0.02 px in half of the frames, all frames take the affine fit, the catalogue is averaged once more, and the
gauge is turned back to the reference frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.mapping import apply

Array = np.ndarray[Any, Any]

_FEWEST = 12


def fit_affine(place: Array, target: Array, weight: Array) -> Array:
    """Weighted least squares affine (2, 3) from place to target, both (star, 2)."""
    total = weight.sum()
    centre, aim = (weight @ place) / total, (weight @ target) / total
    d, e = place - centre, target - aim
    matrix = np.linalg.solve((d * weight[:, None]).T @ d, (d * weight[:, None]).T @ e).T
    return np.concatenate([matrix, (aim - matrix @ centre)[:, None]], 1)


def fit_clipped(place: Array, target: Array, formal2: Array) -> tuple[Array, Array, float, Array]:
    """Affine fit with the scatter that the residuals ask for, cut at 4 x their median: transform, weight, rms, kept."""
    keep = np.ones(len(place), np.bool_)
    extra2 = 0.0009
    transform, residual2 = np.eye(2, 3), np.zeros(len(place))
    for _ in range(3):
        weight = keep / (formal2 + extra2)
        transform = fit_affine(place, target, weight)
        residual2 = ((apply(transform, place) - target) ** 2).sum(1)
        extra2 = max(0.0009, (float(np.median(residual2[keep])) - 1.386 * float(np.median(formal2[keep]))) / 1.386)
        keep = residual2 <= 16.0 * max(float(np.median(residual2)), 1e-4)
        if keep.sum() < _FEWEST:
            break
    return transform, keep / (formal2 + extra2), float(np.sqrt(residual2[keep].mean())), keep


def affine_transforms(
    y: Array, x: Array, error: Array, pair: Array, transform: Array, verified: Array,
    catalogue: Array, shape: tuple[int, int], origin: tuple[int, int], reference: int,
) -> tuple[Array, Array, Array] | None:  # fmt: skip
    """Affine transforms of a registered session if its residuals ask for them, else None.

    Parameters
    ----------
    y, x, error : (frame, source)
    pair : (frame, source), index of the catalogue star or -1
    transform : (frame, 2, 3), the similarities
    catalogue : (star, 2)

    Returns
    -------
    transform (frame, 2, 3), catalogue (star, 2), rms_px (frame,)
    """
    frames = [int(f) for f in np.flatnonzero(verified) if (pair[f] >= 0).sum() >= _FEWEST]
    if len(frames) < 2 or len(frames) < verified.sum() or reference not in frames:
        return None
    chosen = {f: np.flatnonzero(pair[f] >= 0) for f in frames}
    place = {f: np.stack([y[f, k], x[f, k]], 1) for f, k in chosen.items()}
    sums, hits = np.zeros(len(catalogue)), np.zeros(len(catalogue))
    for f, k in chosen.items():
        np.add.at(sums, pair[f, k], 1.0 / error[f, k] ** 2)
        np.add.at(hits, pair[f, k], 1.0)
    corners = np.array([[0, 0], [0, shape[1] - 1], [shape[0] - 1, 0], [shape[0] - 1, shape[1] - 1]]) + np.array(origin)
    gain, moved = [], []
    for f, k in chosen.items():
        target = catalogue[pair[f, k]]
        affine, weight, _, keep = fit_clipped(place[f], target, error[f, k] ** 2 + 1.0 / sums[pair[f, k]])
        # both fits with the same weights and the same stars: the difference is what two parameters more explain
        similar = _fit_similarity(place[f], target, weight)
        before = weight @ ((apply(similar, place[f]) - target) ** 2).sum(1)
        after = weight @ ((apply(affine, place[f]) - target) ** 2).sum(1)
        gain.append((before - after) / (after / (2.0 * keep.sum() - 6.0)))
        moved.append(np.sqrt(((apply(affine, corners) - apply(similar, corners)) ** 2).sum(1).mean()))
    n = len(frames)
    if sum(gain) < 2.0 * n + 5.0 * np.sqrt(4.0 * n) or np.median(moved) < 0.02:
        return None
    out, rms = np.full_like(transform, np.nan), np.full(len(transform), np.nan)
    for turn in range(2):
        total, weights = np.zeros_like(catalogue), np.zeros(len(catalogue))
        for f, k in chosen.items():
            out[f], _, rms[f], _ = fit_clipped(
                place[f], catalogue[pair[f, k]], error[f, k] ** 2 + 1.0 / sums[pair[f, k]]
            )  # fmt: skip
            w = 1.0 / error[f, k] ** 2
            np.add.at(total, pair[f, k], w[:, None] * apply(out[f], place[f]))
            np.add.at(weights, pair[f, k], w)
        if turn == 0:
            known = weights > 0
            catalogue = catalogue.copy()
            catalogue[known] = total[known] / weights[known, None]
    matrix = np.linalg.inv(out[reference][:, :2])
    shift = out[reference][:, 2]
    turned = np.concatenate([matrix @ out[:, :, :2], (out[:, :, 2] - shift)[:, None, :] @ matrix.T[None]], 1)
    out = np.concatenate([turned[:, :2], turned[:, 2, :, None]], 2)
    out[reference] = np.eye(2, 3)
    return out, (catalogue - shift) @ matrix.T, rms


def _fit_similarity(place: Array, target: Array, weight: Array) -> Array:
    total = weight.sum()
    centre, aim = (weight @ place) / total, (weight @ target) / total
    d, e = place - centre, target - aim
    size = weight @ (d**2).sum(1)
    a = weight @ (d * e).sum(1) / size
    b = weight @ (e[:, 0] * d[:, 1] - e[:, 1] * d[:, 0]) / size
    matrix = np.array([[a, b], [-b, a]])
    return np.concatenate([matrix, (aim - matrix @ centre)[:, None]], 1)
