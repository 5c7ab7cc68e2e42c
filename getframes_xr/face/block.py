"""The one block: the callable that a task runs, a producer with the absolute vectors it is asked at.

dask hands over slices into the vectors; the block produces the hull and takes from it where the vectors step, repeat
or run backwards. Nothing in here knows dask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.ask import Given, Sink
from getframes_xr.engine.held import handed
from getframes_xr.engine.producer import Producer, Selected
from getframes_xr.engine.whereabouts import tell, where


def steady(vector: Array) -> bool:
    """True where a vector is a run of neighbouring integers (or empty)."""
    return len(vector) < 2 or bool((np.diff(vector) == 1).all())


def hull(vector: Array) -> Span:
    return Span(int(vector.min()), int(vector.max()) + 1) if len(vector) else Span(0, 0)


@dataclass(frozen=True, eq=False)
class Selection:
    """What the user chose of a producer: frame positions and absolute rows and columns, in any order."""

    producer: Producer
    positions: Array
    y: Array
    x: Array

    @classmethod
    def whole(cls, producer: Producer) -> Selection:
        window = producer.grid.window
        return cls(producer, window.frames.indices(), window.y.indices(), window.x.indices())

    @property
    def contiguous(self) -> bool:
        return steady(self.y) and steady(self.x)

    @property
    def repeats(self) -> bool:
        """Whether a frame is there twice, which no producer can be."""
        return len(np.unique(self.positions)) < len(self.positions)

    def as_producer(self) -> Producer:
        """The chosen part as a producer; y and x must be runs of step 1."""
        producer, y, x = self.producer, hull(self.y), hull(self.x)
        n_frames = producer.grid.n_frames
        positions = None if len(self.positions) == n_frames and steady(self.positions) else self.positions
        if positions is None and y == producer.grid.y and x == producer.grid.x:
            return producer
        return Selected(producer, positions if producer.grid.timed else None, y, x)

    def produce(self, planes: tuple[str, ...]) -> Patch:
        """Exactly the chosen values (the patch's window is their hull)."""
        y, x = hull(self.y), hull(self.x)
        grid = self.producer.grid
        if steady(self.positions) or not grid.timed:
            frames = hull(self.positions) if grid.timed else Span(0, 1)
            patch = self.producer.produce(Window(frames, y, x), planes)
        else:
            part = Selected(self.producer, self.positions, y, x)
            patch = part.produce(part.grid.window, planes)
        if not steady(self.y):
            patch.planes = {n: np.ascontiguousarray(a[..., self.y - y.start, :]) for n, a in patch.planes.items()}
        if not steady(self.x):
            patch.planes = {n: np.ascontiguousarray(a[..., self.x - x.start]) for n, a in patch.planes.items()}
        return patch


@dataclass(frozen=True, eq=False)
class Block:
    """One task: ``block(location, *handed)`` gives the planes of that part, or what ``finish`` makes of them.

    ``location`` is a tuple of slices into the selection's vectors (``(time, y, x)``, without time for a product that
    has none), or a ``Window`` of the producer. ``handed`` are the blocks of the producers with the tokens ``handed``,
    in nested lists.
    """

    selection: Selection
    planes: tuple[str, ...]
    handed: tuple[str, ...] = ()
    finish: Sink | Callable[[Patch, Window], Any] | None = None

    def __call__(self, location: Any, *handed_in: Any) -> Any:
        values = {token: list(flatten(blocks)) for token, blocks in zip(self.handed, handed_in, strict=True)}
        window = location if isinstance(location, Window) else self.window_at(location)
        producer = self.selection.producer
        try:
            with handed(values):
                if isinstance(self.finish, Sink):
                    given = Given(self.finish.inputs(producer, window))
                    try:
                        return self.finish.take(producer, window, given)
                    finally:
                        given.let_go_but()
                if isinstance(location, Window):
                    patch = producer.produce(location, self.planes)
                else:
                    patch = self.part(location).produce(self.planes)
            return patch if self.finish is None else self.finish(patch, patch.window)
        except Exception as error:
            who = producer if self.finish is None else self.finish
            tell(error, where(type(who).__name__, producer.grid, window))
            raise

    def part(self, location: tuple[slice, ...]) -> Selection:
        """The part of the selection at a location."""
        chosen = self.selection
        frames = chosen.positions[location[0]] if chosen.producer.grid.timed else chosen.positions
        return Selection(chosen.producer, frames, chosen.y[location[-2]], chosen.x[location[-1]])

    def window_at(self, location: tuple[slice, ...]) -> Window:
        """The producer's window that a location asks for (its hull)."""
        chosen = self.selection
        frames = hull(chosen.positions[location[0]]) if chosen.producer.grid.timed else Span(0, 1)
        return Window(frames, hull(chosen.y[location[-2]]), hull(chosen.x[location[-1]]))


def flatten(nested: Any) -> Iterator[Patch]:
    """The patches in dask's nested lists of blocks."""
    if isinstance(nested, Patch):
        yield nested
    else:
        for item in nested:
            yield from flatten(item)


@dataclass(frozen=True)
class Pick:
    """Takes one named array out of what a block made."""

    name: str

    def __call__(self, made: Any) -> Array:
        while isinstance(made, list):  # a row per frame: the single block along y and x comes in lists
            made = made[0]
        values: Array = made[self.name]
        return values
