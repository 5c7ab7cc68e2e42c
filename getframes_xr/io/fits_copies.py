"""Plain copies of compressed frames: where a session does not fit the cache of decoded files.

A window of a compressed file costs the whole file. Up to 256 MiB of decoded pixels are kept in memory; a larger session
would be decoded again for every band of rows, so it is decoded once into plain files of a scratch folder. The copies
stand for their originals: the recipe's token is the same, and a copy that is already there is used again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import xarray as xr

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Span, Window
from getframes_xr.face.frames_in import producer_of
from getframes_xr.face.lazy import lazy, run
from getframes_xr.io.fits import scan
from getframes_xr.io.fits_frames import FitsFrames
from getframes_xr.io.fits_pixels import CACHE, FitsSource
from getframes_xr.io.fits_writer import PathLike, write_frame


def decoded_bytes(frames: FitsFrames) -> int:
    """Bytes of pixels of the files that must be decoded before a window of them can be read."""
    packed = {source.path: source.layout.nbytes for source in frames.sources if source.storage != "plain"}
    return sum(packed.values())


def with_plain_copies(frames: xr.Dataset, folder: PathLike, *, always: bool = False) -> xr.Dataset:
    """The same frames, read from plain copies where they are compressed and more than the cache holds.

    Parameters
    ----------
    frames : Dataset of ``open_frames`` or a node of ``open_session``, whole (not sliced)
    folder : for the copies; is made if it does not exist
    always : copy even what fits the cache

    Raises
    ------
    DataError : not frames of FITS files
    StoreError : a copy cannot be written
    """
    plane = next((name for name in ("adu", "image") if name in frames), None)
    producer = None if plane is None else producer_of(frames[plane])
    if plane is None or not isinstance(producer, FitsFrames):
        raise DataError("only whole Datasets of open_frames (FITS files) can be given plain copies")
    if not always and decoded_bytes(producer) <= CACHE.limit:
        return frames
    target = Path(folder).expanduser().absolute()
    target.mkdir(parents=True, exist_ok=True)
    places = {i: target / f"{digest(s.identity)}.fits" for i, s in enumerate(producer.sources) if s.storage != "plain"}
    todo = [Span(i, i + 1) for i, path in places.items() if not path.exists()]
    whole = producer.grid.window
    copy = _Copy(plane, tuple(str(places.get(i, "")) for i in range(len(producer.sources))))
    run(producer, [whole.with_frames(span) for span in todo], [plane], copy)
    sources = list(producer.sources)
    for i, path in places.items():
        sources[i] = replace(FitsSource.of(scan(path)), origin=producer.sources[i].identity)
    made = lazy(replace(producer, sources=tuple(sources)))
    return made.assign_attrs(frames.attrs)


@dataclass(frozen=True)
class _Copy:
    """Sink that writes a whole frame as a plain file."""

    plane: str
    paths: tuple[str, ...]

    def token(self) -> str:
        return digest("plain copies", self.plane, self.paths)

    def __call__(self, patch: Patch, window: Window) -> int:
        path = self.paths[window.frames.start]
        write_frame(path, patch[self.plane][0])
        return os.path.getsize(path)
