"""``open_session``: folders of a night (or several) -> a tree of lights, darks, flats and biases, and a table of files.

Folders are searched recursively; what cannot be used is set aside with a remark and never stops the session. Each
node holds frames of one geometry: ``lights`` the one with most exposure, ``lights_2`` the next; calibration frames go
with the lights of their shape. Device folders are understood: DWARF (``shotsInfo.json``, ``failed_*``, ``stacked*``),
Seestar, plain folders.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import FileStatus
from getframes_xr.face.lazy import lazy
from getframes_xr.io.catalogue import Entry, Hdu, PathLike, catalogue, files_below
from getframes_xr.io.frames import frames_of, is_store, open_frames

NODES: Final = {"light": "lights", "dark": "darks", "flat": "flats", "bias": "biases", "flat_dark": "flat_darks"}
_SHOTS = "shotsinfo.json"
Geometry = tuple[bool, int, int, str]


def open_session(*folders: PathLike, hdu: Hdu = None, told: Mapping[str, PathLike] | None = None) -> xr.DataTree:
    """Open all frames of some folders, sorted by kind; nothing of the pixels is loaded.

    Parameters
    ----------
    folders : searched recursively; run folders (with ``manifest.json``) and hidden ones are left out. A Zarr store of
        ``save_frames`` is taken as the node of the kind it holds
    hdu : image of each file, by index, EXTNAME or (EXTNAME, EXTVER); default: the first that has pixels
    told : kind of frame (``dark``, ``flat``, ``bias``) -> folder, one of ``folders``: its files are of this kind unless
        a card of theirs says otherwise; without it the names of file and folder decide

    Returns
    -------
    DataTree with those of ``lights, darks, flats, biases, flat_darks`` (``lights_2`` ... for other geometries) that
    exist, and ``files``: one row per file along ``item`` with ``file, kind, status, remark, node, frame``;
    ``status`` is one of ``used, duplicate, flagged, product, foreign, unusable``, ``remark`` says why

    Raises
    ------
    DataError : a folder is not there, or no frame in it can be used
    """
    if not folders:
        raise DataError("open_session needs at least one folder")
    stores = [folder for folder in folders if is_store(folder)]
    datasets, stored = _stores(stores)
    files = files_below([folder for folder in folders if folder not in stores])
    shots, files = _shots(files)
    entries = [_as_told(_with_shots(entry, shots), told or {}) for entry in catalogue(files, hdu)]
    frames = [entry for entry in entries if entry.status is FileStatus.USED]
    shown = ", ".join(os.path.abspath(os.fspath(folder)) for folder in folders)
    if not frames and not datasets:
        raise DataError(f"{shown}: {_nothing(entries)}")
    nodes = _nodes(frames)
    both = sorted(set(nodes) & set(datasets))
    if both:
        raise DataError(f"{shown}: {', '.join(both)} lie in files and in a store; give one of them")
    notes: list[str] = []
    for name, members in nodes.items():
        try:
            datasets[name] = lazy(frames_of(members))
        except DataError as error:
            raise DataError(f"{shown}: {name}: {error}") from error
        if "notes" in datasets[name].attrs:
            notes.append(f"{name}: {datasets[name].attrs['notes']}")
    notes += [f"{count} files {status}" for status, count in _left_out(entries)]
    table = _table(entries, nodes)
    table = xr.concat([table, stored], dim="item") if stored is not None else table
    first = os.path.basename(os.path.normpath(os.path.abspath(os.fspath(folders[0]))))
    attrs: dict[str, Any] = {"session": first, "folders": shown, "notes": "\n".join(notes)}
    if shots:
        attrs["shots_info"] = json.dumps({folder: shots[folder] for folder in sorted(shots)}, ensure_ascii=False)
    tree = {"/": xr.Dataset(attrs=attrs), **{f"/{name}": data for name, data in datasets.items()}, "/files": table}
    return xr.DataTree.from_dict(tree, name=first)


def _as_told(entry: Entry, told: Mapping[str, PathLike]) -> Entry:
    """The entry, of the kind that the user says the frames of its folder are, where no card tells it."""
    if entry.facts is None or entry.facts.kind is not None:
        return entry
    for kind, folder in told.items():
        if Path(entry.path).resolve().is_relative_to(Path(folder).resolve()):
            return replace(entry, kind=kind, remark="kind as told")
    return entry


def _stores(stores: Sequence[PathLike]) -> tuple[dict[str, xr.Dataset], xr.Dataset | None]:
    """Stores of ``save_frames`` as nodes, by the kind of frame they say they hold, and their rows of the table."""
    datasets: dict[str, xr.Dataset] = {}
    rows = []
    for store in stores:
        opened = open_frames(store)
        kind = str(opened.attrs.get("frame_kind", "light"))
        name = NODES.get(kind, "lights")
        if name in datasets:
            raise DataError(f"{os.fspath(store)}: a second store of {kind} frames; join them with gx.concat first")
        number = np.arange(opened.sizes["time"])
        file = f"{os.path.basename(os.path.normpath(os.fspath(store)))}"
        if "file" not in opened.coords:
            files = np.array([f"{file}[{at}]" for at in number], dtype=object)
            opened = opened.assign_coords(file=("time", files))
        datasets[name] = opened
        columns: dict[str, Any] = {"file": opened["file"].values, "frame": opened["frame"].values}
        same = {"kind": kind, "status": FileStatus.USED.value, "remark": ""}
        columns |= {n: np.full(len(number), v, object) for n, v in same.items()}
        columns |= {"node": np.full(len(number), name, object), "exposure_s": known_exposures(opened)}
        columns["start"] = opened["start"].values if "start" in opened.coords else np.full(len(number), "NaT", "M8[ns]")
        rows.append(xr.Dataset({n: ("item", values) for n, values in columns.items()}))
    return datasets, xr.concat(rows, dim="item") if rows else None


def known_exposures(frames: xr.Dataset) -> np.ndarray[Any, Any]:
    """Exposure of each frame [s], NaN where it is not known."""
    return frames["exposure_s"].values if "exposure_s" in frames.coords else np.full(frames.sizes["time"], np.nan)


def _nothing(entries: Sequence[Entry]) -> str:
    if not entries:
        return "there are no files in it"
    counts = Counter(entry.status for entry in entries)
    example = next((e for e in entries if e.status is not FileStatus.FOREIGN), entries[0])
    what = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"no frame can be used ({what}; e.g. {example.file}: {example.remark})"


def _left_out(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    counts = Counter(entry.status for entry in entries if entry.status.set_aside)
    return sorted(counts.items())


# DWARF's description of a run


def _shots(files: Sequence[tuple[str, str]]) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Contents of ``shotsInfo.json`` by folder (relative), and the other files."""
    found: dict[str, dict[str, Any]] = {}
    rest = []
    for path, file in files:
        if os.path.basename(path).lower() != _SHOTS:
            rest.append((path, file))
            continue
        try:
            with open(path, encoding="utf-8") as opened:
                content = json.load(opened)
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found[os.path.dirname(file)] = content
    return found, rest


