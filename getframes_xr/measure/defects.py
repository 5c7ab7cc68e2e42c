"""Detections that belong to the sensor and not to the sky: they keep their pixel while the sky moves.

A detection is static when half of 16 sampled frames have one at the same place (+-1 px). It is a defect when it stays
although the registered sky has moved by more than 3 px at its place. Stars of a well guided night are static too, but
no defects: nothing has moved.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from getframes_xr.core.mapping import Affine, apply
from getframes_xr.measure.session_fit import SessionFit
from getframes_xr.measure.star_lists import Array, StarLists, affine_of


def _sample(n: int) -> Array:
    return np.unique(np.round(np.linspace(0, n - 1, min(n, 16))).astype(int))


def _sightings(lists: StarLists) -> Iterator[tuple[int, list[Array]]]:
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
        yield int(g), [seen[y, x] for y, x in places]


def static_detections(lists: StarLists) -> Array:
    """True for detections that half of 16 sampled frames have at the same place of the sensor."""
    counts = np.zeros(lists.y.shape, np.int64)
    if lists.n_frames < 2:
        return counts > 0
    for _, seen in _sightings(lists):
        for f, each in enumerate(seen):
            counts[f, : len(each)] += each
    return counts >= max(2.0, 0.5 * len(_sample(lists.n_frames)))


def defects(session: SessionFit, static: Array) -> Array:
    """Static detections that stay although the sky at their place moves by more than 3 px between the frames."""
    lists = session.lists
    moved, stayed = np.zeros(lists.y.shape, np.int64), np.zeros(lists.y.shape, np.int64)
    known, maps = session.verified, Affine(affine_of(session.similarity))
    for g, seen in _sightings(lists):
        if not known[g]:
            continue
        between = Affine(maps.inverse.terms[g : g + 1]).after(maps)
        for f in np.flatnonzero(known):
            place = np.stack([lists.y[f, : len(seen[f])], lists.x[f, : len(seen[f])]], 1)
            far = ((apply(between.terms[f], place) - place) ** 2).sum(1) > 9.0
            moved[f, : len(far)] += far
            stayed[f, : len(far)] += far & seen[f]
    found = static & (stayed >= np.maximum(1.0, 0.5 * moved))
    if found.any():
        found[~known] = static[~known]
    return np.asarray(found)
