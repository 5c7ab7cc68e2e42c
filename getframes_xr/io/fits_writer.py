"""Writing FITS: units laid out first, pixels written window by window into their place, checksums, then the rename.

A file is written under a temporary name in its own folder and renamed when it is whole, so a reader never sees half of
it; room on the disk is reserved before the first pixel is computed. The sums follow the FITS checksum convention
(FITS Standard 4.0, 4.4.2.7 and Appendix J): 32-bit ones' complement, so that a whole unit adds up to zero.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits

from getframes_xr.core.errors import DataError, StoreError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Span, Window
from getframes_xr.io.fits import BLOCK

_BITPIX: Final = {"u1": 8, "i2": 16, "u2": 16, "i4": 32, "u4": 32, "i8": 64, "u8": 64, "f4": -32, "f8": -64}
_ZERO: Final = {"u2": 1 << 15, "u4": 1 << 31, "u8": 1 << 63}
_EMPTY_SUM: Final = "0" * 16
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Unit:
    """One image unit to be written: name ("" for the primary), dtype of its values, shape, and further cards."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    cards: Any

    @property
    def code(self) -> str:
        code = f"{self.dtype.kind}{self.dtype.itemsize}"
        if code not in _BITPIX:
            raise DataError(f"values of type {self.dtype} cannot be written to FITS")
        return code

    @property
    def nbytes(self) -> int:
        count = self.dtype.itemsize
        for length in self.shape:
            count *= length
        return count

    def header(self) -> fits.Header:
        """Structural cards, the given ones, and room for the sums."""
        made = fits.Header()
        if self.name:
            made["XTENSION"] = ("IMAGE", "image extension")
        else:
            made["SIMPLE"] = (True, "conforms to the FITS standard")
        made["BITPIX"] = _BITPIX[self.code]
        made["NAXIS"] = len(self.shape)
        for axis, length in enumerate(reversed(self.shape), 1):
            made[f"NAXIS{axis}"] = length
        if self.name:
            made["PCOUNT"], made["GCOUNT"] = 0, 1
            made["EXTNAME"] = self.name
        else:
            made["EXTEND"] = True
        if self.code in _ZERO:
            made["BSCALE"], made["BZERO"] = 1, _ZERO[self.code]
        made.extend(self.cards, strip=False, update=False, unique=False)
        made["CHECKSUM"] = (_EMPTY_SUM, "of the whole unit")
        made["DATASUM"] = ("0".rjust(10), "of the pixels")
        return made


def to_stored(values: Array) -> Array:
    """Values as FITS keeps them: big-endian, unsigned numbers with the sign bit moved."""
    code = f"{values.dtype.kind}{values.dtype.itemsize}"
    if code in _ZERO:
        values = values ^ values.dtype.type(_ZERO[code])
        values = values.view(f"i{values.dtype.itemsize}")
    return np.ascontiguousarray(values, values.dtype.newbyteorder(">"))


