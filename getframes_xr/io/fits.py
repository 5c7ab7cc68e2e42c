"""FITS at the level of bytes: header scan, the list of HDUs, and what one image HDU looks like on disk.

A FITS file is a chain of units: a header of 80-byte cards in 2880-byte blocks, closed by ``END``, then big-endian data
padded to the next block. The scan reads the first blocks with one ``pread``, splits cards and stops at the first unit
that holds an image; values are parsed only when asked for (about 25 us a file, astropy's ``getheader`` 460 us).
Tile-compressed images (``ZIMAGE = T`` in a binary table) state the image in their Z cards and keep the original cards,
so the same scan serves ``.fz``. Source: FITS Standard 4.0 (2018), sections 3, 4, 5 and 10.
"""

from __future__ import annotations

import bz2
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.fork_lock import ForkLock
from getframes_xr.io.fingerprint import fingerprint

BLOCK: Final = 2880
CARD: Final = 80
_FIRST_READ: Final = 4 * BLOCK
_LONGEST_HEADER: Final = 4096 * BLOCK
_NO_PIXELS: Final = "holds no image (only tables or empty units)"
_STORED: Final = {8: np.uint8, 16: np.int16, 32: np.int32, 64: np.int64, -32: np.float32, -64: np.float64}


class ByteCounter:
    """Bytes read from image files by this process, counted where they are read; safe between threads."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._total = 0

    def add(self, count: int) -> None:
        with self._lock:
            self._total += count

    @property
    def total(self) -> int:
        return self._total


COUNTER: Final = ByteCounter()


def bytes_read() -> int:
    """Bytes of FITS files read by this process so far (headers and pixels; differences are what tells)."""
    return COUNTER.total


class Cards:
    """The cards of one header, parsed one by one on demand; a keyword given twice means its first card.

    Parameters
    ----------
    raw : header bytes up to END, a multiple of 80
    primary : cards of the file's first header, asked where this one (an extension) does not have a keyword
    """

    __slots__ = ("_at", "primary", "raw")

    def __init__(self, raw: bytes, primary: Cards | None = None) -> None:
        self.raw, self.primary = raw, primary
        self._at = {raw[i : i + 8]: i for i in range(len(raw) - CARD, -1, -CARD)}

    def __contains__(self, key: str) -> bool:
        return self.card(key) is not None

    def card(self, key: str) -> bytes | None:
        """The 80 bytes of a keyword's first card that has a value, or None."""
        at = self._at.get(key.ljust(8).encode())
        if at is not None and self.raw[at + 8 : at + 9] == b"=":
            return self.raw[at : at + CARD]
        return None if self.primary is None else self.primary.card(key)

    def own(self, key: str) -> str | None:
        """Value of this header alone (structural keywords are never inherited)."""
        at = self._at.get(key.ljust(8).encode())
        return None if at is None else _split(self.raw[at : at + CARD])[0]

    def text(self, key: str) -> str | None:
        """Value as text without quotes and outer blanks; None where absent or blank."""
        card = self.card(key)
        return None if card is None else _split(card)[0] or None

    def comment(self, key: str) -> str:
        card = self.card(key)
        return "" if card is None else _split(card)[1]

    def number(self, key: str) -> float | None:
        """Value as a number (also inside quotes, also with a Fortran D exponent); None where it is not one."""
        text = self.text(key)
        return None if text is None else parse_number(text)

    def structural(self, key: str, default: int) -> int:
        text = self.own(key)
        number = None if text is None else parse_number(text)
        return default if number is None else int(number)

    def __iter__(self) -> Iterator[bytes]:
        for i in range(0, len(self.raw), CARD):
            yield self.raw[i : i + CARD]


def parse_number(text: str) -> float | None:
    """Float of a card's text, None if it is not a number."""
    try:
        return float(text)
    except ValueError:
        try:
            return float(text.replace("D", "E").replace("d", "e"))
        except ValueError:
            return None


