"""The lazy face: producer -> xarray Dataset on dask, and back.

``lazy`` shows a producer as dask arrays (``face.graph`` makes their layers). The graph proves what an array is:
``producer_of`` walks from an array down through selections to our layer and reads the chosen window from the
coordinates ``frame, y, x``. Arithmetic, ``persist`` or foreign arrays end the walk and are served as dask blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dask.array as da
import numpy as np
import xarray as xr
from dask.blockwise import Blockwise

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND, PLANES, TIME, X, Y
from getframes_xr.core.window import CHUNK_PIXELS
from getframes_xr.engine.held import kept_by
from getframes_xr.engine.producer import ArrayFrames, Producer
from getframes_xr.face.block import Block, Pick, Selection
from getframes_xr.face.budget import active_client
from getframes_xr.face.coordinates import coordinates_of, grid_of
from getframes_xr.face.foreign import foreign_below
from getframes_xr.face.graph import TILE, Chunks, arrays_of, chunks_of, dask_frames, pieces, run
from getframes_xr.face.kept import KEPT
from getframes_xr.face.shown import as_shown


def lazy(
    producer: Producer, planes: Collection[str] | None = None, chunks: tuple[int, int, int] | None = None
) -> xr.Dataset:
    """A Dataset of a producer's planes; nothing is computed.

    Parameters
    ----------
    producer : any Producer
    planes : names of the planes to show, all by default
    chunks : (frames, rows, columns) per chunk, -1 for all; chosen by the engine if not given

    Raises
    ------
    DataError : the producer has no such plane
    """
    return _dataset(Selection.whole(producer), tuple(planes or producer.planes), chunks_of(producer, chunks))


def _dataset(chosen: Selection, planes: tuple[str, ...], chunks: Chunks) -> xr.Dataset:
    producer, grid = chosen.producer, chosen.producer.grid
    unknown = [name for name in planes if name not in producer.planes]
    if unknown:
        raise DataError(f"no plane {', '.join(unknown)} here; known: {', '.join(producer.planes)}")
    letters = {TIME: "t", BAND: "b", Y: "y", X: "x"}
    index = "".join(letters[dim] for dim in grid.dims)
    sizes = {"b": len(grid.bands)} if grid.bands else {}
    outputs = {name: (index, sizes, producer.planes[name].dtype) for name in planes}
    arrays = arrays_of(chosen, planes, chunks, outputs)
    variables = {name: (grid.dims, arrays[name], _attributes(name, producer.planes[name].units)) for name in planes}
    positions = chosen.positions if grid.timed else None
    return xr.Dataset(variables, coordinates_of(grid, positions, chosen.y, chosen.x), attrs=dict(grid.attrs))


def _attributes(name: str, units: str) -> dict[str, str]:
    known = PLANES.get(name)
    found = {"units": units} if units else {}
    return found | ({"long_name": known.description} if known is not None and known.description else {})


def _our_layer(array: da.Array) -> tuple[Block, str] | None:
    """The block and plane below an array's selections, if our layer is what lies there."""
    graph, name = array.dask, array.name
    while True:
        layer = graph.layers.get(name)
        function = getattr(getattr(layer, "task", None), "func", None) if isinstance(layer, Blockwise) else None
        parents = graph.dependencies.get(name, set())
        if isinstance(function, Pick):
            below = graph.layers[next(iter(parents))]
            block = getattr(getattr(below, "task", None), "func", None)
            return (block, function.name) if isinstance(block, Block) and block.finish is None else None
        if len(parents) != 1 or not name.startswith(("getitem-", "rechunk-merge-", "rechunk-split-")):
            return None
        name = next(iter(parents))


def selection_of(array: xr.DataArray) -> tuple[Selection, str] | None:
    """What of which producer an array shows, and which plane; None where it is not (only) a selection of ours."""
    data = array.variable._data if array.chunks is not None else None
    found = _our_layer(data) if isinstance(data, da.Array) else _of_backend(array)
    if found is None:
        return None
    block, plane = found
    grid, chosen = block.selection.producer.grid, block.selection
    if not set(grid.dims) - {TIME} <= set(array.dims) or [d for d in grid.dims if d in array.dims] != list(array.dims):
        return None
    if grid.bands and array.sizes[BAND] != len(grid.bands):
        return None
    vectors = []
    for dim, known in ((TIME, chosen.positions), (Y, chosen.y), (X, chosen.x)):
        name = "frame" if dim == TIME else dim
        if dim == TIME and not grid.timed:
            vectors.append(known)
            continue
        if name not in array.coords or array.coords[name].dtype.kind not in "iu":
            return None
        labels = np.atleast_1d(array.coords[name].values).astype(np.int64)
        places = grid.column("frame")[known] if dim == TIME else known
        order = np.argsort(places, kind="stable")
        at = np.searchsorted(places, labels, sorter=order).clip(max=max(0, len(places) - 1))
        if len(labels) and not (len(places) and (places[order[at]] == labels).all()):
            return None
        vectors.append(known[order[at]] if len(labels) else known[:0])
    return Selection(chosen.producer, *vectors), plane


