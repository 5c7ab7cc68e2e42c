"""Concat: frames of several observations, one after the other, with new frame numbers 0, 1, 2, ...

Each part keeps its own numbers below, so no pixel changes (noise belongs to the old numbers); only the joined grid
counts anew, and tables made of the joined frames match it. Columns that not every part has are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import TIME, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer
from getframes_xr.face.frames_in import FramesLike, as_producer, dataset_in, planes_of, tables_of
from getframes_xr.face.lazy import lazy


@dataclass(frozen=True, eq=False)
class Concatenated(Producer):
    """``parts`` along time; all of one shape, bands, colour filter array and planes.

    Raises
    ------
    DataError : parts differ in their pixels, bands, colour filter array or planes, or have no time
    """

    parts: tuple[Producer, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise DataError("nothing to join")
        first = self.parts[0].grid
        for number, part in enumerate(self.parts):
            grid = part.grid
            if not grid.timed:
                raise DataError(f"part {number} has no time axis; only frames can be joined")
            for name in ("y", "x", "bands", "cfa"):
                mine, other = getattr(grid, name), getattr(first, name)
                if mine != other:
                    raise DataError(
                        f"part {number} has {name} = {mine}, part 0 has {other}; only equal frames can be joined"
                    )
            for name, plane in self.planes.items():
                known = part.planes.get(name)
                if known is None or known.dtype != plane.dtype or known.units != plane.units:
                    raise DataError(f"the plane {name!r} of part {number} is {known}, of part 0 {plane}")

    @cached_property
    def grid(self) -> Grid:
        grids = [part.grid for part in self.parts]
        shared = [name for name in grids[0].columns or {} if all(name in (grid.columns or {}) for grid in grids)]
        columns: dict[str, Array] = {name: np.concatenate([grid.column(name) for grid in grids]) for name in shared}
        wcs = {grid.wcs for grid in grids}
        if len(wcs) > 1:
            texts = [np.full(grid.n_frames, grid.wcs or "", dtype=object) for grid in grids]
            columns["wcs"] = np.concatenate(texts)
        columns["frame"] = np.arange(sum(grid.n_frames for grid in grids), dtype=np.int64)
        attrs = {k: v for k, v in grids[0].attrs.items() if all(grid.attrs.get(k) == v for grid in grids)}
        return grids[0].replace(columns=columns, attrs=attrs, wcs=grids[0].wcs if len(wcs) == 1 else None)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        shared = [name for name in self.parts[0].planes if all(name in part.planes for part in self.parts)]
        return {name: self.parts[0].planes[name] for name in shared}

    def _split(self, frames: Span) -> Iterator[tuple[Producer, Span, Span]]:
        """Part, its own positions, and the joined positions they are at."""
        start = 0
        for part in self.parts:
            joined = Span(start, start + part.grid.n_frames)
            common = frames.clip(joined)
            if len(common):
                yield part, common.shift(-start), common
            start = joined.stop

    @property
    def takes_over(self) -> str:
        return "frames"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        pieces = list(self._split(window.frames))
        role = "frames" if len(pieces) == 1 else None
        for part, own, joined in few(pieces, [len(own) for _, own, _ in pieces]):
            yield Ask(part, window.with_frames(own), planes, keep=role, about=joined)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        if len(list(self._split(window.frames))) == 1:
            return given.take()
        shape = self.grid.shape(window)
        out = Patch(window, {name: np.empty(shape, self.planes[name].dtype) for name in sorted(planes)})
        for ask, patch in given:
            for name in planes:
                out[name][ask.about.slice_in(window.frames)] = patch[name]
        return out

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return 2**16


def concat(*observations: FramesLike | Sequence[FramesLike]) -> xr.Dataset:
    """Join observations along time under new frame numbers 0, 1, 2, ...; lazy.

    Parameters
    ----------
    observations : frames of one shape, bands, colour filter array, one after the other or in a list; the planes that
        all of them have are joined. Tables along ``time`` that all of them have with the same further dims are joined
        too; others are left out, and the attribute ``notes`` names them

    Returns
    -------
    Dataset (time, [band,] y, x)

    Raises
    ------
    DataError : frames that differ in their pixels, bands or colour filter array; no plane in common
    """
    given: list[Any] = [item for each in observations for item in (each if isinstance(each, list | tuple) else [each])]
    if not given:
        raise DataError("nothing to join; give at least one observation")
    shown = [dataset_in(data, f"concat (part {number})") for number, data in enumerate(given)]
    names = [planes_of(data) for data in shown]
    shared = [name for name in names[0] if all(name in other for other in names)]
    if not shared:
        raise DataError(f"no plane in common: {'; '.join(', '.join(known) for known in names)}")
    joined = lazy(Concatenated(tuple(as_producer(data, shared) for data in given)), shared)
    tables, left = _joined_tables([tables_of(data) for data in shown])
    if left:
        note = f"concat left out {', '.join(left)}: not in every part, or of other dims"
        joined.attrs["notes"] = "; ".join(text for text in (joined.attrs.get("notes"), note) if text)
    return joined.assign(tables)


def _joined_tables(parts: Sequence[xr.Dataset]) -> tuple[dict[str, xr.DataArray], list[str]]:
    """Tables along time one after the other, and the names of those that cannot be joined."""
    every = list(dict.fromkeys(str(name) for part in parts for name in part.data_vars))
    joined: dict[str, xr.DataArray] = {}
    for name in every:
        tables = [part[name] for part in parts if name in part and TIME in part[name].dims]
        if len(tables) < len(parts):
            continue
        # what is alike but for the frames: dims, dtype, attributes, further coordinates
        further = [table.drop_vars([c for c in table.coords if TIME in table[c].dims]) for table in tables]
        none = [table.isel({TIME: slice(0, 0)}) for table in further]
        if all(table.identical(none[0]) for table in none):
            joined[name] = xr.concat(further, TIME)
    return joined, [name for name in every if name not in joined]
