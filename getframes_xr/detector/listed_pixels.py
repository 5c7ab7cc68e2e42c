"""Defects: the few pixels of a camera that are special, drawn once per camera and kept as a list.

A pixel belongs to the list where its own uniform number lies below the wanted share, so the list of a window is the
part of the camera's list that lies in it. Lists are made per block of ``fixed_maps`` and kept in its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from getframes_xr.core.draws import Draws
from getframes_xr.core.patch import Array
from getframes_xr.core.window import Span, Window
from getframes_xr.detector.fixed_maps import BLOCK_COLUMNS, BLOCK_ROWS, MAPS
from getframes_xr.engine.stage import Place, Stage

Listed = tuple[Array, Array, Array]


def listed_pixels(
    place: Place, stage: Stage, parameters: tuple[Hashable, ...], share: float, value: Callable[[Draws], Array]
) -> Listed:
    """Give the special pixels in the place's window.

    Parameters
    ----------
    place : where
    stage : whose stream decides (draw 0)
    parameters : every number besides place and share that decides the values
    share : of all pixels
    value : float32 (1, y, x) numbers of a block, of which those of the special pixels are kept

    Returns
    -------
    y, x : int64 (n,), indices into the window;  value : float32 (n,)
    """
    window, grid = place.window, place.grid
    found: list[Listed] = []
    for row in range(window.y.start // BLOCK_ROWS, (window.y.stop - 1) // BLOCK_ROWS + 1):
        y = Span(row * BLOCK_ROWS, (row + 1) * BLOCK_ROWS).clip(grid.y)
        for column in range(window.x.start // BLOCK_COLUMNS, (window.x.stop - 1) // BLOCK_COLUMNS + 1):
            x = Span(column * BLOCK_COLUMNS, (column + 1) * BLOCK_COLUMNS).clip(grid.x)
            at_y, at_x, values = _block(place, stage, parameters, share, value, y, x)
            inside = (at_y >= window.y.start) & (at_y < window.y.stop)
            inside &= (at_x >= window.x.start) & (at_x < window.x.stop)
            found.append((at_y[inside] - window.y.start, at_x[inside] - window.x.start, values[inside]))
    if len(found) == 1:
        return found[0]
    empty: Listed = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    found = found or [empty]
    return (
        np.concatenate([item[0] for item in found]),
        np.concatenate([item[1] for item in found]),
        np.concatenate([item[2] for item in found]),
    )


def _block(
    place: Place,
    stage: Stage,
    parameters: tuple[Hashable, ...],
    share: float,
    value: Callable[[Draws], Array],
    y: Span,
    x: Span,
) -> Listed:
    def made() -> Listed:
        spot = Place(place.grid, Window(Span(0, 1), y, x), place.key, place.fixed_key, place.number)
        draws = spot.fixed(stage)
        at_y, at_x = np.nonzero(draws.uniform()[0] < np.float32(share))
        values = np.asarray(value(draws)[0][at_y, at_x], np.float32)
        return at_y + y.start, at_x + x.start, values

    key = (stage.stream_number, place.number, place.fixed_key, "list", share, parameters, y, x)
    listed: Listed = MAPS.get(key, made, lambda item: sum(part.nbytes for part in item) + 200)
    return listed
