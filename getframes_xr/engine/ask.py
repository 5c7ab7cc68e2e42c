"""Asks: what a producer needs for a window, said before anything is made, and how the engine hands it over.

A producer's ``inputs`` gives its Asks lazily, in the order of use, from geometry alone; ``make`` meets the patches in
the same order. One patch is alive at a time, beside those with a role (``keep``), which stay until the next Ask of
that role. From this one statement follow the work, the forecast of memory, what a task must be handed, and what is
read from where.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np

from getframes_xr.core.errors import Cancelled
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Window

if TYPE_CHECKING:
    from getframes_xr.engine.producer import Producer

T = TypeVar("T")
FEW: Final = 5  # of many alike that a forecast looks at, besides the largest


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One input of a window.

    Parameters
    ----------
    parent, window, planes : what is wanted of whom
    keep : a role; the patch stays until the next Ask of this role, or the end of ``make``. None: until the next Ask
    maybe : the patch is a handle, whose ``get()`` fetches; for what only some windows turn out to need
    shared : ``make`` only reads it, so that of what is held a read-only view will do; else it owns the arrays
    about : whatever ``make`` wants to know again: the number of a frame, a tile
    """

    parent: Producer
    window: Window
    planes: Collection[str]
    keep: str | None = None
    maybe: bool = False
    shared: bool = False
    about: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes of the patch."""
        return self.parent.bytes_of(self.window, self.planes)

    def fetch(self) -> Patch:
        """Make the patch."""
        return self.parent.produce(self.window, self.planes, shared=self.shared)


class Few(Protocol):
    """Which of many inputs alike to look at: ``every`` one to make them, ``some`` to forecast what they cost."""

    def __call__(self, items: Sequence[T], sizes: Sequence[float] | None = None) -> Sequence[T]: ...


def every(items: Sequence[T], sizes: Sequence[float] | None = None) -> Sequence[T]:
    """All of them."""
    return items


def some(items: Sequence[T], sizes: Sequence[float] | None = None) -> Sequence[T]:
    """A few spread from the first to the last, and the largest by ``sizes``: a bounded number, in their order."""
    n = len(items)
    if n <= FEW:
        return items
    chosen = {round(k * (n - 1) / (FEW - 1)) for k in range(FEW)}
    if sizes is not None:
        chosen.add(int(np.argmax(np.asarray(sizes))))
    return [items[at] for at in sorted(chosen)]


class Handle(Patch):
    """A patch that may be wanted: ``get()`` makes it."""

    __slots__ = ("_ask", "_made")

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask.window, {}, ask.parent.grid.timed)
        self._ask = ask
        self._made: Patch | None = None

    def get(self) -> Patch:
        if self._made is None:
            self._made = self._ask.fetch()
        return self._made

    def let_go(self) -> None:
        self._made = None


class Given:
    """The patches of some Asks, in order: ``for ask, patch in given``; those with a role are in ``kept`` too.

    A patch is let go when the next one is fetched: take its arrays out, or lose them. Work stops here when the user
    has cancelled it.
    """

    def __init__(self, asks: Iterable[Ask]) -> None:
        self._asks = iter(asks)
        self._last: Patch | None = None
        self.kept: dict[str, Patch] = {}

    def __iter__(self) -> Iterator[tuple[Ask, Patch]]:
        return self

    def __next__(self) -> tuple[Ask, Patch]:
        if self._last is not None:
            self._last.let_go()
            self._last = None
        ask = next(self._asks)
        if STOP.is_set():
            raise Cancelled("the work was cancelled")
        if ask.keep is not None and ask.keep in self.kept:
            self.kept.pop(ask.keep).let_go()
        patch = self.fetched(ask)
        if ask.keep is None:
            self._last = patch
        else:
            self.kept[ask.keep] = patch
        return ask, patch

    def fetched(self, ask: Ask) -> Patch:
        return Handle(ask) if ask.maybe else ask.fetch()

    def take(self) -> Patch:
        """The next patch."""
        return next(self)[1]

    def let_go_but(self, roles: Collection[str | None] = ()) -> None:
        """Let everything go, the kept patches of some roles excepted."""
        if self._last is not None:
            self._last.let_go()
        for role in [role for role in self.kept if role not in roles]:
            self.kept.pop(role).let_go()


class Sink(ABC):
    """What becomes of the windows of a run besides pixels in memory: it asks, piece by piece, and keeps a small result.

    Pickled with its task; a plain function of (patch, window) serves where a window is asked for whole.
    """

    @abstractmethod
    def inputs(self, producer: Producer, window: Window) -> Iterator[Ask]:
        """The pieces of a window, in order."""

    @abstractmethod
    def take(self, producer: Producer, window: Window, given: Given) -> Any:
        """Do with the pieces what is to be done."""

    @abstractmethod
    def token(self) -> str:
        """Digest of what decides the result."""


STOP: Final = threading.Event()  # set by whoever cancels: every make of this process ends at its next Ask
