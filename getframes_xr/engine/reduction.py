"""Reductions: many inputs to one result, in tiles; ``make`` is written here, once.

    for each tile:  state = start;  for each batch of Asks: add;  finish

Batches come in the order of their ranks (frames by their number, rows of strips), whatever lies where. Where two
states can be made one (``folds``), ranks are added in blocks of 256 and the blocks are folded left to right, so that
a block of ranks is a state of its own that can be kept, moved and folded later, with the same bytes: at most two
states are alive. A median or a clip needs all samples and does not fold.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch, by_band
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer

BLOCK_RANKS: Final = 256


@dataclass
class Batch:
    """Asks whose patches are added together, and the rank of the first."""

    rank: int
    asks: Sequence[Ask]


@dataclass(frozen=True, eq=False)
class Reduction(Producer):
    """Parent of producers that add many inputs up; see the module."""

    def tiles(self, window: Window) -> Sequence[Window]:
        """The parts of a window that are worked off one after the other; the window itself by default."""
        return [window]

    def ground(self, tile: Window, planes: frozenset[str]) -> Sequence[Ask]:
        """What a tile needs throughout; each has a role."""
        return ()

    @abstractmethod
    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterable[Batch]:
        """The inputs of a tile by increasing rank; of several Asks in a batch each but the last has a role."""

    @abstractmethod
    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> Any:
        """The empty state of a tile.

        ``kept`` holds the patches of ``ground`` by role; ``spent`` is the state of the tile before, whose buffers may
        be used again (fresh pages cost as much as a read).
        """

    @abstractmethod
    def add(self, state: Any, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        """Take a batch into the state, in place."""

    @abstractmethod
    def finish(self, state: Any, out: Patch) -> None:
        """Write the planes of a tile into ``out``, views of the result."""

    @property
    def n_ranks(self) -> int:
        """How many inputs there are."""
        raise TypeError(f"{type(self).__qualname__} needs all its inputs in one state")

    @property
    def folds(self) -> bool:
        """Whether states of blocks of ranks can be made one."""
        return False

    def combine(self, left: Any, right: Any) -> Any:
        """One state of two; ``right`` holds the higher ranks. May write to ``left``."""
        raise TypeError(f"{type(self).__qualname__} needs all its inputs in one state")

    def over(self, ranks: Span) -> Self:
        """The same reduction of some ranks alone, the choice passed on to the leaves."""
        raise TypeError(f"{type(self).__qualname__} needs all its inputs in one state")

    @property
    def ring(self) -> int:
        """Pixels around a tile that its state covers and ``finish`` looks at."""
        return 0

    @property
    def state_planes(self) -> Mapping[str, Plane]:
        """The state as planes of (band, y, x)."""
        return {}

    def pack(self, state: Any, tile: Window) -> dict[str, Array]:
        """The planes of a state, on the tile and its ring."""
        raise TypeError(f"{type(self).__qualname__} has no state that can be kept")

    def unpack(self, planes: Mapping[str, Array], tile: Window) -> Any:
        """The state of such planes."""
        raise TypeError(f"{type(self).__qualname__} has no state that can be kept")

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        if not window.pixels:
            return
        tiles = self.tiles(window)
        for tile in few(tiles, [tile.pixels for tile in tiles]):
            yield from self.ground(tile, planes)
            for batch in self.batches(tile, planes, few):
                yield from batch.asks

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape = self.grid.shape(window)
        out = Patch(
            window, {name: np.empty(shape, self.planes[name].dtype) for name in sorted(planes)}, self.grid.timed
        )
        for tile, state in self.states(window, planes, given):
            self.finish(state, out.view(tile))
        return out

    def states(self, window: Window, planes: frozenset[str], given: Given) -> Iterator[tuple[Window, Any]]:
        """Each tile of a window with its state, everything in it."""
        state = None
        for tile in self.tiles(window) if window.pixels else ():
            ground = self.ground(tile, planes)
            for _ in ground:
                next(given)
            state = self.start(tile, planes, given.kept, state)
            state = self._added(state, tile, planes, given)
            given.let_go_but({ask.keep for ask in ground})
            yield tile, state

    def _added(self, state: Any, tile: Window, planes: frozenset[str], given: Given) -> Any:
        """The state of a tile with everything in it."""
        folded, block = None, 0
        for batch in self.batches(tile, planes):
            if self.folds and batch.rank // BLOCK_RANKS != block:
                folded = state if folded is None else self.combine(folded, state)
                state = self.start(tile, planes, given.kept)
                block = batch.rank // BLOCK_RANKS
            self.add(state, batch.asks, [given.take() for _ in batch.asks])
        return state if folded is None else self.combine(folded, state)


@dataclass(frozen=True, eq=False)
class Partial(Producer):
    """The state of some ranks as a product, on the reduction's canvas and its ring: to keep, to move, to fold later.

    ``reduction`` holds these ranks alone (``over``), so the token does not know of others: frames 0..255 keep theirs
    when frame 256 arrives.
    """

    reduction: Reduction

    @cached_property
    def parents(self) -> tuple[Producer, ...]:
        return self.reduction.parents

    def with_parents(self, *parents: Producer) -> Self:
        return type(self)(self.reduction.with_parents(*parents))

    @cached_property
    def grid(self) -> Grid:
        grid, ring = self.reduction.grid, self.reduction.ring
        return grid.replace(y=grid.y.grow(ring), x=grid.x.grow(ring), attrs={"state_of": self.reduction.token()})

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.reduction.state_planes

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        return self.reduction.inputs(window, frozenset(self.reduction.planes), few)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape, ring = self.grid.shape(window), self.reduction.ring
        out = Patch(window, {name: np.empty(shape, self.planes[name].dtype) for name in sorted(planes)}, False)
        for tile, state in self.reduction.states(window, frozenset(self.reduction.planes), given):
            packed = Patch(tile.grow(ring), self.reduction.pack(state, tile), False)
            for name, values in packed.only(planes).view(tile).planes.items():
                by_band(out.view(tile)[name])[...] = values
        return out

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        packed = self.bytes_of(window.grow(self.reduction.ring), self.planes)
        return packed + self.reduction.scratch_bytes(window, frozenset(self.reduction.planes))


@dataclass(frozen=True, eq=False)
class Folded(Producer):
    """A reduction from kept states, one a block of ranks; the bytes of ``reduction`` itself, which is not asked.

    Raises
    ------
    DataError : a state was made of other ranks, against another first image, with other moves or options
    """

    reduction: Reduction
    parts: tuple[Producer, ...]

    def __post_init__(self) -> None:
        for number, part in enumerate(self.parts):
            ranks = Span(number * BLOCK_RANKS, (number + 1) * BLOCK_RANKS)
            if part.grid.attrs.get("state_of") != self.reduction.over(ranks).token():
                raise DataError(
                    f"state {number} is not of these frames {ranks.start}.. as they are seen now: their moves, the "
                    "first image they are compared with, or an option differ; make it anew"
                )

    @cached_property
    def parents(self) -> tuple[Producer, ...]:
        return self.parts

    def with_parents(self, *parents: Producer) -> Self:
        return type(self)(self.reduction, parents)

    @property
    def grid(self) -> Grid:
        return self.reduction.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.reduction.planes

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        tiles = self.reduction.tiles(window) if window.pixels else []
        for tile in few(tiles, [tile.pixels for tile in tiles]):
            for part in self.parts:
                seen = tile.grow(self.reduction.ring).with_frames(part.grid.window.frames)
                yield Ask(part, seen, tuple(part.planes), about=tile)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape = self.grid.shape(window)
        out = Patch(window, {name: np.empty(shape, self.planes[name].dtype) for name in sorted(planes)}, False)
        for tile in self.reduction.tiles(window) if window.pixels else ():
            state = None
            for _ in self.parts:
                more = self.reduction.unpack(given.take().planes, tile)
                state = more if state is None else self.reduction.combine(state, more)
            self.reduction.finish(state, out.view(tile))
        return out

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        tiles = self.reduction.tiles(window) if window.pixels else []
        largest = max((tile.grow(self.reduction.ring).pixels for tile in tiles), default=0)
        pixel = sum(plane.dtype.itemsize for plane in self.reduction.state_planes.values())
        bands = len(self.grid.bands or (1,))
        return 2 * largest * pixel * bands + self.reduction.scratch_bytes(window, planes)


def folded(reduction: Reduction) -> Folded:
    """A reduction as kept states that are folded: one block of ranks each."""
    parts = [Partial(reduction.over(ranks)) for ranks in Span(0, reduction.n_ranks).pieces(BLOCK_RANKS)]
    return Folded(reduction, tuple(parts))
