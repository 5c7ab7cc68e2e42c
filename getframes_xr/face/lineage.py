"""Lineage: what of which producer an array shows, proven by what its graph does.

Every block of the array is followed down its tasks to the blocks of our layer. Only tasks that choose or join are
followed, and they are carried out on positions instead of pixels: what an array shows does not depend on the names of
layers or on the labels it was given. Any other task (arithmetic, ``map_blocks``, what ``persist`` left) ends the
lineage, and the array is foreign. Labels come second: ``selection_of`` is None where they say something else.
"""

from __future__ import annotations

import itertools
import operator
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import Alias, DataNode, List, Task, TaskRef
from dask.array import _shuffle, chunk
from dask.array.core import concatenate3, concatenate_shaped
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND, TIME, X, Y
from getframes_xr.engine.producer import Producer
from getframes_xr.face.block import Block, Pick, Selection

Vector = range | Array


class ForeignTask(Exception):
    """A task that does more than choose and join; never leaves this file."""


@dataclass(frozen=True, slots=True)
class Region:
    """Positions along each axis of our layer (and of axes added since), and which of these the array's axes are."""

    along: tuple[Vector, ...]
    axes: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        return cls(tuple(range(length) for length in shape), tuple(range(len(shape))))

    def take(self, index: Sequence[Any], *, outer: bool = False) -> Region:
        """What ``array[index]`` is of ``array``; several vectors are only known where they act one by one (outer)."""
        if not outer and sum(isinstance(item, list | np.ndarray) for item in index) > 1:
            raise ForeignTask
        along, axes, waiting = list(self.along), [], list(reversed(self.axes))
        for item in index:
            if item is None:
                axes.append(len(along))
                along.append(range(1))
                continue
            if not waiting:
                raise ForeignTask
            axis = waiting.pop()
            if isinstance(item, slice):
                along[axis] = along[axis][item]
                axes.append(axis)
            elif isinstance(item, int | np.integer):
                at = range(len(along[axis]))[int(item)]
                along[axis] = along[axis][at : at + 1]
            elif isinstance(item, list | np.ndarray) and np.ndim(item) == 1:
                along[axis] = np.asarray(along[axis], np.int64)[np.asarray(item, None if len(item) else np.int64)]
                axes.append(axis)
            else:
                raise ForeignTask
        return Region(tuple(along), (*axes, *reversed(waiting)))

    @staticmethod
    def join(parts: Sequence[Region], axis: int) -> Region:
        """The parts one after the other along an axis of the array."""
        if not parts or not all(isinstance(part, Region) for part in parts):
            raise ForeignTask
        first = parts[0]
        if len(parts) == 1:
            return first
        own = first.axes[axis]
        for part in parts[1:]:
            if part.axes != first.axes or len(part.along) != len(first.along):
                raise ForeignTask
            others = (at for at in range(len(first.along)) if at != own)
            if not all(_same(part.along[at], first.along[at]) for at in others):
                raise ForeignTask
        vector = _one_after_the_other([part.along[own] for part in parts])
        return Region((*first.along[:own], vector, *first.along[own + 1 :]), first.axes)


def _same(one: Vector, other: Vector) -> bool:
    if isinstance(one, range) and isinstance(other, range):
        return one == other
    return np.array_equal(one, other)


def _one_after_the_other(vectors: Sequence[Vector]) -> Vector:
    if all(isinstance(vector, range) and vector.step == 1 for vector in vectors):
        filled = [vector for vector in vectors if len(vector)]
        if all(one[-1] + 1 == other[0] for one, other in itertools.pairwise(filled)):
            return range(filled[0][0], filled[-1][-1] + 1) if filled else range(0)
    return np.concatenate([np.asarray(vector, np.int64) for vector in vectors])


def _nested(parts: Any, axis: int = 0) -> Region:
    """Nested lists of blocks, one level for each axis."""
    if isinstance(parts, Region):
        return parts
    if not isinstance(parts, list):
        raise ForeignTask
    return Region.join([_nested(part, axis + 1) for part in parts], axis)


def _chosen(part: Any, index: Any) -> Region:
    if not isinstance(part, Region):
        raise ForeignTask
    return part.take(index if isinstance(index, tuple) else (index,))


def _shaped(parts: Sequence[Any], shape: Sequence[int]) -> Region:
    for size in reversed(list(shape)[1:]):
        parts = [list(parts[at : at + size]) for at in range(0, len(parts), size)]
    return _nested(list(parts))


