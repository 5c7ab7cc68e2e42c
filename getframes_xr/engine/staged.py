"""A chain of stages over a producer; a request walks it backwards and runs only what is needed.

From the last stage to the first: a stage that writes none of the wanted planes is left out; the others turn "wanted
planes, window" into "planes they read, window they must see". Consecutive PIXEL stages run together, strip by strip of
rows that stay in cache. ``flags`` that nobody made before start at zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import CHUNK_PIXELS, Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every, some
from getframes_xr.engine.history import history_of, run_history
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.stage import HistoryStage, Place, Scope, Stage
from getframes_xr.engine.whereabouts import tell, where

STRIP_PIXELS = 1 << 17  # 0.5 MB a plane in float32: a handful of planes stay in L2


@dataclass(frozen=True, eq=False)
class Staged(Producer):
    """``stages`` in order over ``parent``; ``key`` and ``fixed_key`` feed the random numbers of the place.

    Raises
    ------
    DataError : a stage reads a plane nobody made, or needs a per-frame column that is not there
    """

    parent: Producer
    stages: tuple[Stage, ...]
    key: tuple[int, int] = (0, 0)
    fixed_key: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for stage, before in zip(self.stages, self._planes_before, strict=False):
            missing = [name for name in stage.reads if name not in before and name != "flags"]
            if missing:
                raise DataError(
                    f"stage {stage.kind!r} reads {', '.join(missing)}, but before it there is only "  # type: ignore[attr-defined]
                    f"{', '.join(before)}; put the stage that makes it earlier in the chain"
                )
            for column in stage.needs:
                if column not in (self.grid.columns or {}):
                    raise DataError(f"stage {stage.kind!r} needs the per-frame coordinate {column!r}")  # type: ignore[attr-defined]

    @cached_property
    def grid(self) -> Grid:
        columns = dict(self.parent.grid.columns or {})
        for stage in self.stages:
            for name, value in stage.columns_out().items():
                columns[name] = np.full(self.parent.grid.n_frames, value)
        return self.parent.grid.replace(columns=columns) if self.parent.grid.timed else self.parent.grid

    @cached_property
    def _planes_before(self) -> list[Mapping[str, Plane]]:
        """Planes before each stage; the last entry holds those after all of them."""
        chain: list[Mapping[str, Plane]] = [dict(self.parent.planes)]
        for stage in self.stages:
            chain.append({**chain[-1], **stage.planes_out(chain[-1])})
        return chain

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self._planes_before[-1]

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        """Which of the stages of its class each one is."""
        return tuple(
            sum(type(other) is type(stage) for other in self.stages[:at]) for at, stage in enumerate(self.stages)
        )

    def _place(self, at: int, window: Window) -> Place:
        return Place(self.grid, window, self.key, self.fixed_key, self._numbers[at])

    def _needs(self, at: int, wanted: frozenset[str]) -> frozenset[str] | None:
        """Planes needed before stage ``at``; None where the stage may be left out."""
        stage = self.stages[at]
        if not wanted & set(stage.writes):
            return None
        return (wanted - set(stage.writes)) | set(stage.reads)

    def _pixel_run(self, stop: int, wanted: frozenset[str]) -> tuple[list[int], int, frozenset[str]]:
        """The PIXEL stages that end at ``stop``: which to run, where they begin, what they need."""
        run: list[int] = []
        at = stop
        while at > 0 and (self.stages[at - 1].scope is Scope.PIXEL or self._needs(at - 1, wanted) is None):
            needs = self._needs(at - 1, wanted)
            if needs is not None:
                run.insert(0, at - 1)
                wanted = needs
            at -= 1
        return run, at, wanted

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield from self._asks(len(self.stages), window, planes, few)

    def _asks(self, stop: int, window: Window, wanted: frozenset[str], few: Few) -> Iterator[Ask]:
        """What the first ``stop`` stages need of the parent, in the order in which ``_after`` takes it."""
        run, at, needed = self._pixel_run(stop, wanted)
        if run or at != stop:
            yield from self._asks(at, window, needed, few)
        elif stop == 0:
            made = wanted & set(self.parent.planes)
            if made:
                yield Ask(self.parent, window, made)
        else:
            stage, needs = self.stages[stop - 1], self._needs(stop - 1, wanted)
            assert needs is not None
            if isinstance(stage, HistoryStage):
                for frame in few([number for _, frames in history_of(stage, window) for number in frames]):
                    yield from self._asks(stop - 1, window.with_frames(Span(frame, frame + 1)), needs, few)
            else:
                yield from self._asks(stop - 1, self._seen(stage, window), needs, few)

    def _seen(self, stage: Stage, window: Window) -> Window:
        """The window that a stage must see for the window it is asked for."""
        return stage.footprint(window, self.grid).clip(self.grid.window)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        return self._after(len(self.stages), window, planes, given)

    def _after(self, stop: int, window: Window, wanted: frozenset[str], given: Given) -> Patch:
        """The wanted planes as they are after the first ``stop`` stages."""
        run, at, needed = self._pixel_run(stop, wanted)
        if run or at != stop:
            patch = self._after(at, window, needed, given)
            return self._strips(run, patch, wanted) if run else patch
        if stop == 0:
            return self._from_parent(window, wanted, given)
        at = stop - 1
        stage, needs = self.stages[at], self._needs(stop - 1, wanted)
        assert needs is not None
        if isinstance(stage, HistoryStage):
            return run_history(
                stage,
                window,
                {name: self._planes_before[stop][name] for name in sorted(wanted)},
                lambda frame: self._after(at, frame, needs, given),
                lambda frame: self._place(at, frame),
            )
        grown = self._seen(stage, window)
        patch = self._applied(stage, self._after(at, grown, needs, given), self._place(at, grown))
        return patch.only(wanted).crop(window)

    @staticmethod
    def _applied(stage: Stage, patch: Patch, place: Place) -> Patch:
        """The stage's work; what goes wrong in it is told with the stage's name and the strip it was at."""
        try:
            return stage.apply(patch, place)
        except Exception as error:
            tell(error, where(f"stage {stage.kind!r}", place.grid, place.window))  # type: ignore[attr-defined]
            raise

    def _from_parent(self, window: Window, wanted: frozenset[str], given: Given) -> Patch:
        made = wanted & set(self.parent.planes)
        patch = given.take().at(window) if made else Patch(window, {}, self.grid.timed)
        if "flags" in wanted - made:
            patch["flags"] = np.zeros(self.grid.shape(window), PLANES["flags"].dtype)
        return patch

    def _strip_shape(self, window: Window) -> tuple[int, int]:
        """Frames and rows of one strip."""
        width = max(1, len(window.x) * len(self.grid.bands or (1,)))
        rows = max(1, min(len(window.y), STRIP_PIXELS // width))
        frames = max(1, STRIP_PIXELS // (rows * width)) if rows == len(window.y) else 1
        return frames, rows

    def _strips(self, run: list[int], patch: Patch, wanted: frozenset[str]) -> Patch:
        window, shape = patch.window, self.grid.shape(patch.window)
        after = self._planes_before[run[-1] + 1]
        written = sorted(wanted & {name for at in run for name in self.stages[at].writes})
        out: dict[str, Array] = {name: patch[name] for name in wanted - set(written)}
        for name in written:
            reuse = name in patch and patch[name].dtype == after[name].dtype
            out[name] = patch[name] if reuse else np.empty(shape, after[name].dtype)
        result = Patch(window, out, patch.timed)
        places = [self._place(at, window) for at in run]
        n_frames, n_rows = self._strip_shape(window)
        for frames in window.frames.pieces(n_frames):
            for rows in window.y.pieces(n_rows):
                strip, target = patch.strip(frames, rows), result.strip(frames, rows)
                for name in written:
                    if name in patch and out[name] is patch[name]:
                        target[name] = strip[name]
                for at, place in zip(run, places, strict=True):
                    strip = self._applied(self.stages[at], strip, place.strip(frames, rows))
                for name in written:
                    if strip[name] is not target[name]:
                        target[name][...] = strip[name]
        return result

    def select(self, positions: Array) -> Producer:
        if any(isinstance(stage, HistoryStage) for stage in self.stages):
            return super().select(positions)  # what a frame remembers goes by its place among all
        return dataclasses.replace(self, parent=self.parent.select(positions))

    def fixed_map_bytes(self) -> int:
        return sum(stage.cached_bytes(self.grid) for stage in self.stages)

    @property
    def preferred_chunks(self) -> tuple[int, int, int] | None:
        periods = [stage.period for stage in self.stages if isinstance(stage, HistoryStage)]
        if not periods:
            return self.parent.preferred_chunks
        side = max(64, int((CHUNK_PIXELS / max(periods)) ** 0.5) // 64 * 64)
        return max(periods), side, side

    @property
    def gathers(self) -> bool:
        """Without a memory of earlier frames the parent's patch is all there is before the work."""
        return not any(isinstance(stage, HistoryStage) for stage in self.stages)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        asked = max((ask.nbytes for ask in self.inputs(window, planes, some)), default=0)
        work = self._work(len(self.stages), window, planes)
        return max(0, work - asked - self.bytes_of(window, planes))

    def _bytes(self, stop: int, window: Window, names: Collection[str]) -> int:
        pixels = int(np.prod(self.grid.shape(window)))
        known = self._planes_before[stop]
        return sum(pixels * known.get(name, PLANES["flags"]).dtype.itemsize for name in names)

    def _work(self, stop: int, window: Window, wanted: frozenset[str]) -> int:
        """Bytes at the worst moment of the first ``stop`` stages, from when the parent has given what they need."""
        run, at, needed = self._pixel_run(stop, wanted)
        if run or at != stop:
            frames, rows = self._strip_shape(window)
            strip = Window(Span(0, frames), Span(0, rows), window.x)
            scratch = max((self.stages[i].peak_bytes(strip, self._planes_before[i]) for i in run), default=0)
            strip_planes = {name for i in run for name in self.stages[i].writes}
            scratch += self._bytes(stop, strip, strip_planes) + 2**16
            held = self._bytes(at, window, needed)
            fresh = 0
            for name in wanted & strip_planes:
                before = self._planes_before[at].get(name)
                if not (
                    name in needed and before is not None and before.dtype == self._planes_before[stop][name].dtype
                ):
                    fresh += self._bytes(stop, window, (name,))
            return max(self._work(at, window, needed), held + fresh + (scratch if run else 0))
        if stop == 0:
            return self._bytes(0, window, wanted)
        at = stop - 1
        stage, needs = self.stages[at], self._needs(stop - 1, wanted)
        assert needs is not None
        if isinstance(stage, HistoryStage):
            one = window.with_frames(Span(0, 1))
            frame = self._work(at, one, needs) + self._bytes(stop, one, wanted)
            scratch = stage.peak_bytes(one, self._planes_before[at]) + stage.state_bytes(one)
            return self._bytes(stop, window, wanted) + frame + scratch
        grown = self._seen(stage, window)
        here = self._bytes(at, grown, needs) + stage.peak_bytes(grown, self._planes_before[at])
        out = self._bytes(stop, grown, set(stage.writes)) + self._bytes(stop, window, wanted)
        return max(self._work(at, grown, needs), here + out)


def staged(parent: Producer, *stages: Stage, **keys: Any) -> Producer:
    """``Staged`` over ``parent``; an already staged parent with the same keys is simply made longer."""
    if isinstance(parent, Staged) and not keys and parent.key == (0, 0):
        return Staged(parent.parent, parent.stages + stages)
    return Staged(parent, stages, **keys)
