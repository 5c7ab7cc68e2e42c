"""Debayer: three bands out of a colour filter array.

superpixel: one pixel of the new grid per 2 x 2 cell, green the mean of its two; no interpolation, half the resolution:
    parent = 2 index + 0.5
bilinear:   the same grid; a colour a pixel does not have is the mean of its good neighbours of that colour (2 or 4)

Flagged samples are left out; where none is left the value is NaN and the flags say why. Each band has its own flags. A
pixel's own sample is never replaced by its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import xarray as xr

from getframes_xr.core.cfa import cfa_index
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import COLOUR_BANDS, PLANES, UNUSABLE, Flag, Plane
from getframes_xr.core.wcs_text import wcs_on
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy

Method = Literal["superpixel", "bilinear"]
_NAN = np.float32(np.nan)
_UNUSABLE = np.uint16(UNUSABLE)
_NO_DATA = np.uint16(Flag.NO_DATA)


@kernel
def superpixels(samples: Array, marks: Array, colour: Array, image: Array, flags: Array) -> None:
    """Fill image and flags (band, y, x) from samples (2 y, 2 x); ``colour`` (2, 2) : band of each place of a cell."""
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            for band in range(3):
                total = np.float32(0.0)
                number = np.float32(0.0)
                good_marks = np.uint16(0)
                all_marks = np.uint16(0)
                for dy in range(2):
                    for dx in range(2):
                        if colour[dy, dx] == band:
                            value = samples[2 * y + dy, 2 * x + dx]
                            mark = marks[2 * y + dy, 2 * x + dx]
                            all_marks |= mark
                            if (mark & _UNUSABLE) == 0 and value == value:
                                total += value
                                number += np.float32(1.0)
                                good_marks |= mark
                image[band, y, x] = total / number if number > 0 else _NAN
                missing = all_marks if (all_marks & _UNUSABLE) != 0 else all_marks | _NO_DATA
                flags[band, y, x] = good_marks if number > 0 else missing


@kernel
def bilinear(
    samples: Array,
    marks: Array,
    colour: Array,
    top: int,
    left: int,
    phase_y: int,
    phase_x: int,
    image: Array,
    flags: Array,
) -> None:
    """Fill image and flags (band, y, x); its pixel (0, 0) is samples[top, left], whose absolute parity is the phase."""
    height, width = samples.shape
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            own = colour[(y + phase_y) & 1, (x + phase_x) & 1]
            for band in range(3):
                reach = 0 if band == own else 1
                total = np.float32(0.0)
                number = np.float32(0.0)
                good_marks = np.uint16(0)
                all_marks = np.uint16(0)
                for dy in range(-reach, reach + 1):
                    for dx in range(-reach, reach + 1):
                        sy, sx = top + y + dy, left + x + dx
                        if sy < 0 or sx < 0 or sy >= height or sx >= width:
                            continue
                        if colour[(y + dy + phase_y) & 1, (x + dx + phase_x) & 1] != band:
                            continue
                        value = samples[sy, sx]
                        mark = marks[sy, sx]
                        all_marks |= mark
                        if (mark & _UNUSABLE) == 0 and value == value:
                            total += value
                            number += np.float32(1.0)
                            good_marks |= mark
                image[band, y, x] = total / number if number > 0 else _NAN
                missing = all_marks if (all_marks & _UNUSABLE) != 0 else all_marks | _NO_DATA
                flags[band, y, x] = good_marks if number > 0 else missing


@dataclass(frozen=True, eq=False)
class Debayered(Producer):
    """Frames (time, y, x) of a colour filter array as (time, band, y, x), bands red, green, blue.

    Raises
    ------
    DataError : the frames have no ``cfa_pattern``
    """

    parent: Producer
    method: Method = "superpixel"
    plane: str = "image"

    def __post_init__(self) -> None:
        if self.parent.grid.cfa is None:
            raise DataError("these frames have no cfa_pattern: they are mono, or debayered already")

    @cached_property
    def grid(self) -> Grid:
        grid = self.parent.grid
        if self.method == "bilinear":
            return grid.replace(bands=COLOUR_BANDS, cfa=None)
        cells = wcs_on(grid, (0.5, 0.5), 2)
        return grid.replace(y=grid.y.bins(2), x=grid.x.bins(2), bands=COLOUR_BANDS, cfa=None, **cells)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units), "flags": PLANES["flags"]}

    @property
    def gathers(self) -> bool:
        return True

    def footprint(self, window: Window) -> Window:
        """The window of raw pixels that a window needs."""
        if self.method == "bilinear":
            return window.grow(1).clip(self.parent.grid.window)
        y, x = Span(2 * window.y.start, 2 * window.y.stop), Span(2 * window.x.start, 2 * window.x.stop)
        return Window(window.frames, y, x)

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        if window.pixels:
            yield Ask(self.parent, self.footprint(window), with_flags(self.parent, self.plane))

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape, patch = self.grid.shape(window), given.take() if window.pixels else None
        image, flags = np.empty(shape, np.float32), np.empty(shape, np.uint16)
        if patch is not None:
            self._fill(window, patch, image, flags)
        return Patch(window, {"image": image, "flags": flags}, self.grid.timed).only(planes)

    def _fill(self, window: Window, patch: Patch, image: Array, flags: Array) -> None:
        frames = patch[self.plane] if patch.timed else patch[self.plane][None]
        samples = frames.astype(np.float32, copy=False)
        none, colour = np.zeros(samples.shape[1:], np.uint16), cfa_index(self.parent.grid.cfa)
        for i in range(len(samples)):
            marks = none if "flags" not in patch else (patch["flags"][i] if patch.timed else patch["flags"])
            out = (image[i], flags[i]) if patch.timed else (image, flags)
            if self.method == "superpixel":
                superpixels(samples[i], marks, colour, *out)
            else:
                top, left = window.y.start - patch.window.y.start, window.x.start - patch.window.x.start
                phase = (window.y.start & 1, window.x.start & 1)
                bilinear(samples[i], marks, colour, top, left, *phase, *out)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        spare = self.bytes_of(window, {"image", "flags"} - planes)
        return 2**16 + 6 * self.footprint(window).pixels + spare

    def select(self, positions: Array) -> Producer:
        return dataclasses.replace(self, parent=self.parent.select(positions))


def debayer(frames: FramesLike, method: Method = "superpixel") -> xr.Dataset:
    """Bands red, green, blue of frames with a colour filter array; lazy.

    Parameters
    ----------
    frames : ``image`` (or ``adu``), perhaps ``flags``, with the scalar coordinate ``cfa_pattern``
    method : "superpixel" (half the size) or "bilinear" (the same size)

    Returns
    -------
    Dataset (time, band, y, x) of ``image`` and ``flags``

    Raises
    ------
    OptionError : an unknown method
    DataError : no ``cfa_pattern``, strided or relabelled y, x
    """
    if method not in get_args(Method):
        raise OptionError("debayer method", method, ", ".join(get_args(Method)))
    producer, plane, _ = frames_in(frames, "debayer")
    return lazy(Debayered(producer, method, plane))