def _sorted(parts: Sequence[Region], sorter: tuple[int, Array], axis: int) -> Region:
    return Region.join(parts, axis).take((*[slice(None)] * axis, np.argsort(sorter[1])))


# What dask makes selections of, by the functions themselves; what is not among them is not followed.
CHOOSES: Mapping[Any, Callable[..., Region]] = {
    operator.getitem: _chosen,
    chunk.getitem: _chosen,
    _shuffle._getitem: lambda part, index: _chosen(part, index[1]),
    _shuffle.concatenate_arrays: _sorted,
    concatenate3: _nested,
    concatenate_shaped: _shaped,
}


class _Walk:
    """From blocks of an array down to blocks of our layer."""

    def __init__(self, graph: HighLevelGraph) -> None:
        self.layers = graph.layers
        self.known: dict[Any, Any] = {}
        self.ours: dict[str, tuple[Block, str]] = {}
        self.needs = graph.dependencies

    def at(self, key: Any, near: str) -> Any:
        """The region of a block, or the value of a node of data; ``near``: the layer that asks."""
        if key not in self.known:
            self.known[key] = self._made(key, near)
        return self.known[key]

    def _made(self, key: Any, near: str) -> Any:
        home = key[0] if isinstance(key, tuple) and key[0] in self.layers else near
        layer = self.layers[home]
        if isinstance(layer, Blockwise):
            return self._of_our_layer(home, layer, key)
        if key not in layer:
            raise ForeignTask
        return self._value(layer[key], home)

    def _value(self, node: Any, near: str) -> Any:
        if isinstance(node, TaskRef):
            return self.at(node.key, near)
        if isinstance(node, Alias):
            return self.at(node.target, near)
        if isinstance(node, DataNode):
            return node.value
        if isinstance(node, List):
            return [self._value(item, near) for item in node.args]
        if isinstance(node, Task):
            how = CHOOSES.get(node.func)
            if how is None or node.kwargs:
                raise ForeignTask
            return how(*(self._value(item, near) for item in node.args))
        if isinstance(node, tuple) and node and isinstance(node[0], str) and node[0] in self.layers:
            return self.at(node, near)  # a key as it stands: dask's older way to say "the same as"
        return node

    def _of_our_layer(self, name: str, layer: Blockwise, key: Any) -> Region:
        block, made = self.our(name, layer)
        grid = block.selection.producer.grid
        numbers = tuple(at for dim, at in zip(grid.dims, key[1:], strict=True) if dim != BAND)
        below = self.layers[made]
        if isinstance(below, Blockwise):  # as the task will get it
            slices = next(iter(below.io_deps.values()))[numbers]
        else:
            slices = below[made, *numbers].args[0]
        along: list[Vector] = [range(piece.start, piece.stop) for piece in slices]
        if grid.bands:
            along.insert(grid.dims.index(BAND), range(len(grid.bands)))
        return Region(tuple(along), tuple(range(len(along))))

    def our(self, name: str, layer: Blockwise) -> tuple[Block, str]:
        """The block and the name of the layer of blocks from which ``layer`` picks a plane."""
        pick = getattr(layer.task, "func", None)
        if not isinstance(pick, Pick):
            raise ForeignTask
        made = next(iter(self.needs[name]))
        below = self.layers[made]
        task = below.task if isinstance(below, Blockwise) else next(iter(below.values()))
        block = getattr(task, "func", None)
        if not isinstance(block, Block) or block.finish is not None:
            raise ForeignTask
        self.ours[name] = (block, pick.name)
        return block, made


Followed = tuple[Selection, str, Region] | None
_FOLLOWED: dict[int, tuple[weakref.ref[Any], Followed]] = {}  # by the layer an array stands on, while it lives


def _of_dask(data: da.Array) -> Followed:
    """Selection of our layer, plane and region of a dask array that chooses and joins blocks of one of our layers."""
    layer = data.dask.layers.get(data.name)
    known = _FOLLOWED.get(id(layer))
    if known is not None and known[0]() is layer:
        return known[1]
    found = _follow(data)
    if layer is not None:
        key = id(layer)
        _FOLLOWED[key] = (weakref.ref(layer, lambda _: _FOLLOWED.pop(key, None)), found)
    return found


