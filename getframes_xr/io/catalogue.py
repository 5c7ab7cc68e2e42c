"""The table of files: every file below some folders, what it is, and why it is used or not.

One header scan per file. Nothing here stops at a bad file: it becomes a row with a status and a remark. The order of
the table is by (time, path) and does not depend on how the system lists folders.
"""

from __future__ import annotations

import bz2
import glob as globbing
import gzip
import hashlib
import math
import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import FileStatus
from getframes_xr.core.window import Span
from getframes_xr.io.fits import is_fits_name, scan
from getframes_xr.io.fits_pixels import FitsSource
from getframes_xr.io.header import FrameFacts, facts_of, kind_of_text

PathLike = str | os.PathLike[str]
Hdu = int | str | tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One file (or one image of a cube): what it is and what becomes of it; ``remark`` says why, for people."""

    path: str
    file: str
    status: FileStatus
    remark: str = ""
    kind: str = ""
    source: FitsSource | None = None
    facts: FrameFacts | None = None
    colour: bool = False

    @property
    def order(self) -> tuple[bool, int, str, int]:
        """Rank by (time, path, image of a cube); frames without a time come last."""
        if self.facts is None or np.isnat(self.facts.start):
            return True, 0, self.file, self.source.plane if self.source else 0
        return False, int(self.facts.start.astype(np.int64)), self.file, self.source.plane if self.source else 0


def files_below(folders: Iterable[PathLike]) -> list[tuple[str, str]]:
    """(absolute path, path relative to the common parent) of every file, sorted; run folders are left out.

    A folder with a ``manifest.json`` or ``recipe.json`` is a run folder (our own products, finished or not), one with a
    ``zarr.json`` a store; hidden files and folders are not entered. A file that is named itself is taken.

    Raises
    ------
    DataError : a folder does not exist or cannot be read
    """
    roots = [os.path.abspath(os.fspath(folder)) for folder in folders]
    for root in roots:
        if not os.path.exists(root):
            raise DataError(f"{root}: no such file or folder")
    alone = [root for root in roots if not os.path.isdir(root)]
    roots = [root for root in roots if root not in alone]
    places = [*roots, *map(os.path.dirname, alone)]
    top = os.path.commonpath(places) if places else ""
    found = {os.path.realpath(path): path for path in alone}
    entered: set[str] = set()
    for root in sorted(roots):
        for here, folders_here, files in os.walk(root, followlinks=True):
            real = os.path.realpath(here)
            if real in entered or {"manifest.json", "recipe.json", "zarr.json"} & set(files):
                folders_here.clear()
                continue
            entered.add(real)
            folders_here[:] = sorted(name for name in folders_here if not name.startswith("."))
            for name in files:
                if not name.startswith("."):
                    path = os.path.join(here, name)
                    found.setdefault(os.path.realpath(path), path)
    rows = [(path, PurePath(os.path.relpath(path, top)).as_posix()) for path in found.values()]
    return sorted(rows, key=lambda row: row[1])


def paths_of(source: PathLike | Sequence[PathLike]) -> list[tuple[str, str]]:
    """Files named by a path, a glob or a list of these, without repeats.

    Raises
    ------
    DataError : nothing is there
    """
    several = [source] if isinstance(source, str | os.PathLike) else list(source)
    paths: dict[str, None] = {}
    for item in several:
        text = os.path.expanduser(os.fspath(item))
        if os.path.exists(text):
            paths[os.path.abspath(text)] = None
            continue
        matches = sorted(globbing.glob(text, recursive=True)) if globbing.has_magic(text) else []
        if not matches:
            raise DataError(f"{text}: there is no such file" + (" (no match)" if globbing.has_magic(text) else ""))
        paths.update((os.path.abspath(match), None) for match in matches)
    folders = {os.path.dirname(path) for path in paths}
    top = os.path.commonpath(list(folders)) if folders else ""
    return sorted(((path, PurePath(os.path.relpath(path, top)).as_posix()) for path in paths), key=lambda row: row[1])


def catalogue(files: Iterable[tuple[str, str]], hdu: Hdu = None, trusted: bool = False) -> list[Entry]:
    """Examine files and find repeats.

    Parameters
    ----------
    files : (absolute path, shown path)
    hdu : which image of each file
    trusted : the user named these files one by one, so names like ``failed_`` do not count

    Returns
    -------
    list of Entry, frames in order of (time, path), then the rest by path
    """
    entries = [entry for path, file in files for entry in examine(path, file, hdu, trusted)]
    frames = sorted((entry for entry in entries if entry.status is FileStatus.USED), key=lambda entry: entry.order)
    rest = sorted((entry for entry in entries if entry.status is not FileStatus.USED), key=lambda entry: entry.file)
    return without_repeats(frames) + rest


def examine(path: str, file: str, hdu: Hdu = None, trusted: bool = False) -> list[Entry]:
    """What one file is: one Entry, or one per image of a cube that is not in colour."""
    if not trusted and not is_fits_name(path) and not _begins_as_fits(path):
        return [Entry(path, file, FileStatus.FOREIGN, f"not a FITS file ({PurePath(path).suffix or 'no ending'})")]
    try:
        image = scan(path, hdu)
    except DataError as error:
        return [Entry(path, file, FileStatus.UNUSABLE, str(error).removeprefix(f"{path}: "))]
    shape = image.layout.shape
    if len(shape) < 2 or min(shape[-2:]) == 0:
        return [Entry(path, file, FileStatus.UNUSABLE, f"its image has the shape {shape}, not (y, x)")]
    facts = facts_of(image.cards, shape[-2])
    kind, where = _kind(file, facts)
    planes = math.prod(shape[:-2])
    colour = len(shape) == 3 and planes == 3
    product = None if trusted else _product(file, image.cards.text("CREATOR") or "", kind)
    status, remark = (FileStatus.USED, where) if product is None else product
    base = Entry(path, file, status, remark, kind, FitsSource.of(image), facts, colour)
    if colour or planes == 1:
        return [base]
    return [replace(base, file=f"{file}[{i}]", source=FitsSource.of(image, i)) for i in range(planes)]


def _begins_as_fits(path: str) -> bool:
    opener = gzip.open if path.endswith(".gz") else bz2.open if path.endswith(".bz2") else open
    try:
        with opener(path, "rb") as file:
            return bytes(file.read(6)) == b"SIMPLE"
    except (OSError, EOFError, zlib.error):
        return False


def _kind(file: str, facts: FrameFacts) -> tuple[str, str]:
    """Kind by header, else by the file's name, else by its folders from the inside out, else a light."""
    if facts.kind is not None:
        return facts.kind, ""
    path = PurePath(file)
    found = kind_of_text(path.stem)
    if found is not None:
        return found, "kind by the file's name"
    for folder in reversed(path.parts[:-1]):
        found = kind_of_text(folder)
        if found is not None:
            return found, "kind by the folder's name"
    return "light", ""


