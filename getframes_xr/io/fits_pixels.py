"""Pixels of a FITS image: windows of plain files by pread, compressed files decoded once into a bounded cache.

Rows lie one after the other, big-endian, so a band of full rows is one read. A window wider than a eighth of the row
is read as full rows (one call) and cut in memory, a narrower one row by row. Unsigned 16-bit images are stored as
signed numbers plus 2^15, which is the sign bit: ``value = swap(stored) ^ 0x8000``, 0.04 ns per pixel in a kernel.
Files are opened, read and closed per window: no mmap (mapped pages count as memory of the process, and a file cut
short would end it with SIGBUS), no open files kept.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.fork_lock import ForkLock
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.core.window import Span
from getframes_xr.engine.producer import Read
from getframes_xr.io.fits import COUNTER, FitsImage, Layout, open_stream

CACHE_BYTES: Final = 256 * 2**20
STRIP_BYTES: Final = 4 * 2**20
NARROW: Final = 8  # rows this many times wider than the window are read in pieces


@kernel
def _swap16(values: Array, flip: Any) -> None:
    """Big-endian to native, in place, and move the sign bit: uint16 (n)."""
    for i in range(values.size):
        value = values[i]
        values[i] = ((value >> 8) | (value << 8)) ^ flip


@kernel
def _cut16(raw: Array, first: int, flip: Any, out: Array) -> None:
    """The columns from ``first`` on of big-endian rows, native: uint16 (y, nx) -> (y, x)."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            value = raw[y, first + x]
            out[y, x] = ((value >> 8) | (value << 8)) ^ flip


class DecodedCache:
    """Decoded pixels of compressed files, least recently used out first, never more than ``limit`` bytes.

    Two threads that want one file decode it once: the second waits for the first.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._lock = ForkLock()
        self._busy: dict[object, threading.Lock] = {}
        os.register_at_fork(after_in_child=self._busy.clear)  # who was busy is not in the child
        self._kept: OrderedDict[object, Array] = OrderedDict()
        self.nbytes = 0

    def get(self, key: object, make: Callable[[], Array]) -> Array:
        """The array of ``key`` (read-only), made now if it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            with self._lock:
                found = self._kept.get(key)
            if found is None:
                found = make()
                found.setflags(write=False)
                self._keep(key, found)
        with self._lock:
            self._busy.pop(key, None)
        return found

    def _keep(self, key: object, values: Array) -> None:
        if values.nbytes > self.limit:
            return
        with self._lock:
            self._kept[key] = values
            self.nbytes += values.nbytes
            while self.nbytes > self.limit:
                _, dropped = self._kept.popitem(last=False)
                self.nbytes -= dropped.nbytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.nbytes = 0

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["limit"])  # type: ignore[misc]  # a lock cannot travel: make a new one


CACHE: Final = DecodedCache()


