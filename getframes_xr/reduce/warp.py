"""Warp: frames resampled onto one canvas by the moves that registration found.

A canvas pixel p lies at s = B p + c in the frame (the inverse of the move); its value is the interpolated sample there
times |det B|, so the light on an area of sky is kept when scales differ. Validity is explicit: a tap outside the FRAME
(never the window's edge), a flagged or missing one makes NaN with the reason in ``flags``. A window asks each frame
only for clip(bbox(B window + c) + taps, frame), rounded outwards; a frame that misses it is not asked at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.core.kernel import kernel as compiled
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, UNUSABLE, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every, some
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.face.frames_in import FramesLike, as_producer, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.face.tables import by_frame
from getframes_xr.reduce.interpolation import (
    TAPS,
    Interpolation,
    lanczos_table,
    shift_flags,
    shift_plane,
    shift_weights,
    warp_flags,
    warp_plane,
)
from getframes_xr.reduce.moves import reference_wcs

Canvas = Literal["reference", "union"]
_EXTRA_PX = 1  # more than rounding of positions (1e-9 px) can ever need


@dataclass(frozen=True, eq=False)
class Warped(Producer):
    """``parent`` resampled onto the canvas ``y, x``.

    Parameters
    ----------
    parent : frames (time, [band,] y, x) with the plane ``plane``, perhaps ``flags``; no colour filter array
    transforms : float64 (time, 2, 3), frame -> canvas: A[:, :2] @ (y, x) + A[:, 2]; NaN = the frame is not used
    y, x : spans of the canvas, absolute pixels (may start below 0)
    interpolation : bilinear, bicubic or lanczos3

    Raises
    ------
    DataError : transforms of the wrong shape or not invertible, frames with a colour filter array
    """

    parent: Producer
    transforms: Array
    y: Span
    x: Span
    interpolation: Interpolation = "bicubic"
    plane: str = "image"
    columns: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    wcs: str | None = None

    def __post_init__(self) -> None:
        grid = self.parent.grid
        if not grid.timed:
            raise DataError("warp needs frames along time; these have none")
        if grid.cfa is not None:
            raise DataError(f"these frames hold a colour filter array ({grid.cfa}); debayer them first, or use splat")
        if self.transforms.shape != (grid.n_frames, 2, 3):
            raise DataError(f"transforms have the shape {self.transforms.shape}, wanted ({grid.n_frames}, 2, 3)")
        if self.plane not in self.parent.planes:
            raise DataError(f"no plane {self.plane!r} to warp; known: {', '.join(self.parent.planes)}")
        matrix = self.transforms[self._used, :, :2]
        if (np.abs(np.linalg.det(matrix)) < 1e-6).any():
            raise DataError("a transform cannot be inverted: it maps the frame onto a line")

    @cached_property
    def _used(self) -> Array:
        return np.asarray(np.isfinite(self.transforms).all(axis=(1, 2)))

    @cached_property
    def grid(self) -> Grid:
        columns = {k: v for k, v in (self.parent.grid.columns or {}).items() if k != "wcs"}
        return self.parent.grid.replace(y=self.y, x=self.x, columns=columns | dict(self.columns), wcs=self.wcs)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units), "flags": PLANES["flags"]}

    @cached_property
    def _inverse(self) -> Array:
        """Canvas -> frame, float64 (time, 2, 3)."""
        a, b, c = self.transforms[:, 0, 0], self.transforms[:, 0, 1], self.transforms[:, 0, 2]
        d, e, f = self.transforms[:, 1, 0], self.transforms[:, 1, 1], self.transforms[:, 1, 2]
        det = a * e - b * d
        inverse = np.empty_like(self.transforms)
        inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 0, 2] = e / det, -b / det, (b * f - e * c) / det
        inverse[:, 1, 0], inverse[:, 1, 1], inverse[:, 1, 2] = -d / det, a / det, (d * c - a * f) / det
        return inverse

    @cached_property
    def _shifts(self) -> Array:
        """Which frames are only shifted, bool (time,)."""
        return np.asarray((self.transforms[:, :, :2] == np.eye(2)).all(axis=(1, 2)))

    def footprint(self, frame: int, window: Window) -> tuple[Span, Span]:
        """Rows and columns of one frame that a canvas window can touch; empty where it misses the frame."""
        empty = Span(0, 0), Span(0, 0)
        if not self._used[frame] or not len(window.y) or not len(window.x):
            return empty
        inverse = self._inverse[frame]
        corners = np.array(
            [[y, x] for y in (window.y.start, window.y.stop - 1) for x in (window.x.start, window.x.stop - 1)]
        )
        at = corners @ inverse[:, :2].T + inverse[:, 2]
        reach = TAPS[self.interpolation] // 2 + _EXTRA_PX
        grid = self.parent.grid
        spans = []
        for axis, frame_span in enumerate((grid.y, grid.x)):
            low, high = np.floor(at[:, axis].min()), np.ceil(at[:, axis].max())
            if high < frame_span.start - reach or low > frame_span.stop + reach:
                return empty
            spans.append(Span(int(low) - reach, int(high) + reach + 1).clip(frame_span))
        return (spans[0], spans[1]) if len(spans[0]) and len(spans[1]) else empty

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        for frame in few(range(window.frames.start, window.frames.stop)):
            y, x = self.footprint(frame, window)
            if len(y):
                part = Window(Span(frame, frame + 1), y, x)
                yield Ask(self.parent, part, with_flags(self.parent, self.plane), about=frame)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        shape = self.grid.shape(window)
        image = np.empty(shape, np.float32)
        flags = np.zeros(shape, np.uint16) if "flags" in planes else None
        missed = set(range(window.frames.start, window.frames.stop))
        for ask, patch in given:
            missed.remove(ask.about)
            at = ask.about - window.frames.start
            self._one_frame(ask.about, window, patch, image[at], None if flags is None else flags[at])
        for frame in missed:
            image[frame - window.frames.start] = np.nan
            if flags is not None:
                flags[frame - window.frames.start] = Flag.NO_DATA
        out = {"image": image} if "image" in planes else {}
        return Patch(window, out if flags is None else out | {"flags": flags})

    def _one_frame(self, frame: int, window: Window, patch: Patch, image: Array, flags: Array | None) -> None:
        origin = (patch.window.y.start, patch.window.x.start)
        samples = patch[self.plane][0]
        if samples.dtype != np.float32:
            samples = samples.astype(np.float32)
        native = patch["flags"][0] if "flags" in patch and patch["flags"].any() else None
        bands = (slice(None),) if image.ndim == 2 else range(image.shape[0])
        for band in bands:
            source, out = np.ascontiguousarray(samples[band]), image[band]
            marks = None if native is None else np.ascontiguousarray(native[band])
            if marks is not None:
                blank(source, marks, UNUSABLE)
            reasons = None if flags is None else flags[band]
            self._resample(frame, window, origin, source, marks, out, reasons)
            if reasons is not None:
                mark_no_data(out, reasons, UNUSABLE, int(Flag.NO_DATA))

    def _resample(
        self, frame: int, window: Window, origin: tuple[int, int], source: Array, marks: Array | None, out: Array,
        reasons: Array | None,
    ) -> None:  # fmt: skip
        inverse, taps = self._inverse[frame], TAPS[self.interpolation]
        y, x = window.y.start, window.x.start
        if self._shifts[frame]:
            whole = np.floor(inverse[:, 2])
            wy, wx = (shift_weights(self.interpolation, float(inverse[i, 2] - whole[i])) for i in (0, 1))
            top = y + int(whole[0]) - origin[0] - (max(0, len(wy) // 2 - 1))
            left = x + int(whole[1]) - origin[1] - (max(0, len(wx) // 2 - 1))
            shift_plane(source, top, left, wy, wx, out)
            if marks is not None and reasons is not None:
                shift_flags(marks, top, left, len(wy), len(wx), reasons)
            return
        area = abs(inverse[0, 0] * inverse[1, 1] - inverse[0, 1] * inverse[1, 0])
        start = np.array(origin, np.int64)
        table = lanczos_table() if taps == 6 else np.zeros((1, 6), np.float32)
        warp_plane(taps, source, start, inverse, y, x, table, area, out)
        if marks is not None and reasons is not None:
            warp_flags(taps, marks, start, inverse, y, x, reasons)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        bands = len(self.parent.grid.bands or (1,))
        copies = max((8 * bands * ask.window.pixels for ask in self.inputs(window, planes, some)), default=0)
        return copies + self.bytes_of(window, {"image"} - planes) + 2**16

    def select(self, positions: Array) -> Producer:
        columns = {name: column[positions] for name, column in self.columns.items()}
        parent, transforms = self.parent.select(positions), self.transforms[positions]
        return dataclasses.replace(self, parent=parent, transforms=transforms, columns=columns)


@compiled
def blank(source: Array, flags: Array, bad: int) -> None:
    """Make flagged samples NaN, in place."""
    for y in range(source.shape[0]):
        row, marks = source[y], flags[y]
        for x in range(source.shape[1]):
            row[x] = _NAN if (marks[x] & bad) != 0 else row[x]


@compiled
def mark_no_data(image: Array, flags: Array, bad: int, no_data: int) -> None:
    """Flag NaN that no other flag explains as no_data, in place."""
    for y in range(image.shape[0]):
        row, marks = image[y], flags[y]
        for x in range(image.shape[1]):
            unknown = (row[x] != row[x]) & ((marks[x] & bad) == 0)
            marks[x] = marks[x] | np.uint16(no_data) if unknown else marks[x]


_NAN = np.float32(np.nan)


def warp(
    frames: FramesLike,
    moves: xr.Dataset,
    kernel: Interpolation = "bicubic",
    canvas: Canvas | FramesLike = "reference",
) -> xr.Dataset:
    """Resample frames onto one grid by their moves; lazy.

    Parameters
    ----------
    frames : Dataset with ``image`` (or ``adu``) and perhaps ``flags``, mono or debayered
    moves : loaded table of ``register`` or ``normalise``: ``transform`` (time, 2, 3), ``verified``; joined by ``frame``
    kernel : "bicubic", "bilinear" or "lanczos3"
    canvas : "reference" (the frames' own spans), "union" (all verified frames), or an image whose y and x are taken

    Returns
    -------
    Dataset (time, [band,] y, x) of ``image`` [the units of the frames] and ``flags``; frames that are not verified are
    all no_data and carry ``verified`` = False, so that ``stack`` leaves them out

    Raises
    ------
    OptionError : an unknown kernel or canvas
    DataError : raw colour frames, a lazy table, a frame without a row in ``moves``
    RegistrationError : no frame is verified
    """
    if kernel not in TAPS:
        raise OptionError("warp kernel", kernel, ", ".join(TAPS))
    producer, plane, _ = frames_in(frames, "warp", timed=True)
    transforms, columns = _moves(moves, producer.grid)
    y, x = _canvas(canvas, producer.grid, transforms)
    wcs = reference_wcs(moves, producer.grid)
    return lazy(Warped(producer, transforms, y, x, kernel, plane, columns, wcs))


def _moves(moves: xr.Dataset, grid: Grid) -> tuple[Array, dict[str, Array]]:
    """Transforms in the order of the grid, NaN where a frame is not verified, and the columns that say so."""
    if "transform" not in moves:
        raise DataError("moves hold no 'transform'; make them with register(stars)")
    transforms = np.array(by_frame(moves["transform"], grid), np.float64)
    columns: dict[str, Array] = {}
    finite = np.asarray(np.isfinite(transforms).all(axis=(1, 2)))
    for name in ("verified", "used"):
        if name in moves:
            columns[name] = np.asarray(by_frame(moves[name], grid), np.bool_)
    columns["verified"] = columns.get("verified", finite) & finite
    if not columns["verified"].any():
        raise RegistrationError(
            f"none of the {grid.n_frames} frames is verified, nothing can be laid on top of each other"
        )
    transforms[~columns["verified"]] = np.nan
    return transforms, columns


def _canvas(canvas: str | FramesLike, grid: Grid, transforms: Array) -> tuple[Span, Span]:
    if not isinstance(canvas, str):
        other = as_producer(canvas).grid
        return other.y, other.x
    if canvas == "reference":
        return grid.y, grid.x
    if canvas != "union":
        raise OptionError("canvas", canvas, ", ".join(get_args(Canvas)) + ", or an image whose y and x are taken")
    corners = np.array([[y, x] for y in (grid.y.start, grid.y.stop - 1) for x in (grid.x.start, grid.x.stop - 1)])
    used = transforms[np.isfinite(transforms).all(axis=(1, 2))]
    at = corners @ used[:, :, :2].transpose(0, 2, 1) + used[:, None, :, 2]
    low, high = np.floor(at.min(axis=(0, 1)) + 1e-6), np.ceil(at.max(axis=(0, 1)) - 1e-6)
    return Span(int(low[0]), int(high[0]) + 1), Span(int(low[1]), int(high[1]) + 1)
