"""Masters: one image of many bias, dark or flat frames, with its noise; lazy, and evaluated once per run where used.

A master is a stack along time of frames as they are. Flats of a lamp or a sky that changes are brought to one level
first: each frame is multiplied by (mean of all levels) / (its own level), its level being the mean over the frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAD, PLANES, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.collapse import Rule
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.engine.reduction import Batch, Reduction
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.stack import stacked

_STRIP_ROWS = 256


@dataclass
class Level:
    """Sum and number of a frame's good pixels so far."""

    total: float = 0.0
    number: int = 0


@dataclass(frozen=True, eq=False)
class FrameLevels(Reduction):
    """The mean of each frame's good pixels, as frames of one pixel."""

    parent: Producer
    plane: str

    @cached_property
    def grid(self) -> Grid:
        return Grid(Span(0, 1), Span(0, 1), columns={"frame": self.parent.grid.column("frame")})

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units)}

    def tiles(self, window: Window) -> list[Window]:
        return [window.with_frames(frame) for frame in window.frames.pieces(1)]

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        grid, names = self.parent.grid, with_flags(self.parent, self.plane)
        for rank, rows in enumerate(few(list(grid.y.pieces(_STRIP_ROWS)))):
            yield Batch(rank, [Ask(self.parent, Window(tile.frames, rows, grid.x), names)])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> Level:
        return Level()

    def add(self, state: Level, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        patch = patches[0]
        values = patch[self.plane]
        good = np.isfinite(values)
        if "flags" in patch:
            good &= (patch["flags"] & np.uint16(BAD)) == 0
        state.total += float(np.sum(np.where(good, values, 0), dtype=np.float64))
        state.number += int(np.count_nonzero(good))

    def finish(self, state: Level, out: Patch) -> None:
        out["image"][...] = state.total / state.number if state.number else np.nan

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        grid = self.parent.grid
        return 10 * min(len(grid.y), _STRIP_ROWS) * len(grid.x)


@dataclass(frozen=True, eq=False)
class Equalised(Producer):
    """Frames multiplied so that all have the mean level of all."""

    parent: Producer
    levels: Producer
    plane: str

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        image = Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units)
        flags = {"flags": self.parent.planes["flags"]} if "flags" in self.parent.planes else {}
        return {"image": image} | flags

    def _names(self, planes: Collection[str]) -> tuple[str, ...]:
        return tuple(self.plane if name == "image" else name for name in sorted(planes))

    @property
    def gathers(self) -> bool:
        return True

    @property
    def takes_over(self) -> str | None:
        return "frames" if self.parent.planes[self.plane].dtype == np.float32 else None

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, self._names(planes), keep="frames")
        if "image" in planes:
            yield Ask(self.levels, self.levels.grid.window, ("image",), shared=True)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        patch = given.take()
        if "image" not in planes:
            return patch
        levels = given.take()["image"][:, 0, 0].astype(np.float64)
        if not (levels > 0).all():
            worst = int(self.grid.column("frame")[np.argmin(np.nan_to_num(levels, nan=-np.inf))])
            raise DataError(f"frame {worst} has no positive level to be scaled by; leave it out")
        factors = (levels.mean() / levels).astype(np.float32)[window.frames.start : window.frames.stop]
        image: Array = patch.planes.pop(self.plane).astype(np.float32, copy=False)
        image *= factors.reshape((-1,) + (1,) * (image.ndim - 1))
        return Patch(window, {"image": image, **patch.planes})


def master(frames: FramesLike, *, reject: Rule | None = None, equalise: bool = False) -> xr.Dataset:
    """One image of bias, dark or flat frames; lazy.

    Parameters
    ----------
    frames : raw frames (``adu``) or calibrated ones (``image``), perhaps with ``flags``
    reject : a rule of ``gx.reject``; by default as in ``stack``
    equalise : bring all frames to one mean level first (flats of a changing lamp or sky, without their bias)

    Returns
    -------
    Dataset (y, x): ``image``, ``noise`` [units of the frames], ``count``, ``coverage``, ``weight``, ``flags``; the
    attrs say ``frames``, ``exposure_s`` and ``bias_adu`` where all frames agree

    Raises
    ------
    DataError : no frames, or no plane ``adu`` or ``image``
    """
    producer, plane, _ = frames_in(frames, "master", timed=True)
    if equalise:
        producer, plane = Equalised(producer, Held(FrameLevels(producer, plane)), plane), "image"
    return lazy(stacked(producer, plane, reject))
