"""Grid <-> xarray coordinates: the names under which users see where and when a pixel is.

``frame``, ``y``, ``x`` are the absolute place that slicing keeps; every per-frame column becomes a coordinate on
``time``; ``time`` itself is mid-exposure. Texts shared by all frames (``wcs``, ``cfa_pattern``) are scalar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND, COLUMNS, TIME, X, Y
from getframes_xr.core.window import Grid, Span


def _text(value: str) -> Array:
    return np.array(value, dtype=object)


def mid_exposure(start: Array, exposure_s: Array) -> Array:
    """Middle of the exposures, datetime64[ns]."""
    half = np.round(np.asarray(exposure_s, np.float64) * 0.5e9).astype("timedelta64[ns]")
    middle: Array = np.asarray(start, "datetime64[ns]") + half
    return middle


def coordinates_of(
    grid: Grid, positions: Array | None = None, y: Array | None = None, x: Array | None = None
) -> dict[str, Any]:
    """Coordinates of a Dataset that shows (some of) a grid."""
    found: dict[str, Any] = {
        Y: (Y, grid.y.indices() if y is None else y, {"units": "pixel"}),
        X: (X, grid.x.indices() if x is None else x, {"units": "pixel"}),
    }
    if grid.bands:
        found[BAND] = (BAND, np.array(grid.bands, dtype=object))
    if grid.columns is not None:
        chosen = slice(None) if positions is None else positions
        columns = {name: column[chosen] for name, column in grid.columns.items()}
        for name, column in columns.items():
            units = COLUMNS.get(name, "")
            found[name] = (TIME, column, {"units": units} if units else {})
        if "start" in columns and "exposure_s" in columns:
            found[TIME] = (TIME, mid_exposure(columns["start"], columns["exposure_s"]))
    if grid.cfa is not None:
        found["cfa_pattern"] = ((), _text(grid.cfa))
    if grid.wcs is not None:
        found["wcs"] = ((), _text(grid.wcs))
    return found


def _span(array: xr.DataArray | xr.Dataset, dim: str) -> Span:
    size = array.sizes[dim]
    if dim not in array.coords:
        return Span(0, size)
    values = array.coords[dim].values
    if values.dtype.kind not in "iu" or (len(values) > 1 and not (np.diff(values) == 1).all()):
        raise DataError(
            f"the coordinate {dim!r} must hold integers of step 1 here; it was strided, reversed or relabelled"
        )
    return Span(int(values[0]), int(values[0]) + size) if size else Span(0, 0)


def grid_of(array: xr.DataArray | xr.Dataset) -> Grid:
    """The grid that an array's coordinates tell; missing ``frame``, ``y``, ``x`` count from 0.

    Raises
    ------
    DataError : dims are not out of time, band, y, x; y or x are not integers of step 1
    """
    dims = tuple(str(dim) for dim in array.dims)
    unknown = set(dims) - {TIME, BAND, Y, X}
    if unknown or Y not in dims or X not in dims:
        raise DataError(f"dims {dims} are not out of (time, band, y, x); transpose or rename them first")
    columns: dict[str, Array] | None = None
    if TIME in dims:
        columns = {"frame": np.arange(array.sizes[TIME], dtype=np.int64)}
        for name, coordinate in array.coords.items():
            if name in COLUMNS and coordinate.ndim <= 1 and (coordinate.ndim == 0 or coordinate.dims == (TIME,)):
                values = coordinate.values
                columns[str(name)] = np.full(array.sizes[TIME], values[()]) if values.ndim == 0 else values
        if (
            "start" not in columns
            and TIME in array.coords
            and array[TIME].dtype.kind == "M"
            and "exposure_s" in columns
        ):
            half = np.round(columns["exposure_s"] * 0.5e9).astype("timedelta64[ns]")
            columns["start"] = array[TIME].values.astype("datetime64[ns]") - half
    return Grid(
        y=_span(array, Y),
        x=_span(array, X),
        columns=columns,
        bands=tuple(str(b) for b in array[BAND].values) if BAND in dims and BAND in array.coords else None,
        cfa=_scalar_text(array.coords, "cfa_pattern"),
        wcs=_scalar_text(array.coords, "wcs"),
        attrs={str(name): value for name, value in array.attrs.items() if isinstance(value, str | int | float | bool)},
    )


def _scalar_text(coords: Mapping[Any, Any], name: str) -> str | None:
    return str(coords[name].values[()]) if name in coords and coords[name].ndim == 0 else None
