"""Foreign dask arrays as frames: the blocks that a window touches become inputs of its task.

``DaskFrames`` holds no pixels and does no arithmetic; when the graph is built (``face.graph``) each task's window is
followed up the chain along its Asks and only the blocks under it are handed in. Serves what lineage cannot: user
arithmetic, ``persist``, arrays of other packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.held import Handed, Held
from getframes_xr.engine.producer import Producer


@dataclass(frozen=True, eq=False)
class DaskFrames(Handed):
    """Frames that are dask arrays, one per plane, chunked alike along (time, y, x)."""

    grid: Grid
    planes: Mapping[str, Plane]
    names: Mapping[str, str]
    chunks: tuple[tuple[int, ...], ...]
    arrays: Mapping[str, Any]

    def label(self) -> str:
        return f"DaskFrames: {', '.join(self.planes)} in blocks of another dask graph"

    def token(self) -> str:
        return digest("DaskFrames", self.grid, dict(self.names))

    def __getstate__(self) -> dict[str, Any]:
        """The arrays stay in the graph: a task gets its blocks handed in."""
        return super().__getstate__() | {"arrays": {}}

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        """Outside a run: compute the part now."""
        if not self.arrays:
            raise DataError("these frames are dask blocks of another process; save them first: gx.save_frames(...)")
        outer = self.grid.window
        box = (window.y.slice_in(outer.y), window.x.slice_in(outer.x))
        index = (window.frames.slice_in(outer.frames), ..., *box) if self.grid.timed else (..., *box)
        return Patch(window, {n: np.array(self.arrays[n][index].compute()) for n in sorted(planes)}, self.grid.timed)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return sum(self.bytes_of(block, self.planes) for _, block in self.blocks_under(window))

    def _spans(self) -> list[list[Span]]:
        outer = self.grid.window
        axes = [outer.frames, outer.y, outer.x][-len(self.chunks) :]
        edges = [np.cumsum((axis.start, *sizes)) for axis, sizes in zip(axes, self.chunks, strict=True)]
        return [[Span(int(a), int(b)) for a, b in zip(e[:-1], e[1:], strict=True)] for e in edges]

    def blocks_under(self, window: Window) -> list[tuple[tuple[int, ...], Window]]:
        """Block indices along (time, y, x) that a window touches, with the blocks' windows."""
        asked = [window.frames, window.y, window.x][-len(self.chunks) :]
        touched = [
            [(at, span) for at, span in enumerate(spans) if len(span.clip(axis))]
            for spans, axis in zip(self._spans(), asked, strict=True)
        ]
        times = touched[0] if self.grid.timed else [(-1, Span(0, 1))]
        return [
            ((() if t < 0 else (t,)) + (j, i), Window(frames, rows, columns))
            for t, frames in times
            for j, rows in touched[-2]
            for i, columns in touched[-1]
        ]


def foreign_below(producer: Producer) -> list[DaskFrames]:
    """The DaskFrames of a chain, not those behind a Held."""
    found: dict[str, DaskFrames] = {}
    waiting = [producer]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, DaskFrames):
            found.setdefault(item.token(), item)
        elif not isinstance(item, Held):
            waiting.extend(item.parents)
    return list(found.values())
