"""The laws a producer owes, as checks that take one: for all classes (test_producers) and for planted bad ones."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer

MIB = 2**20
PYTHON_BYTES = 2**16  # objects of the interpreter beside the arrays that a forecast counts


def whole(producer: Producer) -> Patch:
    return producer.produce(producer.grid.window, producer.planes)


def identical(one: Patch, two: Patch) -> bool:
    return one.planes.keys() == two.planes.keys() and all(
        one[n].tobytes() == two[n].tobytes() and one[n].dtype == two[n].dtype and one[n].shape == two[n].shape
        for n in one
    )


def copied(patch: Patch) -> Patch:
    return Patch(patch.window, {name: values.copy() for name, values in patch.planes.items()}, patch.timed)


@dataclass(frozen=True, eq=False)
class Watched(Producer):
    """A parent that notes every request."""

    parent: Producer
    asked: list[tuple[str, Window, frozenset[str]]] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def token(self) -> str:
        return self.parent.token()

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterable[Ask]:
        return [Ask(self.parent, window, planes, keep="same")]

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        self.asked.append((self.parent.token(), window, planes))
        return given.take()


@dataclass(frozen=True, eq=False)
class Refusing(Watched):
    """A parent that answers nobody."""

    def produce(self, window: Window, planes: Collection[str], *, shared: bool = False) -> Patch:
        raise AssertionError("a producer asked its parent itself")


class Served(Given):
    """Patches that were made before, in the order of the Asks."""

    def __init__(self, asks: Iterable[Ask], patches: list[tuple[Ask, Patch]]) -> None:
        super().__init__(asks)
        self.patches = iter(patches)

    def fetched(self, ask: Ask) -> Patch:
        return next(self.patches)[1]


def windows(producer: Producer, large: Window, small: Window, wanted: Collection[str]) -> None:
    """A window is the crop of any window around it, and planes come alone."""
    around = producer.produce(large, producer.planes)
    assert identical(producer.produce(small, wanted), around.crop(small).only(frozenset(wanted)))


def ownership(producer: Producer) -> None:
    """A patch belongs to who asked for it: stages work in place, and nobody else may see it."""
    first = whole(producer)
    kept = copied(first)
    for values in first.planes.values():
        values.view(np.uint8)[...] = 255
    assert identical(whole(producer), kept)


def threads(producer: Producer, window: Window, expected: Patch) -> None:
    """Two threads at once make the same."""
    with ThreadPoolExecutor(2) as pool:
        for patch in pool.map(lambda _: producer.produce(window, producer.planes), range(2)):
            assert identical(patch, expected)


def asked_of(asks: Iterable[Ask]) -> list[tuple[str, Window, frozenset[str]]]:
    return [(ask.parent.token(), ask.window, frozenset(ask.planes)) for ask in asks]


def asks(producer: Producer, window: Window, wanted: frozenset[str]) -> None:
    """What reaches the parents is what ``inputs`` says, all of it, in its order, once; a maybe may stay unasked."""
    order: list[tuple[str, Window, frozenset[str]]] = []
    watched = producer.with_parents(*(Watched(parent, order) for parent in producer.parents))
    given = Given(watched.inputs(window, wanted))
    watched.make(window, wanted, given)
    assert next(given, None) is None, "make left Asks untaken"
    declared = list(producer.inputs(window, wanted))
    surely = asked_of(ask for ask in declared if not ask.maybe)
    assert [entry for entry in order if entry in surely] == surely
    assert all(entry in asked_of(declared) for entry in order)
    for ask in declared:
        assert ask.window in ask.parent.grid.window and set(ask.planes) <= set(ask.parent.planes)
        assert ask.parent in producer.parents


def fetching(producer: Producer) -> None:
    """Only the engine fetches: a producer that asked a parent itself would meet one that refuses."""
    window, planes = producer.grid.window, frozenset(producer.planes)
    expected = whole(producer)
    patches = [(ask, ask.fetch()) for ask in producer.inputs(window, planes)]
    refusing = producer.with_parents(*(Refusing(parent) for parent in producer.parents))
    assert identical(refusing.make(window, planes, Served(refusing.inputs(window, planes), patches)), expected)


def memory(producer: Producer, window: Window, given_in: int = 0) -> None:
    """real <= forecast <= 2 x real + 16 MiB; numpy tells tracemalloc of its buffers."""
    producer.produce(window, producer.planes)  # compiles kernels, fills bounded caches
    tracemalloc.start()
    producer.produce(window, producer.planes)
    peak = tracemalloc.get_traced_memory()[1] + given_in
    tracemalloc.stop()
    forecast = producer.peak_bytes(window, producer.planes)
    assert peak <= forecast + PYTHON_BYTES, f"took {peak / MIB:.2f} MiB, forecast {forecast / MIB:.2f} MiB"
    assert forecast <= 2 * peak + 16 * MIB, f"took {peak / MIB:.2f} MiB, forecast {forecast / MIB:.2f} MiB"


def other(value: Any) -> Any:
    """Another value of the same kind; None where there is no telling."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, Span):
        return Span(value.start, value.stop - 1)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size:
        return value + value.dtype.type(1)
    if isinstance(value, Grid):
        return value.replace(attrs={**value.attrs, "another": 1})
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Producer):
        changed = {f.name: other(getattr(value, f.name)) for f in dataclasses.fields(value)}
        name = next((name for name, new in changed.items() if new is not None), None)
        return None if name is None else dataclasses.replace(value, **{name: changed[name]})
    return None


def token(producer: Producer, but: Collection[str] = ()) -> int:
    """Every field decides the token, those named in ``but`` excepted; gives how many could be tried."""
    tried = 0
    for known in dataclasses.fields(producer):
        new = other(getattr(producer, known.name))
        if new is None or known.name in but:
            continue
        try:
            changed = dataclasses.replace(producer, **{known.name: new})
        except Exception:
            continue
        assert changed.token() != producer.token(), f"{type(producer).__name__}.{known.name} is not in the token"
        tried += 1
    return tried
