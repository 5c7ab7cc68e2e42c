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
from typing import Any, Final

import numpy as np

from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Window
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
    def folds(self) -> bool:
        """Whether states of blocks of ranks can be made one."""
        return False

    def combine(self, left: Any, right: Any) -> Any:
        """One state of two; ``right`` holds the higher ranks. May write to ``left``."""
        raise TypeError(f"{type(self).__qualname__} needs all its inputs in one state")

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
        state = None
        for tile in self.tiles(window) if window.pixels else ():
            ground = self.ground(tile, planes)
            for _ in ground:
                next(given)
            state = self.start(tile, planes, given.kept, state)
            state = self._added(state, tile, planes, given)
            given.let_go_but({ask.keep for ask in ground})
            self.finish(state, out.view(tile))
        return out

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