@dataclass(frozen=True, slots=True)
class FitsSource:
    """One frame on disk: an image HDU without its cards, small to pickle.

    ``plane`` picks one image of a cube; ``fingerprint`` tells files of one name, size and time apart.
    """

    path: str
    size: int
    mtime_ns: int
    hdu: int
    offset: int
    storage: str
    layout: Layout
    plane: int = 0
    fingerprint: str = ""

    @property
    def identity(self) -> str:
        """What the pixels are, not where they lie."""
        name = os.path.basename(self.path)
        return f"{name}|{self.size}|{self.mtime_ns}|{self.hdu}|{self.plane}|{self.fingerprint}"

    @classmethod
    def of(cls, image: FitsImage, plane: int = 0) -> FitsSource:
        place = (image.path, image.size, image.mtime_ns, image.hdu, image.offset, image.storage)
        return cls(*place, image.layout, plane, image.fingerprint)

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of one image."""
        return self.layout.shape[-2], self.layout.shape[-1]

    def read(self, y: Span, x: Span, out: Array, plane: int | None = None) -> None:
        """Fill ``out`` (y, x), C-contiguous, of dtype ``layout.dtype``, with a window of one image.

        Raises
        ------
        DataError : the file is gone, was changed since it was scanned, is cut off or damaged
        """
        if out.size == 0:
            return
        plane = self.plane if plane is None else plane
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be opened ({error.strerror})") from error
        try:
            state = os.fstat(descriptor)
            if state.st_size != self.size or state.st_mtime_ns != self.mtime_ns:
                raise DataError(f"{self.path}: was changed since the frames were opened; open them again")
            if self.storage == "plain":
                self._read_plain(descriptor, y, x, out, plane)
                return
            stored = CACHE.get((self.path, self.size, self.mtime_ns, self.hdu), lambda: self._decode(descriptor))
        finally:
            os.close(descriptor)
        part = stored.reshape(-1, *self.shape)[plane, y.start : y.stop, x.start : x.stop]
        native_to_values(part, self.layout, out)

    def reads(self, y: Span, x: Span, plane: int | None = None) -> Read:
        """The bytes of the file that a window takes: rows, or pieces of them where they are much wider."""
        (ny, nx), item = self.shape, self.layout.itemsize
        if self.storage != "plain":
            return Read(self.path, 0, self.size, len(y) * nx * item)
        row = (self.plane if plane is None else plane) * ny + y.start
        if nx <= NARROW * len(x):
            return Read(self.path, self.offset + row * nx * item, len(y) * nx * item, len(y) * nx * item)
        start, length = self.offset + (row * nx + x.start) * item, len(x) * item
        return Read(self.path, start, length, len(y) * length, len(y), nx * item)

    def _read_plain(self, descriptor: int, y: Span, x: Span, out: Array, plane: int) -> None:
        ny, nx = self.shape
        item, layout = self.layout.itemsize, self.layout
        start = self.offset + (plane * ny + y.start) * nx * item
        if len(x) == nx and layout.dtype.itemsize == item and not layout.scales:
            _fill(descriptor, out.reshape(-1).view(np.uint8), start, self.path)
            _swap_in_place(out, layout)
            return
        whole = nx <= NARROW * len(x)
        width, first = (nx, x.start) if whole else (len(x), 0)
        rows = max(1, STRIP_BYTES // (width * item))
        scratch = np.empty((min(rows, len(y)), width), f"V{item}")
        for strip in Span(0, len(y)).pieces(rows):
            raw = scratch[: len(strip)]
            if whole:
                _fill(descriptor, raw.reshape(-1).view(np.uint8), start + strip.start * nx * item, self.path)
            else:
                for row in range(len(strip)):
                    at = start + ((strip.start + row) * nx + x.start) * item
                    _fill(descriptor, raw[row].view(np.uint8), at, self.path)
            stored_to_values(raw, first, layout, out[strip.start : strip.stop])

    def _decode(self, descriptor: int) -> Array:
        """All pixels of the HDU in the file's own type, native byte order."""
        layout = self.layout
        COUNTER.add(self.size)
        if self.storage == "tiles":
            return _decode_tiles(self.path, self.hdu, layout)
        try:
            with open_stream(descriptor, self.storage) as stream:
                stream.seek(self.offset)
                raw = stream.read(layout.nbytes)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{self.path}: the compressed stream is damaged or cut off ({error})") from error
        if len(raw) < layout.nbytes:
            raise DataError(f"{self.path}: truncated: {len(raw)} of {layout.nbytes} bytes of pixels are there")
        return np.frombuffer(raw, layout.stored.newbyteorder(">")).astype(layout.stored).reshape(layout.shape)


def _fill(descriptor: int, target: Array, offset: int, path: str) -> None:
    """Read until ``target`` (uint8) is full."""
    view, done = target.data, 0
    while done < len(view):
        count = _read_into(descriptor, view[done:], offset + done)
        if count == 0:
            raise DataError(f"{path}: truncated: the file ends at byte {offset + done}, inside its pixels")
        done += count
    COUNTER.add(done)


def _pread_into(descriptor: int, view: memoryview, offset: int) -> int:
    data = os.pread(descriptor, len(view), offset)
    view[: len(data)] = data
    return len(data)


