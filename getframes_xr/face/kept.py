"""What windows made without a run keep of the Held products: blocks, in a bounded cache of the process.

A loader that asks for window after window (``ds.gx.compute()``, in the main process or in forked ones) meets the same
masters again and again. Their blocks are made once per process, least recently used out first; a fork takes along what
is there, and locks begin anew in the child.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from getframes_xr.core.fork_lock import ForkLock
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.held import Held
from getframes_xr.face.graph import blocks_under, chunks_of

KEPT_BYTES: Final = 256 * 2**20

Key = tuple[str, tuple[int, ...]]


class KeptBlocks:
    """Blocks of Held products by token and place, never more than ``limit`` bytes."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit = limit
        self.nbytes = 0
        self._found: OrderedDict[Key, Patch] = OrderedDict()
        self._lock = ForkLock()

    def __call__(self, held: Held, window: Window) -> list[Patch]:
        """The blocks of a Held that cover a window."""
        sizes = chunks_of(held)
        with self._lock:
            return [self._block(held, sizes, at) for at in blocks_under(held.grid, sizes, [window])]

    def _block(self, held: Held, sizes: tuple[tuple[int, ...], ...], at: tuple[int, ...]) -> Patch:
        key = (held.token(), at)
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
            return found
        outer = held.grid.window
        axes = (outer.frames, outer.y, outer.x)[-len(sizes) :]
        starts = [axis.start + sum(lengths[:k]) for axis, lengths, k in zip(axes, sizes, at, strict=True)]
        spans = [Span(start, start + lengths[k]) for start, lengths, k in zip(starts, sizes, at, strict=True)]
        made = held.parent.produce(Window(spans[0] if len(spans) == 3 else outer.frames, *spans[-2:]), held.planes)
        if made.nbytes <= self.limit:
            self._found[key] = made
            self.nbytes += made.nbytes
            while self.nbytes > self.limit:
                self.nbytes -= self._found.popitem(last=False)[1].nbytes
        return made

    def clear(self) -> None:
        with self._lock:
            self._found.clear()
            self.nbytes = 0


KEPT: Final = KeptBlocks()
