"""Stages: one effect each, applied to a patch at its absolute place.

A stage is a frozen options class with a registered ``kind``. It declares the planes it ``reads`` and ``writes``, the
per-frame columns it ``needs`` and its ``scope``: how much more than the asked window it must see. The engine grows,
applies and crops; a stage never sees chunking. Dims and grid stay as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from getframes_xr.core.draws import Draws, stream_word
from getframes_xr.core.options import Family, Registry
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import Grid, Span, Window


class Scope(Enum):
    """The window a stage needs for the window it is asked for."""

    PIXEL = "the same; consecutive stages run strip by strip of rows"
    NEIGHBOURS = "`radius` pixels more on every side"
    LINES = "the whole line along `axis`"
    HISTORY = "earlier frames: `horizon` before each anchor, anchors every `period` frames"


STAGES = Registry("stage")


@dataclass(frozen=True)
class Edges:
    """Which sides of a patch are the frame's own."""

    top: bool
    bottom: bool
    left: bool
    right: bool


@dataclass(frozen=True)
class Place:
    """Where a stage is: read-only per-frame columns, absolute ``y`` and ``x``, and random numbers of the place.

    ``key`` belongs to (seed, camera serial, kind of frame), ``fixed_key`` to the camera alone. ``number`` tells which
    of the camera's stages of one kind this is.
    """

    grid: Grid
    window: Window
    key: tuple[int, int] = (0, 0)
    fixed_key: tuple[int, int] = (0, 0)
    number: int = 0

    @cached_property
    def y(self) -> Array:
        return self.window.y.indices()

    @cached_property
    def x(self) -> Array:
        return self.window.x.indices()

    @property
    def edges(self) -> Edges:
        y, x, window = self.grid.y, self.grid.x, self.window
        return Edges(
            window.y.start == y.start,
            window.y.stop == y.stop,
            window.x.start == x.start,
            window.x.stop == x.stop,
        )

    @property
    def frames(self) -> Array:
        """Frame numbers, int64 (time,)."""
        return self.column("frame")

    def column(self, name: str) -> Array:
        """A per-frame column of this window's frames, (time,)."""
        return self.grid.column(name)[self.window.frames.start : self.window.frames.stop]

    @cached_property
    def exposure_s(self) -> Array:
        """Exposure in s, float32, shaped (time, 1, 1) for arithmetic with planes."""
        return self.column("exposure_s").astype(np.float32)[:, None, None]

    def draws(self, stage: Stage) -> Draws:
        """Random numbers of the stage, drawn anew for every frame, keyed by (frame, y, x)."""
        return Draws(self.key, self.frames, self.window.y, self.window.x, stream_word(stage.stream_number, self.number))

    def fixed(self, stage: Stage) -> Draws:
        """Random numbers of the camera: the same for every frame (frame word 0), shaped (1, y, x)."""
        none = np.zeros(1, np.int64)
        return Draws(self.fixed_key, none, self.window.y, self.window.x, stream_word(stage.stream_number, self.number))

    def strip(self, frames: Span, rows: Span) -> Place:
        window = Window(frames, rows, self.window.x)
        return Place(self.grid, window, self.key, self.fixed_key, self.number)


class Stage(Family):
    """Parent of all stages.

    Class variables: ``after``, the kind it stands directly behind in the usual order of a camera (None: the first);
    ``reads``, ``writes`` (plane names), ``needs`` (per-frame columns), ``scope``; ``stream`` (a number of its own)
    where random numbers are drawn; ``radius`` for NEIGHBOURS; ``axis`` for LINES; ``conserves_charge`` where charge is
    moved between pixels and lost at the frame's own edge only. A member that does not state ``after`` is refused.
    """

    registry: ClassVar[Registry] = STAGES
    after: ClassVar[str | None]
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    scope: ClassVar[Scope] = Scope.PIXEL
    stream: ClassVar[int | None] = None
    axis: ClassVar[str] = "y"
    conserves_charge: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if "kind" in cls.model_fields and not hasattr(cls, "after"):
            raise TypeError(f"stage {cls.__qualname__} does not say behind which kind it stands: state `after`")
        super().__pydantic_init_subclass__(**kwargs)

    @abstractmethod
    def apply(self, patch: Patch, place: Place) -> Patch:
        """Do the effect, in place where possible; the patch holds all of ``reads``, the result all of ``writes``."""

    @property
    def stream_number(self) -> int:
        if self.stream is None:
            raise TypeError(f"{type(self).__qualname__} draws random numbers but states no stream")
        return self.stream

    @property
    def radius(self) -> int:
        """Pixels more that a NEIGHBOURS stage needs."""
        return 1

    def footprint(self, window: Window, grid: Grid) -> Window:
        """The window of input that this window of output needs, clipped to the grid."""
        if self.scope is Scope.NEIGHBOURS:
            return window.grow(self.radius).clip(grid.window)
        if self.scope is Scope.LINES:
            return (
                Window(window.frames, grid.y, window.x) if self.axis == "y" else Window(window.frames, window.y, grid.x)
            )
        return window

    def planes_out(self, planes: Mapping[str, Plane]) -> dict[str, Plane]:
        """What the written planes are, given those before the stage."""
        return {name: planes.get(name, PLANES[name]) for name in self.writes}

    def columns_out(self) -> Mapping[str, float]:
        """Per-frame columns this stage makes known (``gain_e_per_adu``, ...), one value for all frames."""
        return {}

    def peak_bytes(self, window: Window, planes: Mapping[str, Plane]) -> int:
        """Scratch of ``apply`` beyond the planes themselves; ``window`` is the one it is applied to."""
        return (12 if self.scope is Scope.PIXEL else 4) * window.pixels

    def cached_bytes(self, grid: Grid) -> int:
        """Bytes of fixed maps that the stage keeps for the whole process once every pixel was asked for."""
        return 0

    @classmethod
    def example_planes(cls) -> Mapping[str, Plane]:
        """Planes the law tests feed to the examples."""
        return {name: PLANES[name] for name in cls.reads}


@dataclass
class HistoryState:
    """What a HISTORY stage carries from frame to frame: arrays shaped (y, x) by name."""

    arrays: dict[str, Array] = field(default_factory=dict)


class HistoryStage(Stage):
    """A stage whose state runs along time; anchored, so any frame can be asked for alone (engine/history)."""

    scope: ClassVar[Scope] = Scope.HISTORY

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Frames before an anchor from which the state is built up from nothing."""

    @property
    @abstractmethod
    def period(self) -> int:
        """Distance of the anchors, in frames."""

    @abstractmethod
    def start(self, shape: tuple[int, int]) -> HistoryState:
        """The empty state of a (y, x) box."""

    @abstractmethod
    def step(self, patch: Patch, state: HistoryState, place: Place) -> Patch:
        """Do one frame and carry the state on, both in place."""

    def apply(self, patch: Patch, place: Place) -> Patch:
        raise TypeError("a HISTORY stage is stepped by engine.history")

    def state_bytes(self, window: Window) -> int:
        return 8 * len(window.y) * len(window.x)
