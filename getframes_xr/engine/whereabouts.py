"""Where something went wrong: the producer or stage, its frames, rows, columns and file, told once on the way up.

The innermost ``make`` that fails tells; the error carries it as ``error.place`` and as a note, through threads,
processes and clusters (both lie in the error's ``__dict__``, which pickle keeps).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.ask import some

if TYPE_CHECKING:
    from getframes_xr.engine.producer import Producer


@dataclass(frozen=True)
class Whereabouts:
    """The place of a failure; ``frames``, ``rows``, ``columns`` are the first and the last, frames by their numbers."""

    who: str
    frames: tuple[int, int] | None
    rows: tuple[int, int]
    columns: tuple[int, int]
    file: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.frames is not None:
            first, last = self.frames
            parts.append(f"frame {first}" if first == last else f"frames {first}..{last}")
        parts.append(f"rows {self.rows[0]}..{self.rows[1]}")
        parts.append(f"columns {self.columns[0]}..{self.columns[1]}")
        return f"in {self.who}: {', '.join(parts)}" + (f" of {self.file}" if self.file else "")


def where(who: str, grid: Grid, window: Window, file: str | None = None) -> Whereabouts:
    """The place of a window of a grid."""
    frames = None
    if grid.columns is not None and len(window.frames):
        numbers = grid.columns["frame"][window.frames.start : window.frames.stop]
        frames = (int(numbers[0]), int(numbers[-1]))
    return Whereabouts(who, frames, (window.y.start, window.y.stop - 1), (window.x.start, window.x.stop - 1), file)


def tell(error: Exception, place: Whereabouts) -> None:
    """Give an error its place, unless somebody nearer to the fault has told already."""
    if getattr(error, "place", None) is None:
        with suppress(AttributeError):  # an error with __slots__ of its own
            error.place = place  # type: ignore[attr-defined]
            error.add_note(str(place))


def first_file(producer: Producer, window: Window, planes: Collection[str]) -> str | None:
    """The file that a window reads first, if it comes from one."""
    for read in producer.reads(window, planes):
        return read.source
    for ask in producer.inputs(window, frozenset(planes), some):
        found = first_file(ask.parent, ask.window, ask.planes)
        if found is not None:
            return found
    return None
