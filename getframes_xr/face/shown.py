"""What a Dataset shows over its pixels: lineage goes by pixels, coordinates, facts and planes by what is shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.digest import digest
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import COLUMNS, TIME
from getframes_xr.engine.dressed import Dressed
from getframes_xr.engine.producer import Producer


def as_shown(
    producer: Producer, shown: xr.Dataset, names: Collection[str], facts: Mapping[str, Any] | None = None
) -> Producer:
    """``producer`` itself where ``shown`` has its coordinates and ``names`` are its planes, else dressed in these.

    ``facts``: attrs that are shown; those of the producer's facts that are not among them are dropped (None: all stay).
    """
    grid = producer.grid
    columns: dict[str, Array] | None = None
    if grid.columns is not None:
        known = [*grid.columns, *(name for name in COLUMNS if name not in grid.columns)]
        columns = {"frame": grid.columns["frame"]}
        columns |= {name: _column(shown, name, grid.n_frames) for name in known if _is_column(shown, name)}
    cfa, wcs = _text(shown, "cfa_pattern"), _text(shown, "wcs")
    attrs = {name: value if facts is None else facts[name] for name, value in grid.attrs.items() if _kept(name, facts)}
    alike = set(names) == set(producer.planes) and (cfa, wcs) == (grid.cfa, grid.wcs)
    alike = alike and digest(attrs) == digest(dict(grid.attrs))
    same = alike and (
        columns is None
        or (set(columns) == set(grid.columns or {}) and all(_equal(columns[n], grid.column(n)) for n in columns))
    )
    return producer if same else Dressed(producer, columns, cfa, wcs, tuple(sorted(names)), attrs)


def _kept(name: str, facts: Mapping[str, Any] | None) -> bool:
    return facts is None or name in facts


def _is_column(shown: xr.Dataset, name: str) -> bool:
    if name not in shown.coords or name == "frame":
        return False
    dims = shown.coords[name].dims
    return dims == (TIME,) or (dims == () and (TIME not in shown.dims or name in COLUMNS))


def _column(shown: xr.Dataset, name: str, n_frames: int) -> Array:
    values = shown.coords[name].values
    return np.full(n_frames, values[()]) if values.ndim == 0 else values


def _text(shown: xr.Dataset, name: str) -> str | None:
    return str(shown.coords[name].values[()]) if name in shown.coords and shown.coords[name].ndim == 0 else None


def _equal(one: Array, two: Array) -> bool:
    if one is two:
        return True
    numbers: Any = one.dtype.kind == "f" and two.dtype.kind == "f"
    return one.shape == two.shape and bool(np.array_equal(one, two, equal_nan=bool(numbers)))