def _follow(data: da.Array) -> Followed:
    walk = _Walk(data.dask)
    vectors: list[list[Any]] = [[None] * len(sizes) for sizes in data.chunks]
    first: Region | None = None
    try:
        layer = data.dask.layers[data.name]
        if isinstance(layer, Blockwise):  # nothing stands above our layer: all of it is shown
            block, _ = walk.our(data.name, layer)
            return block.selection, walk.ours[data.name][1], Region.whole(data.shape)
        for index in np.ndindex(*data.numblocks):
            part = walk.at((data.name, *index), data.name)
            if not isinstance(part, Region):
                return None
            first = first or part
            if part.axes != first.axes or len(part.along) != len(first.along):
                return None
            for axis, vector in enumerate(part.along):
                if axis not in part.axes:
                    seen = first.along[axis]
                else:
                    shown = part.axes.index(axis)
                    seen = vectors[shown][index[shown]]
                    if seen is None:
                        seen = vectors[shown][index[shown]] = vector
                if seen is not vector and not _same(seen, vector):
                    return None
    except (ForeignTask, LookupError, TypeError, ValueError, RecursionError):  # what is not understood is foreign
        return None
    if first is None or len(walk.ours) != 1:
        return None
    along = list(first.along)
    for shown, axis in enumerate(first.axes):
        along[axis] = _one_after_the_other(vectors[shown])
    block, plane = next(iter(walk.ours.values()))
    return block.selection, plane, Region(tuple(along), first.axes)


def _of_backend(data: Any) -> Followed:
    """The same of an unloaded variable of one of our BackendArrays (``xr.open_dataset`` without chunks)."""
    from xarray.core.indexing import CopyOnWriteArray, LazilyIndexedArray, MemoryCachedArray

    while isinstance(data, MemoryCachedArray | CopyOnWriteArray):
        data = data.array
    if not isinstance(data, LazilyIndexedArray):
        return None
    producer, plane = getattr(data.array, "producer", None), getattr(data.array, "plane", None)
    if not isinstance(producer, Producer) or not isinstance(plane, str):
        return None
    shape = producer.grid.shape(producer.grid.window)
    try:
        return Selection.whole(producer), plane, Region.whole(shape).take(data.key.tuple, outer=True)
    except ForeignTask:
        return None


def shown_by(array: xr.Variable) -> tuple[Selection, str] | None:
    """What of which producer the pixels of an array are, and of which plane; None where they are more than chosen.

    The array's axes are those of the producer in their order, those that were indexed by one number left out (or put
    back with length 1); all bands are shown.
    """
    found = _of_dask(array._data) if isinstance(array._data, da.Array) else _of_backend(array._data)
    if found is None:
        return None
    chosen, plane, region = found
    grid = chosen.producer.grid
    dims = grid.dims
    if [dim for dim in dims if dim in array.dims] != list(array.dims) or not set(dims) - {TIME} <= set(array.dims):
        return None
    kept = [axis for axis in region.axes if axis < len(dims)]
    if kept != sorted(kept) or len(set(kept)) != len(kept):
        return None
    if any(len(vector) != 1 for vector in region.along[len(dims) :]):
        return None
    along = dict(zip(dims, region.along, strict=False))
    if any(array.sizes.get(dim, 1) != len(along[dim]) for dim in dims):
        return None
    if BAND in along and not _same(along[BAND], range(len(grid.bands or ()))):
        return None
    positions = chosen.positions[np.asarray(along[TIME], np.int64)] if grid.timed else chosen.positions
    rows, columns = (np.asarray(along[dim], np.int64) for dim in (Y, X))
    return Selection(chosen.producer, positions, chosen.y[rows], chosen.x[columns]), plane


def selection_of(array: xr.DataArray) -> tuple[Selection, str] | None:
    """What of which producer an array shows, and which plane, where its labels say so too; else None."""
    found = shown_by(array.variable)
    return found if found is not None and _told(array, found[0]) else None


def _told(array: xr.DataArray, chosen: Selection) -> bool:
    """Whether ``frame``, ``y``, ``x`` (and ``band``) are the labels of what is shown."""
    grid = chosen.producer.grid
    labels = {Y: chosen.y, X: chosen.x} | ({"frame": grid.column("frame")[chosen.positions]} if grid.timed else {})
    for name, wanted in labels.items():
        told = array.coords[name].values if name in array.coords else None
        if told is None or told.dtype.kind not in "iu" or not np.array_equal(np.atleast_1d(told), wanted):
            return False
    return BAND not in array.coords or tuple(map(str, np.atleast_1d(array.coords[BAND].values))) == (grid.bands or ())
