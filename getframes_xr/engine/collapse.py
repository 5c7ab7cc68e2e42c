"""Collapse along time: a stack as a producer, a rejection rule as a small class over sorted lanes or running sums.

Samples are visited in increasing ``frame``, whatever the order of the axis (float sums are not associative). A
whole-time rule needs all samples of a pixel together (median, clip, percentile): the samples of a strip are gathered
once, sorted by ``engine.lanes``, and the rule says which ranks stay. A streaming rule (mean) adds chunks in order and
never holds more than a few frames. The walk goes through strips of rows, full width where that costs the parents no
more than square tiles would, so scratch is bounded whatever the number of frames.

With weights w the image is sum w v / sum w over the kept samples and
noise = sqrt(sum w^2 (v - image)^2 / ((sum w)^2 - sum w^2)), corrected for what the rule took from the tails.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.missing import blank
from getframes_xr.core.options import Family, Registry
from getframes_xr.core.patch import Array, Patch, by_band
from getframes_xr.core.vocabulary import PLANES, SATURATED_SHARE, STACK_PLANES, UNUSABLE, Flag, Plane
from getframes_xr.core.window import CHUNK_PIXELS, Grid, Span, Window
from getframes_xr.engine import lanes as kernels
from getframes_xr.engine.ask import Ask, Few, every
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.engine.reduction import BLOCK_RANKS, Batch, Reduction

RULES = Registry("rejection rule")
STRIP_BYTES = 64 * 2**20  # samples of one strip, all frames
GROUP_BYTES = 4 * 2**20  # frames asked for together
BUNCH_BYTES = 384 * 2**10  # samples sorted together: half of an L2 cache
MOST_FRAMES = 65535  # count and coverage are uint16
SHARED = ("exposure_s", "bias_adu", "gain_e_per_adu", "read_noise_e")  # told in attrs where all frames agree
_SATURATED = np.uint16(Flag.SATURATED)


@dataclass
class Samples:
    """All samples of some pixels of one band, frames in increasing order.

    ``values`` uint16 or float32 (n, pixels), NaN = missing; ``missing`` bool (n, pixels), no pixels where nothing is;
    ``weights`` float64 (n,) or None; ``columns`` per-frame vectors in the order of ``values``.
    """

    values: Array
    missing: Array
    weights: Array | None
    columns: Mapping[str, Array]
    units: str


@dataclass
class Collapsed:
    """What becomes of them, vectors (pixels,): ``coverage`` counts good samples, ``weight`` sums the weights kept."""

    value: Array
    noise: Array
    count: Array
    weight: Array
    coverage: Array

    @property
    def vectors(self) -> tuple[Array, Array, Array, Array]:
        return self.value, self.noise, self.count, self.weight

    @classmethod
    def empty(cls, pixels: int) -> Collapsed:
        reals = [np.empty(pixels) for _ in range(3)]
        counts = [np.zeros(pixels, np.int32) for _ in range(2)]
        return cls(reals[0], reals[1], counts[0], reals[2], counts[1])


@dataclass
class Lanes:
    """Sorted samples of a bunch of pixels, and what a rule says about them.

    ``blocks`` (groups, n, lanes) sorted along n; a rule narrows the ranks ``low <= r < high`` that stay and sets
    ``value`` and ``variance`` (of one kept sample, corrected for what was taken from the tails); ``inflation`` is
    that correction alone.
    """

    blocks: Array
    valid: Array
    low: Array
    high: Array
    centre: Array
    total: Array
    square: Array
    value: Array
    variance: Array
    inflation: Array

    @classmethod
    def empty(cls, groups: int, n: int, dtype: np.dtype[Any]) -> Lanes:
        width = kernels.LANES_U16 if dtype == np.uint16 else kernels.LANES_F32
        shape = (groups, width)
        ranks = [np.empty(shape, np.int32) for _ in range(3)]
        reals = [np.empty(shape, np.float64) for _ in range(6)]
        return cls(np.empty((groups, n, width), dtype), *ranks, *reals)

    def load(self, samples: Samples, first: int) -> None:
        """Take the pixels from ``first`` on and sort them; everything valid is kept so far."""
        if self.blocks.dtype == np.uint16:
            kernels.load_u16(samples.values, samples.missing, first, self.blocks, self.valid)
        else:
            kernels.load_f32(samples.values, first, self.blocks, self.valid)
        self.low[...] = 0
        self.high[...] = self.valid

    def about_medians(self) -> None:
        """Set ``centre`` to the median of what is kept, and the moments about it."""
        kernels.medians(self.blocks, self.low, self.high, self.centre)
        kernels.moments(self.blocks, self.low, self.high, self.centre, self.total, self.square)

    def about_centre(self) -> None:
        """Moments of what is kept about the ``centre`` that the rule has set."""
        kernels.moments(self.blocks, self.low, self.high, self.centre, self.total, self.square)

    def take_means(self, inflation: float = 1.0) -> None:
        """Set value and variance to those of the kept samples, the variance times ``inflation``."""
        kernels.means(self.low, self.high, self.centre, self.total, self.square, self.value, self.variance)
        self.inflation[...] = inflation
        self.variance *= inflation


class Rule(Family):
    """Parent of all rejection rules; ``collapse`` turns samples into values, noise and counts."""

    registry: ClassVar[Registry] = RULES
    streams: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True
    fewest: ClassVar[int] = 1  # frames from which on the rule can do its work

    def needs(self, grid: Grid, units: str) -> tuple[str, ...]:
        """Per-frame columns that the rule reads from frames of this grid, in these units."""
        return ()


class WholeTimeRule(Rule):
    """A rule that sees all samples of a pixel, sorted: write ``choose`` and it is done."""

    @abstractmethod
    def choose(self, lanes: Lanes) -> None:
        """Narrow ``lanes.low`` and ``lanes.high``; set ``value``, ``variance`` and ``inflation``."""

    @staticmethod
    def bunches(samples: Samples, out: Collapsed) -> Iterator[tuple[int, Lanes]]:
        """First pixel and sorted lanes (one buffer, used again) of each bunch in turn; fills ``out.coverage``."""
        n, pixels = samples.values.shape
        dtype = samples.values.dtype
        width = kernels.LANES_U16 if dtype == np.uint16 else kernels.LANES_F32
        groups = max(1, min(BUNCH_BYTES // (n * width * dtype.itemsize), -(-pixels // width)))
        lanes = Lanes.empty(groups, n, dtype)
        for first in range(0, pixels, groups * width):
            lanes.load(samples, first)
            kernels.spill(lanes.valid, first, out.coverage)
            yield first, lanes

    def collapse(self, samples: Samples) -> Collapsed:
        """Sort, choose, and (with weights) sum again what lies within the chosen limits, in frame order."""
        pixels = samples.values.shape[1]
        out = Collapsed.empty(pixels)
        weighted = samples.weights is not None
        if weighted:
            low_value, high_value, shift, inflation = (np.empty(pixels) for _ in range(4))
        for first, lanes in self.bunches(samples, out):
            self.choose(lanes)
            if weighted:
                kernels.thresholds(lanes.blocks, lanes.low, lanes.high, first, low_value, high_value)
                kernels.spill(lanes.centre, first, shift)
                kernels.spill(lanes.inflation, first, inflation)
            else:
                kernels.deliver(lanes.low, lanes.high, lanes.value, lanes.variance, first, *out.vectors)
        if samples.weights is not None:
            sums = np.zeros((5, pixels))
            kernels.accumulate(
                samples.values,
                samples.missing,
                samples.weights,
                low_value,
                high_value,
                shift,
                sums,
                out.count,
            )
            kernels.finish_sums(sums, shift, out.count, out.value, out.noise, out.weight)
            out.noise *= np.sqrt(inflation)
        return out


class StreamingRule(Rule):
    """A rule of running sums: ``start``, then ``add`` for chunks of frames in increasing order, then ``finish``."""

    streams: ClassVar[bool] = True

    @abstractmethod
    def start(self, pixels: int) -> Any:
        """The empty state of that many pixels."""

    @abstractmethod
    def add(self, state: Any, samples: Samples) -> None:
        """Take more frames into the state, one after the other, so that the cut into chunks cannot show."""

    @abstractmethod
    def combine(self, left: Any, right: Any) -> Any:
        """One state of two, ``right`` of the later frames; may write to ``left``."""

    sums: ClassVar[Mapping[str, str]] = {}  # the state's vectors (pixels,) by name, with their dtypes

    @abstractmethod
    def pack(self, state: Any) -> dict[str, Array]:
        """The vectors of a state."""

    @abstractmethod
    def unpack(self, vectors: Mapping[str, Array]) -> Any:
        """The state of such vectors."""

    @abstractmethod
    def finish(self, state: Any) -> Collapsed: ...


@dataclass
class StackState:
    """What is known of a tile: flags seen and saturated samples (band, pixels), and running sums or all samples."""

    reasons: Array
    saturated: Array
    sums: list[Any]
    buffer: Array | None = None
    values: Array = field(default_factory=lambda: np.empty((0, 0, 0)))
    missing: Array = field(default_factory=lambda: np.empty((0, 0, 0), np.bool_))
    some_missing: bool = False


@dataclass(frozen=True, eq=False)
class Stacked(Reduction):
    """``parent`` collapsed along time by ``rule``: image, noise, count, coverage, weight, flags, without time.

    Parameters
    ----------
    parent : Producer with time and the plane ``plane`` (``image`` or ``adu``); its ``flags`` are heeded if there
    rule : the rejection rule
    weights : float64 (time,) or (time, band) in the order of the parent's axis, > 0, or None for equal weights
    facts : small things to say in the attrs of the result

    Raises
    ------
    DataError : no frames, more than 65535, weights of the wrong shape or not positive, a column is missing
    OptionError : weights for a rule that takes none
    """

    parent: Producer
    rule: Rule
    weights: Array | None = None
    plane: str = "image"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grid = self.parent.grid
        if not grid.timed:
            raise DataError("a stack needs frames along time; this is a product without time already")
        if not 0 < grid.n_frames <= MOST_FRAMES:
            raise DataError(f"a stack takes 1 to {MOST_FRAMES} frames, here are {grid.n_frames}")
        if self.plane not in self.parent.planes:
            raise DataError(f"no plane {self.plane!r} to stack; known: {', '.join(self.parent.planes)}")
        for column in self.rule.needs(grid, self.parent.planes[self.plane].units):
            grid.column(column)
        if self.weights is None:
            return
        if not self.rule.takes_weights:
            raise OptionError("weights", "given", f"none, for the rule {type(self.rule).__name__} uses no weights")
        bands = len(grid.bands) if grid.bands else 1
        if self.weights.shape not in {(grid.n_frames,), (grid.n_frames, bands)}:
            raise DataError(f"weights have the shape {self.weights.shape}, the frames ({grid.n_frames}, {bands} bands)")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise DataError("weights must be positive numbers; leave frames out instead of giving them no weight")

    @cached_property
    def grid(self) -> Grid:
        parent = self.parent.grid
        assert parent.columns is not None
        attrs = dict(parent.attrs) | {"frames": parent.n_frames}
        exposure = parent.columns.get("exposure_s")
        if exposure is not None and np.isfinite(exposure).all():
            attrs["total_exposure_s"] = float(np.sum(exposure))
        for name in SHARED:
            column = parent.columns.get(name)
            if name == "bias_adu" and "calibrated" in parent.attrs:
                continue  # it is off already
            if column is not None and np.isfinite(column).all() and np.ptp(column) <= 1e-4 * abs(column[0]):
                attrs[name] = float(column[0])
        return parent.replace(columns=None, attrs=attrs | dict(self.facts))

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        units = self.parent.planes[self.plane].units
        own = {"image": units, "noise": units}
        return {name: Plane(PLANES[name].dtype, own.get(name, PLANES[name].units)) for name in STACK_PLANES}

    @cached_property
    def _order(self) -> Array:
        """Positions on the parent's axis by increasing frame."""
        return np.argsort(self.parent.grid.column("frame"), kind="stable")

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        """uint16 where the samples are small integers, else float32."""
        dtype = self.parent.planes[self.plane].dtype
        return np.dtype(np.uint16 if dtype in (np.dtype(np.uint8), np.dtype(np.uint16)) else np.float32)

    @property
    def _masked(self) -> bool:
        """Whether missing samples are told by a mask: integers have no NaN."""
        return self._dtype == np.uint16 and "flags" in self.parent.planes

    @property
    def _bands(self) -> int:
        return len(self.parent.grid.bands or (1,))

    def _runs(self, y: Span, x: Span) -> list[tuple[Span, Array]]:
        """Frames to ask for together: runs of positions and the ranks (by frame) of each; ranks increase in order.

        Where blocks of ranks are folded, no run leaves its block.
        """
        dtype = self.parent.planes[self.plane].dtype
        marks = 2 * ("flags" in self.parent.planes)
        frame = max(1, self._bands * len(y) * len(x) * (dtype.itemsize + marks))
        most = max(1, GROUP_BYTES // frame)
        order = self._order
        steps = np.diff(order)
        found: list[tuple[Span, Array]] = []
        start = 0
        while start < len(order):
            end = min(len(order), start + most)
            if self.folds:
                end = min(end, (start // BLOCK_RANKS + 1) * BLOCK_RANKS)
            stop = start + 1
            while stop < end and steps[stop - 1] == steps[start] and abs(steps[start]) == 1:
                stop += 1
            positions = order[start:stop]
            low = int(positions.min())
            ranks = np.empty(stop - start, np.int64)
            ranks[positions - low] = np.arange(start, stop)
            found.append((Span(low, low + stop - start), ranks))
            start = stop
        return found

    @property
    def _pixel_bytes(self) -> int:
        """Scratch per pixel of a tile beyond what the parents need: samples or sums, results, flags."""
        n, bands = self.parent.grid.n_frames, self._bands
        per_band = 0 if self.rule.streams else n * (self._dtype.itemsize + self._masked)
        return bands * per_band + 128 + 12 * bands

    @property
    def preferred_chunks(self) -> tuple[int, int, int] | None:
        """Strips of full width where they cost the parents no more than squares; enough of them for a few threads."""
        window = self.grid.window
        height, width = len(window.y), len(window.x)
        most = max(1, CHUNK_PIXELS // max(1, width))
        rows = max(1, min(height, most, max(64, -(-height // 8))))
        if self._touched(window, (rows, width)) > 1.5 * rows * width:
            return 1, min(512, height), min(512, width)
        return 1, rows, width

    def _shape(self, window: Window) -> tuple[int, int]:
        """Rows and columns of a tile: a strip of full width, unless the parents' footprint makes a square cheaper."""
        pixels = max(1, STRIP_BYTES // self._pixel_bytes)
        height, width = max(1, len(window.y)), max(1, len(window.x))
        if pixels >= height * width:
            return height, width
        strip = (min(height, max(1, pixels // width)), min(width, pixels))
        side = max(1, int(pixels**0.5))
        rows = min(side, height)
        square = (rows, min(width, max(1, pixels // rows)))
        return strip if self._touched(window, strip) <= 1.5 * strip[0] * strip[1] else square

    def _touched(self, window: Window, shape: tuple[int, int]) -> float:
        """Pixels per frame that the ground producers are asked for, for one tile of this shape in the middle."""
        middle_y = window.y.start + (len(window.y) - shape[0]) // 2
        middle_x = window.x.start + (len(window.x) - shape[1]) // 2
        n = self.parent.grid.n_frames
        frames = sorted({0, n // 2, n - 1})
        total = 0
        for frame in frames:
            tile = Window(
                Span(frame, frame + 1), Span(middle_y, middle_y + shape[0]), Span(middle_x, middle_x + shape[1])
            )
            total += _ground_pixels(self.parent, tile, with_flags(self.parent, self.plane))
        return total / len(frames)

    def tiles(self, window: Window) -> list[Window]:
        rows, columns = self._shape(window)
        return [Window(window.frames, y, x) for y in window.y.pieces(rows) for x in window.x.pieces(columns)]

    @property
    def folds(self) -> bool:
        return self.rule.streams

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        runs = self._runs(tile.y, tile.x)
        for span, ranks in few(runs, [len(span) for span, _ in runs]):
            ask = Ask(self.parent, tile.with_frames(span), with_flags(self.parent, self.plane), about=ranks)
            yield Batch(int(ranks.min()), [ask])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> StackState:
        pixels = len(tile.y) * len(tile.x)
        marks = np.zeros((2, self._bands, pixels), np.uint16)
        if isinstance(self.rule, StreamingRule):
            return StackState(marks[0], marks[1], [self.rule.start(pixels) for _ in range(self._bands)])
        n, buffer = self.parent.grid.n_frames, None if spent is None else spent.buffer
        if buffer is None or buffer.size < self._bands * n * pixels:
            buffer = np.empty(self._bands * n * pixels, self._dtype)
        values = buffer[: self._bands * n * pixels].reshape(self._bands, n, pixels)
        missing = np.zeros((self._bands, n, pixels if self._masked else 0), np.bool_)
        return StackState(marks[0], marks[1], [], buffer, values, missing)

    def add(self, state: StackState, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        ranks = asks[0].about
        got, gone = self._taken(patches[0], state)
        if isinstance(self.rule, StreamingRule):
            order = np.argsort(ranks)
            chosen = slice(int(ranks.min()), int(ranks.max()) + 1)
            for band, sums in enumerate(state.sums):
                values = np.ascontiguousarray(got[order, band])
                self.rule.add(sums, self._samples(values, np.ascontiguousarray(gone[order, band]), band, chosen))
            return
        for i, rank in enumerate(ranks):
            state.values[:, rank] = got[i]
        if gone.shape[-1]:
            state.missing[:, ranks] = gone.swapaxes(0, 1)
            state.some_missing = True

    def combine(self, left: StackState, right: StackState) -> StackState:
        assert isinstance(self.rule, StreamingRule)
        left.reasons |= right.reasons
        left.saturated += right.saturated
        left.sums = [self.rule.combine(a, b) for a, b in zip(left.sums, right.sums, strict=True)]
        return left

    @property
    def n_ranks(self) -> int:
        return self.parent.grid.n_frames

    def over(self, ranks: Span) -> Stacked:
        chosen = self._order[ranks.start : ranks.stop]
        weights = None if self.weights is None else self.weights[chosen]
        return dataclasses.replace(self, parent=self.parent.select(chosen), weights=weights)

    @property
    def state_planes(self) -> Mapping[str, Plane]:
        assert isinstance(self.rule, StreamingRule)
        marks = {name: Plane(np.dtype(np.uint16), "") for name in ("reasons", "saturated")}
        return marks | {name: Plane(np.dtype(kind), "") for name, kind in self.rule.sums.items()}

    def pack(self, state: StackState, tile: Window) -> dict[str, Array]:
        shape = (self._bands, len(tile.y), len(tile.x))
        assert isinstance(self.rule, StreamingRule)
        sums = [self.rule.pack(band) for band in state.sums]
        made = {name: np.stack([band[name] for band in sums]).reshape(shape) for name in self.rule.sums}
        return {"reasons": state.reasons.reshape(shape), "saturated": state.saturated.reshape(shape)} | made

    def unpack(self, planes: Mapping[str, Array], tile: Window) -> StackState:
        assert isinstance(self.rule, StreamingRule)
        flat = {name: np.ascontiguousarray(values).reshape(self._bands, -1) for name, values in planes.items()}
        sums = [self.rule.unpack({name: flat[name][band] for name in self.rule.sums}) for band in range(self._bands)]
        return StackState(flat["reasons"], flat["saturated"], sums)

    def finish(self, state: StackState, out: Patch) -> None:
        for band, result in enumerate(self._results(state)):
            reasons, saturated = state.reasons[band], state.saturated[band]
            flags = np.zeros(len(reasons), np.uint16)
            uncovered = result.coverage == 0
            flags[uncovered] = reasons[uncovered] | np.uint16(Flag.NO_DATA)
            flags[saturated > SATURATED_SHARE * result.coverage] |= np.uint16(Flag.SATURATED)
            made = {
                "image": result.value, "noise": result.noise, "count": result.count, "weight": result.weight,
                "coverage": result.coverage, "flags": flags,
            }  # fmt: skip
            for name in out:
                target = by_band(out[name])[band]
                target[...] = made[name].reshape(target.shape)

    def _results(self, state: StackState) -> list[Collapsed]:
        if isinstance(self.rule, StreamingRule):
            return [self.rule.finish(sums) for sums in state.sums]
        assert isinstance(self.rule, WholeTimeRule)
        missing = state.missing if state.some_missing else state.missing[..., :0]
        return [self.rule.collapse(self._samples(state.values[b], missing[b], b)) for b in range(self._bands)]

    def _columns(self, ranks: slice = slice(None)) -> dict[str, Array]:
        columns = self.parent.grid.columns
        assert columns is not None
        return {name: column[self._order][ranks] for name, column in columns.items()}

    def _weights(self, band: int) -> Array | None:
        if self.weights is None:
            return None
        weights = self.weights if self.weights.ndim == 1 else self.weights[:, min(band, self.weights.shape[1] - 1)]
        return np.ascontiguousarray(weights[self._order], np.float64)

    def _samples(self, values: Array, missing: Array, band: int, ranks: slice = slice(None)) -> Samples:
        weights = self._weights(band)
        units = self.parent.planes[self.plane].units
        return Samples(values, missing, None if weights is None else weights[ranks], self._columns(ranks), units)

    def _taken(self, patch: Patch, state: StackState) -> tuple[Array, Array]:
        """Samples (frames, band, pixels) of a run of frames, which are missing; marks collect flags and saturation."""
        shape = (len(patch.window.frames), self._bands, len(patch.window.y) * len(patch.window.x))
        values = patch[self.plane].reshape(shape)
        if values.dtype != self._dtype:
            values = values.astype(self._dtype)
        missing = np.empty((*shape[:2], 0), np.bool_)
        flags = patch["flags"].reshape(shape) if "flags" in patch else None
        if flags is not None and not flags.any():
            flags = None
        if flags is not None and self._dtype == np.float32:
            blank(values.reshape(-1), flags.reshape(-1), UNUSABLE)
        if flags is not None:
            state.reasons |= np.bitwise_or.reduce(flags, axis=0)
            if (state.reasons & _SATURATED).any():
                state.saturated += ((flags & _SATURATED) != 0).sum(axis=0, dtype=np.uint16)
            if self._dtype == np.uint16:
                missing = (flags & np.uint16(UNUSABLE)) != 0
        return values, missing

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        if not window.pixels:
            return 0
        rows, columns = self._shape(window)
        y, x = Span(0, min(rows, len(window.y))), Span(0, min(columns, len(window.x)))
        alive = 2 if self.folds and self.parent.grid.n_frames > BLOCK_RANKS else 1
        most = max(len(span) for span, _ in self._runs(y, x))
        bunch = 2 * BUNCH_BYTES + 16 * 2**10 * self.parent.grid.n_frames // 64
        return alive * len(y) * len(x) * self._pixel_bytes + self._group_bytes(most, y, x) + bunch

    def _group_bytes(self, frames: int, y: Span, x: Span) -> int:
        """Copies made of a run of frames: another dtype, the mask, the order."""
        pixels = frames * self._bands * len(y) * len(x)
        other = self.parent.planes[self.plane].dtype != self._dtype
        return pixels * (self._dtype.itemsize * (other + self.rule.streams) + 3 * ("flags" in self.parent.planes))


def _ground_pixels(producer: Producer, window: Window, planes: Collection[str]) -> int:
    """Pixels of the leaves that a window touches; what is held (without time) costs nothing."""
    if not producer.grid.timed:
        return 0
    asks = list(producer.inputs(window, frozenset(planes)))
    if not producer.parents:
        return window.pixels
    return sum(_ground_pixels(ask.parent, ask.window, ask.planes) for ask in asks)
