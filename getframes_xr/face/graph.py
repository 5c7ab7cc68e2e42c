"""The graphs: one layer of blocks, one task per output chunk, nothing between the tasks.

``arrays_of`` puts a Blockwise layer over slice dependencies (1e5 chunks build in milliseconds) and one thin layer per
output that picks an array out of what the blocks made. Held producers are layers of their own with their own index
letters, so dask neither fuses nor repeats them; foreign arrays are handed to a task block by block. ``run`` computes
windows and keeps only what the sink returns. This file and ``lineage`` are the only ones that know dask graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from getframes_xr.core.window import CHUNK_PIXELS, Grid, Window
from getframes_xr.engine.ask import Sink
from getframes_xr.engine.held import Handed, Held, held_below, touched_windows
from getframes_xr.engine.producer import Producer
from getframes_xr.face.block import Block, Pick, Selection
from getframes_xr.face.foreign import DaskFrames, foreign_below

TILE = 2048
BATCH = 10_000
MOST_PIECES = 30_000
Chunks = tuple[tuple[int, ...], ...]
Finish = Sink | Callable[[Patch, Window], Any]
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


def is_picked(item: Handed) -> bool:
    """Whether a task is handed only the blocks it asks for: those along time, of which there are many."""
    return item.grid.timed or isinstance(item, DaskFrames)


def _handed_below(producer: Producer) -> list[Handed]:
    return [*held_below(producer), *foreign_below(producer)]


def _held_layer(held: Held) -> tuple[str, HighLevelGraph]:
    """The layer that makes the blocks of a Held."""
    return _patch_layer(Selection.whole(held.parent), tuple(held.planes), chunks_of(held))


def _patch_layer(
    chosen: Selection,
    planes: tuple[str, ...],
    chunks: Chunks,
    finish: Finish | None = None,
) -> tuple[str, HighLevelGraph]:
    """The layer whose tasks make patches (or what ``finish`` makes of them)."""
    below = _handed_below(chosen.producer)
    block = Block(chosen, planes, tuple(item.token() for item in below), finish)
    name = "patch-" + digest(
        chosen.producer, chosen.positions, chosen.y, chosen.x, planes, chunks, _finish_digest(finish)
    )
    if any(map(is_picked, below)):
        return name, _over_picked(name, block, chunks, below)
    arguments: list[Any] = []
    numblocks: dict[str, Any] = {}
    graphs = []
    for number, item in enumerate(below):
        assert isinstance(item, Held)
        key, graph = _held_layer(item)
        sizes = chunks_of(item)
        arguments += [key, tuple(f"held{number}{axis}" for axis in range(len(sizes)))]
        numblocks[key] = tuple(len(axis) for axis in sizes)
        graphs.append(graph)
    index = tuple("tyx"[-len(chunks) :])
    layer = core_blockwise(
        block, name, index, ArraySliceDep(chunks), index, *arguments, numblocks=numblocks, concatenate=False
    )
    merged = HighLevelGraph.merge(*graphs) if graphs else HighLevelGraph({}, {})
    return name, HighLevelGraph({**merged.layers, name: layer}, {**merged.dependencies, name: set(numblocks)})


class _Handing:
    """What tasks are handed: all blocks of a timeless Held, of others those under the windows that a task asks for."""

    def __init__(self, below: Sequence[Handed]) -> None:
        self.below = below
        self.graphs: list[HighLevelGraph] = []
        self.sources: dict[str, str] = {}
        self.pieces: dict[Any, Any] = {}  # blocks of foreign arrays as patches
        for item in below:
            if isinstance(item, Held):
                key, graph = _held_layer(item)
                self.sources[item.token()] = key
                self.graphs.append(graph)
            elif isinstance(item, DaskFrames):
                self.graphs += [item.arrays[plane].dask for plane in item.planes]

    def keys(self, item: Handed, windows: Sequence[Window]) -> list[Any]:
        """Keys of the blocks of one producer for a task that asks for these windows."""
        if isinstance(item, DaskFrames):
            under = {at: window for asked in windows for at, window in item.blocks_under(asked)}
            return [self._piece(item, at, window) for at, window in sorted(under.items())]
        sizes = chunks_of(item)
        every = itertools.product(*(range(len(axis)) for axis in sizes))
        touched = every if not is_picked(item) else blocks_under(item.grid, sizes, windows)
        return [(self.sources[item.token()], *at) for at in touched]

    def _piece(self, item: DaskFrames, at: tuple[int, ...], window: Window) -> Any:
        key = (f"foreign-{item.token()}", *at)
        if key not in self.pieces:
            band = (0,) if item.grid.bands else ()
            place = (*at[:-2], *band, *at[-2:])
            refs = [TaskRef((item.arrays[plane].name, *place)) for plane in item.planes]
            self.pieces[key] = Task(key, _as_patch, window, tuple(item.planes), item.grid.timed, *refs)
        return key

    def of_task(self, producer: Producer, window: Window, planes: tuple[str, ...]) -> list[list[Any]]:
        """Keys to hand to one task, a list for each producer."""
        picked = [item.token() for item in self.below if is_picked(item)]
        touched = touched_windows(producer, window, planes, picked)
        return [self.keys(item, touched.get(item.token(), ())) for item in self.below]


def blocks_under(grid: Grid, sizes: Chunks, windows: Sequence[Window]) -> list[tuple[int, ...]]:
    """Indices of the chunks that some windows touch, sorted."""
    outer = (grid.window.frames, grid.window.y, grid.window.x)[-len(sizes) :]
    edges = [axis.start + np.cumsum((0, *lengths)) for axis, lengths in zip(outer, sizes, strict=True)]
    found: set[tuple[int, ...]] = set()
    for window in windows:
        asked = (window.frames, window.y, window.x)[-len(sizes) :]
        runs = [
            range(max(0, int(np.searchsorted(edge, span.start, "right")) - 1), int(np.searchsorted(edge, span.stop)))
            for edge, span in zip(edges, asked, strict=True)
        ]
        found.update(itertools.product(*runs))
    return sorted(found)


def _over_picked(name: str, block: Block, chunks: Chunks, below: Sequence[Handed]) -> HighLevelGraph:
    """The same layer where a task is handed some of the blocks below: each task's window is followed up the chain."""
    handing = _Handing(below)
    tasks: dict[Any, Any] = {}
    starts = [np.cumsum((0, *sizes)) for sizes in chunks]
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        location = tuple(
            slice(int(start[at]), int(start[at]) + sizes[at])
            for start, sizes, at in zip(starts, chunks, index, strict=True)
        )
        keys = handing.of_task(block.selection.producer, block.window_at(location), block.planes)
        handed = [List(*(TaskRef(key) for key in blocks)) for blocks in keys]
        tasks[(name, *index)] = Task((name, *index), block, location, *handed)
    if handing.pieces and len(handing.pieces) + len(tasks) > MOST_PIECES:
        raise PlanError(
            f"{len(handing.pieces)} blocks of foreign dask arrays are more than {MOST_PIECES}; "
            "gx.save_frames(...) first"
        )
    merged = HighLevelGraph.merge(*handing.graphs)
    layers = {**merged.layers, name: tasks}
    needs = {**merged.dependencies, name: set(handing.sources.values())}
    if handing.pieces:
        foreign = [item for item in below if isinstance(item, DaskFrames)]
        layers[f"pieces-{name}"] = handing.pieces
        needs[f"pieces-{name}"] = {item.arrays[plane].name for item in foreign for plane in item.planes}
        needs[name].add(f"pieces-{name}")
    return HighLevelGraph(layers, needs)


