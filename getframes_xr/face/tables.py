"""Tables: a function of one frame to fixed rows, lazily, each frame read once.

``per_frame`` gives a Dataset of columns along ``time`` (and further dims such as ``source``), padded with NaN by the
function. Consumers need loaded tables sorted by ``frame``: ``loaded`` does both and says so when it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from types import FunctionType
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import TIME
from getframes_xr.core.window import CHUNK_PIXELS, Grid, Span, Window
from getframes_xr.engine.ask import Ask, Given, Sink
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.whereabouts import tell, where
from getframes_xr.face.block import Selection
from getframes_xr.face.coordinates import coordinates_of
from getframes_xr.face.graph import arrays_of


@dataclass(frozen=True)
class Column:
    """One column of a table: dtype, unit, and its dims beyond ``time`` with their lengths."""

    dtype: Any
    units: str = ""
    dims: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameByFrame(Sink):
    """Calls ``function`` for each frame of a window and puts the rows together."""

    function: Callable[[Patch], Mapping[str, Any]]
    planes: tuple[str, ...]
    columns: Mapping[str, Column]

    def inputs(self, producer: Producer, window: Window) -> Iterator[Ask]:
        yield Ask(producer, window, self.planes)

    def take(self, producer: Producer, window: Window, given: Given) -> dict[str, Array]:
        patch = given.take()
        shapes = {name: (len(window.frames), *column.dims.values()) for name, column in self.columns.items()}
        out = {name: np.empty(shapes[name], column.dtype) for name, column in self.columns.items()}
        for at, frame in enumerate(window.frames.pieces(1)):
            one = window.with_frames(frame)
            try:
                rows = self.function(patch.view(one))
            except Exception as error:
                tell(error, where(_name(self.function), producer.grid, one))
                raise
            for name, row in rows.items():
                out[name][at] = row
        return out

    def __post_init__(self) -> None:
        named = isinstance(self.function, FunctionType) and "<" not in self.function.__qualname__
        if not named and not is_dataclass(self.function):
            raise TypeError(
                f"{self.function!r}: only a frozen dataclass or a function of a module has a key of its own"
            )

    def token(self) -> str:
        function = self.function
        what: object = function if is_dataclass(function) else f"{function.__module__}.{function.__qualname__}"
        columns = [[name, str(c.dtype), dict(c.dims)] for name, c in self.columns.items()]
        return digest(what, list(self.planes), columns)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def per_frame(
    producer: Producer,
    planes: Collection[str],
    function: Callable[[Patch], Mapping[str, Any]],
    columns: Mapping[str, Column],
) -> xr.Dataset:
    """A lazy table: ``function`` of every frame.

    Parameters
    ----------
    producer : frames with time
    planes : the planes ``function`` reads
    function : patch of ONE frame (its window holds the frame's position; arrays (1, [band,] y, x)) -> row per column.
        Picklable; a frozen dataclass (its fields are part of the key) or a module's function
    columns : what the rows are

    Returns
    -------
    Dataset with dims ``time`` and those of the columns, and the frames' per-frame coordinates

    Raises
    ------
    DataError : the producer has no time
    TypeError : ``function`` is neither a frozen dataclass nor a module's function: two such would share a key
    """
    grid = producer.grid
    if not grid.timed:
        raise DataError("a table per frame needs frames with a time axis")
    per_task = max(1, CHUNK_PIXELS // max(1, len(grid.y) * len(grid.x)))
    times = tuple(len(span) for span in Span(0, grid.n_frames).pieces(per_task))
    letters: dict[str, str] = {}
    for column in columns.values():
        for dim in column.dims:
            letters.setdefault(dim, f"d{len(letters)}")
    outputs = {
        name: (
            ("t", *(letters[dim] for dim in column.dims)),
            {letters[dim]: length for dim, length in column.dims.items()},
            np.dtype(column.dtype),
        )
        for name, column in columns.items()
    }
    chunks = (times, (len(grid.y),), (len(grid.x),))
    rows = FrameByFrame(function, tuple(sorted(planes)), dict(columns))
    arrays = arrays_of(Selection.whole(producer), tuple(sorted(planes)), chunks, outputs, rows)
    variables = {
        name: ((TIME, *column.dims), arrays[name], {"units": column.units} if column.units else {})
        for name, column in columns.items()
    }
    coordinates = {name: c for name, c in coordinates_of(grid).items() if name not in ("y", "x", "band")}
    return xr.Dataset(variables, coordinates)


def loaded(table: xr.Dataset, *names: str) -> xr.Dataset:
    """The table sorted by ``frame``.

    Raises
    ------
    DataError : it is still lazy, lacks one of ``names``, or holds a frame twice
    """
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(f"this table has no {', '.join(missing)}; it holds {', '.join(map(str, table.data_vars))}")
    lazy_ones = [str(name) for name in table.variables if table[name].chunks is not None]
    if lazy_ones:
        raise DataError(f"the table is still lazy ({lazy_ones[0]}): call .load() on it first")
    if TIME in table.dims:
        frames = table["frame"].values
        if len(np.unique(frames)) != len(frames):
            raise DataError("the table holds a frame twice")
        if not (np.diff(frames) > 0).all():
            table = table.isel({TIME: np.argsort(frames, kind="stable")})
    return table


def by_frame(table: xr.DataArray, grid: Grid) -> Array:
    """Rows of a table on ``time`` for the frames of a grid, matched by ``frame`` (by place where it has none).

    Raises
    ------
    DataError : the table is lazy, or does not know a frame
    """
    if table.chunks is not None:
        raise DataError("this table is lazy; call .load() on it first")
    values = table.transpose(TIME, ...).values
    if "frame" not in table.coords:
        if len(values) != grid.n_frames:
            raise DataError(f"the table has {len(values)} rows and no 'frame', the frames are {grid.n_frames}")
        return np.asarray(values)
    known, wanted = table["frame"].values.astype(np.int64), grid.column("frame")
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
    missing = wanted[known[order[at]] != wanted]
    if len(missing):
        raise DataError(f"the table has no row for frame {missing[0]} ({len(missing)} of {len(wanted)} frames)")
    return np.asarray(values[order[at]])
