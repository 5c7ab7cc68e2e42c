"""The forecast of a run: its windows, its threads, and the memory of the process at its worst moment.

    forecast = base + Held + caches + threads x peak_bytes(window) + result        [resident bytes of one process]

Producers say what a window costs them (``peak_bytes``, scratch included); ``choose`` picks windows that fit the budget
and read little twice, then fewer threads, and refuses with budget, forecast and the knob to turn where nothing fits.
Held products are made first, in a phase of their own. Allocator and interpreter take up to 16 MiB more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from getframes_xr.core.errors import PlanError
from getframes_xr.core.window import CHUNK_PIXELS, Span, Window
from getframes_xr.engine.ask import Ask, some
from getframes_xr.engine.held import Held, held_below
from getframes_xr.engine.producer import Producer
from getframes_xr.face.budget import MIB, Budget, budget, text_of_bytes
from getframes_xr.face.graph import chunks_of

SLACK: Final = 16 * MIB  # the allocator's arenas and the interpreter's objects
MOST_MAPS: Final = 256 * MIB  # the cache of fixed maps holds no more
READ_ALONG: Final = 0.1  # cost of a pixel that is decoded and not used, in pixels that are
FEWEST_ROWS: Final = 64
ROOMY: Final = 1.3  # how much less a window beyond the pieces a producer works in must read, to be worth its memory
MANY: Final = 8  # tasks per worker from which on smaller ones do not help
Tile = tuple[int, int, int]


@dataclass(frozen=True)
class Forecast:
    """Resident bytes of the process at the worst moment of a run, by what takes them."""

    base: int
    held: int
    caches: int
    threads: int
    per_task: int
    result: int = 0
    held_phase: int = 0  # peak above base while the Held products are made

    @property
    def above_base(self) -> int:
        run = self.held + self.result + self.threads * self.per_task
        return max(run, self.held_phase) + self.caches + SLACK

    @property
    def peak(self) -> int:
        return self.base + self.above_base


@dataclass(frozen=True)
class Choice:
    """The windows of a run: their shape (frames, rows, columns), the threads, what they cost."""

    tile: Tile
    forecast: Forecast
    amplification: float


def leaf_asks(producer: Producer, window: Window, planes: Collection[str]) -> Iterator[tuple[Ask, float]]:
    """What a window asks of the producers at the ground, not through a Held: some of many alike, with their number.

    Of each producer the Asks of one parent are looked at in ``some``; each stands for so many of them as there are.
    """
    if isinstance(producer, Held) or not window.pixels:
        return
    if not producer.parents:
        yield Ask(producer, window, planes), 1.0
        return
    wanted = frozenset(planes)
    groups: dict[tuple[int, frozenset[str]], list[Ask]] = {}
    for ask in producer.inputs(window, wanted):
        groups.setdefault((id(ask.parent), frozenset(ask.planes)), []).append(ask)
    for asks in groups.values():
        looked_at = some(asks)
        scale = len(asks) / len(looked_at)
        for ask in looked_at:
            for found, number in leaf_asks(ask.parent, ask.window, ask.planes):
                yield found, scale * number


def read_bytes(producer: Producer, window: Window, planes: Collection[str]) -> int:
    """Bytes that a window reads from files, before compression (an estimate where there are many Asks)."""
    total = 0.0
    for ask, number in leaf_asks(producer, window, planes):
        total += number * sum(read.values for read in ask.parent.reads(ask.window, ask.planes))
    return int(total)


def asked_pixels(producer: Producer, window: Window, planes: Collection[str], rest: float = 1.0) -> float:
    """Pixels at the ground that a window reads; ``rest`` weighs those of stored chunks that are only read along."""
    total = 0.0
    for ask, number in leaf_asks(producer, window, planes):
        read, size = sum(item.values for item in ask.parent.reads(ask.window, ask.planes)), ask.nbytes
        along = read / size - 1.0 if read and size else 0.0
        total += number * ask.window.pixels * (1.0 + rest * along)
    return total


def held_bytes(producer: Producer) -> int:
    """Bytes of the Held products below, once per process."""
    return sum(item.held_bytes() + held_bytes(item.parent) for item in held_below(producer))


def _held_phase(producer: Producer, threads: int) -> int:
    """Bytes above base at the worst moment while the Held products are made."""
    worst, there = 0, 0
    for item in held_below(producer):
        parent = item.parent
        chunk = chunks_of(item)
        shape = [sizes[0] for sizes in chunk]
        tile = (shape[0] if parent.grid.timed else 1, shape[-2], shape[-1])
        tasks = int(np.prod([len(sizes) for sizes in chunk]))
        one = parent.peak_bytes(first_window(parent.grid.window, tile), tuple(parent.planes))
        own = item.held_bytes() + held_bytes(parent)
        worst = max(worst, there + _held_phase(parent, threads), there + own + min(threads, tasks) * one)
        there += own
    return worst


def cached_bytes(producer: Producer) -> int:
    """Bytes that producers and stages keep in bounded caches of the process (fixed maps, decoded files)."""
    items = list(producer.walk())
    maps = sum(item.fixed_map_bytes() for item in items)
    return sum(item.cached_bytes() for item in items) + min(maps, MOST_MAPS)


def first_window(outer: Window, tile: Tile) -> Window:
    """A window of the tile's shape in the middle of ``outer``, at a multiple of the tile."""

    def middle(span: Span, length: int) -> Span:
        start = span.start + (len(span) // 2) // max(1, length) * length
        return Span(start, start + length).clip(span) if len(span) > length else span

    frames, rows, columns = tile
    return Window(middle(outer.frames, frames), middle(outer.y, rows), middle(outer.x, columns))


def tiles_of(outer: Window, tile: Tile) -> Iterator[Window]:
    """The windows of a run, in order."""
    for frames in outer.frames.pieces(tile[0]):
        for rows in outer.y.pieces(tile[1]):
            for columns in outer.x.pieces(tile[2]):
                yield Window(frames, rows, columns)


def _cut(length: int, parts: int, quantum: int) -> int:
    """A part of a length, rounded up to the quantum."""
    part = -(-length // parts)
    return min(length, -(-part // quantum) * quantum)


def _candidates(outer: Window, preferred: Tile | None, quantum: int) -> Iterator[list[Tile]]:
    """Shapes of windows by falling size; those of one size together."""
    n_frames, rows, columns = outer.shape
    together = max(1, preferred[0]) if preferred is not None else 1  # an anchor group is made in one go
    frames = n_frames
    while frames > together:
        if frames * rows * columns <= CHUNK_PIXELS:
            yield [(frames, rows, columns)]
        frames = max(together, frames // 2)
    last: set[Tile] = set()
    parts, most = 1, 2 * -(-rows // quantum) * -(-columns // quantum)
    while parts <= most:
        level = {
            (frames, _cut(rows, parts, quantum), columns),
            (frames, rows, _cut(columns, parts, quantum)),
            (frames, _cut(rows, round(parts**0.5), quantum), _cut(columns, -(-parts // round(parts**0.5)), quantum)),
        }
        if level != last:
            yield sorted(level, key=lambda tile: (-tile[1] * tile[2], -tile[2]))
        last, parts = level, 2 * parts


def choose(
    producer: Producer,
    planes: Collection[str],
    outer: Window | None = None,
    *,
    within: Budget | None = None,
    quantum: int = FEWEST_ROWS,
    scratch: int = 0,
    scratch_per_pixel: int = 0,
    collected: bool = False,
) -> Choice:
    """The windows and threads of a run that fit the budget.

    Parameters
    ----------
    producer, planes : what is made
    outer : what one task makes in several windows (a shard); by default each window of the whole is a task
    within : the budget; by default the one that holds now
    quantum : windows are cut at multiples of so many rows and columns
    scratch, scratch_per_pixel : bytes of a task besides what the producer needs (encoding, writing)
    collected : the result stays in memory

    Raises
    ------
    PlanError : nothing fits; names the budget, the forecast and the knob to turn
    """
    within = budget() if within is None else within
    cut, outer = outer is None, producer.grid.window if outer is None else outer
    known = {
        "base": within.base,
        "held": held_bytes(producer),
        "caches": cached_bytes(producer),
        "result": producer.bytes_of(producer.grid.window, planes) if collected and within.processes == 1 else 0,
    }
    phases: dict[int, int] = {}
    smallest: Choice | None = None
    fitting: list[tuple[float, Choice]] = []
    pieces = producer.pieces
    worked = outer.pixels if pieces is None else pieces[0] * pieces[1]
    for level in _candidates(outer, producer.preferred_chunks, quantum):
        enough = False
        for tile in level:
            window = first_window(outer, tile)
            per_task = producer.peak_bytes(window, planes) + scratch + scratch_per_pixel * window.pixels
            room = within.above_base - SLACK - known["held"] - known["caches"] - known["result"]
            threads = max(within.fewest, min(within.threads, int(room // max(1, per_task))))
            if threads not in phases:
                phases[threads] = _held_phase(producer, threads)
            forecast = Forecast(threads=threads, per_task=per_task, held_phase=phases[threads], **known)
            again = asked_pixels(producer, window, planes, READ_ALONG) / max(1, window.pixels)
            choice = Choice(tile, forecast, again)
            if smallest is None or forecast.peak <= smallest.forecast.peak:
                smallest = choice
            if forecast.peak > within.limit:
                continue
            workers = within.processes * threads
            tasks = count_tasks(outer.shape, tile) if cut else MANY * workers
            large, roomy = window.pixels > CHUNK_PIXELS, window.pixels > worked
            idle = 1 + 0.5 * workers / tasks  # at the end some wait for the last
            extra = (1.1 if large else 1.0) * (ROOMY if roomy else 1.0)
            fitting.append((again * idle / workers * (1 + 2**14 / window.pixels) * extra, choice))
            enough |= not (large or roomy) and threads == within.threads and tasks >= MANY * workers
        if enough:
            break
    if fitting:
        return min(fitting, key=lambda item: item[0])[1]
    assert smallest is not None
    raise PlanError(_refusal(producer, planes, outer, within, smallest))


def count_tasks(shape: Tile, tile: Tile) -> int:
    return int(np.prod([-(-length // part) for length, part in zip(shape, tile, strict=True)]))


def dominating(producer: Producer, window: Window, planes: Collection[str]) -> Producer:
    """The producer that takes most of a window's peak: followed upwards while one parent takes more than half."""
    item, asked, wanted = producer, window, frozenset(planes)
    while item.parents and not isinstance(item, Held):
        whole = item.peak_bytes(asked, wanted)
        asks = [ask for ask in item.inputs(asked, wanted, some) if not isinstance(ask.parent, Held)]
        costs = [(ask.parent.peak_bytes(ask.window, ask.planes), ask) for ask in asks]
        most = max(costs, key=lambda cost: cost[0], default=None)
        if most is None or not whole < 2 * most[0] <= 2 * whole:
            return item
        item, asked, wanted = most[1].parent, most[1].window, frozenset(most[1].planes)
    return item


def knob_of(forecast: Forecast, within: Budget) -> str:
    least = text_of_bytes(-(-forecast.peak // (32 * MIB)) * 32 * MIB)
    if within.where != "this process":
        fewer = "fewer threads per worker, or " if within.threads > 1 else ""
        return f"give the workers {fewer}a limit of {text_of_bytes(forecast.peak / 0.6)} or more"
    if forecast.held + forecast.held_phase > forecast.threads * forecast.per_task + forecast.result:
        return f'crop the frames before the masters are made, or memory="{least}"'
    if forecast.result > forecast.threads * forecast.per_task:
        return f'save_frames(...) instead of holding the result, or memory="{least}"'
    return f'memory="{least}"'


def _refusal(producer: Producer, planes: Collection[str], outer: Window, within: Budget, smallest: Choice) -> str:
    forecast = smallest.forecast
    most = dominating(producer, first_window(outer, smallest.tile), planes)
    return (
        f"the budget of {within.where} is {text_of_bytes(within.limit)}, the forecast at least "
        f"{text_of_bytes(forecast.peak)} ({text_of_bytes(forecast.base)} of it before work begins; "
        f"{type(most).__name__} takes most); {knob_of(forecast, within)}"
    )
