"""The birth of a store: metadata, coordinates and tables, written once, whole, up front.

A store is made in a folder beside its place and renamed, so a killed process leaves no half store; consolidated
metadata is written at once (the shapes of planes are known). Texts are variable-length strings: Zarr v3 has no stable
type for texts of fixed length, and readers would warn.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import StoreError
from getframes_xr.core.window import Grid
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.stage import HistoryStage
from getframes_xr.face.coordinates import coordinates_of
from getframes_xr.io.journal import PARTIAL
from getframes_xr.io.recipe import describe
from getframes_xr.io.shards import BLOSC, Codec, Layout, shard_shape
from getframes_xr.io.zarr import ROOT, StoreRoot, is_store


def root_of(producer: Producer, planes: list[str], codec: Codec) -> StoreRoot:
    grid = producer.grid
    shard = shard_shape(grid, _period(producer))
    layouts = {name: Layout.of(grid, producer.planes[name].dtype, shard, codec) for name in planes}
    units = {name: producer.planes[name].units for name in planes}
    words = {**describe(producer), "planes": " ".join(planes), "codec": codec}
    token = digest(producer, planes, codec, dict(layouts))
    attrs = {name: _plain(value) for name, value in grid.attrs.items()}
    return StoreRoot(token, words, layouts, units, tuple(grid.columns or ()), attrs)


def _period(producer: Producer) -> int:
    """Anchor period of the HISTORY stages in a chain."""
    periods = [1]
    for item in producer.walk():
        stages = getattr(item, "stages", ())
        periods += [stage.period for stage in stages if isinstance(stage, HistoryStage)]
    return max(periods)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the writer's warnings: consolidated metadata is not yet in the Zarr v3 specification."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def create_store(store: Path, root: StoreRoot, grid: Grid, rest: xr.Dataset) -> None:
    """Make the store whole beside its place, then rename it."""
    new = store.with_name(f".{store.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with _quiet():
            _coordinates(grid, rest).to_zarr(new, zarr_format=3, consolidated=False)
            group = zarr.open_group(new, mode="r+")
            for name, layout in root.layouts.items():
                known = BLOSC[layout.codec]
                blosc = BloscCodec(**known, typesize=np.dtype(layout.dtype).itemsize)
                group.create_array(
                    name, shape=layout.shape, chunks=layout.chunk, shards=layout.shard, dtype=layout.dtype,
                    compressors=blosc, fill_value=layout.fill, dimension_names=grid.dims,
                    attributes={"units": root.units[name]} if root.units[name] else {},
                    config={"write_empty_chunks": True},
                )  # fmt: skip
            group.attrs.update({ROOT: root.to_json()})
            zarr.consolidate_metadata(str(new))
        root.journal(new).create()
        try:
            os.rename(new, store)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not is_store(store):
                raise
    except OSError as error:
        raise refused(store, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _coordinates(grid: Grid, rest: xr.Dataset) -> xr.Dataset:
    """Everything that is written up front: coordinates, further variables, attributes."""
    known = coordinates_of(grid)
    sizes = dict(zip(grid.dims, grid.shape(grid.window), strict=True))
    fits = all(rest.sizes.get(dim, n) == n for dim, n in sizes.items())
    plain = xr.Dataset(coords=known)
    if fits:
        further = {n: c.variable for n, c in rest.coords.items() if n not in known and set(c.dims) <= set(rest.dims)}
        plain = plain.assign_coords(further)
        plain = plain.assign({str(name): rest[name].variable for name in rest.data_vars})
    plain.attrs = {str(name): _plain(value) for name, value in {**rest.attrs, **grid.attrs}.items()}
    plain = plain.load()
    for name in plain.variables:
        plain[name].encoding.clear()
        if plain[name].dtype.kind in "OUT":
            plain[name] = _texts(plain[name])
        if plain[name].dtype.kind == "M":
            plain[name].encoding.update(units="nanoseconds since 1970-01-01", dtype="int64", calendar="standard")
    return plain


def _texts(values: xr.DataArray) -> xr.DataArray:
    texts = np.empty(values.shape, object)
    for place, value in np.ndenumerate(values.values):
        texts[place] = "" if value is None else str(value)
    return values.copy(data=texts.astype(np.dtypes.StringDType()))


def _plain(value: Any) -> Any:
    """An attribute as JSON can hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def refused(store: Path, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "free some space and run again: finished shards stay" if full else "choose a path that can be written"
    return StoreError(f"cannot write to {store}: {error.strerror or error}; {advice}")