def _of_backend(array: xr.DataArray) -> tuple[Block, str] | None:
    """An unloaded lazy variable of one of our BackendArrays (``xr.open_dataset`` without chunks)."""
    data = array.variable._data
    while hasattr(data, "array"):
        data = data.array
        producer, plane = getattr(data, "producer", None), getattr(data, "plane", None)
        if isinstance(producer, Producer) and isinstance(plane, str):
            return Block(Selection.whole(producer), (plane,)), plane
    return None


def producer_of(array: xr.DataArray) -> Producer | None:
    """The producer behind an array, narrowed to what the array shows; None after arithmetic or for foreign arrays.

    Relabelling ``frame, y, x`` with ``assign_coords`` is not a selection: membership is checked, a permutation of
    valid labels cannot be seen.
    """
    found = selection_of(array)
    return found[0].as_producer() if found is not None and found[0].contiguous else None


def as_producer(data: xr.Dataset | xr.DataArray, planes: Collection[str] | None = None) -> Producer:
    """A producer for any array or Dataset: by lineage where it is ours, else over its blocks or values.

    Parameters
    ----------
    data : Dataset of planes, or one DataArray (integers are the plane ``adu``, floats ``image``, unless it is named)
    planes : the planes that are needed, all by default; the producer has these and no others

    Raises
    ------
    DataError : a plane is missing, planes differ in shape, dims or coordinates are not those of frames
    """
    facts = data.attrs if isinstance(data, xr.Dataset) else None
    if isinstance(data, xr.DataArray):
        name = str(data.name) if data.name in PLANES else ("adu" if data.dtype.kind in "iu" else "image")
        data = data.to_dataset(name=name)
    names = [str(name) for name in (planes or data.data_vars)]
    missing = [name for name in names if name not in data]
    if missing or not names:
        raise DataError(f"no plane {', '.join(missing) or 'at all'} here; known: {', '.join(map(str, data.data_vars))}")
    found = [selection_of(data[name]) for name in names]
    if all(
        item is not None and item[0].contiguous and item[1] == name for item, name in zip(found, names, strict=True)
    ):
        producers = [item[0].as_producer() for item in found if item is not None]
        if len({producer.token() for producer in producers}) == 1:
            return as_shown(producers[0], data, names, facts)
    sample = data[names]
    grid = grid_of(sample)
    arrays = {name: sample[name].transpose(*grid.dims).variable._data for name in names}
    units = {name: str(sample[name].attrs.get("units", "")) for name in names}
    if all(isinstance(values, da.Array) for values in arrays.values()):
        return dask_frames(grid, arrays, units)
    return ArrayFrames(grid, {name: np.asarray(sample[name].transpose(*grid.dims).values) for name in names}, units)


def compute(data: xr.Dataset) -> xr.Dataset:
    """Load exactly the window that ``data`` shows, whatever its chunks; other variables load as usual.

    A window of one task's size is made right here, without a scheduler: it works in a forked process too.
    """
    groups: dict[str, tuple[Selection, list[str]]] = {}
    for name in map(str, data.data_vars):
        found = selection_of(data[name])
        if found is not None and found[1] == name:
            key = digest(found[0].producer, found[0].positions, found[0].y, found[0].x)
            groups.setdefault(key, (found[0], []))[1].append(name)
    made = {}
    for chosen, names in groups.values():
        for name, values in _values_of(chosen, tuple(names)).items():
            made[name] = values.reshape(data.variables[name].shape)
    rest = {str(name): variable._data for name, variable in data.data_vars.variables.items() if name not in made}
    loaded = data.copy(data={**rest, **made})
    return (
        loaded.compute() if any(v.chunks is not None or not v._in_memory for v in loaded.variables.values()) else loaded
    )


def _values_of(chosen: Selection, names: tuple[str, ...]) -> Mapping[str, Array]:
    grid = chosen.producer.grid
    lengths = (len(chosen.positions), len(chosen.y), len(chosen.x))
    bands = len(grid.bands or (1,))
    small = lengths[0] * lengths[1] * lengths[2] * bands <= CHUNK_PIXELS
    if small and active_client() is None and not foreign_below(chosen.producer):
        with kept_by(KEPT):
            return chosen.produce(names).planes
    sizes = (CHUNK_PIXELS // max(1, lengths[1] * lengths[2]), TILE, TILE)
    chunks = tuple(pieces(length, size) for length, size in zip(lengths, sizes, strict=True))
    loaded = _dataset(chosen, names, chunks if grid.timed else chunks[1:]).compute()
    return {name: loaded[name].values for name in names}


__all__ = ["as_producer", "compute", "lazy", "producer_of", "run", "selection_of"]