def _product(file: str, creator: str, kind: str) -> tuple[FileStatus, str] | None:
    name = PurePath(file).name.lower()
    if name.startswith("failed_"):
        return FileStatus.FLAGGED, "the device itself marked it as failed (its name begins with failed_)"
    if name.startswith(("stacked-", "stacked_")):
        return FileStatus.PRODUCT, "a stack made by the device, not a raw frame"
    if kind == "product":
        return FileStatus.PRODUCT, f"a stack{' made by ' + creator if creator else ''}, not a raw frame"
    if kind == "master":
        return FileStatus.PRODUCT, "a master, not a raw frame; hand it over by itself"
    return None


def without_repeats(frames: Sequence[Entry]) -> list[Entry]:
    """Mark frames that are there twice: equal start, exposure and shape, then equal pixels. The plain file stays."""
    groups: dict[object, list[int]] = defaultdict(list)
    for at, entry in enumerate(frames):
        if entry.source is None or entry.facts is None:
            continue
        start = entry.facts.start
        key = (str(start), entry.facts.exposure_s, entry.source.layout.shape, entry.source.plane, entry.kind)
        # without a time only copies of the same size are looked at: comparing pixels of all would read everything
        groups[(*key, entry.source.size) if np.isnat(start) else key].append(at)
    result = list(frames)
    for members in groups.values():
        if len(members) < 2:
            continue
        seen: dict[tuple[str, str], Entry] = {}
        bands: dict[str, int] = defaultdict(int)
        ordered = sorted(members, key=lambda at: (not _is_plain(frames[at]), frames[at].file))
        band_of = {at: _pixels_digest(frames[at], whole=False) for at in ordered}
        for at in ordered:
            bands[band_of[at]] += 1
        for at in ordered:
            key2 = (band_of[at], _pixels_digest(frames[at], whole=True) if bands[band_of[at]] > 1 else str(at))
            first = seen.setdefault(key2, frames[at])
            if first is not frames[at]:
                remark = f"same time, exposure and pixels as {first.file}"
                result[at] = replace(frames[at], status=FileStatus.DUPLICATE, remark=remark)
    kept = [entry for entry in result if entry.status is FileStatus.USED]
    return kept + [entry for entry in result if entry.status is not FileStatus.USED]


def _is_plain(entry: Entry) -> bool:
    return entry.source is not None and entry.source.storage == "plain"


def _pixels_digest(entry: Entry, whole: bool) -> str:
    """Digest of a frame's values (or of 16 rows of its middle), the same for every way of storing them."""
    source = entry.source
    if source is None:
        return entry.path
    ny, nx = source.shape
    rows = Span(0, ny) if whole else Span(max(0, ny // 2 - 8), min(ny, ny // 2 + 8))
    state = hashlib.blake2b(digest_size=16)
    planes: Sequence[int | None] = range(3) if entry.colour else (None,)
    try:
        for plane in planes:
            for strip in rows.pieces(max(1, (1 << 20) // nx)):
                values = np.empty((len(strip), nx), source.layout.dtype)
                source.read(strip, Span(0, nx), values, plane)
                state.update(values.data)
    except DataError:
        return entry.path  # unreadable pixels equal nothing; the reader will name the file
    return state.hexdigest()
