"""Planted bad producers: each must fail the law it breaks, so that the laws are known to bite."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from getframes_xr.core.digest import digest
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import ArrayFrames, Producer
from tests.laws import producer_laws as laws

GRID = Grid(Span(5, 265), Span(-40, 260), {"frame": np.array([12, 7, 30])})
VALUES = np.random.default_rng(2).integers(0, 1000, (3, 260, 300)).astype(np.uint16)
WHOLE = GRID.window
PART = Window(Span(1, 2), Span(40, 90), Span(0, 70))


@dataclass(frozen=True, eq=False)
class Honest(Producer):
    """Frames plus a number; the planted ones differ from it in one thing each."""

    parent: Producer
    amount: int = 3

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    @property
    def takes_over(self) -> str:
        return "frames"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="frames")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        patch = given.take()
        patch["adu"] += np.uint16(self.more(window))
        return patch

    def more(self, window: Window) -> int:
        return self.amount


class ReadsTheWindow(Honest):
    """Adds the size of the window it is asked for."""

    def more(self, window: Window) -> int:
        return len(window.y)


@dataclass(frozen=True, eq=False)
class KeepsState(Honest):
    """Counts how often it was asked."""

    calls: list[int] = field(default_factory=list)

    def more(self, window: Window) -> int:
        self.calls.append(1)
        return len(self.calls)


class DriftsWithThreads(Honest):
    """Looks at how many threads there are."""

    def more(self, window: Window) -> int:
        return threading.active_count()


class TakesMore(Honest):
    """Takes scratch it does not tell."""

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        scratch = np.zeros((4, *window.shape))
        patch = super().make(window, planes, given)
        patch["adu"] += scratch[0].astype(np.uint16)
        return patch


class TellsTooMuch(Honest):
    """Forecasts what it never takes."""

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return 64 * 2**20


class ForgetsAField(Honest):
    """Leaves its option out of the token."""

    def token(self) -> str:
        return digest("ForgetsAField", self.parent)


class AsksItself(Honest):
    """Goes round the engine."""

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        given.take()
        return self.parent.produce(window, planes)


class LeavesAsks(Honest):
    """Declares more than it takes."""

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="frames")
        yield Ask(self.parent, window, planes)


class HandsOutItsOwn(Honest):
    """Gives away an array that it keeps."""

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        given.take()
        assert isinstance(self.parent, ArrayFrames)
        return Patch(WHOLE, dict(self.parent.arrays)).view(window)


def frames() -> ArrayFrames:
    return ArrayFrames(GRID, {"adu": VALUES.copy()}, {"adu": "adu"})


def windows(producer: Producer) -> None:
    laws.windows(producer, WHOLE, PART, {"adu"})


def threads(producer: Producer) -> None:
    laws.threads(producer, PART, producer.produce(PART, ("adu",)))


def memory(producer: Producer) -> None:
    laws.memory(producer, WHOLE)


def asks(producer: Producer) -> None:
    laws.asks(producer, PART, frozenset({"adu"}))


LAWS = {
    "windows": windows,
    "ownership": laws.ownership,
    "threads": threads,
    "memory": memory,
    "asks": asks,
    "fetching": laws.fetching,
    "token": laws.token,
}
PLANTED = {
    ReadsTheWindow: "windows",
    KeepsState: "windows",
    DriftsWithThreads: "threads",
    TakesMore: "memory",
    TellsTooMuch: "memory",
    ForgetsAField: "token",
    AsksItself: "fetching",
    LeavesAsks: "asks",
    HandsOutItsOwn: "ownership",
}


@pytest.mark.parametrize("law", sorted(LAWS))
def test_an_honest_producer_keeps_every_law(law: str) -> None:
    LAWS[law](Honest(frames()))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_a_bad_producer_fails_the_law_it_breaks(planted: type[Honest]) -> None:
    with pytest.raises(AssertionError):
        LAWS[PLANTED[planted]](planted(frames()))
