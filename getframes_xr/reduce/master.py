"""Masters: one image of many bias, dark or flat frames, with its noise; lazy, and evaluated once per run where used.

A master is a stack along time of frames as they are. Flats of a lamp or a sky that changes are brought to one level
first: each frame is multiplied by (mean of all levels) / (its own level), its level being the mean over the frame.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAD, PLANES, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.collapse import Rule
from getframes_xr.engine.held import Held
from getframes_xr.engine.lazy import lazy
from getframes_xr.engine.producer import Producer
from getframes_xr.reduce.stack import producer_with_flags, sample_plane, stacked

_STRIP_ROWS = 256


@dataclass(frozen=True, eq=False)
class FrameLevels(Producer):
    """The mean of each frame's good pixels, as frames of one pixel."""

    parent: Producer
    plane: str

    @cached_property
    def grid(self) -> Grid:
        return Grid(Span(0, 1), Span(0, 1), columns={"frame": self.parent.grid.column("frame")})

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units)}

    @cached_property
    def _read(self) -> tuple[str, ...]:
        return (self.plane, "flags") if "flags" in self.parent.planes else (self.plane,)

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        grid = self.parent.grid
        return [(self.parent, Window(window.frames, grid.y, grid.x))]

    def _level(self, frame: int) -> float:
        total, number = 0.0, 0
        for rows in self.parent.grid.y.pieces(_STRIP_ROWS):
            patch = self.parent.produce(Window(Span(frame, frame + 1), rows, self.parent.grid.x), self._read)
            values = patch[self.plane]
            good = np.isfinite(values)
            if "flags" in patch:
                good &= (patch["flags"] & np.uint16(BAD)) == 0
            total += float(np.sum(np.where(good, values, 0), dtype=np.float64))
            number += int(np.count_nonzero(good))
        return total / number if number else np.nan

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        levels = [self._level(frame) for frame in range(window.frames.start, window.frames.stop)]
        image = np.array(levels, np.float32).reshape(-1, 1, 1)
        return Patch(window, {"image": image[:, : len(window.y), : len(window.x)]})

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        grid = self.parent.grid
        strip = Window(Span(0, 1), Span(grid.y.start, min(grid.y.stop, grid.y.start + _STRIP_ROWS)), grid.x)
        return self.parent.peak_bytes(strip, self._read) + 10 * strip.pixels


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

    def upstream(self, window: Window, planes: Collection[str]) -> list[tuple[Producer, Window]]:
        return [(self.parent, window), (self.levels, self.levels.grid.window)]

    def _produce(self, window: Window, planes: frozenset[str]) -> Patch:
        patch = self.parent.produce(window, self._names(planes))
        if "image" not in planes:
            return patch
        levels = self.levels.produce(self.levels.grid.window, ("image",))["image"][:, 0, 0].astype(np.float64)
        if not (levels > 0).all():
            worst = int(self.grid.column("frame")[np.argmin(np.nan_to_num(levels, nan=-np.inf))])
            raise DataError(f"frame {worst} has no positive level to be scaled by; leave it out")
        factors = (levels.mean() / levels).astype(np.float32)[window.frames.start : window.frames.stop]
        image: Array = patch.planes.pop(self.plane).astype(np.float32, copy=False)
        image *= factors.reshape((-1,) + (1,) * (image.ndim - 1))
        return Patch(window, {"image": image, **patch.planes})

    def peak_bytes(self, window: Window, planes: Collection[str]) -> int:
        return self.parent.peak_bytes(window, self._names(planes)) + self.bytes_of(window, planes)


def master(frames: xr.Dataset | xr.DataArray, *, reject: Rule | None = None, equalise: bool = False) -> xr.Dataset:
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
    plane = sample_plane(frames)
    producer = producer_with_flags(frames, plane)
    if equalise:
        if not producer.grid.timed:
            raise DataError("master needs frames along time; these have none")
        producer, plane = Equalised(producer, Held(FrameLevels(producer, plane)), plane), "image"
    return lazy(stacked(producer, plane, reject))
