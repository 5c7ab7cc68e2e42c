"""Held: evaluated once per run, then shared by every task that needs it.

Masters, bad-pixel maps and first images are made once. In the graph their blocks are tasks of their own and reach a
task as patches; inside the task the engine hands them out: a read-only view where one block holds the window and the
asker only reads, else a copy. Outside a run a Held simply asks its parent: the same bytes, made again, or taken from
whoever keeps them (``kept_by``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from getframes_xr.core.patch import Patch, frozen
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer

_VALUES: ContextVar[Mapping[str, list[Patch]]] = ContextVar("handed to this task", default={})  # noqa: B039 (never written to)

_KEPT: ContextVar[Callable[[Held, Window], list[Patch]] | None] = ContextVar("who keeps what is held", default=None)


@dataclass(frozen=True, eq=False)
class Handed(Producer):
    """Parent of producers whose blocks a task is handed: what is behind them is not made in the task."""

    def blocks(self, window: Window) -> list[Patch] | None:
        """Blocks that cover a window, where there are any to be had."""
        return _VALUES.get().get(self.token())

    def produce(self, window: Window, planes: Collection[str], *, shared: bool = False) -> Patch:
        wanted = self.checked(window, planes)
        blocks = self.blocks(window)
        if blocks is None:
            return super().produce(window, planes, shared=shared)
        return from_blocks(blocks, self.grid, self.planes, window, wanted, shared)


def from_blocks(
    blocks: list[Patch],
    grid: Grid,
    known: Mapping[str, Plane],
    window: Window,
    planes: Collection[str],
    shared: bool = False,
) -> Patch:
    """A patch of ``window`` put together from blocks that cover it; a frozen view of one that holds it all."""
    touching = [block for block in _near(blocks, window.frames) if block.window.clip(window).pixels]
    if shared and len(touching) == 1 and window in touching[0].window:
        part = touching[0].only(frozenset(planes)).view(window)
        return Patch(window, {name: frozen(values) for name, values in part.planes.items()}, grid.timed)
    shape = grid.shape(window)
    out = Patch(window, {n: np.empty(shape, known[n].dtype) for n in sorted(planes)}, grid.timed)
    for block in touching:
        common = block.window.clip(window)
        source, target = block.only(frozenset(planes)).view(common), out.view(common)
        for name in planes:
            target[name][...] = source[name]
    return out


def _near(blocks: list[Patch], frames: Span) -> list[Patch]:
    """Those of many blocks, sorted along time, that may hold some frames."""
    first = max(0, bisect_right(blocks, frames.start, key=_first_frame) - 1)
    first = bisect_left(blocks, _first_frame(blocks[first]), key=_first_frame) if blocks else 0
    return blocks[first : bisect_left(blocks, frames.stop, key=_first_frame)]


def _first_frame(block: Patch) -> int:
    return block.window.frames.start


@dataclass(frozen=True, eq=False)
class Held(Handed):
    """``parent``, evaluated once per run."""

    parent: Producer

    def label(self) -> str:
        return f"{self.parent.label().split(':')[0]} (held)"

    def blocks(self, window: Window) -> list[Patch] | None:
        found, kept = super().blocks(window), _KEPT.get()
        return kept(self, window) if found is None and kept is not None else found

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    @property
    def takes_over(self) -> str:
        return "held"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="held")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        return given.take()

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        """Of a task: what it copies; the blocks themselves are counted once per process (``held_bytes``)."""
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


def touched_windows(
    producer: Producer, window: Window, planes: Collection[str], targets: Collection[str]
) -> dict[str, list[Window]]:
    """Windows of the Handed producers named by their tokens that a window may touch; not of those behind another."""
    found: dict[str, list[Window]] = {}
    leads: dict[int, bool] = {}

    def is_on_the_way(item: Producer) -> bool:
        known = leads.get(id(item))
        if known is None:
            if isinstance(item, Handed):
                known = item.token() in targets
            else:
                known = any(is_on_the_way(parent) for parent in item.parents)
            leads[id(item)] = known
        return known

    def follow(item: Producer, asked: Window, wanted: frozenset[str]) -> None:
        for ask in item.inputs(asked, wanted):
            if not is_on_the_way(ask.parent):
                continue
            if isinstance(ask.parent, Handed):
                windows = found.setdefault(ask.parent.token(), [])
                if ask.window not in windows[-1:]:
                    windows.append(ask.window)
            else:
                follow(ask.parent, ask.window, frozenset(ask.planes))

    if isinstance(producer, Handed):
        return {producer.token(): [window]} if producer.token() in targets else {}
    if is_on_the_way(producer):
        follow(producer, window, frozenset(planes))
    return found


@contextmanager
def handed(values: Mapping[str, list[Patch]]) -> Iterator[None]:
    """Give the Handed producers of this task their blocks, by token."""
    in_order = {name: sorted(blocks, key=_first_frame) for name, blocks in values.items()}
    token = _VALUES.set({**_VALUES.get(), **in_order})
    try:
        yield
    finally:
        _VALUES.reset(token)


@contextmanager
def kept_by(keeper: Callable[[Held, Window], list[Patch]]) -> Iterator[None]:
    """Ask ``keeper`` for the blocks of what is held and not handed in."""
    token = _KEPT.set(keeper)
    try:
        yield
    finally:
        _KEPT.reset(token)
