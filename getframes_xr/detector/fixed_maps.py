"""Fixed pattern, made once per process: maps that belong to a camera's serial and are the same in every frame.

A map is a function of place (key of the camera, stream, y, x), so it is cut into blocks of absolute pixels,
64 rows by 2048 columns, each made when first asked for. The blocks lie in one cache of counted bytes; the oldest
go first. A map that does not fit is made anew each time, with the same values: the cache changes time, never bytes.
The log-normal of unit mean is exp(s z - s^2/2) of a normal z: positive, and E = 1 for any s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.draws import Draws
from getframes_xr.core.elementary import exp64
from getframes_xr.core.fork_lock import ForkLock
from getframes_xr.core.kernel import kernel
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.stage import Place, Stage

BLOCK_ROWS, BLOCK_COLUMNS = 64, 2048

Block = NDArray[np.float32]


class CountedCache:
    """Values by key, oldest out first once their bytes pass ``limit_bytes``; safe to use from many threads."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = ForkLock()

    def get(self, key: Hashable, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """Give the value of ``key``, made by ``make`` where it is not there (maybe twice by two threads)."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                self.hits += 1
                return self._values[key][0]
            self.misses += 1
        value = make()
        n_bytes = size(value)
        with self._lock:
            if key not in self._values and n_bytes <= self.limit_bytes:
                self._values[key] = (value, n_bytes)
                self.held_bytes += n_bytes
                while self.held_bytes > self.limit_bytes:
                    self.held_bytes -= self._values.popitem(last=False)[1][1]
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self.held_bytes = 0


MAPS = CountedCache(256 * 2**20)


def fixed_map(place: Place, stage: Stage, parameters: tuple[Hashable, ...], make: Callable[[Draws], Block]) -> Block:
    """Give a stage's fixed map over the place's window.

    Parameters
    ----------
    place : where
    stage : whose stream the map's numbers come from
    parameters : every number besides the place that decides the map
    make : makes the map, float32 (y, x), of the block whose draws it is given

    Returns
    -------
    float32 (y, x), C-contiguous, read-only
    """
    window, grid = place.window, place.grid
    block_rows = range(window.y.start // BLOCK_ROWS, (window.y.stop - 1) // BLOCK_ROWS + 1)
    block_columns = range(window.x.start // BLOCK_COLUMNS, (window.x.stop - 1) // BLOCK_COLUMNS + 1)
    out = None
    for row in block_rows:
        y = Span(row * BLOCK_ROWS, (row + 1) * BLOCK_ROWS).clip(grid.y)
        for column in block_columns:
            x = Span(column * BLOCK_COLUMNS, (column + 1) * BLOCK_COLUMNS).clip(grid.x)
            block = _block(place, stage, parameters, make, y, x)
            here = Window(window.frames, y.clip(window.y), x.clip(window.x))
            part = block[here.y.slice_in(y), here.x.slice_in(x)]
            if here.y == window.y and here.x == window.x and part.flags.c_contiguous:
                return part
            if out is None:
                out = np.empty((len(window.y), len(window.x)), np.float32)
            out[here.y.slice_in(window.y), here.x.slice_in(window.x)] = part
    if out is None:
        out = np.empty((len(window.y), len(window.x)), np.float32)
    out.flags.writeable = False
    return out


def map_bytes(grid: Grid) -> int:
    """Bytes of one fixed map of a whole frame; the cache keeps at most its limit."""
    return min(4 * len(grid.y) * len(grid.x), MAPS.limit_bytes)


def _block(
    place: Place, stage: Stage, parameters: tuple[Hashable, ...], make: Callable[[Draws], Block], y: Span, x: Span
) -> Block:
    key = (stage.stream_number, place.number, place.fixed_key, parameters, y, x)

    def made() -> Block:
        spot = Place(place.grid, Window(Span(0, 1), y, x), place.key, place.fixed_key, place.number)
        values = np.ascontiguousarray(make(spot.fixed(stage)), np.float32)
        values.flags.writeable = False
        return values

    block: Block = MAPS.get(key, made, lambda values: values.nbytes)
    return block


@kernel
def _lognormal(deviates: Block, sigma: float, out: Block) -> None:
    half = 0.5 * sigma * sigma
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = np.float32(exp64(sigma * np.float64(deviates[y, x]) - half))


def lognormal_map(place: Place, stage: Stage, sigma: float, draw: int = 0) -> Block:
    """Give a fixed log-normal map of unit mean and log-sigma ``sigma``, float32 (y, x), read-only."""

    def make(draws: Draws) -> Block:
        deviates = draws.normal(draw)[0]
        out = np.empty(deviates.shape, np.float32)
        _lognormal(deviates, sigma, out)
        return out

    return fixed_map(place, stage, ("lognormal", sigma, draw), make)
