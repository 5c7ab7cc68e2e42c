"""Binning: the mean of b x b pixels, counted from absolute pixel 0; parent = b index + (b - 1) / 2.

Flagged samples are left out of the mean; where none is left the value is NaN and the flags say why. A colour filter
array is debayered first (a bin would mix its colours).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, UNUSABLE, Flag, Plane
from getframes_xr.core.wcs_text import wcs_on
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy

_NAN = np.float32(np.nan)
_UNUSABLE = np.uint16(UNUSABLE)
_NO_DATA = np.uint16(Flag.NO_DATA)


@kernel
def bin_plane(samples: Array, marks: Array, size: int, image: Array, flags: Array) -> None:
    """Fill image and flags (y, x) with the means of size x size samples."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            total, number = 0.0, 0.0
            good_marks = np.uint16(0)
            all_marks = np.uint16(0)
            for dy in range(size):
                for dx in range(size):
                    value = samples[y * size + dy, x * size + dx]
                    mark = marks[y * size + dy, x * size + dx]
                    all_marks |= mark
                    if (mark & _UNUSABLE) == 0 and value == value:
                        total += np.float64(value)
                        number += 1.0
                        good_marks |= mark
            image[y, x] = np.float32(total / number) if number > 0 else _NAN
            missing = all_marks if (all_marks & _UNUSABLE) != 0 else all_marks | _NO_DATA
            flags[y, x] = good_marks if number > 0 else missing


@dataclass(frozen=True, eq=False)
class Binned(Producer):
    """``parent`` in bins of ``size`` x ``size`` pixels."""

    parent: Producer
    size: int
    plane: str = "image"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1024:
            raise OptionError("bin size", self.size, "1 to 1024")
        if self.parent.grid.cfa is not None:
            raise DataError("a bin would mix the colours of these raw frames; debayer them first")

    @cached_property
    def grid(self) -> Grid:
        grid, offset = self.parent.grid, (self.size - 1) / 2
        wcs = wcs_on(grid, (offset, offset), self.size)
        return grid.replace(y=grid.y.bins(self.size), x=grid.x.bins(self.size), **wcs)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units), "flags": PLANES["flags"]}

    @property
    def gathers(self) -> bool:
        return True

    def footprint(self, window: Window) -> Window:
        """The window of the parent that a window needs."""
        b = self.size
        y, x = Span(b * window.y.start, b * window.y.stop), Span(b * window.x.start, b * window.x.stop)
        return Window(window.frames, y, x)

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        if window.pixels:
            yield Ask(self.parent, self.footprint(window), with_flags(self.parent, self.plane))

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape, patch = self.grid.shape(window), given.take() if window.pixels else None
        image, flags = np.empty(shape, np.float32), np.empty(shape, np.uint16)
        if patch is not None:
            samples = patch[self.plane]
            marks = patch["flags"] if "flags" in patch else np.zeros(samples.shape, np.uint16)
            for at in np.ndindex(shape[:-2]):
                bin_plane(samples[at], marks[at], self.size, image[at], flags[at])
        return Patch(window, {"image": image, "flags": flags}, self.grid.timed).only(planes)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        marks = 2 * self.footprint(window).pixels * len(self.grid.bands or (1,))
        return 2**16 + marks + self.bytes_of(window, {"image", "flags"} - planes)

    def select(self, positions: Array) -> Producer:
        return Binned(self.parent.select(positions), self.size, self.plane)


def binned(frames: FramesLike, size: int) -> xr.Dataset:
    """Means of ``size`` x ``size`` pixels, flagged samples left out; lazy.

    Raises
    ------
    OptionError : the size is not 1 to 1024
    DataError : raw colour frames
    """
    producer, plane, _ = frames_in(frames, "binned")
    return lazy(Binned(producer, size, plane))
