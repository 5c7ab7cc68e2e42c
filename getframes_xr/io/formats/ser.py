"""SER: recordings of planetary and solar cameras; a header of 178 bytes, frames one after the other, time stamps.

Integers of the header are little-endian. Bytes of 16-bit pixels are little-endian where the field ``LittleEndian`` is
0: the specification says the opposite, the programs that write and read SER agreed on this (Siril's ``ser.h`` tells the
story). Time stamps are .NET ticks: 100 ns since the year 1, UTC. The format states no exposure.
Source: SER format description version 3 (Wilkens & Hahn, 2014).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from getframes_xr.core.digest import code_version, digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import Producer, Read
from getframes_xr.io.fingerprint import fingerprint
from getframes_xr.io.fits import COUNTER
from getframes_xr.io.formats.family import FrameFormat

HEADER: Final = struct.Struct("<14s7i40s40s40sqq")
MAGIC: Final = b"LUCAM-RECORDER"
TICKS_1970: Final = 621_355_968_000_000_000
CFA: Final = {0: None, 8: "RGGB", 9: "GRBG", 10: "GBRG", 11: "BGGR"}


@dataclass(frozen=True, eq=False)
class SerFrames(Producer):
    """Frames of one SER file; name, size, time and ``fingerprint`` are part of the token, the folder is not."""

    grid: Grid
    path: str
    size: int
    changed_ns: int
    pixel: str
    fingerprint: str

    def token(self) -> str:
        known = (os.path.basename(self.path), self.size, self.changed_ns, self.pixel, self.fingerprint)
        return digest("SerFrames", code_version(), self.grid, known)

    def label(self) -> str:
        return f"SerFrames: {os.path.basename(self.path)}, {np.dtype(self.pixel).name}"

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"adu": Plane(np.dtype(self.pixel).newbyteorder("="), "adu")}

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        kind, whole = np.dtype(self.pixel), self.grid.window
        n, rows, columns = window.shape
        out = np.empty((n, rows, columns), kind.newbyteorder("="))
        row_bytes = len(whole.x) * kind.itemsize
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            for at in range(n):
                first = (window.frames.start + at) * len(whole.y) + window.y.start
                strip = os.pread(descriptor, rows * row_bytes, HEADER.size + first * row_bytes)
                if len(strip) != rows * row_bytes:
                    raise DataError(f"{self.path}: frame {window.frames.start + at} ends early; was the file changed?")
                COUNTER.add(len(strip))
                cube = np.frombuffer(strip, kind).reshape(rows, len(whole.x))
                out[at] = cube[:, window.x.start : window.x.stop]
                del strip, cube  # before the next one is read
        finally:
            os.close(descriptor)
        return Patch(window, {"adu": out})

    def reads(self, window: Window, planes: Collection[str]) -> Iterator[Read]:
        """Whole rows."""
        row = len(self.grid.x) * np.dtype(self.pixel).itemsize
        length = len(window.y) * row
        for frame in range(window.frames.start, window.frames.stop):
            yield Read(self.path, HEADER.size + (frame * len(self.grid.y) + window.y.start) * row, length, length)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        """One strip of whole rows."""
        return len(window.y) * len(self.grid.x) * np.dtype(self.pixel).itemsize


class Ser(FrameFormat):
    """SER recordings, one plane (mono or a Bayer pattern), 8 or 16 bits."""

    kind: ClassVar[str] = "SER"
    endings: ClassVar[tuple[str, ...]] = (".ser",)

    @classmethod
    def frames(cls, path: str) -> Producer:
        """The frames of a SER file.

        Raises
        ------
        DataError : not a SER file, three planes, a Bayer pattern of other colours, or a truncated file
        """
        try:
            status = os.stat(path)
            with open(path, "rb") as file:
                head = file.read(HEADER.size)
                if len(head) < HEADER.size or not head.startswith(MAGIC):
                    raise DataError(f"{path}: not a SER file (it does not begin with {MAGIC.decode()})")
                _, _, colour, big_endian, width, height, bits, count, *texts, _, start = HEADER.unpack(head)
                if colour not in CFA:
                    raise DataError(f"{path}: ColorID {colour} is not supported; known: {', '.join(map(str, CFA))}")
                pixel = "u1" if bits <= 8 else (">u2" if big_endian else "<u2")
                end = HEADER.size + count * height * width * np.dtype(pixel).itemsize
                if min(width, height, count) < 1 or status.st_size < end:
                    raise DataError(f"{path}: truncated: {status.st_size} bytes, {count} frames need {end}")
                file.seek(end)
                stamps = np.frombuffer(file.read(8 * count), "<i8")
                known = fingerprint(file.fileno(), HEADER.size, end, head)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        ticks = stamps if len(stamps) == count and (stamps > TICKS_1970).all() else np.full(count, start)
        moments = ((ticks - TICKS_1970) * 100).astype("datetime64[ns]")
        moments[ticks <= TICKS_1970] = np.datetime64("NaT")
        columns = {"frame": np.arange(count), "start": moments, "exposure_s": np.full(count, np.nan)}
        camera = texts[1].split(b"\0")[0].decode("latin-1").strip()
        attrs = {"camera": camera} if camera else {}
        grid = Grid(Span(0, height), Span(0, width), columns, cfa=CFA[colour], attrs=attrs)
        return SerFrames(grid, os.path.abspath(path), status.st_size, status.st_mtime_ns, pixel, known)

    @classmethod
    def example(cls, folder: Path) -> tuple[Path, Array]:
        """Five 12-bit frames of a GRBG camera, 40 ms apart."""
        values = np.random.default_rng(8).integers(0, 4096, (5, 17, 22)).astype(np.uint16)
        begin = TICKS_1970 + 17_000_000_000_000_000
        head = HEADER.pack(MAGIC, 0, 9, 0, 22, 17, 12, 5, b"observer", b"a camera", b"a telescope", begin, begin)
        stamps = begin + 400_000 * np.arange(5)
        path = folder / "recording.ser"
        path.write_bytes(head + values.astype("<u2").tobytes() + stamps.astype("<i8").tobytes())
        return path, values
