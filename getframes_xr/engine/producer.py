"""Producers: anything that can answer "produce this window".

The value of frame ``n`` at row ``y``, column ``x`` follows from a recipe alone. A producer is a frozen, picklable,
thread-safe dataclass without any dask in it; chains are built by nesting. The law that guards everything:

    produce(w) == produce(W)[w]   byte for byte, for any window w inside W.

Leaves read files or make light; ``Staged`` runs stages; ``Selected`` is the user's ``isel``; producers that change
dims or grid (debayer, warp, stack) start a new grid.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from getframes_xr.core.digest import code_version, digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window


@dataclass(frozen=True, eq=False)
class Producer(ABC):
    """Parent of all producers: a frozen dataclass (``eq=False``), equal and hashed by ``token()``.

    A subclass states ``grid`` and ``planes`` (as fields or cached properties), ``_produce`` and ``peak_bytes``;
    ``parents`` are its fields that are producers.
    """

    if TYPE_CHECKING:  # at run time a property here would become the default of a subclass's field

        @property
        def grid(self) -> Grid: ...

        @property
        def planes(self) -> Mapping[str, Plane]:
            """Name -> dtype and units of every plane this producer can make."""

    @abstractmethod
    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        """Make the planes of a window that lies inside the grid; called by ``produce`` after the checks."""

    @abstractmethod
    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        """Bytes alive at the worst moment of ``produce(window, planes)``: result, inputs and scratch together."""

    def produce(self, window: Window, planes: Collection[str]) -> Patch:
        """Make the named planes of a window.

        Parameters
        ----------
        window : Window inside the grid
        planes : names out of ``self.planes``

        Returns
        -------
        Patch that belongs to the caller, holding exactly these planes

        Raises
        ------
        DataError : the window leaves the grid, or a plane is unknown
        """
        self.grid.check(window)
        wanted = frozenset(planes)
        unknown = wanted - set(self.planes)
        if unknown:
            raise DataError(f"no plane {', '.join(sorted(unknown))} here; known: {', '.join(self.planes)}")
        return self._produce(window, wanted)

    @cached_property
    def parents(self) -> tuple[Producer, ...]:
        """The producers among the fields, in the order of the fields."""
        found: list[Producer] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            found.extend(
                item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Producer)
            )
        return tuple(found)

    def with_parents(self, *parents: Producer) -> Self:
        """The same producer over other parents (as many as ``self.parents``)."""
        rest = iter(parents)
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Producer):
                changes[field.name] = next(rest)
            elif isinstance(value, tuple) and any(isinstance(item, Producer) for item in value):
                changes[field.name] = tuple(next(rest) if isinstance(i, Producer) else i for i in value)
        return dataclasses.replace(self, **changes)

    def walk(self) -> Iterator[Producer]:
        """This producer and all above it, each once, parents after children."""
        seen: set[str] = set()
        waiting: list[Producer] = [self]
        while waiting:
            producer = waiting.pop(0)
            if producer.token() not in seen:
                seen.add(producer.token())
                yield producer
                waiting.extend(producer.parents)

    @cached_property
    def _token(self) -> str:
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return digest(type(self).__qualname__, code_version(), values)

    def token(self) -> str:
        """Content digest of the recipe: options, files, seed, code. Override where fields do not tell all."""
        return self._token

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Producer) and self.token() == other.token()

    def __hash__(self) -> int:
        return hash(self.token())

    def __getstate__(self) -> dict[str, Any]:
        """Fields only: cached values are made again where they are needed."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            name: self.__dict__[name] for name in ("_token",) if name in self.__dict__
        }

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        """Which window of each parent ``produce(window, planes)`` may touch; the whole of it where nobody says less."""
        same = [parent.grid.window == self.grid.window for parent in self.parents]
        return [(p, window if equal else p.grid.window) for p, equal in zip(self.parents, same, strict=True)]

    @property
    def preferred_chunks(self) -> tuple[int, int, int] | None:
        """(frames, rows, columns) that suit the way the data lie; None where any will do."""
        return self.parents[0].preferred_chunks if len(self.parents) == 1 else None

    def bytes_of(self, window: Window, planes: Collection[str]) -> int:
        """Bytes of the result alone."""
        pixels = int(np.prod(self.grid.shape(window)))
        return sum(self.planes[name].dtype.itemsize * pixels for name in planes)


@dataclass(frozen=True, eq=False)
class ArrayFrames(Producer):
    """Frames held in memory: one array per plane, covering the whole grid.

    Raises
    ------
    DataError : an array's shape is not the grid's
    """

    grid: Grid
    arrays: Mapping[str, Array]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.arrays.items():
            if values.shape != self.grid.shape(self.grid.window):
                raise DataError(f"plane {name}: shape {values.shape}, grid {self.grid.shape(self.grid.window)}")

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {name: Plane(a.dtype, self.units.get(name, "")) for name, a in self.arrays.items()}

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        whole = Patch(self.grid.window, dict(self.arrays), self.grid.timed).only(planes)
        cut = whole.view(window)
        return Patch(window, {name: values.copy() for name, values in cut.planes.items()}, self.grid.timed)

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        return self.bytes_of(window, planes)


@dataclass(frozen=True, eq=False)
class Selected(Producer):
    """Some frames (in any order) and a box of pixels of another producer: the user's ``isel``."""

    parent: Producer
    positions: Array | None
    y: Span
    x: Span

    @cached_property
    def grid(self) -> Grid:
        grid = self.parent.grid if self.positions is None else self.parent.grid.select(self.positions)
        return grid.replace(y=self.y, x=self.x)

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def _runs(self, frames: Span) -> list[Span]:
        """Runs of neighbouring positions, so that neighbours are asked for together."""
        if self.positions is None:
            return [frames]
        wanted = self.positions[frames.start : frames.stop]
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        return [Span(int(run[0]), int(run[-1]) + 1) for run in np.split(wanted, breaks) if len(run)]

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        runs = self._runs(window.frames)
        if len(runs) == 1:
            patch = self.parent.produce(window.with_frames(runs[0]), planes)
            return Patch(window, patch.planes, patch.timed)
        shape = self.grid.shape(window)
        out = Patch(window, {n: np.empty(shape, self.planes[n].dtype) for n in sorted(planes)}, self.grid.timed)
        at = 0
        for run in runs:
            patch = self.parent.produce(window.with_frames(run), planes)
            for name in planes:
                out[name][at : at + len(run)] = patch[name]
            del patch  # before the next one is made
            at += len(run)
        return out

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        return [(self.parent, window.with_frames(run)) for run in self._runs(window.frames)]

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        runs = self._runs(window.frames)
        longest = max(runs, key=len, default=Span(0, 0))
        extra = 0 if len(runs) <= 1 else self.bytes_of(window, planes)
        return extra + self.parent.peak_bytes(window.with_frames(longest), planes)
