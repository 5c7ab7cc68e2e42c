"""The xarray engine ``getframes_fits``: ``xr.open_dataset(files, engine="getframes_fits")``.

Variables are lazy arrays with OUTER indexing over a producer: slices are read as windows, lists of indices as the hull
of what they touch. Integers keep the file's type; nothing is masked or scaled by xarray.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND, TIME, Y
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.producer import Producer
from getframes_xr.face.coordinates import coordinates_of
from getframes_xr.io.catalogue import Hdu
from getframes_xr.io.fits import is_fits_name
from getframes_xr.io.frames import producer_from


class ProducerArray(BackendArray):
    """One plane of a producer as an array that xarray indexes lazily."""

    def __init__(self, producer: Producer, plane: str) -> None:
        self.producer, self.plane = producer, plane
        self.shape = producer.grid.shape(producer.grid.window)
        self.dtype = producer.planes[plane].dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    def _outer(self, key: tuple[Any, ...]) -> Array:
        grid = self.producer.grid
        spans, keys = {}, []
        for dim, size, item in zip(grid.dims, self.shape, key, strict=True):
            span, inside = _hull(item, size)
            spans[dim] = span
            keys.append(item if dim == BAND else inside)
        window = Window(spans.get(TIME, Span(0, 1)), spans[Y].shift(grid.y.start), spans["x"].shift(grid.x.start))
        values = self.producer.produce(window, [self.plane])[self.plane]
        for axis in reversed(range(len(keys))):
            values = values[(slice(None),) * axis + (keys[axis],)]
        return values


def _hull(item: Any, size: int) -> tuple[Span, Any]:
    """The run of indices that covers an indexer, and the indexer inside that run."""
    if isinstance(item, slice):
        chosen = range(size)[item]
        if len(chosen) == 0:
            return Span(0, 0), slice(None)
        span = Span(min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1)
        return span, slice(None) if chosen.step == 1 else np.arange(size)[item] - span.start
    values = np.asarray(item)
    values = np.where(values < 0, values + size, values)
    if values.size == 0:
        return Span(0, 0), values
    span = Span(int(values.min()), int(values.max()) + 1)
    inside = values - span.start
    return span, int(inside) if values.ndim == 0 else inside


class FitsEngine(BackendEntrypoint):
    """Entry point of ``engine="getframes_fits"``: a FITS file, a list of them, a glob or a folder."""

    description = "FITS frames as time, [band,] y, x, read by windows"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "hdu")
    supports_groups = False

    def open_dataset(  # type: ignore[override]  # an engine adds options of its own
        self,
        filename_or_obj: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        drop_variables: str | Iterable[str] | None = None,
        hdu: Hdu = None,
    ) -> xr.Dataset:
        """Open frames as lazy variables (``chunks={}`` gives dask arrays in bands of full rows).

        Raises
        ------
        DataError : nothing there, a file that cannot be used, mixed shapes, or a folder of mixed kinds
        """
        producer, folder = producer_from(filename_or_obj, hdu)
        grid = producer.grid
        sizes = dict(zip(grid.dims, grid.shape(grid.window), strict=True))
        frames, rows, _ = producer.preferred_chunks
        preferred = {**sizes, TIME: frames, Y: rows}
        variables = {
            name: xr.Variable(
                grid.dims,
                indexing.LazilyIndexedArray(ProducerArray(producer, name)),
                {"units": plane.units},
                {"preferred_chunks": preferred},
            )
            for name, plane in producer.planes.items()
        }
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        kept = {name: value for name, value in variables.items() if name not in dropped}
        return xr.Dataset(kept, coordinates_of(grid), attrs={**grid.attrs, "folder": folder})

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        return isinstance(filename_or_obj, str | os.PathLike) and is_fits_name(filename_or_obj)
