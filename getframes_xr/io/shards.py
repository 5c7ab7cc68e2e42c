"""Shards: how the pixels of one plane lie in a Zarr v3 store, written and read chunk by chunk.

A shard is one file: encoded inner chunks one after the other, then an index of (offset, length) pairs (uint64, little
endian, all ones where a chunk lies outside the array) and its CRC-32C (Zarr v3 ``sharding_indexed``, index at the end).
A shard is written to ``<name>.<hex>.partial`` and renamed when it is whole, so nobody ever sees half of one; inner
chunks may come in any order, so a task can make a shard piece by piece and needs memory for one piece only. The digest
of a shard is that of its inner chunks' values in C order: it depends on neither the codec nor the order of writing.
Source: Zarr v3 core specification and ``codecs/sharding-indexed`` 1.0.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import google_crc32c
import numpy as np
from numcodecs import Blosc

from getframes_xr.core.errors import StoreError
from getframes_xr.core.patch import Array
from getframes_xr.core.window import CHUNK_PIXELS, Grid

INNER: Final = 512  # side of an inner chunk
IMAGE_PIXELS: Final = 2**20  # of a shard of a product without time: a small stack still has work for several cores
IMAGE_WIDTH: Final = 8192  # its columns at most: full-width rows of plain files are one read
HISTORY_PIXELS: Final = 32 * 2**20  # anchor groups larger than this are cut along y and x
MOST_FRAMES: Final = 32
NOTHING: Final = 2**64 - 1
Codec = Literal["fast", "archive"]
BLOSC: Final[Mapping[str, Mapping[str, Any]]] = {
    "fast": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"},
    "archive": {"cname": "zstd", "clevel": 3, "shuffle": "shuffle"},
}
_SHUFFLE: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
Index = tuple[int, ...]


def _ceil(value: int, step: int) -> int:
    return -(-value // step)


def shard_shape(grid: Grid, period: int = 1) -> tuple[int, int, int]:
    """(frames, rows, columns) of one shard: whole frames, or bands of rows of an image.

    Parameters
    ----------
    grid : what is stored
    period : anchor period of the HISTORY stages in the chain, 1 without
    """
    rows, columns = len(grid.y), len(grid.x)
    if not grid.timed:
        width = min(columns, IMAGE_WIDTH)
        return 1, min(rows, max(INNER, IMAGE_PIXELS // width // INNER * INNER)), width
    pixels = max(1, rows * columns * len(grid.bands or (1,)))
    small = pixels < 2**20
    frames = max(1, min(MOST_FRAMES, CHUNK_PIXELS // pixels, _ceil(grid.n_frames, 16))) if small else 1
    frames = _ceil(frames, period) * period
    if period > 1 and frames * pixels > HISTORY_PIXELS:
        side = max(1, int((HISTORY_PIXELS / frames / len(grid.bands or (1,))) ** 0.5) // INNER) * INNER
        rows, columns = min(rows, side), min(columns, side)
    return frames, rows, columns


@dataclass(frozen=True)
class Layout:
    """Shape, inner chunk, shard, dtype and codec of one plane; axes ``(time, [band,] y, x)``."""

    shape: Index
    chunk: Index
    shard: Index
    dtype: str
    codec: Codec
    fill: float

    @classmethod
    def of(cls, grid: Grid, dtype: np.dtype[Any], shard: tuple[int, int, int], codec: Codec) -> Layout:
        """The layout of a plane of ``grid`` with ``shard`` = (frames, rows, columns) as whole shards."""
        shape = grid.shape(grid.window)
        rows, columns = min(INNER, max(1, shard[1])), min(INNER, max(1, shard[2]))
        band = (1,) if grid.bands else ()
        time = (1,) if grid.timed else ()
        whole = (shard[0],) if grid.timed else ()
        bands = (len(grid.bands),) if grid.bands else ()
        full = (_ceil(shard[1], rows) * rows, _ceil(shard[2], columns) * columns)
        little = dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
        fill = float("nan") if dtype.kind == "f" else 0.0
        return cls(shape, (*time, *band, rows, columns), (*whole, *bands, *full), little.str, codec, fill)

    @property
    def per_shard(self) -> Index:
        """Inner chunks along each axis of a shard."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    @property
    def shards(self) -> Index:
        """Shards along each axis."""
        return tuple(max(1, _ceil(n, s)) for n, s in zip(self.shape, self.shard, strict=True))

    def path(self, folder: Path, index: Index) -> Path:
        return folder.joinpath("c", *map(str, index))

    def extent(self, chunk: Index) -> tuple[slice, ...]:
        """Where an inner chunk (counted over the whole array) lies in it, clipped to its shape."""
        return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(chunk, self.chunk, self.shape, strict=True))

    def touched(self, box: tuple[slice, ...], size: Index) -> Iterator[Index]:
        """Indices of the blocks of ``size`` that a box touches, in C order."""
        spans = [range(s.start // n, _ceil(s.stop, n)) for s, n in zip(box, size, strict=True)]
        return itertools.product(*spans)

    @cached_property
    def blosc(self) -> Any:
        known = BLOSC[self.codec]
        typesize = np.dtype(self.dtype).itemsize
        return Blosc(known["cname"], known["clevel"], _SHUFFLE[known["shuffle"]], 0, typesize=typesize)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class ShardWriter:
    """Writes one shard of one plane, inner chunk by inner chunk; use it in a ``with`` block and ``finish`` it.

    Raises
    ------
    OSError : the disk refuses (full, not writable)
    """

    def __init__(self, layout: Layout, folder: Path, index: Index) -> None:
        self.layout, self.index = layout, index
        self.target = layout.path(folder, index)
        self.partial = self.target.with_name(f"{self.target.name}.{uuid.uuid4().hex}.partial")
        self.places = np.full((*layout.per_shard, 2), NOTHING, np.uint64)
        self.digests: dict[Index, bytes] = {}
        self.at = 0
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.partial.open("wb", buffering=0)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.file.closed:
            self.file.close()
            self.partial.unlink(missing_ok=True)

    def put(self, start: Index, values: Array) -> None:
        """Add the inner chunks that ``values`` covers; ``start`` is its place in the array, at a chunk's corner."""
        layout = self.layout
        box = tuple(slice(at, at + n) for at, n in zip(start, values.shape, strict=True))
        for chunk in layout.touched(box, layout.chunk):
            extent = layout.extent(chunk)
            inside = tuple(slice(e.start - at, e.stop - at) for e, at in zip(extent, start, strict=True))
            self._add(chunk, values[inside])

    def _add(self, chunk: Index, values: Array) -> None:
        layout = self.layout
        values = np.ascontiguousarray(values, layout.dtype)
        self.digests[chunk] = hashlib.blake2b(values.data, digest_size=16).digest()
        if values.shape != layout.chunk:
            whole = np.full(layout.chunk, layout.fill, layout.dtype)
            whole[tuple(slice(0, n) for n in values.shape)] = values
            values = whole
        encoded = layout.blosc.encode(values)
        local = tuple(i % n for i, n in zip(chunk, layout.per_shard, strict=True))
        self.places[local] = (self.at, len(encoded))
        self._write(encoded)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while len(view):
            view = view[self.file.write(view) :]
        self.at += len(content)

    def finish(self) -> tuple[str, int]:
        """Close and rename; the digest of the values and the size of the file."""
        index = self.places.astype("<u8").tobytes()
        self._write(index + google_crc32c.value(index).to_bytes(4, "little"))
        self.file.close()
        os.replace(self.partial, self.target)
        return digest_of(self.digests), self.at


def digest_of(chunks: Mapping[Index, bytes]) -> str:
    """Digest of a shard from those of its inner chunks."""
    return hashlib.blake2b(b"".join(chunks[i] for i in sorted(chunks)), digest_size=16).hexdigest()


class ShardReader:
    """Reads inner chunks of one shard by ``pread``; use it in a ``with`` block.

    Raises
    ------
    StoreError : the file is missing, cut or its index does not have the right check sum
    """

    def __init__(self, layout: Layout, folder: Path, index: Index) -> None:
        self.layout, self.path = layout, layout.path(folder, index)
        self.bytes_read = 0
        count = int(np.prod(layout.per_shard))
        try:
            self.file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise StoreError(f"the shard {self.path} is missing; save the store again") from None
        try:
            size = os.fstat(self.file).st_size
            tail = os.pread(self.file, 16 * count + 4, max(0, size - 16 * count - 4))
            if len(tail) != 16 * count + 4 or google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
                raise StoreError(f"the shard {self.path} is damaged (its index); verify names all of them")
            self.places = np.frombuffer(tail[:-4], "<u8").reshape(*layout.per_shard, 2)
            self.bytes_read += len(tail)
        except BaseException:
            os.close(self.file)
            raise

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

    def chunk(self, chunk: Index, out: Array) -> Array:
        """Values of an inner chunk, clipped to the array: in ``out`` (of a whole chunk's shape) or as fill values."""
        layout = self.layout
        local = tuple(i % n for i, n in zip(chunk, layout.per_shard, strict=True))
        offset, length = (int(value) for value in self.places[local])
        if offset == NOTHING:
            out[...] = layout.fill
        else:
            encoded = os.pread(self.file, length, offset)
            self.bytes_read += len(encoded)
            try:
                if len(encoded) != length:
                    raise ValueError("the file ends early")
                layout.blosc.decode(encoded, out)
            except (ValueError, RuntimeError) as error:
                raise StoreError(f"the shard {self.path} is damaged at chunk {chunk}: {error}") from error
        return out[tuple(slice(0, e.stop - e.start) for e in layout.extent(chunk))]


def read_box(layout: Layout, folder: Path, box: tuple[slice, ...], missing_is_fill: bool = False) -> tuple[Array, int]:
    """The values of a box of one plane, and the bytes that were read from disk.

    Parameters
    ----------
    layout : the plane's layout
    folder : of the plane's array
    box : one slice per axis, inside the shape
    missing_is_fill : a shard that is not there holds the fill value (unfinished stores)

    Raises
    ------
    StoreError : a shard is missing or damaged
    """
    out = np.empty(tuple(s.stop - s.start for s in box), layout.dtype)
    scratch = np.empty(layout.chunk, layout.dtype)
    total = 0
    if out.size == 0:
        return out, 0
    for index in layout.touched(box, layout.shard):
        inside = tuple(
            slice(max(b.start, i * n), min(b.stop, (i + 1) * n))
            for b, i, n in zip(box, index, layout.shard, strict=True)
        )
        if missing_is_fill and not layout.path(folder, index).exists():
            out[tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(inside, box, strict=True))] = (
                layout.fill
            )
            continue
        with ShardReader(layout, folder, index) as reader:
            for chunk in layout.touched(inside, layout.chunk):
                extent = layout.extent(chunk)
                common = [
                    slice(max(e.start, b.start), min(e.stop, b.stop)) for e, b in zip(extent, inside, strict=True)
                ]
                values = reader.chunk(chunk, scratch)
                target = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, box, strict=True))
                source = tuple(slice(c.start - e.start, c.stop - e.start) for c, e in zip(common, extent, strict=True))
                out[target] = values[source]
            total += reader.bytes_read
    return out, total


def digest_on_disk(layout: Layout, folder: Path, index: Index) -> str:
    """Digest of the values of a stored shard, read anew.

    Raises
    ------
    StoreError : the shard is missing or damaged
    """
    box = tuple(slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, layout.shard, layout.shape, strict=True))
    scratch = np.empty(layout.chunk, layout.dtype)
    with ShardReader(layout, folder, index) as reader:
        return digest_of(
            {
                chunk: hashlib.blake2b(np.ascontiguousarray(reader.chunk(chunk, scratch)).data, digest_size=16).digest()
                for chunk in layout.touched(box, layout.chunk)
            }
        )