def _preadv_into(descriptor: int, view: memoryview, offset: int) -> int:
    return os.preadv(descriptor, [view], offset)


_read_into = _preadv_into if hasattr(os, "preadv") else _pread_into  # macOS has no preadv


def _swap_in_place(out: Array, layout: Layout) -> None:
    item = layout.itemsize
    if item == 2:
        _swap16(out.reshape(-1).view(np.uint16), np.uint16(0x8000 if layout.flips else 0))
        return
    bits = out.view(f"u{item}")
    if item > 1:
        bits.byteswap(inplace=True)
    if layout.flips:
        bits ^= bits.dtype.type(1 << (8 * item - 1))


def stored_to_values(raw: Array, first: int, layout: Layout, out: Array) -> None:
    """Big-endian rows (void, (y, nx)) to values ``out`` (y, x), beginning at column ``first``."""
    if layout.itemsize == 2 and not layout.scales:
        _cut16(raw.view(np.uint16), first, np.uint16(0x8000 if layout.flips else 0), out.view(np.uint16))
        return
    stored = raw.view(layout.stored.newbyteorder(">"))[:, first : first + out.shape[1]]
    native_to_values(stored, layout, out)


def native_to_values(stored: Array, layout: Layout, out: Array) -> None:
    """Stored numbers to values: as they are, with the sign bit moved, or scaled in float64 with BLANK as NaN."""
    if layout.flips:
        bits = out.view(f"u{layout.itemsize}")
        bits[...] = stored.view(stored.dtype.str.replace("i", "u"))
        bits ^= bits.dtype.type(1 << (8 * layout.itemsize - 1))
    elif layout.scales:
        values = stored.astype(np.float64)
        values *= layout.bscale
        values += layout.bzero
        if layout.blank is not None:
            values[stored == layout.blank] = np.nan
        out[...] = values
    else:
        out[...] = stored


def _decode_tiles(path: str, hdu: int, layout: Layout) -> Array:
    """Tile-compressed image through astropy, in the file's own type and without BSCALE."""
    import warnings

    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False, do_not_scale_image_data=True) as units:
                values = np.asarray(units[hdu].data)
    except Exception as error:  # whatever a damaged file makes the decoder raise
        raise DataError(f"{path}: its compressed tiles cannot be decoded ({error})") from error
    if values.shape != layout.shape:
        raise DataError(f"{path}: decoded to shape {values.shape}, its header says {layout.shape}")
    return np.array(values, dtype=layout.stored, order="C")


def read_image(
    path: str | os.PathLike[str], hdu: int | str | tuple[str, int] | None = None
) -> np.ndarray[Any, np.dtype[Any]]:
    """All values of one image HDU as an array of any number of axes, in memory.

    Parameters
    ----------
    path : FITS file, plain or compressed
    hdu : index, EXTNAME or (EXTNAME, EXTVER); default: the first image that has pixels

    Raises
    ------
    DataError : not FITS, no such image, truncated or damaged
    """
    from getframes_xr.io.fits import scan

    image = scan(path, hdu)
    layout = image.layout
    out = np.empty(layout.shape, layout.dtype)
    if layout.pixels == 0:
        return out
    columns = layout.shape[-1]
    rows = layout.pixels // columns
    flat = Layout(layout.bitpix, (rows, columns), layout.bscale, layout.bzero, layout.blank)
    source = FitsSource.of(image)
    if image.storage == "plain":
        source = FitsSource(image.path, image.size, image.mtime_ns, image.hdu, image.offset, image.storage, flat)
        source.read(Span(0, rows), Span(0, columns), out.reshape(rows, columns))
        return out
    whole = FitsSource(image.path, image.size, image.mtime_ns, image.hdu, image.offset, image.storage, layout)
    descriptor = os.open(image.path, os.O_RDONLY)
    try:
        stored = CACHE.get(image.key, lambda: whole._decode(descriptor))
    finally:
        os.close(descriptor)
    native_to_values(stored, layout, out)
    return out
