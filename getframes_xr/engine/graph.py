"""The graphs: one layer of blocks, one task per output chunk, nothing between the tasks.

``arrays_of`` puts a Blockwise layer over slice dependencies (1e5 chunks build in milliseconds) and one thin layer per
output that picks an array out of what the blocks made. Held producers are layers of their own with their own index
letters, so dask neither fuses nor repeats them; foreign arrays are handed to a task block by block. ``run`` computes
windows and keeps only what the sink returns. This file and ``lazy`` are the only ones that know dask graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.blockwise import blockwise as core_blockwise
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError, PlanError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAND, Plane
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.block import Block, Pick, Selection
from getframes_xr.engine.foreign import DaskFrames, foreign_below, touched_windows
from getframes_xr.engine.held import held_below
from getframes_xr.engine.producer import Producer

CHUNK_PIXELS = 4 * 2**20
TILE = 2048
BATCH = 10_000
MOST_PIECES = 30_000
Chunks = tuple[tuple[int, ...], ...]
Output = tuple[
    Collection[str], Mapping[str, int], Any
]  # index letters, sizes of letters that are no chunked dim, dtype


def pieces(length: int, size: int) -> tuple[int, ...]:
    size = max(1, size)
    return tuple(min(size, length - at) for at in range(0, length, size)) or (0,)


def chunks_of(producer: Producer, wanted: tuple[int, int, int] | None = None) -> Chunks:
    """Sizes of the chunks along (time, y, x): the producer's own, else tiles of at most 4 Mpx, small frames grouped."""
    shape = producer.grid.window.shape
    chosen = wanted or producer.preferred_chunks
    if chosen is None:
        huge = producer.grid.timed and max(shape[1:]) > TILE
        side = TILE // 2 if huge else TILE  # a plain .isel() makes whole chunks: of a huge frame they are smaller
        rows, columns = min(side, shape[1]), min(side, shape[2])
        whole = rows == shape[1] and columns == shape[2]
        chosen = (max(1, CHUNK_PIXELS // max(1, rows * columns)) if whole else 1, rows, columns)
        if producer.grid.timed and whole:
            chosen = (min(chosen[0], max(1, shape[0] // 8)), rows, columns)
    sizes = (length if size == -1 else size for length, size in zip(shape, chosen, strict=True))
    chunks = tuple(pieces(length, size) for length, size in zip(shape, sizes, strict=True))
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
    """dask arrays, one per output, over one shared layer of blocks.

    Raises
    ------
    DataError : an output drops a dim that is cut into several chunks
    """
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
            new_axes=dict(sizes),
        )  # fmt: skip
        by_letter = dict(zip(letters, chunks, strict=True)) | {letter: (size,) for letter, size in sizes.items()}
        own = HighLevelGraph({**graph.layers, name: layer}, {**graph.dependencies, name: {made}})
        found[output] = da.Array(own, name, tuple(by_letter[letter] for letter in index), dtype=dtype)
    return found


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
