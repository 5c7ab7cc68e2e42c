"""``open_frames``: files, a folder, a glob or a store -> a lazy Dataset of frames.

Headers become per-frame coordinates; pixels stay on disk until a window of them is asked for. Beyond headers one frame
per camera setting is looked at (at most 4 Mpx) for what headers do not say: see ``io.levels``.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import COLOUR_BANDS, FileStatus
from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import Producer
from getframes_xr.face.lazy import lazy
from getframes_xr.io.catalogue import Entry, Hdu, PathLike, catalogue, files_below, paths_of
from getframes_xr.io.fits_frames import FitsFrames
from getframes_xr.io.levels import BLACK_SHARE, NOTHING, Levels, levels_of, same_residues


def open_frames(source: PathLike | Sequence[PathLike], *, hdu: Hdu = None, partial: bool = False) -> xr.Dataset:
    """Open frames lazily.

    Parameters
    ----------
    source : a FITS file, a list of them, a glob, a folder (searched recursively), a Zarr store of ``save_frames``, or
        a file of another registered format (``io.formats``), such as a SER recording
    hdu : image of each file, by index, EXTNAME or (EXTNAME, EXTVER); default: the first that has pixels
    partial : of an unfinished store, open what is finished

    Returns
    -------
    Dataset with ``adu`` (integers, as in the file) or ``image`` (floats), dims ``time, [band,] y, x``; frames in order
    of (time, path), repeats left out

    Raises
    ------
    DataError : nothing there, a file that cannot be used, mixed shapes, or a folder of mixed kinds
    StoreError : the store is unfinished (see ``partial``)
    """
    if isinstance(source, str | os.PathLike) and is_store(source):
        from getframes_xr.io.zarr import open_store

        stored: xr.Dataset = open_store(os.fspath(source), partial=partial)
        return stored
    recording = _recording(source)
    if recording is not None:
        return lazy(recording)
    producer, folder = producer_from(source, hdu)
    dataset = lazy(producer)
    dataset.attrs["folder"] = folder
    return dataset


def _recording(source: PathLike | Sequence[PathLike]) -> Producer | None:
    """The producer of a file in another format than FITS, None where it is not one."""
    several: list[PathLike] = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not several or any(os.path.isdir(os.path.expanduser(os.fspath(item))) for item in several):
        return None
    from getframes_xr.io.formats import format_of

    paths = [path for path, _ in paths_of(several)]
    known = format_of(paths)
    return None if known is None else known.frames(paths[0])


def producer_from(source: PathLike | Sequence[PathLike], hdu: Hdu = None) -> tuple[FitsFrames, str]:
    """The producer of ``open_frames`` for FITS files, and the folder they lie in.

    Raises
    ------
    DataError : nothing there, a file that cannot be used, mixed shapes, or a folder of mixed kinds
    """
    entries, folder = entries_of(source, hdu)
    frames = [entry for entry in entries if entry.status is FileStatus.USED]
    bad = [entry for entry in entries if entry.status is FileStatus.UNUSABLE]
    if bad:
        more = f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""
        hint = "; open_session sets such files aside" if folder else ""
        raise DataError(f"{bad[0].path}: {bad[0].remark}{more}{hint}")
    if not frames:
        raise DataError(f"{_shown(source)}: no FITS frames here ({len(entries)} other files)")
    kinds = Counter(entry.kind for entry in frames)
    if folder and len(kinds) > 1:
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise DataError(
            f"{_shown(source)}: holds frames of several kinds ({what}); use open_session, which keeps them apart"
        )
    return frames_of(frames), os.path.commonpath([os.path.dirname(entry.path) for entry in frames])


def is_store(source: PathLike) -> bool:
    """True for a folder that holds a Zarr group."""
    path = os.path.expanduser(os.fspath(source))
    return os.path.isdir(path) and os.path.exists(os.path.join(path, "zarr.json"))


def entries_of(source: PathLike | Sequence[PathLike], hdu: Hdu) -> tuple[list[Entry], bool]:
    """The table of files behind a source, and whether folders were searched.

    Raises
    ------
    DataError : nothing is there, or files and folders are mixed
    """
    several: list[PathLike] = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not several:
        raise DataError("an empty list of files")
    folders = [os.path.expanduser(os.fspath(item)) for item in several]
    if all(os.path.isdir(folder) for folder in folders):
        return catalogue(files_below(folders), hdu), True
    if any(os.path.isdir(folder) for folder in folders):
        raise DataError("files and folders are mixed; give either")
    return catalogue(paths_of(several), hdu, trusted=True), False


def _shown(source: object) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "the list of files"


def frames_of(entries: Sequence[Entry]) -> FitsFrames:
    """The producer of some frames of one geometry, in their order; ``frame`` counts from 0.

    Raises
    ------
    DataError : shapes, colours or colour filter patterns differ
    """
    shapes = Counter((entry.colour, *entry.source.shape) for entry in entries if entry.source is not None)
    if len(shapes) > 1:
        what = ", ".join(
            f"{count} x {ny} x {nx}{' colour' if colour else ''}" for (colour, ny, nx), count in sorted(shapes.items())
        )
        odd = next(e for e in entries if e.source and (e.colour, *e.source.shape) == shapes.most_common()[-1][0])
        raise DataError(f"frames of several shapes ({what}), e.g. {odd.file}; use open_session, which keeps them apart")
    patterns = {entry.facts.cfa for entry in entries if entry.facts is not None} - {None}
    if len(patterns) > 1:
        raise DataError(f"frames of several colour filter patterns ({', '.join(sorted(map(str, patterns)))})")
    (colour, ny, nx), _ = shapes.popitem()
    columns, attrs = columns_of(entries)
    wcs = {entry.facts.wcs for entry in entries if entry.facts is not None}
    if len(wcs) > 1:
        columns["wcs"] = _texts(entry.facts.wcs or "" for entry in entries if entry.facts is not None)
    grid = Grid(
        y=Span(0, ny),
        x=Span(0, nx),
        columns=columns,
        bands=COLOUR_BANDS if colour else None,
        cfa=None if colour else next(iter(patterns), None),
        wcs=next(iter(wcs)) if len(wcs) == 1 else None,
        attrs=attrs,
    )
    return FitsFrames(grid, tuple(entry.source for entry in entries if entry.source is not None))


def _texts(values: Any) -> np.ndarray[Any, np.dtype[np.object_]]:
    return np.array(list(values), dtype=object)


def columns_of(entries: Sequence[Entry]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Per-frame columns of the grid, and the attrs that hold for all of them."""
    facts = [entry.facts for entry in entries if entry.facts is not None]
    columns: dict[str, Any] = {
        "frame": np.arange(len(entries), dtype=np.int64),
        "start": np.array([fact.start for fact in facts], dtype="datetime64[ns]"),
        "exposure_s": np.array([fact.exposure_s for fact in facts], dtype=np.float64),
    }
    if np.isnat(columns["start"]).all():
        del columns["start"]
    if np.isnan(columns["exposure_s"]).all():
        del columns["exposure_s"]
    levels, notes, together = levels_by_frame(entries)
    numbers: dict[str, Callable[[int], float]] = {
        "gain_e_per_adu": lambda i: facts[i].gain_e_per_adu,
        "read_noise_e": lambda i: facts[i].read_noise_e,
        "bias_adu": lambda i: _first(facts[i].bias_adu, levels[i].bias_adu(facts[i].offset_counts)),
        "saturation_adu": lambda i: _first(facts[i].saturation_adu, levels[i].saturation_adu),
        "temperature_c": lambda i: facts[i].temperature_c,
        "airmass": lambda i: facts[i].airmass,
    }
    for name, value in numbers.items():
        column = np.array([value(i) for i in range(len(facts))], dtype=np.float64)
        if not np.isnan(column).all():
            columns[name] = column
    filters = [fact.filter or "" for fact in facts]
    if any(filters):
        columns["filter"] = _texts(filters)
    columns["file"] = _texts(entry.file for entry in entries)
    clipped = np.array([level.black_share for level in levels])
    if (clipped > BLACK_SHARE).any():
        columns["black_clipped_share"] = np.where(clipped > BLACK_SHARE, clipped, 0.0)
    for fact in facts:
        notes.update(fact.notes)
    attrs: dict[str, Any] = dict(together)
    for name in ("object", "camera", "telescope"):
        texts = sorted({str(getattr(fact, name)) for fact in facts if getattr(fact, name)})
        if texts:
            attrs[name] = ", ".join(texts)
    scales = {round(fact.plate_scale_arcsec_per_px, 4) for fact in facts}
    if len(scales) == 1 and not math.isnan(scale := scales.pop()):
        attrs["plate_scale_arcsec_per_px"] = scale
    if notes:
        attrs["notes"] = "; ".join(f"{note} ({count} frames)" for note, count in sorted(notes.items()))
    return columns, attrs


