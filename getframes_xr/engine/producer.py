"""Producers: anything that can answer "produce this window".

The value of frame ``n`` at row ``y``, column ``x`` follows from a recipe alone. A producer is a frozen, picklable,
thread-safe dataclass without any dask in it; chains are built by nesting. The law that guards everything:

    produce(w) == produce(W)[w]   byte for byte, for any window w inside W.

A producer declares and the engine fetches: ``inputs`` says what a window needs of which parent, ``make`` is handed
just that, ``scratch_bytes`` says what it takes besides. The peak of a window follows:

    peak = result + scratch + max over k of (kept_k + max(peak(ask_k), bytes(ask_k)))

with the patches kept while Ask k is fetched. Where all inputs are fetched before the result is begun (``gathers``),
result and scratch count only beside what is there at the end; a result that lies in the buffers of an input
(``takes_over``) is counted once.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from getframes_xr.core.digest import code_version, digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every, some
from getframes_xr.engine.whereabouts import first_file, tell, where

LINE = 100  # of what a person reads


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes that a leaf reads from a source: ``count`` runs of ``length`` bytes, ``step`` apart, from ``start`` on.

    ``start`` is None where only an index inside the source knows; ``values`` are the bytes of pixels it gives, before
    compression.
    """

    source: str
    start: int | None
    length: int
    values: int
    count: int = 1
    step: int = 0


