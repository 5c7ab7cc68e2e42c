"""A patch: the planes of one window, owned by the task that made it, so stages work in place.

Arrays are shaped ``(time, [band,] y, x)``; a product without time has no time axis. The last two axes are always
``(y, x)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from getframes_xr.core.window import Span, Window

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Patch:
    """A window and its planes, ``dict[str, ndarray]``."""

    window: Window
    planes: dict[str, Array] = field(default_factory=dict)
    timed: bool = True

    def __getitem__(self, name: str) -> Array:
        return self.planes[name]

    def __setitem__(self, name: str, values: Array) -> None:
        self.planes[name] = values

    def __contains__(self, name: object) -> bool:
        return name in self.planes

    def __iter__(self) -> Iterator[str]:
        return iter(self.planes)

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.planes.values())

    def view(self, window: Window) -> Patch:
        """The part of the patch inside ``window``, as views."""
        y, x = window.y.slice_in(self.window.y), window.x.slice_in(self.window.x)
        frames = window.frames.slice_in(self.window.frames)
        index = (frames, ..., y, x) if self.timed else (..., y, x)
        return Patch(window, {name: values[index] for name, values in self.planes.items()}, self.timed)

    def crop(self, window: Window) -> Patch:
        """The part inside ``window``, contiguous; the patch itself where nothing is cut."""
        if window == self.window:
            return self
        cut = self.view(window)
        return Patch(window, {name: np.ascontiguousarray(a) for name, a in cut.planes.items()}, self.timed)

    def only(self, names: Mapping[str, object] | set[str] | frozenset[str] | tuple[str, ...]) -> Patch:
        """The same patch with the named planes alone."""
        return Patch(self.window, {name: self.planes[name] for name in names}, self.timed)

    def strip(self, frame: Span, rows: Span) -> Patch:
        return self.view(Window(frame, rows, self.window.x))

    def at(self, window: Window) -> Patch:
        """The same planes, said to lie at another window of the same shape."""
        return Patch(window, self.planes, self.timed)

    def get(self) -> Patch:
        """The patch itself; a handle (see ``engine.ask``) makes it now."""
        return self

    def let_go(self) -> None:
        """Hold the planes no longer; who took them keeps them."""
        self.planes = {}


def by_band(plane: Array) -> Array:
    """A timeless plane as (band, y, x), whether or not it has bands."""
    return plane if plane.ndim == 3 else plane[None]


def frozen(values: Array) -> Array:
    """A read-only view of values, contiguous: kernels see one type whoever owns them."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
