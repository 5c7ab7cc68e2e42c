"""An error of a task says who failed at which frame, rows, columns and file: as attributes and as one readable line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import dask
import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import STOP, Given
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.engine.stage import STAGES, Place, Stage
from getframes_xr.engine.staged import Staged
from getframes_xr.engine.whereabouts import Whereabouts
from getframes_xr.face.lazy import lazy, run
from getframes_xr.face.tables import Column, per_frame

NUMBERS = np.array([17, 4, 60, 33])  # frame numbers are no positions
GRID = Grid(Span(100, 112), Span(-3, 9), {"frame": NUMBERS})
VALUES = np.arange(4 * 12 * 12, dtype=np.uint16).reshape(4, 12, 12)


def frames() -> ArrayFrames:
    return ArrayFrames(GRID, {"adu": VALUES}, {"adu": "adu"})


@dataclass(frozen=True, eq=False)
class Fails(ArrayFrames):
    """Divides by zero in one frame, an error that is not the package's own."""

    number: int = 60

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        numbers = self.grid.column("frame")[window.frames.start : window.frames.stop]
        if self.number in numbers:
            raise FloatingPointError("a pixel was divided by nothing")
        return super().make(window, planes, given)


SCHEDULERS = ["sync", "threads", "processes"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_error_of_any_kind_says_where_through_every_scheduler(scheduler: str) -> None:
    shown = lazy(Fails(GRID, {"adu": VALUES}, {"adu": "adu"}), chunks=(1, 6, 12))
    with dask.config.set(scheduler=scheduler, num_workers=2), pytest.raises(FloatingPointError) as caught:
        gx.stack(shown, reject=gx.reject.Mean()).compute() if scheduler == "sync" else shown.compute()
    place: Whereabouts = caught.value.place  # type: ignore[attr-defined]
    assert place.who == "Fails" and place.file is None
    if scheduler != "sync":
        assert place.frames == (60, 60) and place.rows in {(100, 105), (106, 111)} and place.columns == (-3, 8)
        rows = f"{place.rows[0]}..{place.rows[1]}"
        assert str(place) == f"in Fails: frame 60, rows {rows}, columns -3..8"
    assert caught.value.__notes__ == [str(place)]


class Breaks(Stage):
    """A stage that fails where a pixel is large."""

    kind: Literal["breaks"] = "breaks"
    after: ClassVar = None
    reads: ClassVar = ("adu",)
    writes: ClassVar = ("adu",)

    def apply(self, patch: Patch, place: Place) -> Patch:
        if (patch["adu"] > 400).any():
            raise ZeroDivisionError("nothing to divide by")
        return patch

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        return (cls(),)


STAGES._members.pop("breaks")  # only here: the laws walk the registry


def test_a_stage_is_named_with_its_frame() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Staged(frames(), (Breaks(),)).produce(GRID.window.with_frames(Span(2, 3)), ("adu",))
    assert str(caught.value.place) == "in stage 'breaks': frame 60, rows 100..111, columns -3..8"  # type: ignore[attr-defined]


def test_a_file_is_named(tmp_path: Path) -> None:
    opened = gx.open_frames(gx.save_fits_frames(lazy(frames()), tmp_path))
    path = tmp_path / str(opened["file"].values[2])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError) as caught:
        gx.calibrate(opened).isel(time=2, y=slice(3, 7)).gx.compute()
    place = caught.value.place  # type: ignore[attr-defined]
    assert place.who == "FitsFrames" and place.file == str(path)
    number = int(opened["frame"][2])
    first = int(opened["y"][3])
    where = f"frame {number}, rows {first}..{first + 3}, columns {int(opened['x'][0])}..{int(opened['x'][-1])}"
    assert caught.value.__notes__ == [f"in FitsFrames: {where} of {path}"]


def test_a_measurement_names_the_frames_it_was_at() -> None:
    table = per_frame(frames(), ("adu",), _refuses, {"n": Column("f8")})
    with pytest.raises(RuntimeError) as caught:
        table.compute(scheduler="sync")
    assert caught.value.place.who == "_refuses"  # type: ignore[attr-defined]
    assert caught.value.place.frames == (33, 33)  # type: ignore[attr-defined]


def _refuses(patch: Patch) -> dict[str, float]:
    if patch["adu"].max() >= VALUES[3].min():
        raise RuntimeError("too bright to measure")
    return {"n": 1.0}


def test_work_stops_at_its_next_ask_when_it_is_cancelled() -> None:
    made: list[Window] = []

    def sink(patch: Patch, window: Window) -> None:
        made.append(window)
        STOP.set()

    windows = [GRID.window.with_frames(Span(at, at + 1)) for at in range(4)]
    try:
        with dask.config.set(scheduler="sync"), pytest.raises(gx.GetframesError, match="cancelled"):
            run(Staged(frames(), ()), windows, ("adu",), sink)
    finally:
        STOP.clear()
    assert len(made) == 1
