"""Splat: the stack of raw frames, each sample laid in the plane of its own colour after a look at the first image.

For a raw pixel that is not flagged and outside its frame's lines, v = (e - S) / t is compared with the first image P:

    keep when |v - r| <= kappa sqrt(V' + max(r, 0) / (t g)) + C (max - min of P in 3 x 3),   r = bilinear P

so that noise is judged by a model, not by the sample (which cannot show an outlier among ten), and steep places by
their own contrast C. The kept samples give per colour sum(w q v), sum(w q), sum((w q)^2 V'), sum(q); where a colour has
fewer than 4 effective samples, numerator and denominator are widened by the 3 x 3 binomial before the division. No
demosaic is made: stars keep their colours and widths. Nothing in a tile grows with the number of frames: they are
read in small batches, only the tile's footprint of each. Source: Fruchter & Hook (2002) for drop and blot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import OptionError
from getframes_xr.core.patch import Array, Patch, by_band
from getframes_xr.core.vocabulary import PLANES, SATURATED_SHARE, STACK_PLANES, UNUSABLE, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, every
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.reduction import BLOCK_RANKS, Batch, Reduction
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.canvas import Canvas, canvas_spans, reference_wcs
from getframes_xr.reduce.splat.deposit import CHECKED_SUMS, RING_PX, deposit_checked, finish
from getframes_xr.reduce.splat.first_image import read_first
from getframes_xr.reduce.splat.lines import mark_line, read_lines
from getframes_xr.reduce.splat.moves import Moves, read_moves
from getframes_xr.reduce.splat.tiles import (
    TILE_PX,
    FramePart,
    add_coverage,
    copied_bytes,
    frames_under,
    parts_of,
    tiles_of,
)

STATE = ("sum_wqv", "sum_wq", "sum_wq_squared_v", "sum_q", "saturated")  # the four sums, the saturated weight
FIRST_RING_PX = RING_PX + 1  # bilinear and 3 x 3 look one pixel beyond the sums
FEWEST_FOR_REJECTION = 2
PAIR_KAPPA = 5.0  # of two frames the smaller counts, and a difference of two has sqrt(2) sigma


@dataclass
class CheckedSums:
    """The four sums per band and the saturated weight on a tile and its ring, and what samples are compared with."""

    parts: list[Array]
    sums: Array
    saturated: Array
    expected: Array


@dataclass(frozen=True, eq=False)
class Splatted(Reduction):
    """The stack of the used frames on a canvas: image, noise, count, coverage, weight, flags, without time.

    Parameters
    ----------
    clean : Producer with time, planes ``image`` and ``flags``
    first : the first image (Held), on a canvas of its own; None keeps every sample
    moves : Moves of the used frames
    y, x : Span of the canvas
    lines : float64 (line, 5): frame, cos and sin of the normal's angle, offset [px], half width [px]; left out
    kappa, tolerance : of the comparison
    wcs : of the canvas, or None
    """

    clean: Producer
    first: Producer | None
    moves: Moves
    y: Span
    x: Span
    lines: Array
    kappa: float
    tolerance: float
    wcs: str | None = None

    @cached_property
    def grid(self) -> Grid:
        frames = self.clean.grid
        bands = self.moves.bands if self.moves.cfa is not None else None
        exposure = frames.columns.get("exposure_s") if frames.columns is not None else None
        attrs = dict(frames.attrs) | {"frames": len(self.moves), "frames_left_out": self.moves.n_left_out}
        if exposure is not None and np.isfinite(exposure).all():
            attrs["total_exposure_s"] = float(np.sum(exposure[self.moves.positions]))
        return Grid(self.y, self.x, bands=bands, wcs=self.wcs, attrs=attrs)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        units = self.clean.planes["image"].units
        own = {"image": units, "noise": units}
        return {name: Plane(PLANES[name].dtype, own.get(name, PLANES[name].units)) for name in STACK_PLANES}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, TILE_PX, TILE_PX

    @property
    def pieces(self) -> tuple[int, int]:
        return TILE_PX, TILE_PX

    def tiles(self, window: Window) -> list[Window]:
        return tiles_of(window)

    def _around(self, tile: Window) -> Window:
        """What of the first image a tile is compared with; empty where it lies outside."""
        assert self.first is not None
        return Window(Span(0, 1), tile.y.grow(FIRST_RING_PX), tile.x.grow(FIRST_RING_PX)).clip(self.first.grid.window)

    def ground(self, tile: Window, planes: frozenset[str]) -> list[Ask]:
        if self.first is None or not planes - {"coverage"} or not self._around(tile).pixels:
            return []
        return [Ask(self.first, self._around(tile), ("image",), keep="first", shared=True)]

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        if planes - {"coverage"}:
            grown = tile.grow(RING_PX)
            yield from frames_under(self.clean, self.moves, grown.y, grown.x, few)

    @cached_property
    def _lines_of(self) -> dict[int, Array]:
        """Lines by frame number: rows of (cos, sin, offset, half width)."""
        frames = self.lines[:, 0].astype(np.int64)
        return {int(frame): np.ascontiguousarray(self.lines[frames == frame, 1:]) for frame in np.unique(frames)}

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> CheckedSums:
        rows, columns = tile.y.grow(RING_PX), tile.x.grow(RING_PX)
        bands = len(self.moves.bands) if planes - {"coverage"} else 0
        wide = tile.grow(FIRST_RING_PX)
        shape = (len(rows), len(columns), bands)
        if spent is None or spent.saturated.shape != shape:
            sums, saturated = np.empty((*shape[:2], bands * CHECKED_SUMS), np.float32), np.empty(shape, np.float32)
            expected = np.empty((bands, len(wide.y), len(wide.x)), np.float32)
        else:
            sums, saturated, expected = spent.sums, spent.saturated, spent.expected
        sums.fill(0)
        saturated.fill(0)
        expected.fill(np.nan)
        if "first" in kept:
            part = kept["first"]
            expected[:, part.window.y.slice_in(wide.y), part.window.x.slice_in(wide.x)] = part["image"]
        return CheckedSums(list(parts_of(rows, columns)), sums, saturated, expected)

    def add(self, state: CheckedSums, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        moves, frames = self.moves, [FramePart.of(ask, patch) for ask, patch in zip(asks, patches, strict=True)]
        kappa_squared, tolerance = np.float32(self.kappa**2), np.float32(self.tolerance)
        for frame in frames:
            for cosine, sine, offset, half_width in self._lines_of.get(int(moves.frames[frame.number]), ()):
                mark_line(frame.flags, frame.y, frame.x, cosine, sine, offset, half_width, int(Flag.TRAIL))
        for part in state.parts:
            for frame in frames:
                n = frame.number
                deposit_checked(
                    state.sums.reshape(-1), state.saturated, part, frame.image, frame.flags, frame.y, frame.x,
                    moves.transforms[n], moves.inverses[n], moves.phases, moves.step, moves.sky[n], moves.centre,
                    1.0 / moves.transparency[n], moves.weights32[n], UNUSABLE, moves.variances32[n],
                    int(Flag.SATURATED), state.expected, self.first is not None, kappa_squared,
                    np.float32(moves.per_signal[n]), tolerance,
                )  # fmt: skip

    @property
    def folds(self) -> bool:
        return True

    def combine(self, left: CheckedSums, right: CheckedSums) -> CheckedSums:
        left.sums += right.sums
        left.saturated += right.saturated
        return left

    def _coverage(self, window: Window) -> Array:
        coverage = np.zeros((len(window.y), len(window.x)), np.uint16)
        frame = self.clean.grid
        area = (frame.y.start - 0.5, frame.y.stop - 0.5, frame.x.start - 0.5, frame.x.stop - 0.5)
        for inverse in self.moves.inverses:
            add_coverage(coverage, window.y.start, window.x.start, inverse, *area)
        return coverage

    @property
    def n_ranks(self) -> int:
        return len(self.moves)

    def over(self, ranks: Span) -> Splatted:
        moves = self.moves.select(np.arange(ranks.start, min(ranks.stop, len(self.moves))))
        own = dataclasses.replace(moves, positions=np.arange(len(moves)), n_left_out=0)
        lines = self.lines[np.isin(self.lines[:, 0], moves.frames)]
        return dataclasses.replace(self, clean=self.clean.select(moves.positions), moves=own, lines=lines)

    @property
    def ring(self) -> int:
        return RING_PX

    @property
    def state_planes(self) -> Mapping[str, Plane]:
        return {name: Plane(np.dtype(np.float32), "") for name in STATE}

    def pack(self, state: CheckedSums, tile: Window) -> dict[str, Array]:
        apart = np.moveaxis(state.sums.reshape(*state.saturated.shape, CHECKED_SUMS), (2, 3), (1, 0))
        return dict(zip(STATE, (*apart, np.moveaxis(state.saturated, -1, 0)), strict=True))

    def unpack(self, planes: Mapping[str, Array], tile: Window) -> CheckedSums:
        *sums, saturated = (np.moveaxis(by_band(planes[name]), 0, -1) for name in STATE)
        together = np.stack(sums, axis=-1).reshape(*sums[0].shape[:2], -1)
        return CheckedSums([], together, np.ascontiguousarray(saturated), np.empty((0, 0, 0), np.float32))

    def finish(self, state: CheckedSums, out: Patch) -> None:
        if "coverage" in out:
            out["coverage"][...] = self._coverage(out.window)
        if not set(out) - {"coverage"}:
            return
        shape = (len(self.moves.bands), len(out.window.y), len(out.window.x))
        made = {
            name: by_band(out[name]) if name in out else np.empty(shape, PLANES[name].dtype) for name in STACK_PLANES
        }
        finish(
            state.sums, self.moves.typical_variance, self.moves.raw_per_sample, made["image"], made["noise"],
            made["weight"], made["count"],
        )  # fmt: skip
        if "flags" in out:
            inner = np.moveaxis(state.saturated[RING_PX:-RING_PX, RING_PX:-RING_PX], -1, 0)
            made["flags"][...] = np.where(made["count"] == 0, np.uint16(Flag.NO_DATA), np.uint16(0))
            made["flags"][inner > np.float32(SATURATED_SHARE) * made["weight"]] |= np.uint16(Flag.SATURATED)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        if not window.pixels:
            return 0
        bands, tile = len(self.moves.bands), max(tiles_of(window), key=lambda tile: tile.pixels)
        rows, columns = tile.y.grow(RING_PX), tile.x.grow(RING_PX)
        sums = 4 * bands * (CHECKED_SUMS + 1) * len(rows) * len(columns)
        expected = 4 * bands * (len(rows) + 2) * (len(columns) + 2)
        alive = 2 if len(self.moves) > BLOCK_RANKS else 1
        spare = self.bytes_of(tile, set(STACK_PLANES) - planes) + 8 * bands * tile.pixels
        return alive * (sums + expected) + max(spare, copied_bytes(self.clean, self.moves, rows, columns))


def splat(
    clean: FramesLike,
    moves: xr.Dataset,
    *,
    first: xr.Dataset | None = None,
    lines: xr.Dataset | None = None,
    reject: bool = True,
    tolerance: float = 4.0,
    kappa: float = 4.0,
    canvas: Canvas | FramesLike = "union",
) -> xr.Dataset:
    """Stack raw mosaics or mono frames by depositing their samples; lazily.

    Parameters
    ----------
    clean : calibrated frames (time, y, x), planes ``image`` and ``flags``
    moves : loaded table of ``normalise(stars, register(stars))``; frames that are not ``used`` are left out
    first : Dataset of ``first_image(clean, moves)``, best saved and opened again; made on the way if not given
    lines : loaded table of ``find_lines``; what lies on a line of its frame is left out
    reject : compare every sample with the first image (a single frame has nothing to be compared with)
    tolerance : C >= 0, share of the local contrast that a sample may differ by
    kappa : > 0, standard deviations that a sample may differ by
    canvas : "union" of all used frames (a stack shows all that was seen), "reference" (the frames' own spans), or an
        image whose y and x are taken

    Returns
    -------
    Dataset ([band,] y, x): ``image`` (at median transparency, sky removed; NaN without samples), ``noise`` (1 sigma of
    a pixel against the sky), ``count`` (shares of the kept samples, in frames), ``coverage`` (frames whose area holds
    the pixel), ``weight`` (sum of their weights), ``flags`` (no_data; saturated where > 10 % of the weight is)

    Raises
    ------
    DataError : frames, moves and lines cannot be used together
    RegistrationError : none of the frames is used
    OptionError : an option is outside its range
    """
    if not isinstance(reject, bool | np.bool_):
        allowed = "True or False: splat compares every sample with the first image (kappa=, tolerance=)"
        raise OptionError("reject", reject, f"{allowed}; rules of gx.reject are for gx.stack")
    if not kappa > 0:
        raise OptionError("kappa", kappa, "> 0")
    if not tolerance >= 0:
        raise OptionError("tolerance", tolerance, ">= 0")
    frames = frames_in(clean, "splat", ("image",), timed=True, mosaic=True).producer
    table = read_moves(moves, frames.grid, frames.planes["image"].units or "adu")
    spans = canvas_spans(canvas, table.transforms, frames.grid.y, frames.grid.x)
    rejects = reject and len(table) >= FEWEST_FOR_REJECTION
    expected = read_first(first, frames, table) if rejects else None
    if len(table) == FEWEST_FOR_REJECTION:
        kappa = max(kappa, PAIR_KAPPA)
    wcs = reference_wcs(moves, frames.grid)
    return lazy(Splatted(frames, expected, table, *spans, read_lines(lines), float(kappa), float(tolerance), wcs))
