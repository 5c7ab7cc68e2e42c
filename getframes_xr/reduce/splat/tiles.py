"""Tiles of a canvas, and which part of a frame a window of it sees.

A window's footprint in a frame is the bounding box of the inverse-mapped window + 2 px, clipped to the frame. Coverage
counts the frames whose area (pixels are squares around integers) holds a canvas pixel; it follows from the transforms
alone and has no colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.ask import Ask, Few, every
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.engine.reduction import Batch
from getframes_xr.reduce.splat.moves import Moves

TILE_PX = 512
PART_PX = 128  # a part's sums stay in the second cache while some frames are laid on it
MARGIN_PX = 2  # of a footprint: a sample reaches one pixel around it
FRAMES_AT_ONCE = 4  # frames read before a window's parts are filled; their windows are held together


@kernel(inline="always")
def _first_column(base: float, slope: float, bound: float, left: int, right: int) -> int:
    """Give the first column i of [left, right) with slope * i + base >= bound, for slope > 0 (rounding is monotone)."""
    while left < right:
        middle = (left + right) // 2
        if base + slope * middle >= bound:
            right = middle
        else:
            left = middle + 1
    return left


@kernel
def add_coverage(
    out: Array, top: int, left: int, inverse: Array, y_low: float, y_high: float, x_low: float, x_high: float
) -> None:  # fmt: skip
    """Count one frame in every canvas pixel whose centre lies in the frame's area.

    Parameters
    ----------
    out : uint16 (rows, columns), added to; pixel [0, 0] is canvas pixel (top, left)
    inverse : float64 (2, 3), canvas -> frame
    y_low, y_high, x_low, x_high : the frame's area, first pixel - 0.5 <= y < last pixel + 0.5
    """
    columns = out.shape[1]
    for j in range(out.shape[0]):
        start = left
        stop = left + columns
        for axis in range(2):
            low = y_low if axis == 0 else x_low
            high = y_high if axis == 0 else x_high
            base = inverse[axis, 0] * (top + j) + inverse[axis, 2]
            slope = inverse[axis, 1]
            if slope > 0.0:
                start = max(start, _first_column(base, slope, low, left, left + columns))
                stop = min(stop, _first_column(base, slope, high, left, left + columns))
            elif slope < 0.0:
                start = max(start, _first_column(-base, -slope, -high, left, left + columns))
                stop = min(stop, _first_column(-base, -slope, -low, left, left + columns))
            elif base < low or base >= high:
                stop = start
        for i in range(start - left, stop - left):
            out[j, i] += 1


def parts_of(rows: Span, columns: Span, size_px: int = PART_PX) -> Iterator[Array]:
    """Cut a window into parts that stay in cache, aligned to the absolute canvas.

    Sums are filled part by part, several frames at a time; because parts lie on multiples of `size_px` of the canvas, a
    pixel meets its samples in the same order in every window.

    Yields
    ------
    int64 (6): top and left of the window, rows [2] <= j < [3] and columns [4] <= i < [5] of the part, counted from
    them; a sample belongs to the part of the upper left of its four pixels, so the last row and column begin no part
    """
    for y in range(rows.start // size_px * size_px, rows.stop - 1, size_px):
        for x in range(columns.start // size_px * size_px, columns.stop - 1, size_px):
            yield np.array(
                [
                    rows.start,
                    columns.start,
                    max(y, rows.start) - rows.start,
                    min(y + size_px, rows.stop - 1) - rows.start,
                    max(x, columns.start) - columns.start,
                    min(x + size_px, columns.stop - 1) - columns.start,
                ],
                np.int64,
            )


def tiles_of(window: Window) -> list[Window]:
    """Cut a window of the canvas into tiles of at most 512 px, of nearly equal size.

    A window may be as large as a store's shard; its scratch is that of a tile.
    """
    edges = []
    for span in (window.y, window.x):
        n = max(1, -(-len(span) // TILE_PX))
        cuts = [span.start + len(span) * k // n for k in range(n + 1)]
        edges.append([Span(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)])
    return [Window(window.frames, rows, columns) for rows in edges[0] for columns in edges[1]]


@dataclass(frozen=True)
class FramePart:
    """The part of one used frame that a window of the canvas sees; arrays are the holder's own.

    Parameters
    ----------
    number : of the frame in the Moves
    image, flags : float32 and uint16 (y, x)
    y, x : absolute first row and column
    """

    number: int
    image: Array
    flags: Array
    y: int
    x: int

    @classmethod
    def of(cls, ask: Ask, patch: Patch) -> FramePart:
        """One frame's window as it was handed over; frames without flags have none set."""
        image = np.ascontiguousarray(patch["image"][0], np.float32)
        if "flags" in patch:
            flags = np.ascontiguousarray(patch["flags"][0], np.uint16)
        else:
            flags = np.zeros(image.shape, np.uint16)
        return cls(ask.about, image, flags, ask.window.y.start, ask.window.x.start)


def frames_under(clean: Producer, moves: Moves, rows: Span, columns: Span, few: Few = every) -> Iterator[Batch]:
    """The frames that a window of the canvas sees, some at a time; an Ask's ``about`` is the frame's number in `moves`.

    A batch is a run of used frames fixed by their rank alone, so that every window walks (batch, part, frame) alike;
    frames that do not meet the window are left out of it.
    """
    seen = moves.map.inverse.under(rows, columns, clean.grid.y, clean.grid.x, MARGIN_PX)
    pixels = (seen[:, 1] - seen[:, 0]) * (seen[:, 3] - seen[:, 2])
    planes = with_flags(clean, "image")
    starts = range(0, len(moves), FRAMES_AT_ONCE)
    for start in few(starts, [int(pixels[at : at + FRAMES_AT_ONCE].max()) for at in starts]):
        asks = []
        for number in range(start, min(start + FRAMES_AT_ONCE, len(moves))):
            if pixels[number]:
                at, (top, bottom, left, right) = int(moves.positions[number]), seen[number].tolist()
                window = Window(Span(at, at + 1), Span(top, bottom), Span(left, right))
                asks.append(Ask(clean, window, planes, keep=f"frame {number - start}", about=number))
        if asks:
            yield Batch(start, asks)


def copied_bytes(clean: Producer, moves: Moves, rows: Span, columns: Span) -> int:
    """Bytes of what ``FramePart.of`` makes anew for one batch: samples of another type, flags where there are none."""
    seen = moves.map.inverse.under(rows, columns, clean.grid.y, clean.grid.x, MARGIN_PX)
    largest = int(((seen[:, 1] - seen[:, 0]) * (seen[:, 3] - seen[:, 2])).max())
    other = clean.planes["image"].dtype != np.float32
    return FRAMES_AT_ONCE * largest * (4 * other + 2 * ("flags" not in clean.planes))
