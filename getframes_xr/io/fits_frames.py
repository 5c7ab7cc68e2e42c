"""FITS files as frames: a producer whose windows are read from disk when they are asked for.

Integers are the plane ``adu`` in the file's own type (u16 stays u16), floats the plane ``image``. A cube of three
images is one frame with the bands red, green, blue; any other cube is one frame per image.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from getframes_xr.core.digest import code_version, digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane, plane_by_dtype
from getframes_xr.core.window import CHUNK_PIXELS, Grid, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import Producer, Read
from getframes_xr.io.fits_pixels import CACHE, STRIP_BYTES, FitsSource


@dataclass(frozen=True, eq=False)
class FitsFrames(Producer):
    """Frames in FITS files, one source per position on the time axis.

    Parameters
    ----------
    grid : Grid with time, covering one image
    sources : where each frame lies
    units : of the pixels, astropy's string

    Raises
    ------
    DataError : not one source per frame, or a source of another shape than the grid
    """

    grid: Grid
    sources: tuple[FitsSource, ...]
    units: str = "adu"

    def __post_init__(self) -> None:
        if len(self.sources) != self.grid.n_frames:
            raise DataError(f"{len(self.sources)} files for {self.grid.n_frames} frames")
        shape = len(self.grid.y), len(self.grid.x)
        for source in self.sources:
            if source.shape != shape:
                raise DataError(f"{source.path}: shape {source.shape}, the others {shape}")

    def label(self) -> str:
        first = os.path.basename(self.sources[0].path) if self.sources else ""
        return f"FitsFrames: {len(self.sources)} files {self.dtype}, {first} ..."

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """Type that holds the values of every file."""
        return np.result_type(*{source.layout.dtype for source in self.sources})

    @cached_property
    def plane(self) -> str:
        return plane_by_dtype(self.dtype)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {self.plane: Plane(self.dtype, self.units)}

    @cached_property
    def _digest(self) -> str:
        files = "\n".join(source.identity for source in self.sources)
        return digest("FitsFrames", code_version(), self.grid, self.units, files)

    def token(self) -> str:
        return self._digest

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        """Bands of full rows of at most 4 Mpx, small frames grouped in time: one read per frame and chunk."""
        ny, nx = len(self.grid.y), len(self.grid.x)
        bands = len(self.grid.bands or (0,))
        rows = max(1, min(ny, CHUNK_PIXELS // (nx * bands)))
        frames = 1 if rows < ny else max(1, CHUNK_PIXELS // (nx * ny * bands))
        return min(frames, max(1, self.grid.n_frames // 8)), rows, -1

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        if not planes:
            return Patch(window, {})
        out = np.empty(self.grid.shape(window), self.dtype)
        for position, frame in zip(range(window.frames.start, window.frames.stop), out, strict=True):
            source = self.sources[position]
            if self.grid.bands is None:
                _read(source, window, frame, None)
            else:
                for band, plane in enumerate(frame):
                    _read(source, window, plane, band)
        return Patch(window, {self.plane: out})

    def select(self, positions: Array) -> Producer:
        return FitsFrames(self.grid.select(positions), tuple(self.sources[at] for at in positions), self.units)

    def reads(self, window: Window, planes: Collection[str]) -> Iterator[Read]:
        if not planes:
            return
        for source in self.sources[window.frames.start : window.frames.stop]:
            for band in range(len(self.grid.bands or (1,))):
                yield source.reads(window.y, window.x, None if self.grid.bands is None else band)

    def cached_bytes(self) -> int:
        """Bytes of decoded files that stay in the process's cache: compressed files alone."""
        return min(CACHE.limit, sum(s.layout.nbytes for s in self.sources if s.storage != "plain"))

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        inside = self.sources[window.frames.start : window.frames.stop]
        if all(s.storage == "plain" for s in inside):
            direct = len(window.x) == len(self.grid.x) and all(s.layout.dtype == self.dtype for s in inside)
            rows = len(window.y) * len(self.grid.x)
            widest = max((s.layout.itemsize + 18 * s.layout.scales for s in inside), default=8)
            if direct and not any(s.layout.scales for s in inside):
                return 0
            return min(rows * (widest + self.dtype.itemsize), STRIP_BYTES * 12)
        decoded = max((s.layout.nbytes for s in inside), default=0)
        return 3 * decoded + 20 * len(window.y) * len(window.x)


def _read(source: FitsSource, window: Window, out: Array, band: int | None) -> None:
    if source.layout.dtype == out.dtype:
        source.read(window.y, window.x, out, band)
        return
    values = np.empty(out.shape, source.layout.dtype)
    source.read(window.y, window.x, values, band)
    out[...] = values