def _first(*values: float) -> float:
    return next((value for value in values if not math.isnan(value)), math.nan)


def levels_by_frame(entries: Sequence[Entry]) -> tuple[list[Levels], Counter[str], dict[str, Any]]:
    """Levels for each frame, measured once per camera setting; notes with how many frames they concern; attrs."""
    groups: dict[object, list[int]] = defaultdict(list)
    for at, entry in enumerate(entries):
        fact, source = entry.facts, entry.source
        if fact is None or source is None:
            continue
        groups[(entry.kind, fact.camera, fact.telescope, fact.gain_setting, fact.exposure_s, source.layout)].append(at)
    found = [NOTHING] * len(entries)
    notes: Counter[str] = Counter()
    subtracted = 0
    for members in groups.values():
        first = entries[members[0]]
        assert first.source is not None
        try:
            levels = levels_of(first.source)
        except DataError:
            continue  # the reader will name the file when its pixels are asked for
        for at in members:
            found[at] = levels
        if levels.black_share > BLACK_SHARE:
            share = f"{100 * levels.black_share:.1f} %"
            notes[f"the black level was cut: {share} of the pixels of {first.file} are exactly 0"] += len(members)
        if levels.dark_subtracted:
            subtracted += len(members)
            notes[_dark_note(entries, members)] += len(members)
    return found, notes, {"dark_subtracted_by_device": True} if subtracted == len(entries) else {}


def _dark_note(entries: Sequence[Entry], members: Sequence[int]) -> str:
    text = "the device has already subtracted a dark (values modulo 16 fall into few classes"
    one, other = entries[members[0]].source, entries[members[-1]].source
    if len(members) > 1 and one is not None and other is not None:
        with contextlib.suppress(DataError):
            text += f", the same in two frames for {100 * same_residues(one, other):.1f} % of the pixels"
    return text + "); do not subtract another"