def _as_patch(window: Window, planes: tuple[str, ...], timed: bool, *arrays: Array) -> Patch:
    return Patch(window, {name: np.asarray(a) for name, a in zip(planes, arrays, strict=True)}, timed)


def dask_frames(grid: Grid, arrays: Mapping[str, Any], units: Mapping[str, str]) -> DaskFrames:
    """Foreign arrays of one shape, at least one dask, as a producer; bands in one chunk, planes chunked alike."""
    first = next(values for values in arrays.values() if isinstance(values, da.Array))
    chunks = {at: (-1 if dim == BAND else first.chunks[at]) for at, dim in enumerate(grid.dims)}
    alike = {name: da.asarray(values).rechunk(chunks) for name, values in arrays.items()}
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
    finish: Finish | None = None,
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
    sink: Finish,
) -> list[Any]:
    """Produce windows as tasks of the active scheduler and hand each patch to ``sink``; its small results, in order.

    Held producers are evaluated once; tasks are submitted in batches. ``sink`` must be picklable.
    """
    names = tuple(sorted(planes))
    if foreign_below(producer):
        return _run_over_foreign(producer, list(windows), names, sink)
    below = _handed_below(producer)
    handing = _Handing(below)
    blocks: dict[Any, Any] = {}
    for item in below:
        keys = handing.keys(item, [item.grid.window])
        graph = HighLevelGraph.merge(*handing.graphs)
        made = dask.persist(*(Delayed(key, graph, layer=handing.sources[item.token()]) for key in keys))
        blocks.update(zip(keys, made, strict=True))
    block = dask.delayed(
        Block(Selection.whole(producer), names, tuple(item.token() for item in below), sink),
        pure=True,
        traverse=False,
    )
    results: list[Any] = []
    todo = list(windows)
    for at in range(0, len(todo), BATCH):
        tasks = []
        for window in todo[at : at + BATCH]:
            handed = [[blocks[key] for key in keys] for keys in handing.of_task(producer, window, names)]
            tasks.append(dask.delayed(_call, pure=False)(block, window, *handed))
        results += dask.compute(*tasks)
    return results


def _run_over_foreign(producer: Producer, windows: list[Window], planes: tuple[str, ...], sink: Finish) -> list[Any]:
    results: list[Any] = []
    for window in windows:
        part = Selection(producer, window.frames.indices(), window.y.indices(), window.x.indices())
        chunks = tuple((len(vector),) for vector in (part.positions, part.y, part.x))
        chunks = chunks if producer.grid.timed else chunks[1:]
        name, graph = _patch_layer(part, planes, chunks, sink)
        results.append(Delayed((name, *(0 for _ in chunks)), graph, layer=name))
    return list(dask.compute(*results))


def _call(block: Block, window: Window, *handed: Any) -> Any:
    return block(window, *handed)
