"""The first image: a robust picture of the sky, made before anything is rejected.

The used frames are dealt in turn to K groups (frame k, k + K, k + 2K ... so that a group spans the session), each group
is deposited without rejection, and every canvas pixel takes the median of the K group images. A cosmic ray, a trail
or a hot pixel spoils one group of K. All frames are used once, the PSF is that of the final stack, the cost one plain
pass. K = 5 from 40 frames on, else max(3, N // 8), N for N < 3; of two groups the smaller value counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAD, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.held import Held
from getframes_xr.engine.lazy import as_producer, lazy
from getframes_xr.engine.producer import Producer
from getframes_xr.reduce.canvas import (
    TILE_PX,
    batch_bytes,
    batches_under,
    canvas_spans,
    parts_of,
    tiles_of,
    windows_under,
)
from getframes_xr.reduce.deposit import PLAIN_SUMS, RING_PX, deposit_plain, group_image, middle
from getframes_xr.reduce.moves import Moves, read_moves

LEFT_OUT = BAD & ~int(Flag.SATURATED)  # saturated pixels are deposited like any other, and counted


def number_of_groups(frames: int) -> int:
    """K: 5 from 40 frames on, else max(3, N // 8), N for N < 3."""
    if frames < 3:
        return frames
    return 5 if frames >= 40 else max(3, frames // 8)


def clean_frames(clean: xr.Dataset | xr.DataArray) -> Producer:
    """The calibrated frames as a producer of `image` (and `flags`).

    Raises
    ------
    DataError : no plane `image`, no time axis, or bands already (debayered frames are stacked with ``stack``)
    """
    planes = None
    if isinstance(clean, xr.Dataset):
        if "image" not in clean:
            raise DataError(
                f"no plane image to deposit (here: {', '.join(map(str, clean.data_vars))}); calibrate first"
            )
        planes = ("image", "flags") if "flags" in clean else ("image",)
    producer = as_producer(clean, planes)
    if "image" not in producer.planes:
        raise DataError("no plane image to deposit: raw ADU frames are calibrated first")
    if not producer.grid.timed:
        raise DataError("frames along time are needed; this is a single image")
    if producer.grid.bands is not None:
        raise DataError("frames with bands are warped and stacked (gx.stack); only raw mosaics and mono are deposited")
    return producer


@dataclass(frozen=True, eq=False)
class FirstImage(Producer):
    """Median of K group deposits: planes ``image`` and ``count`` (valid groups), without time.

    Parameters
    ----------
    clean : Producer with time, planes ``image`` and ``flags``
    moves : Moves of its used frames
    y, x : Span of the canvas
    """

    clean: Producer
    moves: Moves
    y: Span
    x: Span

    @cached_property
    def grid(self) -> Grid:
        bands = self.moves.bands if self.moves.cfa is not None else None
        return Grid(self.y, self.x, bands=bands, attrs={"groups": self.groups, "frames": len(self.moves)})

    @cached_property
    def groups(self) -> int:
        return number_of_groups(len(self.moves))

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        units = self.clean.planes["image"].units
        return {"image": Plane(np.dtype(np.float32), units), "count": Plane(np.dtype(np.uint16), "")}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, TILE_PX, TILE_PX

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        grown = window.grow(RING_PX)
        return [(self.clean, under) for _, under in windows_under(self.clean, self.moves, grown.y, grown.x)]

    def _members(self, group: int) -> Array:
        return np.arange(group, len(self.moves), self.groups)

    def _group(self, group: int, rows: Span, columns: Span, parts: list[Array], sums: Array) -> None:
        """Deposit one group of frames on the grown window."""
        moves = self.moves
        sums.fill(0)
        for batch in batches_under(self.clean, moves, self._members(group), rows, columns):
            for part in parts:
                for frame in batch:
                    n = frame.number
                    deposit_plain(
                        sums.reshape(-1), len(columns), part, frame.image, frame.flags, frame.y, frame.x,
                        moves.transforms[n], moves.inverses[n], moves.phases, moves.step, moves.sky[n], moves.centre,
                        1.0 / moves.transparency[n], moves.weights32[n], LEFT_OUT,
                    )  # fmt: skip
            del frame, batch  # before the next frames are read

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        shape = (len(self.moves.bands), len(window.y), len(window.x))
        image, count = np.empty(shape, np.float32), np.empty(shape, np.uint16)
        for tile in tiles_of(window):
            inner = (slice(None), tile.y.slice_in(window.y), tile.x.slice_in(window.x))
            self._tile(tile, image[inner], count[inner])
        made: dict[str, Array] = {"image": image, "count": count}
        if self.grid.bands is None:
            made = {name: values[0] for name, values in made.items()}
        return Patch(window, made, timed=False).only(planes)

    def _tile(self, tile: Window, image: Array, count: Array) -> None:
        """Group by group, then the median of the groups; image, count : (band, y, x) of the tile, written."""
        rows, columns = tile.y.grow(RING_PX), tile.x.grow(RING_PX)
        sums = np.empty((len(rows), len(columns), len(self.moves.bands) * PLAIN_SUMS), np.float32)
        images = np.empty((self.groups, *image.shape), np.float32)
        parts = list(parts_of(rows, columns))
        for group in range(self.groups):
            self._group(group, rows, columns, parts, sums)
            sample_weight = self.moves.weights[self._members(group)].mean(axis=0).astype(np.float32)
            group_image(sums, sample_weight, images[group])
        middle(images, image, count)

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        bands, four = len(self.moves.bands), np.dtype(np.float32).itemsize
        scratch = 0
        for tile in tiles_of(window):
            rows, columns = tile.y.grow(RING_PX), tile.x.grow(RING_PX)
            sums = four * PLAIN_SUMS * bands * len(rows) * len(columns)
            images = four * self.groups * bands * tile.pixels
            scratch = max(scratch, sums + images + batch_bytes(self.clean, self.moves, rows, columns))
        return self.bytes_of(window, self.planes) + scratch


def first_image(clean: xr.Dataset | xr.DataArray, moves: xr.Dataset) -> xr.Dataset:
    """The robust first image on the union canvas, lazily.

    Parameters
    ----------
    clean : calibrated frames (time, y, x), planes ``image`` and ``flags``; raw mosaics or mono
    moves : loaded table of ``normalise(stars, register(stars))``

    Returns
    -------
    Dataset ([band,] y, x) with ``image`` (at median transparency, sky removed; NaN without samples) and ``count``
    (valid groups)

    Raises
    ------
    DataError : frames or moves cannot be used together
    RegistrationError : none of the frames is used
    """
    frames = clean_frames(clean)
    table = read_moves(moves, frames.grid, frames.planes["image"].units or "adu")
    return lazy(FirstImage(frames, table, *canvas_spans(table.transforms, frames.grid.y, frames.grid.x)))


def read_first(first: xr.Dataset | None, frames: Producer, moves: Moves) -> Producer:
    """The first image a user gives, or the one that is made on the way (Held).

    Parameters
    ----------
    first : Dataset of ``first_image(clean, moves)``, lazy, loaded or opened from a store; None makes it
    frames, moves : of ``clean_frames`` and ``read_moves``

    Returns
    -------
    Producer of ``image`` and ``count``; Held where it still has to be made

    Raises
    ------
    DataError : it is no first image of these frames
    """
    if first is None:
        return Held(FirstImage(frames, moves, *canvas_spans(moves.transforms, frames.grid.y, frames.grid.x)))
    if not {"image", "count"} <= set(first.data_vars):
        raise DataError("first must be the Dataset of first_image(clean, moves): image and count")
    picture = as_producer(first, ("image", "count"))
    if picture.grid.timed or (picture.grid.bands or ("mono",)) != moves.bands:
        raise DataError(
            f"first must be the Dataset of first_image(clean, moves), with the bands {', '.join(moves.bands)}"
        )
    return Held(picture) if any(isinstance(item, FirstImage) for item in picture.walk()) else picture