@contextmanager
def written_whole(path: PathLike) -> Iterator[Path]:
    """A temporary file beside ``path`` that becomes ``path`` at the end, or vanishes if something goes wrong.

    Raises
    ------
    StoreError : the folder is missing or cannot be written, or the disk is full
    """
    target = Path(path).expanduser().absolute()
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    try:
        yield temporary
        with open(temporary, "rb") as made:
            os.fsync(made.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class FileLayout:
    """Where each unit's header and pixels lie in a file."""

    units: tuple[Unit, ...]
    header_at: tuple[int, ...]
    data_at: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, units: Sequence[Unit]) -> FileLayout:
        headers, data, at = [], [], 0
        for unit in units:
            headers.append(at)
            at += len(unit.header().tostring())
            data.append(at)
            at += -(-unit.nbytes // BLOCK) * BLOCK
        return cls(tuple(units), tuple(headers), tuple(data), at)

    def create(self, path: Path) -> None:
        """Make the file with its headers and room for the pixels.

        Raises
        ------
        OSError : no room, no right
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            if hasattr(os, "posix_fallocate") and self.size:
                os.posix_fallocate(descriptor, 0, self.size)
            else:
                os.ftruncate(descriptor, self.size)
            for unit, at in zip(self.units, self.header_at, strict=True):
                os.pwrite(descriptor, unit.header().tostring().encode("ascii"), at)
        finally:
            os.close(descriptor)

    def seal(self, path: Path) -> None:
        """Write CHECKSUM and DATASUM of every unit, from what lies in the file."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            for unit, header_at, data_at in zip(self.units, self.header_at, self.data_at, strict=True):
                sum_of_data = _sum_of_file(descriptor, data_at, -(-unit.nbytes // BLOCK) * BLOCK)
                header = unit.header()
                header["DATASUM"] = (str(sum_of_data).rjust(10), header.comments["DATASUM"])
                raw = header.tostring().encode("ascii")
                total = checksum(np.frombuffer(raw, ">u4"), sum_of_data)
                header["CHECKSUM"] = (encode_checksum(~total & 0xFFFFFFFF), header.comments["CHECKSUM"])
                os.pwrite(descriptor, header.tostring().encode("ascii"), header_at)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class WritePlanes:
    """Sink of ``engine.lazy.run``: puts a window's planes where they belong in the file; gives the bytes written.

    ``places``: plane -> where its pixels begin; ``y``, ``x``: the spans of the whole image.
    """

    path: str
    places: Mapping[str, int]
    y: Span
    x: Span

    def token(self) -> str:
        return f"{self.path} {dict(self.places)} {self.y} {self.x}"

    def __call__(self, patch: Patch, window: Window) -> int:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            return sum(self._write(descriptor, patch[name], at, window) for name, at in self.places.items())
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, values: Array, at: int, window: Window) -> int:
        stored = to_stored(values).reshape(-1, len(window.y), len(window.x))
        ny, nx, item = len(self.y), len(self.x), stored.dtype.itemsize
        first, left = window.y.start - self.y.start, window.x.start - self.x.start
        for band, plane in enumerate(stored):
            begin = at + ((band * ny + first) * nx + left) * item
            if len(window.x) == nx:
                _write_all(descriptor, plane, begin)
                continue
            for row, line in enumerate(plane):
                _write_all(descriptor, line, begin + row * nx * item)
        return int(stored.nbytes)


def _write_all(descriptor: int, values: Array, offset: int) -> None:
    view = values.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def _sum_of_file(descriptor: int, at: int, count: int) -> int:
    total, step = 0, 1 << 22
    for start in range(at, at + count, step):
        raw = os.pread(descriptor, min(step, at + count - start), start)
        total = checksum(np.frombuffer(raw, ">u4"), total)
    return total


def checksum(words: Array, start: int = 0) -> int:
    """Ones' complement sum of big-endian 32-bit words, going on from ``start``."""
    total = start + int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encode_checksum(value: int) -> str:
    """16 printable characters whose bytes add up to ``value`` (FITS Standard 4.0, Appendix J)."""
    ascii_bytes = [0] * 16
    for byte in range(4):
        number = (value >> (24 - 8 * byte)) & 0xFF
        quotient, remainder = divmod(number, 4)
        parts = [quotient + remainder + 0x30, quotient + 0x30, quotient + 0x30, quotient + 0x30]
        while any(0x3A <= p <= 0x40 or 0x5B <= p <= 0x60 for p in parts):
            for first in (0, 2):
                if any(0x3A <= p <= 0x40 or 0x5B <= p <= 0x60 for p in parts[first : first + 2]):
                    parts[first] += 1
                    parts[first + 1] -= 1
        for place in range(4):
            ascii_bytes[4 * place + byte] = parts[place]
    text = "".join(chr(p) for p in ascii_bytes)
    return text[-1] + text[:-1]


def ascii_text(text: str) -> str:
    """Text that a FITS card can hold."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def write_frame(path: PathLike, array: Array, header: Mapping[str, Any] | fits.Header | None = None) -> None:
    """Write one frame: a primary image of the array's own type (u16 by BZERO), with checksums.

    Parameters
    ----------
    path : is replaced if it exists
    array : (y, x) or (band, y, x)
    header : cards: an astropy Header or a mapping to values or (value, comment)

    Raises
    ------
    DataError : the type cannot be written
    StoreError : the file cannot be written
    """
    cards = header if isinstance(header, fits.Header) else fits.Header()
    if not isinstance(header, fits.Header):
        for key, value in (header or {}).items():
            cards[key] = value
    values = np.asarray(array)
    layout = FileLayout.of([Unit("", values.dtype.newbyteorder("="), values.shape, cards)])
    ny, nx = values.shape[-2:]
    window = Window(Span(0, 1), Span(0, ny), Span(0, nx))
    with written_whole(path) as temporary:
        layout.create(temporary)
        sink = WritePlanes(str(temporary), {"adu": layout.data_at[0]}, window.y, window.x)
        sink(Patch(window, {"adu": values.astype(values.dtype.newbyteorder("="), copy=False)}, False), window)
        layout.seal(temporary)
