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

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.core.mapping import Affine
from getframes_xr.core.missing import blank, mark_no_data
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, UNUSABLE, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every, some
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.face.tables import by_frame
from getframes_xr.reduce.canvas import Canvas, canvas_spans, reference_wcs
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
        if (self._map.area[self._map.known] < 1e-6).any():
            raise DataError("a transform cannot be inverted: it maps the frame onto a line")

    @cached_property
    def _map(self) -> Affine:
        return Affine(self.transforms)

    @cached_property
    def grid(self) -> Grid:
        columns = {k: v for k, v in (self.parent.grid.columns or {}).items() if k != "wcs"}
        return self.parent.grid.replace(y=self.y, x=self.x, columns=columns | dict(self.columns), wcs=self.wcs)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units), "flags": PLANES["flags"]}

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        grid, reach = self.parent.grid, TAPS[self.interpolation] // 2 + _EXTRA_PX
        frames = few(range(window.frames.start, window.frames.stop))
        back = Affine(self._map.inverse.terms[list(frames)])
        for frame, seen in zip(frames, back.under(window.y, window.x, grid.y, grid.x, reach).tolist(), strict=True):
            if seen[0] < seen[1]:
                part = Window(Span(frame, frame + 1), Span(*seen[:2]), Span(*seen[2:]))
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
                blank(source.reshape(-1), marks.reshape(-1), UNUSABLE)
            reasons = None if flags is None else flags[band]
            self._resample(frame, window, origin, source, marks, out, reasons)
            if reasons is not None:
                mark_no_data(out, reasons, UNUSABLE)

    def _resample(
        self, frame: int, window: Window, origin: tuple[int, int], source: Array, marks: Array | None, out: Array,
        reasons: Array | None,
    ) -> None:  # fmt: skip
        inverse, taps = self._map.inverse.terms[frame], TAPS[self.interpolation]
        y, x = window.y.start, window.x.start
        if self._map.shifts[frame]:
            whole = np.floor(inverse[:, 2])
            wy, wx = (shift_weights(self.interpolation, float(inverse[i, 2] - whole[i])) for i in (0, 1))
            top = y + int(whole[0]) - origin[0] - (max(0, len(wy) // 2 - 1))
            left = x + int(whole[1]) - origin[1] - (max(0, len(wx) // 2 - 1))
            shift_plane(source, top, left, wy, wx, out)
            if marks is not None and reasons is not None:
                shift_flags(marks, top, left, len(wy), len(wx), reasons)
            return
        start = np.array(origin, np.int64)
        table = lanczos_table() if taps == 6 else np.zeros((1, 6), np.float32)
        warp_plane(taps, source, start, inverse, y, x, table, self._map.inverse.area[frame], out)
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
    canvas : "reference" (the frames' own spans: frames stay comparable with the reference, pixel by pixel), "union" of
        all verified frames, the same as that of ``splat``, or an image whose y and x are taken

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
    y, x = canvas_spans(canvas, transforms, producer.grid.y, producer.grid.x)
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
