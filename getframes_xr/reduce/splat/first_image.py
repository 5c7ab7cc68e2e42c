"""The first image: a robust picture of the sky, made before anything is rejected.

The used frames are dealt in turn to K groups (frame k, k + K, k + 2K ... so that a group spans the session), each group
is deposited without rejection, and every canvas pixel takes the median of the K group images. A cosmic ray, a trail
or a hot pixel spoils one group of K. All frames are used once, the PSF is that of the final stack, the cost one plain
pass. K = 5 from 40 frames on, else max(3, N // 8), N for N < 3; of two groups the smaller value counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import UNUSABLE, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.reduction import BLOCK_RANKS, Batch, Reduction
from getframes_xr.face.frames_in import FramesLike, as_producer, dataset_in, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.canvas import canvas_spans
from getframes_xr.reduce.splat.deposit import PLAIN_SUMS, RING_PX, deposit_plain, group_image, middle
from getframes_xr.reduce.splat.moves import Moves, read_moves
from getframes_xr.reduce.splat.tiles import TILE_PX, FramePart, copied_bytes, frames_under, parts_of, tiles_of


def number_of_groups(frames: int) -> int:
    """K: 5 from 40 frames on, else max(3, N // 8), N for N < 3."""
    if frames < 3:
        return frames
    return 5 if frames >= 40 else max(3, frames // 8)


@dataclass
class GroupSums:
    """The two sums of a group of frames on a tile and its ring."""

    rows: Span
    columns: Span
    parts: list[Array]
    sums: Array


@dataclass(frozen=True, eq=False)
class GroupImage(Reduction):
    """One group of frames deposited without rejection: plane ``image``, without time.

    Parameters
    ----------
    clean : Producer with time, planes ``image`` and ``flags``
    moves : Moves of the group
    y, x : Span of the canvas
    """

    clean: Producer
    moves: Moves
    y: Span
    x: Span

    @cached_property
    def grid(self) -> Grid:
        return Grid(self.y, self.x, bands=self.moves.bands)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(np.dtype(np.float32), self.clean.planes["image"].units)}

    def tiles(self, window: Window) -> list[Window]:
        return tiles_of(window)

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        grown = tile.grow(RING_PX)
        yield from frames_under(self.clean, self.moves, grown.y, grown.x, few)

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> GroupSums:
        rows, columns = tile.y.grow(RING_PX), tile.x.grow(RING_PX)
        shape = (len(rows), len(columns), len(self.moves.bands) * PLAIN_SUMS)
        sums = np.empty(shape, np.float32) if spent is None or spent.sums.shape != shape else spent.sums
        sums.fill(0)
        return GroupSums(rows, columns, list(parts_of(rows, columns)), sums)

    def add(self, state: GroupSums, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        moves, frames = self.moves, [FramePart.of(ask, patch) for ask, patch in zip(asks, patches, strict=True)]
        for part in state.parts:
            for frame in frames:
                n = frame.number
                deposit_plain(
                    state.sums.reshape(-1), len(state.columns), part, frame.image, frame.flags, frame.y, frame.x,
                    moves.transforms[n], moves.inverses[n], moves.phases, moves.step, moves.sky[n], moves.centre,
                    1.0 / moves.transparency[n], moves.weights32[n], UNUSABLE,
                )  # fmt: skip

    def finish(self, state: GroupSums, out: Patch) -> None:
        group_image(state.sums, self.moves.weights.mean(axis=0).astype(np.float32), out["image"])

    @property
    def folds(self) -> bool:
        return True

    def combine(self, left: GroupSums, right: GroupSums) -> GroupSums:
        left.sums += right.sums
        return left

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        tile = max(tiles_of(window), key=lambda tile: tile.pixels)
        rows, columns = tile.y.grow(RING_PX), tile.x.grow(RING_PX)
        sums = 4 * PLAIN_SUMS * len(self.moves.bands) * len(rows) * len(columns)
        alive = 2 if len(self.moves) > BLOCK_RANKS else 1
        return alive * sums + copied_bytes(self.clean, self.moves, rows, columns)


@dataclass(frozen=True, eq=False)
class FirstImage(Producer):
    """Median of K group images: planes ``image`` and ``count`` (valid groups), without time.

    Parameters
    ----------
    groups : GroupImage of each group, on one canvas
    frames : number of frames in all of them
    coloured : whether the bands are shown (raw mosaics), or the one of mono frames left out
    """

    groups: tuple[Producer, ...]
    frames: int
    coloured: bool

    @classmethod
    def of(cls, clean: Producer, moves: Moves, y: Span, x: Span) -> FirstImage:
        """Deal the used frames in turn to the groups."""
        n_groups = number_of_groups(len(moves))
        dealt = [moves.select(np.arange(group, len(moves), n_groups)) for group in range(n_groups)]
        groups = tuple(GroupImage(clean, members, y, x) for members in dealt)
        return cls(groups, len(moves), moves.cfa is not None)

    @cached_property
    def grid(self) -> Grid:
        group = self.groups[0].grid
        bands = group.bands if self.coloured else None
        return group.replace(bands=bands, attrs={"groups": len(self.groups), "frames": self.frames})

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": self.groups[0].planes["image"], "count": Plane(np.dtype(np.uint16), "")}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, TILE_PX, TILE_PX

    @property
    def pieces(self) -> tuple[int, int]:
        return TILE_PX, TILE_PX

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        if not window.pixels:
            return
        tiles = tiles_of(window)
        for tile in few(tiles, [tile.pixels for tile in tiles]):
            for number, group in enumerate(self.groups):
                yield Ask(group, tile, ("image",), about=(tile, number))

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape = (len(self.groups[0].grid.bands or ()), len(window.y), len(window.x))
        image, count = np.empty(shape, np.float32), np.empty(shape, np.uint16)
        images = np.empty((0, 0, 0, 0), np.float32)
        for ask, patch in given:
            tile, number = ask.about
            if number == 0:
                images = np.empty((len(self.groups), *patch["image"].shape), np.float32)
            images[number] = patch["image"]
            if number == len(self.groups) - 1:
                inner = (slice(None), tile.y.slice_in(window.y), tile.x.slice_in(window.x))
                middle(images, image[inner], count[inner])
        made: dict[str, Array] = {"image": image, "count": count}
        if not self.coloured:
            made = {name: values[0] for name, values in made.items()}
        return Patch(window, made, timed=False).only(planes)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        tile = max((tile.pixels for tile in tiles_of(window)), default=0)
        images = 4 * len(self.groups) * len(self.groups[0].grid.bands or ()) * tile
        return images + self.bytes_of(window, set(self.planes) - planes)


def first_image(clean: FramesLike, moves: xr.Dataset) -> xr.Dataset:
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
    frames = frames_in(clean, "first_image", ("image",), timed=True, mosaic=True).producer
    table = read_moves(moves, frames.grid, frames.planes["image"].units or "adu")
    return lazy(FirstImage.of(frames, table, *canvas_spans("union", table.transforms, frames.grid.y, frames.grid.x)))


def read_first(first: xr.Dataset | None, frames: Producer, moves: Moves) -> Producer:
    """The first image a user gives, or the one that is made on the way (Held).

    Parameters
    ----------
    first : Dataset of ``first_image(clean, moves)``, lazy, loaded or opened from a store; None makes it
    frames, moves : the calibrated frames, and their table of ``read_moves``

    Returns
    -------
    Producer of ``image`` and ``count``; Held where it still has to be made

    Raises
    ------
    DataError : it is no first image of these frames
    """
    if first is None:
        return Held(
            FirstImage.of(frames, moves, *canvas_spans("union", moves.transforms, frames.grid.y, frames.grid.x))
        )
    first = dataset_in(first, "first=")
    if not {"image", "count"} <= set(first.data_vars):
        raise DataError("first must be the Dataset of first_image(clean, moves): image and count")
    picture = as_producer(first, ("image", "count"))
    if picture.grid.timed or (picture.grid.bands or ("mono",)) != moves.bands:
        raise DataError(
            f"first must be the Dataset of first_image(clean, moves), with the bands {', '.join(moves.bands)}"
        )
    return Held(picture) if any(isinstance(item, FirstImage) for item in picture.walk()) else picture