def _with_shots(entry: Entry, shots: dict[str, dict[str, Any]]) -> Entry:
    """The entry with what its header leaves open filled in from the folder's ``shotsInfo.json``."""
    info = shots.get(os.path.dirname(entry.file)) if shots else None
    if info is None or entry.facts is None:
        return entry
    facts = entry.facts
    if math.isnan(facts.exposure_s):
        with contextlib.suppress(ValueError):
            facts = replace(facts, exposure_s=float(str(info.get("exp", "")).rstrip("s")))
    if facts.object is None and isinstance(info.get("target"), str):
        facts = replace(facts, object=str(info["target"]) or None)
    return entry if facts is entry.facts else replace(entry, facts=facts)


# Nodes


def _geometry(entry: Entry) -> Geometry:
    assert entry.source is not None and entry.facts is not None
    return entry.colour, *entry.source.shape, "" if entry.colour else entry.facts.cfa or ""


def _nodes(frames: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Frames by node name. The geometry with most exposure (of lights, if there are any) has no number."""
    lights = [entry for entry in frames if entry.kind == "light"] or list(frames)
    exposure: dict[Geometry, float] = defaultdict(float)
    for entry in lights:
        assert entry.facts is not None
        seconds = entry.facts.exposure_s
        exposure[_geometry(entry)] += 0.0 if math.isnan(seconds) else seconds
    counts = Counter(_geometry(entry) for entry in lights)
    ranked = sorted(exposure, key=lambda shape: (-exposure[shape], -counts[shape], shape))
    by_shape: dict[tuple[bool, int, int], int] = {}
    for number, shape in enumerate(ranked):
        by_shape.setdefault(shape[:3], number)
    result: dict[str, list[Entry]] = defaultdict(list)
    for entry in frames:
        shape = _geometry(entry)
        if entry.kind == "light" and shape in exposure:
            number = ranked.index(shape)
        else:
            number = by_shape.setdefault(shape[:3], max(len(ranked), 1 + max(by_shape.values())))
        name = NODES.get(entry.kind, "lights")
        result[name if number == 0 else f"{name}_{number + 1}"].append(entry)
    order = list(NODES.values())
    return dict(sorted(result.items(), key=lambda item: _node_rank(item[0], order)))


def _node_rank(name: str, order: Sequence[str]) -> tuple[int, int]:
    stem, _, number = name.rpartition("_")
    if number.isdigit():
        return order.index(stem), int(number)
    return order.index(name), 1


def _table(entries: Sequence[Entry], nodes: dict[str, list[Entry]]) -> xr.Dataset:
    place = {id(entry): (name, at) for name, members in nodes.items() for at, entry in enumerate(members)}
    texts = {
        "file": [entry.file for entry in entries],
        "kind": [entry.kind for entry in entries],
        "status": [entry.status.value for entry in entries],
        "remark": [entry.remark for entry in entries],
        "node": [place.get(id(entry), ("", -1))[0] for entry in entries],
    }
    facts = [entry.facts for entry in entries]
    nothing = np.datetime64("NaT", "ns")
    columns: dict[str, Any] = {name: ("item", np.array(values, dtype=object)) for name, values in texts.items()}
    columns["frame"] = ("item", np.array([place.get(id(entry), ("", -1))[1] for entry in entries], np.int64))
    columns["start"] = ("item", np.array([f.start if f else nothing for f in facts], "datetime64[ns]"))
    columns["exposure_s"] = ("item", np.array([f.exposure_s if f else math.nan for f in facts]), {"units": "s"})
    return xr.Dataset(columns)