def _split(card: bytes) -> tuple[str, str]:
    """Value text and comment of a card ``KEY     = value / comment``."""
    body = card[9:].decode("latin-1").lstrip()
    if not body.startswith("'"):
        value, _, comment = body.partition("/")
        return value.strip(), comment.strip()
    at = 1
    while True:
        at = body.find("'", at)
        if at < 0:
            return body[1:].strip(), ""
        if body[at + 1 : at + 2] != "'":
            break
        at += 2
    return body[1:at].replace("''", "'").strip(), body[at + 1 :].partition("/")[2].strip()


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of an image HDU are stored, and what they mean: ``value = bzero + bscale * stored``.

    Unsigned integers (BZERO 2^15, 2^31, 2^63) and signed bytes (BZERO -128) stay integers; any other scaling, and
    BLANK on signed integers, gives floats (float32 for 8 and 16 bits, float64 above), as astropy does.
    """

    bitpix: int
    shape: tuple[int, ...]
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None

    @property
    def stored(self) -> np.dtype[Any]:
        """Native dtype of the bits on disk."""
        return np.dtype(_STORED[self.bitpix])

    @property
    def itemsize(self) -> int:
        return abs(self.bitpix) // 8

    @property
    def flips(self) -> bool:
        """True where BZERO only moves the sign bit."""
        half = -128.0 if self.bitpix == 8 else float(2 ** (self.bitpix - 1)) if self.bitpix > 0 else None
        return half is not None and self.bscale == 1.0 and self.bzero == half

    @property
    def scales(self) -> bool:
        if self.flips:
            return False
        return self.bscale != 1.0 or self.bzero != 0.0 or (self.blank is not None and self.bitpix > 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        if self.flips:
            return np.dtype(np.int8) if self.bitpix == 8 else np.dtype(f"u{self.itemsize}")
        if self.scales and self.bitpix > 0:
            return np.dtype(np.float32 if self.bitpix <= 16 else np.float64)
        return self.stored

    @property
    def pixels(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def nbytes(self) -> int:
        return self.pixels * self.itemsize


@dataclass(frozen=True, slots=True)
class FitsImage:
    """One image HDU of one file: where it is, how it is stored, and its cards.

    ``storage``: "plain" (bytes at ``offset`` of the file), "gzip" or "bzip2" (bytes at ``offset`` of the unpacked
    stream), "tiles" (tile-compressed table; astropy decodes it).
    """

    path: str
    size: int
    mtime_ns: int
    hdu: int
    name: str
    offset: int
    storage: str
    layout: Layout
    cards: Cards = field(repr=False, compare=False)
    fingerprint: str = ""

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.path, self.size, self.mtime_ns, self.hdu


@dataclass(frozen=True, slots=True)
class _Unit:
    index: int
    cards: Cards
    data_at: int
    data_bytes: int
    layout: Layout | None
    tiles: bool
    name: str


def scan(path: str | os.PathLike[str], hdu: int | str | tuple[str, int] | None = None) -> FitsImage:
    """Find one image of a FITS file from its headers alone; nothing of the pixels is read.

    Parameters
    ----------
    path : file; plain, tile-compressed (.fz), .gz or .bz2 (told by its bytes, not by its name)
    hdu : index, EXTNAME or (EXTNAME, EXTVER); default: the first image that has pixels

    Raises
    ------
    DataError : not FITS, empty, no such image, or truncated; the file and what is wrong are named
    """
    for image in _scan(os.fspath(path), hdu):
        return image
    raise DataError(f"{path}: {_NO_PIXELS}")


def scan_all(path: str | os.PathLike[str]) -> list[FitsImage]:
    """All images of a FITS file that have pixels.

    Raises
    ------
    DataError : not FITS, empty, no image, or truncated
    """
    found = list(_scan(os.fspath(path), None))
    if not found:
        raise DataError(f"{path}: {_NO_PIXELS}")
    return found


def _scan(path: str, hdu: int | str | tuple[str, int] | None) -> Iterator[FitsImage]:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    try:
        state = os.fstat(descriptor)
        first = os.pread(descriptor, _FIRST_READ, 0)
        COUNTER.add(len(first))
        storage = _sniff(path, first)
        read_at: Callable[[int, int], bytes]
        read_at = _plain_reader(descriptor, first) if storage == "plain" else _stream_reader(path, descriptor, storage)
        empty: list[tuple[int, ...]] = []
        for unit in _units(path, read_at):
            if not _is_asked(unit, hdu):
                continue
            if unit.layout is None:
                if hdu is not None:
                    raise DataError(f"{path}: HDU {hdu!r} {_NO_PIXELS}")
                continue
            if unit.layout.pixels == 0 and hdu is None:
                empty.append(unit.layout.shape)
                continue
            if unit.layout.bitpix not in _STORED:
                raise DataError(f"{path}: BITPIX = {unit.layout.bitpix} is no FITS type (8, 16, 32, 64, -32, -64)")
            _check_size(path, unit, storage, state.st_size, descriptor, read_at)
            packed = storage != "plain"  # offsets are then those of the unpacked stream
            start, stop = (0, state.st_size) if packed else (unit.data_at, unit.data_at + unit.data_bytes)
            known = fingerprint(descriptor, start, stop, unit.cards.raw)
            yield FitsImage(path, state.st_size, state.st_mtime_ns, unit.index, unit.name, unit.data_at,
                            "tiles" if unit.tiles else storage, unit.layout, unit.cards, known)  # fmt: skip
            if hdu is not None:
                return
        if hdu is not None:
            raise DataError(f"{path}: there is no HDU {hdu!r}")
        if empty:
            raise DataError(f"{path}: its image has an axis of length 0 (shape {empty[0]}), so there are no pixels")
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: the compressed stream is damaged or cut off ({error})") from error
    finally:
        os.close(descriptor)


def _sniff(path: str, first: bytes) -> str:
    if not first:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    if first[:2] == b"\x1f\x8b":
        return "gzip"
    if first[:3] == b"BZh":
        return "bzip2"
    if first[:2] == b"\x1f\x9d":
        raise DataError(f"{path}: LZW compression (.Z) is not read; unpack it with `uncompress` first")
    if first[:6] != b"SIMPLE" or first[8:9] != b"=":
        raise DataError(f"{path}: not a FITS file (it does not begin with the card SIMPLE)")
    return "plain"


def _plain_reader(descriptor: int, first: bytes) -> Callable[[int, int], bytes]:
    def read_at(offset: int, count: int) -> bytes:
        if offset + count <= len(first):
            return first[offset : offset + count]
        data = os.pread(descriptor, count, offset)
        COUNTER.add(len(data))
        return data

    return read_at


def open_stream(descriptor: int, storage: str) -> gzip.GzipFile | bz2.BZ2File:
    """Unpacked view of an open compressed file; the descriptor stays open when the view is closed."""
    raw = io.FileIO(descriptor, closefd=False)
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if storage == "gzip" else bz2.BZ2File(raw)


def _stream_reader(path: str, descriptor: int, storage: str) -> Callable[[int, int], bytes]:
    stream = open_stream(descriptor, storage)
    begin = stream.read(BLOCK)
    if begin[:6] != b"SIMPLE":
        raise DataError(f"{path}: {storage} data, but not of a FITS file")

    def read_at(offset: int, count: int) -> bytes:
        stream.seek(offset)
        return stream.read(count)

    return read_at


def _units(path: str, read_at: Callable[[int, int], bytes]) -> Iterator[_Unit]:
    at, index, primary = 0, 0, None
    while True:
        raw, end = _header(path, read_at, at, index)
        if raw is None:
            return
        cards = Cards(raw, primary)
        primary = primary or cards
        unit = _unit(path, index, cards, end)
        yield unit
        at = end + -(-unit.data_bytes // BLOCK) * BLOCK
        index += 1


def _header(path: str, read_at: Callable[[int, int], bytes], at: int, index: int) -> tuple[bytes | None, int]:
    """Card bytes of the header at ``at`` and where its data begin; (None, at) where the file has ended."""
    size = _FIRST_READ if index == 0 else BLOCK
    while True:
        raw = read_at(at, size)
        if index and raw[:8] != b"XTENSION":
            return None, at
        found = raw.find(b"END     ")
        while found >= 0 and found % CARD:
            found = raw.find(b"END     ", found + 1)
        if found >= 0:
            return raw[:found], at + (found // BLOCK + 1) * BLOCK
        if len(raw) < size or size > _LONGEST_HEADER:
            raise DataError(f"{path}: header {index} has no END card; the file is cut off or no FITS file")
        size *= 4


def _unit(path: str, index: int, cards: Cards, data_at: int) -> _Unit:
    bitpix, axes = cards.structural("BITPIX", 0), _axes(path, cards, "NAXIS")
    pixels = 1 if axes else 0
    for length in axes[1:] if axes and axes[0] == 0 and cards.own("GROUPS") == "T" else axes:
        pixels *= length
    groups = cards.structural("GCOUNT", 1), cards.structural("PCOUNT", 0)
    data_bytes = abs(bitpix) // 8 * groups[0] * (groups[1] + pixels)
    extension = cards.own("XTENSION") if index else "IMAGE"
    tiles = extension == "BINTABLE" and cards.own("ZIMAGE") == "T"
    layout = None
    if tiles:
        axes, bitpix = _axes(path, cards, "ZNAXIS"), cards.structural("ZBITPIX", 0)
    if axes and (tiles or (extension in {"IMAGE", "IUEIMAGE"} and cards.own("GROUPS") != "T")):
        layout = Layout(bitpix, axes[::-1], *_scaling(cards, bitpix))
    return _Unit(index, cards, data_at, data_bytes, layout, tiles, cards.own("EXTNAME") or "")


def _scaling(cards: Cards, bitpix: int) -> tuple[float, float, int | None]:
    scale, zero, blank = (parse_number(cards.own(key) or "") for key in ("BSCALE", "BZERO", "BLANK"))
    return (
        1.0 if scale is None else scale,
        0.0 if zero is None else zero,
        int(blank) if blank is not None and bitpix > 0 else None,
    )


def _axes(path: str, cards: Cards, key: str) -> tuple[int, ...]:
    lengths = tuple(cards.structural(f"{key}{i + 1}", -1) for i in range(cards.structural(key, 0)))
    if any(length < 0 for length in lengths):
        raise DataError(f"{path}: a card {key}n is missing or is not a length")
    return lengths


def _is_asked(unit: _Unit, hdu: int | str | tuple[str, int] | None) -> bool:
    if hdu is None:
        return True
    if isinstance(hdu, tuple):
        name, version = hdu
        return unit.name.upper() == name.upper() and unit.cards.structural("EXTVER", 1) == version
    return unit.index == hdu if isinstance(hdu, int) else unit.name.upper() == hdu.upper()


def _check_size(
    path: str, unit: _Unit, storage: str, size: int, descriptor: int, read_at: Callable[[int, int], bytes]
) -> None:
    """Refuse a file that ends before its pixels do. Padding after them may be absent."""
    need = unit.data_at + unit.data_bytes
    if storage == "gzip":
        tail = int.from_bytes(os.pread(descriptor, 4, max(0, size - 4)), "little")
        if need <= tail <= need + 64 * BLOCK:
            return
    if storage != "plain":
        size = need if len(read_at(need - 1, 1)) == 1 else unit.data_at + _length_from(read_at, unit.data_at)
    if size < need:
        layout, have = unit.layout, max(0, size - unit.data_at)
        rows = ""
        if layout is not None and not unit.tiles and len(layout.shape) >= 2 and layout.shape[-1]:
            whole = have // (layout.shape[-1] * layout.itemsize)
            rows = f", {whole} of {layout.pixels // layout.shape[-1]} rows are whole"
        raise DataError(f"{path}: truncated: {have} of {unit.data_bytes} bytes of pixels are there{rows}")


def _length_from(read_at: Callable[[int, int], bytes], at: int) -> int:
    total = 0
    while chunk := read_at(at + total, 1 << 20):
        total += len(chunk)
    return total


def read_header(path: str | os.PathLike[str], hdu: int | str | tuple[str, int] | None = None) -> Any:
    """The whole header as an ``astropy.io.fits.Header``: long strings, HIERARCH, comments and all.

    Raises
    ------
    DataError : not FITS, no such image, or truncated
    """
    from astropy.io import fits

    image = scan(path, hdu)
    if image.storage == "tiles":
        with fits.open(image.path) as units:
            return units[image.hdu].header
    return fits.Header.fromstring(image.cards.raw)


def is_fits_name(path: str | os.PathLike[str]) -> bool:
    """True for the usual endings: .fit .fits .fts, these with .fz .gz .bz2, in any case."""
    name = Path(path).name.lower()
    for packed in (".gz", ".bz2", ".fz", ".z"):
        name = name.removesuffix(packed) if name.endswith(packed) else name
    return name.endswith((".fit", ".fits", ".fts"))
