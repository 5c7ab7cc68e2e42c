"""Held: evaluated once per run, then shared by every task that needs it.

Masters, bad-pixel maps and first images are made once. In the graph their blocks are tasks of their own with index
letters of their own (so dask neither fuses nor repeats them) and reach a task as nested lists of shared blocks; inside
the task ``Held.produce`` copies from these. Outside a run it simply asks its parent: the same bytes, made again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.producer import Producer

_VALUES: ContextVar[Mapping[str, list[Patch]]] = ContextVar("held values of this task", default={})  # noqa: B039 (never written to)


def handed_in(token: str) -> list[Patch] | None:
    """The blocks this task got for the producer with this token; None outside a run."""
    return _VALUES.get().get(token)


def copy_blocks(
    blocks: list[Patch], grid: Grid, known: Mapping[str, Plane], window: Window, planes: Collection[str]
) -> Patch:
    """A patch of ``window`` put together from blocks that cover it."""
    shape = grid.shape(window)
    out = Patch(window, {n: np.empty(shape, known[n].dtype) for n in sorted(planes)}, grid.timed)
    for block in blocks:
        common = block.window.clip(window)
        if common.pixels:
            source, target = block.only(frozenset(planes)).view(common), out.view(common)
            for name in planes:
                target[name][...] = source[name]
    return out


@dataclass(frozen=True, eq=False)
class Held(Producer):
    """``parent``, evaluated once per run."""

    parent: Producer

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        blocks = handed_in(self.token())
        if blocks is None:
            return self.parent.produce(window, planes)
        return copy_blocks(blocks, self.grid, self.planes, window, planes)

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        return self.bytes_of(window, planes)

    def held_bytes(self) -> int:
        """Bytes of all its blocks, counted once per worker."""
        return self.bytes_of(self.grid.window, self.planes)


def held_below(producer: Producer) -> list[Held]:
    """The Held producers a task of ``producer`` needs, in a fixed order; not those behind another Held."""
    found: dict[str, Held] = {}
    waiting = [producer] if not isinstance(producer, Held) else list(producer.parents)
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, Held):
            found.setdefault(item.token(), item)
        else:
            waiting.extend(item.parents)
    return list(found.values())


def flatten(nested: Any) -> Iterator[Patch]:
    """The patches in dask's nested lists of blocks."""
    if isinstance(nested, Patch):
        yield nested
    else:
        for item in nested:
            yield from flatten(item)


@contextmanager
def held_values(values: Mapping[str, list[Patch]]) -> Iterator[None]:
    """Give the Held producers of this task their blocks, by token."""
    token = _VALUES.set({**_VALUES.get(), **values})
    try:
        yield
    finally:
        _VALUES.reset(token)
