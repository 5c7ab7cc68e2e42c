"""Where: spans, windows and grids, in absolute integer coordinates.

A ``Window`` names a box of the cube: ``frames`` are positions on the producer's own time axis, ``y`` and ``x`` are
absolute pixels (a canvas may start below zero), extents are half-open. A ``Grid`` says what a producer covers: its
spans, bands, colour filter array, WCS and the read-only per-frame columns. All bands of a pixel travel together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from getframes_xr.core.cfa import CFA_PATTERNS
from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import BAND, TIME, X, Y

CHUNK_PIXELS = 4 * 2**20  # about what a task makes, a shard holds, a probe reads: 16 MiB of float32


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open run of integers ``start <= i < stop``; an empty one has ``stop <= start``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __contains__(self, other: object) -> bool:
        if isinstance(other, Span):
            return len(other) == 0 or (self.start <= other.start and other.stop <= self.stop)
        return isinstance(other, int | np.integer) and bool(self.start <= other < self.stop)

    def grow(self, before: int, after: int | None = None) -> Span:
        return Span(self.start - before, self.stop + (before if after is None else after))

    def clip(self, other: Span) -> Span:
        start = min(max(self.start, other.start), other.stop)
        return Span(start, max(start, min(self.stop, other.stop)))

    def hull(self, other: Span) -> Span:
        return Span(min(self.start, other.start), max(self.stop, other.stop))

    def shift(self, by: int) -> Span:
        return Span(self.start + by, self.stop + by)

    def slice_in(self, outer: Span) -> slice:
        """Where this span lies in an array that covers ``outer``."""
        return slice(self.start - outer.start, self.stop - outer.start)

    def pieces(self, length: int) -> Iterator[Span]:
        """Cut into runs of at most ``length``, counted from this span's start."""
        for start in range(self.start, self.stop, length):
            yield Span(start, min(start + length, self.stop))

    def bins(self, size: int) -> Span:
        """The whole bins of ``size`` pixels, counted from pixel 0, inside this span."""
        start = -(-self.start // size)
        return Span(start, max(start, self.stop // size))

    def indices(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.arange(self.start, self.stop, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Window:
    """A box of the cube: frame positions, absolute rows, absolute columns."""

    frames: Span
    y: Span
    x: Span

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.frames), len(self.y), len(self.x)

    @property
    def pixels(self) -> int:
        return len(self.frames) * len(self.y) * len(self.x)

    def __contains__(self, other: Window) -> bool:
        return other.frames in self.frames and other.y in self.y and other.x in self.x

    def grow(self, y: int, x: int | None = None) -> Window:
        return Window(self.frames, self.y.grow(y), self.x.grow(y if x is None else x))

    def clip(self, other: Window) -> Window:
        return Window(self.frames.clip(other.frames), self.y.clip(other.y), self.x.clip(other.x))

    def hull(self, other: Window) -> Window:
        return Window(self.frames.hull(other.frames), self.y.hull(other.y), self.x.hull(other.x))

    def with_frames(self, frames: Span) -> Window:
        return Window(frames, self.y, self.x)

    def with_rows(self, y: Span) -> Window:
        return Window(self.frames, y, self.x)


def _frozen(column: Any) -> np.ndarray[Any, Any]:
    array = np.array(column)
    if array.dtype.kind == "U":
        array = array.astype(object)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Grid:
    """What a producer covers. ``columns`` is None for a product without time (a master, a stack).

    Parameters
    ----------
    y, x : Span, absolute pixels
    columns : per-frame vectors by name (``frame`` int64, unique; ``start`` datetime64[ns]; ``exposure_s``; ...) or None
    bands : names along ``band``, or None where there is no such dim
    cfa : colour filter pattern stated for absolute pixel (0, 0), or None
    wcs : canonical FITS cards in absolute pixels, or None
    attrs : small facts (camera, serial, unit of the session) that go to ``Dataset.attrs``

    Raises
    ------
    DataError : columns of unequal length, a repeated ``frame``, an unknown CFA
    """

    y: Span
    x: Span
    columns: Mapping[str, np.ndarray[Any, Any]] | None = None
    bands: tuple[str, ...] | None = None
    cfa: str | None = None
    wcs: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cfa is not None and self.cfa not in CFA_PATTERNS:
            raise DataError(f"cfa_pattern {self.cfa!r} is not one of {', '.join(CFA_PATTERNS)}")
        if self.columns is None:
            return
        columns = {name: _frozen(column) for name, column in self.columns.items()}
        if "frame" not in columns:
            raise DataError("a grid with time needs the column 'frame'")
        columns["frame"] = _frozen(columns["frame"].astype(np.int64))
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"per-frame columns differ in length: {lengths}")
        if len(np.unique(columns["frame"])) != len(columns["frame"]):
            raise DataError("the coordinate 'frame' holds a number twice; use gx.concat to join observations")
        object.__setattr__(self, "columns", columns)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def timed(self) -> bool:
        return self.columns is not None

    @property
    def n_frames(self) -> int:
        return 1 if self.columns is None else len(self.columns["frame"])

    @property
    def window(self) -> Window:
        """The whole of it."""
        return Window(Span(0, self.n_frames), self.y, self.x)

    @property
    def dims(self) -> tuple[str, ...]:
        return ((TIME,) if self.timed else ()) + ((BAND,) if self.bands else ()) + (Y, X)

    def shape(self, window: Window) -> tuple[int, ...]:
        """Array shape of a window's planes."""
        time = (len(window.frames),) if self.timed else ()
        return time + ((len(self.bands),) if self.bands else ()) + (len(window.y), len(window.x))

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """A per-frame column.

        Raises
        ------
        DataError : the grid has no such column
        """
        if self.columns is None or name not in self.columns:
            raise DataError(f"these frames carry no {name!r}; known: {', '.join(self.columns or ())}")
        return self.columns[name]

    def check(self, window: Window) -> None:
        """Raise DataError if the window leaves the grid."""
        if window not in self.window:
            raise DataError(f"window {window} leaves the grid {self.window}")

    def replace(self, **changes: Any) -> Grid:
        return replace(self, **changes)

    def select(self, positions: np.ndarray[Any, Any]) -> Grid:
        """The grid of some frames, in the given order."""
        if self.columns is None:
            raise DataError("a product without time has no frames to select")
        return replace(self, columns={name: column[positions] for name, column in self.columns.items()})

    @cached_property
    def _token(self) -> str:
        return digest(
            [self.y.start, self.y.stop, self.x.start, self.x.stop], self.columns, self.bands, self.cfa, self.wcs,
            dict(self.attrs),
        )  # fmt: skip

    def token(self) -> str:
        return self._token

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.token() == other.token()

    def __hash__(self) -> int:
        return hash(self.token())