@dataclass(frozen=True, eq=False)
class Producer(ABC):
    """Parent of all producers: a frozen dataclass (``eq=False``), equal and hashed by ``token()``.

    A subclass states ``grid`` and ``planes`` (as fields or cached properties), ``inputs`` (leaves have none) and
    ``make``; ``parents`` are its fields that are producers.
    """

    if TYPE_CHECKING:  # at run time a property here would become the default of a subclass's field

        @property
        def grid(self) -> Grid: ...

        @property
        def planes(self) -> Mapping[str, Plane]:
            """Name -> dtype and units of every plane this producer can make."""

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterable[Ask]:
        """What ``make`` needs, in the order of use: from geometry alone, tiles, groups and frames nested as worked.

        ``few`` chooses of many alike (frames, tiles, runs) those to look at; walk them as ``few(items)``.
        """
        return ()

    @abstractmethod
    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        """Make the planes of a window that lies inside the grid, from the patches of ``inputs`` in their order."""

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        """Bytes that ``make`` takes beside its inputs and its result."""
        return 0

    @property
    def gathers(self) -> bool:
        """Whether all inputs are fetched before the result is begun."""
        return False

    @property
    def takes_over(self) -> str | None:
        """Role of the input in whose buffers the result lies."""
        return None

    def produce(self, window: Window, planes: Collection[str], *, shared: bool = False) -> Patch:
        """Make the named planes of a window.

        Parameters
        ----------
        window : Window inside the grid
        planes : names out of ``self.planes``
        shared : the caller only reads: what is held may come as a read-only view

        Returns
        -------
        Patch that belongs to the caller, holding exactly these planes

        Raises
        ------
        DataError : the window leaves the grid, or a plane is unknown
        """
        wanted = self.checked(window, planes)
        given = Given(self.inputs(window, wanted))
        try:
            return self.make(window, wanted, given).at(window)  # whatever is let go of now, its planes stay
        except Exception as error:
            if getattr(error, "place", None) is None:
                tell(error, where(type(self).__name__, self.grid, window, first_file(self, window, wanted)))
            raise
        finally:
            given.let_go_but()

    def checked(self, window: Window, planes: Collection[str]) -> frozenset[str]:
        """The planes of a request that can be answered.

        Raises
        ------
        DataError : the window leaves the grid, or a plane is unknown
        """
        self.grid.check(window)
        wanted = frozenset(planes)
        unknown = wanted - set(self.planes)
        if unknown:
            raise DataError(f"no plane {', '.join(sorted(unknown))} here; known: {', '.join(self.planes)}")
        return wanted

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        """Bytes alive at the worst moment of ``produce(window, planes)``: result, inputs and scratch together.

        Looks at a bounded number of Asks: of each parent and set of planes, those of most bytes and of most rows are
        followed up.
        """
        wanted = frozenset(planes)
        own = self.bytes_of(window, wanted) + self.scratch_bytes(window, wanted)
        kept: dict[str, int] = {}
        role, taken, last = self.takes_over, 0, 0
        alive: list[tuple[Ask, int, int]] = []  # beside each Ask, and its own bytes
        for ask in self.inputs(window, wanted, some):
            last = ask.nbytes
            if ask.keep is not None:
                kept.pop(ask.keep, None)
            alive.append((ask, sum(kept.values()), last))
            if ask.keep is not None:
                kept[ask.keep], last = last, 0
                taken = kept[ask.keep] if ask.keep == role else taken
        own -= min(taken, self.bytes_of(window, wanted))
        before = 0 if self.gathers else own
        worst = sum(kept.values()) + last + own
        groups: dict[tuple[int, frozenset[str]], list[tuple[Ask, int, int]]] = {}
        for entry in alive:
            groups.setdefault((id(entry[0].parent), frozenset(entry[0].planes)), []).append(entry)
            worst = max(worst, before + entry[1] + entry[2])
        for entries in groups.values():
            largest = max(entries, key=lambda entry: entry[2])[0]
            tallest = max(entries, key=lambda entry: len(entry[0].window.y))[0]
            beside = max(entry[1] for entry in entries)
            for ask in {id(largest): largest, id(tallest): tallest}.values():
                worst = max(worst, before + beside + ask.parent.peak_bytes(ask.window, ask.planes))
        return worst

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

    def select(self, positions: Array) -> Producer:
        """Some of the frames, in the given order; what makes each frame by itself passes the choice on to its leaf.

        A selection that lies at the leaf keeps its token when other frames join the session.
        """
        return Selected(self, positions, self.grid.y, self.grid.x)

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

    def __init_subclass__(cls) -> None:
        """Keep ``__repr__`` from being replaced by the one that ``dataclass`` makes of all fields."""
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Producer.__repr__  # type: ignore[method-assign]  # found in the class, it is left alone

    def label(self) -> str:
        """What this producer does, in a few words: its name and its small options; override where more is worth it."""
        first = self.parents[0] if self.parents else None
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        parts = sorted(values, key=lambda item: not isinstance(item[1], Producer))  # parents lead
        words = [_worded(name, value) for name, value in parts if value is not first]
        said = ", ".join(word for word in words if word)
        return f"{type(self).__name__}: {said}" if said else type(self).__name__

    def steps(self) -> list[str]:
        """The labels from the source down to this producer, one short line each, along the first parents."""
        chain: list[Producer] = [self]
        while chain[-1].parents:
            chain.append(chain[-1].parents[0])
        return [shorten(item.label(), LINE, placeholder=" ...") for item in reversed(chain)]

    def __repr__(self) -> str:
        grid = self.grid
        frames = f"{grid.n_frames} frames of " if grid.timed else ""
        bands = f" x {len(grid.bands)} bands" if grid.bands else ""
        size = f"{frames}{len(grid.y)} x {len(grid.x)} px{bands} from ({grid.y.start}, {grid.x.start})"
        return "\n".join([*self.steps(), shorten(f"{size}: {', '.join(self.planes)}", LINE, placeholder=" ...")])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Producer) and self.token() == other.token()

    def __hash__(self) -> int:
        return hash(self.token())

    def __getstate__(self) -> dict[str, Any]:
        """Fields only: cached values are made again where they are needed."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            name: self.__dict__[name] for name in ("_token",) if name in self.__dict__
        }

    @property
    def preferred_chunks(self) -> tuple[int, int, int] | None:
        """(frames, rows, columns) that suit the way the data lie; None where any will do."""
        return self.parents[0].preferred_chunks if len(self.parents) == 1 else None

    @property
    def pieces(self) -> tuple[int, int] | None:
        """Rows and columns of the pieces in which a window is worked off: larger windows read no less."""
        return None

    def bytes_of(self, window: Window, planes: Collection[str]) -> int:
        """Bytes of the result alone."""
        pixels = int(np.prod(self.grid.shape(window)))
        return sum(self.planes[name].dtype.itemsize * pixels for name in planes)

    def reads(self, window: Window, planes: Collection[str]) -> Iterable[Read]:
        """What a leaf reads from files for a window; nothing for all others."""
        return ()

    def cached_bytes(self) -> int:
        """Bytes that it keeps in bounded caches of the process."""
        return 0

    def fixed_map_bytes(self) -> int:
        """Bytes of fixed maps that its stages share with all others of the process, in one bounded cache."""
        return 0


def _worded(name: str, value: Any) -> str:
    """A field in a label: small options by value, parts by their kind or number, arrays not at all."""
    if isinstance(value, Producer):
        return f"{name} {value.label().split(':')[0]}"
    if isinstance(value, str | bool | int | float):
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{name} {text}" if 0 < len(text) <= LINE // 2 and "\n" not in text else ""
    if isinstance(value, tuple) and value and not isinstance(value[0], str | int | float | tuple):
        kinds = [str(getattr(item, "kind", "")) for item in value]
        return ", ".join(kinds) if all(kinds) else f"{len(value)} {name}"
    kind = getattr(value, "kind", None)
    return f"{name} {kind}" if isinstance(kind, str) else ""


def with_flags(producer: Producer, plane: str) -> tuple[str, ...]:
    """A plane, and the flags that go with it where there are any."""
    return (plane, "flags") if "flags" in producer.planes else (plane,)


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

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        whole = Patch(self.grid.window, dict(self.arrays), self.grid.timed).only(planes)
        cut = whole.view(window)
        return Patch(window, {name: values.copy() for name, values in cut.planes.items()}, self.grid.timed)

    def select(self, positions: Array) -> Producer:
        arrays = {name: values[positions] for name, values in self.arrays.items()}
        return ArrayFrames(self.grid.select(positions), arrays, self.units)


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

    @property
    def takes_over(self) -> str:
        return "frames"

    def _runs(self, frames: Span) -> list[Span]:
        """Runs of neighbouring positions, so that neighbours are asked for together."""
        if self.positions is None:
            return [frames]
        wanted = self.positions[frames.start : frames.stop]
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        return [Span(int(run[0]), int(run[-1]) + 1) for run in np.split(wanted, breaks) if len(run)]

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        runs = self._runs(window.frames)
        role = "frames" if len(runs) == 1 else None
        for run in few(runs, [len(run) for run in runs]):
            yield Ask(self.parent, window.with_frames(run), planes, keep=role)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        if len(self._runs(window.frames)) == 1:
            return given.take()
        shape = self.grid.shape(window)
        out = Patch(window, {n: np.empty(shape, self.planes[n].dtype) for n in sorted(planes)}, self.grid.timed)
        at = 0
        for ask, patch in given:
            n_frames = len(ask.window.frames)
            for name in planes:
                out[name][at : at + n_frames] = patch[name]
            at += n_frames
        return out

    def label(self) -> str:
        frames = "" if self.positions is None else f"{len(self.positions)} of {self.parent.grid.n_frames} frames, "
        rows, columns = f"rows {self.y.start}..{self.y.stop - 1}", f"columns {self.x.start}..{self.x.stop - 1}"
        return f"Selected: {frames}{rows}, {columns}"

    def select(self, positions: Array) -> Producer:
        own = positions if self.positions is None else self.positions[positions]
        inside = self.parent.select(own)
        if (self.y, self.x) == (inside.grid.y, inside.grid.x):
            return inside
        return Selected(inside, None, self.y, self.x)
