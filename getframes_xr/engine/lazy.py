"""The lazy face: producer -> xarray Dataset on dask, and back.

One Blockwise layer over slice dependencies makes the patches (a task per output chunk, nothing between tasks), one
thin layer per plane picks an array out of them. The graph proves what an array is: ``producer_of`` walks from an array
down through selections to our layer and reads the chosen window from the coordinates ``frame, y, x``; arithmetic,
``persist`` or foreign arrays end the walk and are served as dask blocks. Only this file and ``held`` know dask graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import List, Task, TaskRef
from dask.blockwise import Blockwise
from dask.blockwise import blockwise as core_blockwise
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError, PlanError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAND, PLANES, TIME, Plane, X, Y
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.block import Block, Pick, Selection
from getframes_xr.engine.coordinates import coordinates_of, grid_of
from getframes_xr.engine.foreign import DaskFrames, foreign_below, touched_windows
from getframes_xr.engine.held import Held, held_below
from getframes_xr.engine.producer import ArrayFrames, Producer

CHUNK_PIXELS = 4 * 2**20
TILE = 2048
BATCH = 10_000
MOST_PIECES = 30_000
Chunks = tuple[tuple[int, ...], ...]
Output = tuple[
    Collection[str], Mapping[str, int], Any
]  # index letters, sizes of letters that are no chunked dim, dtype


def _pieces(length: int, size: int) -> tuple[int, ...]:
    size = max(1, size)
    return tuple(min(size, length - at) for at in range(0, length, size)) or (0,)


def chunks_of(producer: Producer, wanted: tuple[int, int, int] | None = None) -> Chunks:
    """Sizes of the chunks along (time, y, x): the producer's own, else tiles of at most 4 Mpx, small frames grouped."""
    shape = producer.grid.window.shape
    chosen = wanted or producer.preferred_chunks
    if chosen is None:
        rows, columns = min(TILE, shape[1]), min(TILE, shape[2])
        whole = rows == shape[1] and columns == shape[2]
        chosen = (max(1, CHUNK_PIXELS // max(1, rows * columns)) if whole else 1, rows, columns)
        if producer.grid.timed and whole:
            chosen = (min(chosen[0], max(1, shape[0] // 8)), rows, columns)
    sizes = (length if size == -1 else size for length, size in zip(shape, chosen, strict=True))
    chunks = tuple(_pieces(length, size) for length, size in zip(shape, sizes, strict=True))
    return chunks if producer.grid.timed else chunks[1:]


def _held_layers(producer: Producer) -> tuple[list[str], list[Any], dict[str, Any], list[HighLevelGraph]]:
    """Tokens, blockwise arguments, numblocks and graphs of the Held that tasks of ``producer`` need."""
    tokens, arguments, numblocks, graphs = [], [], {}, []
    letters = itertools.count()
    for held in held_below(producer):
        chunks = chunks_of(held)
        name, graph = _patch_layer(Selection.whole(held.parent), tuple(held.planes), chunks)
        index = tuple(f"held{next(letters)}" for _ in chunks)
        tokens.append(held.token())
        arguments += [name, index]
        numblocks[name] = tuple(len(sizes) for sizes in chunks)
        graphs.append(graph)
    return tokens, arguments, numblocks, graphs


def _patch_layer(
    chosen: Selection,
    planes: tuple[str, ...],
    chunks: Chunks,
    finish: Callable[[Patch, Window], Any] | None = None,
) -> tuple[str, HighLevelGraph]:
    """The layer whose tasks make patches (or what ``finish`` makes of them)."""
    tokens, arguments, numblocks, graphs = _held_layers(chosen.producer)
    foreign = foreign_below(chosen.producer)
    block = Block(chosen, planes, tuple(tokens + [item.token() for item in foreign]), finish)
    name = "patch-" + digest(
        chosen.producer, chosen.positions, chosen.y, chosen.x, planes, chunks, _finish_digest(finish)
    )
    if foreign:
        return name, _over_foreign(name, block, chunks, foreign, arguments[::2], graphs)
    index = tuple("tyx"[-len(chunks) :])
    layer = core_blockwise(
        block, name, index, ArraySliceDep(chunks), index, *arguments, numblocks=numblocks, concatenate=False
    )
    dependencies = {key for graph in graphs for key in graph.layers}
    merged = HighLevelGraph.merge(*graphs) if graphs else HighLevelGraph({}, {})
    needs = {name: set(numblocks)} | {key: merged.dependencies[key] for key in dependencies}
    return name, HighLevelGraph({**merged.layers, name: layer}, needs)


def _over_foreign(
    name: str,
    block: Block,
    chunks: Chunks,
    foreign: list[DaskFrames],
    held: list[str],
    graphs: list[HighLevelGraph],
) -> HighLevelGraph:
    """The same layer where chains end in foreign arrays: every task is handed the foreign blocks its window touches."""
    pieces: dict[Any, Any] = {}
    tasks: dict[Any, Any] = {}
    blocks_of_held = [sorted(graph.layers[key].get_output_keys()) for key, graph in zip(held, graphs, strict=True)]
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        starts = [sum(sizes[:at]) for sizes, at in zip(chunks, index, strict=True)]
        location = tuple(
            slice(start, start + sizes[at]) for start, sizes, at in zip(starts, chunks, index, strict=True)
        )
        touched = touched_windows(block.selection.producer, block.window_at(location), block.planes)
        handed: list[Any] = [List(*(TaskRef(key) for key in keys)) for keys in blocks_of_held]
        for item in foreign:
            under = {at: window for asked in touched.get(item.token(), ()) for at, window in item.blocks_under(asked)}
            keys = []
            for at, window in sorted(under.items()):
                key = (f"foreign-{item.token()}", *at)
                if key not in pieces:
                    band = (0,) if item.grid.bands else ()
                    place = (*at[:-2], *band, *at[-2:])
                    refs = [TaskRef((item.arrays[plane].name, *place)) for plane in item.planes]
                    pieces[key] = Task(key, _as_patch, window, tuple(item.planes), item.grid.timed, *refs)
                keys.append(TaskRef(key))
            handed.append(List(*keys))
        tasks[(name, *index)] = Task((name, *index), block, location, *handed)
    if len(pieces) + len(tasks) > MOST_PIECES:
        raise PlanError(
            f"{len(pieces)} blocks of foreign dask arrays are more than {MOST_PIECES}; gx.save_frames(...) first"
        )
    sources = [item.arrays[plane].dask for item in foreign for plane in item.planes]
    merged = HighLevelGraph.merge(*graphs, *sources)
    layers = {**merged.layers, f"pieces-{name}": pieces, name: tasks}
    needs = {f"pieces-{name}": {item.arrays[p].name for item in foreign for p in item.planes}}
    return HighLevelGraph(layers, {**merged.dependencies, **needs, name: {f"pieces-{name}", *held}})


def _as_patch(window: Window, planes: tuple[str, ...], timed: bool, *arrays: Array) -> Patch:
    return Patch(window, {name: np.asarray(a) for name, a in zip(planes, arrays, strict=True)}, timed)


def dask_frames(grid: Grid, arrays: Mapping[str, da.Array], units: Mapping[str, str]) -> DaskFrames:
    """Foreign dask arrays of one shape as a producer; bands are put into one chunk, planes chunked alike."""
    first = next(iter(arrays.values()))
    chunks = {at: (-1 if dim == BAND else first.chunks[at]) for at, dim in enumerate(grid.dims)}
    alike = {name: values.rechunk(chunks) for name, values in arrays.items()}
    sizes = tuple(first.chunks[at] for at, dim in enumerate(grid.dims) if dim != BAND)
    planes = {name: Plane(values.dtype, units.get(name, "")) for name, values in alike.items()}
    return DaskFrames(grid, planes, {name: values.name for name, values in alike.items()}, sizes, alike)


def _finish_digest(finish: Any) -> object:
    if finish is None:
        return None
    if isinstance(finish, partial):
        return (_finish_digest(finish.func), list(finish.args), dict(finish.keywords))
    return finish if callable(getattr(finish, "token", None)) else f"{finish.__module__}.{finish.__qualname__}"


def arrays_of(
    chosen: Selection,
    planes: tuple[str, ...],
    chunks: Chunks,
    outputs: Mapping[str, Output],
    finish: Callable[[Patch, Window], Any] | None = None,
) -> dict[str, da.Array]:
    """dask arrays, one per output, over one shared layer of blocks."""
    made, graph = _patch_layer(chosen, planes, chunks, finish)
    letters = "tyx"[-len(chunks) :]
    numblocks = tuple(len(sizes) for sizes in chunks)
    found: dict[str, da.Array] = {}
    for output, (index, sizes, dtype) in outputs.items():
        name = f"{output}-{made.removeprefix('patch-')}"
        dropped = tuple(letter for letter in letters if letter not in index)
        if any(numblocks[letters.index(letter)] != 1 for letter in dropped):
            raise DataError("a row per frame needs whole frames in one task")
        layer = core_blockwise(
            Pick(output), name, tuple(index), made, tuple(letters), numblocks={made: numblocks}, concatenate=False,
            new_axes={letter: size for letter, size in sizes.items()},
        )  # fmt: skip
        by_letter = dict(zip(letters, chunks, strict=True)) | {letter: (size,) for letter, size in sizes.items()}
        own = HighLevelGraph({**graph.layers, name: layer}, {**graph.dependencies, name: {made}})
        found[output] = da.Array(own, name, tuple(by_letter[letter] for letter in index), dtype=dtype)
    return found


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
    planes : the planes that are needed, all by default

    Raises
    ------
    DataError : a plane is missing, planes differ in shape, dims or coordinates are not those of frames
    """
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
            return producers[0]
    sample = data[names]
    grid = grid_of(sample)
    arrays = {name: sample[name].transpose(*grid.dims).variable._data for name in names}
    units = {name: str(sample[name].attrs.get("units", "")) for name in names}
    if all(isinstance(values, da.Array) for values in arrays.values()):
        return dask_frames(grid, arrays, units)
    return ArrayFrames(grid, {name: np.asarray(sample[name].transpose(*grid.dims).values) for name in names}, units)


def compute(data: xr.Dataset) -> xr.Dataset:
    """Load exactly the window that ``data`` shows, whatever its chunks; other variables load as usual."""
    groups: dict[str, tuple[Selection, list[str]]] = {}
    for name in map(str, data.data_vars):
        found = selection_of(data[name])
        if found is not None and found[1] == name:
            key = digest(found[0].producer, found[0].positions, found[0].y, found[0].x)
            groups.setdefault(key, (found[0], []))[1].append(name)
    result = data
    for chosen, names in groups.values():
        lengths = (len(chosen.positions), len(chosen.y), len(chosen.x))
        sizes = (CHUNK_PIXELS // max(1, lengths[1] * lengths[2]), TILE, TILE)
        chunks = tuple(_pieces(length, size) for length, size in zip(lengths, sizes, strict=True))
        grid = chosen.producer.grid
        loaded = _dataset(chosen, tuple(names), chunks if grid.timed else chunks[1:]).compute()
        for name in names:
            values = loaded[name].values
            result = result.assign({name: data[name].copy(data=values.reshape(data[name].shape))})
    return result.compute()


def run(
    producer: Producer,
    windows: Iterable[Window],
    planes: Collection[str],
    sink: Callable[[Patch, Window], Any],
) -> list[Any]:
    """Produce windows as tasks of the active scheduler and hand each patch to ``sink``; its small results, in order.

    Held producers are evaluated once; tasks are submitted in batches. ``sink`` must be picklable.
    """
    if foreign_below(producer):
        return _run_over_foreign(producer, list(windows), tuple(sorted(planes)), sink)
    tokens, arguments, _, graphs = _held_layers(producer)
    held: list[Any] = []
    for name, index, graph in zip(arguments[::2], arguments[1::2], graphs, strict=True):
        blocks = graph.layers[name].get_output_keys()
        held.append([Delayed(key, graph, layer=name) for key in sorted(blocks)] if index else [])
    held = [list(dask.persist(*blocks)) for blocks in held]
    block = dask.delayed(
        Block(Selection.whole(producer), tuple(sorted(planes)), tuple(tokens), sink),
        pure=True,
        traverse=False,
    )
    results: list[Any] = []
    todo = list(windows)
    for at in range(0, len(todo), BATCH):
        tasks = [dask.delayed(_call, pure=False)(block, window, *held) for window in todo[at : at + BATCH]]
        results += dask.compute(*tasks)
    return results


def _run_over_foreign(producer: Producer, windows: list[Window], planes: tuple[str, ...], sink: Any) -> list[Any]:
    results: list[Any] = []
    for window in windows:
        part = Selection(producer, window.frames.indices(), window.y.indices(), window.x.indices())
        chunks = tuple((len(vector),) for vector in (part.positions, part.y, part.x))
        chunks = chunks if producer.grid.timed else chunks[1:]
        name, graph = _patch_layer(part, planes, chunks, sink)
        results.append(Delayed((name, *(0 for _ in chunks)), graph, layer=name))
    return list(dask.compute(*results))


def _call(block: Block, window: Window, *held: Any) -> Any:
    return block(window, *held)


def grid_in(data: xr.Dataset | xr.DataArray) -> Grid:
    """The grid of any frames: by lineage, else by coordinates."""
    return as_producer(data).grid


__all__ = [
    "Held",
    "arrays_of",
    "as_producer",
    "chunks_of",
    "compute",
    "grid_in",
    "lazy",
    "producer_of",
    "run",
    "selection_of",
]
