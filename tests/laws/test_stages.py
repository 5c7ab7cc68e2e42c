"""Laws of stages, walked over the registry: a new stage is tested as soon as its file exists."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import getframes_xr.detector as detector_room
import getframes_xr.reduce as reduce_room
from getframes_xr.core.errors import OptionError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import COLUMNS, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.engine.stage import STAGES, HistoryStage, Scope, Stage
from getframes_xr.engine.staged import Staged
from tests.laws.rooms import import_all
from tests.strategies import pairs

import_all(detector_room)
import_all(reduce_room)

FRAMES, ROWS, COLUMNS_PX = 5, 17, 22
TOP, LEFT = 6, 10  # absolute origin: even, so a CFA stays what it is
CASES = [(kind, n) for kind in STAGES for n in range(len(STAGES[kind].examples()))]
PINNED = Path(__file__).parents[1] / "streams.txt"


def grid(cfa: str | None = "RGGB", larger: int = 1) -> Grid:
    columns: dict[str, Any] = {
        "frame": np.arange(FRAMES),
        "start": np.datetime64("2026-01-01", "ns") + np.arange(FRAMES) * np.timedelta64(21, "s"),
        "exposure_s": np.full(FRAMES, 20.0),
        "group": np.zeros(FRAMES, np.int64),
    }
    for name in ("gain_e_per_adu", "temperature_c", "transparency", "airmass"):
        columns.setdefault(name, np.full(FRAMES, 1.5))
    assert set(columns) <= set(COLUMNS)
    return Grid(Span(TOP, TOP + ROWS * larger), Span(LEFT, LEFT + COLUMNS_PX * larger), columns, cfa=cfa)


def example_values(name: str, plane: Plane, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(sum(map(ord, name)))
    if plane.dtype.kind == "f":
        values = random.gamma(0.7, 4000.0, shape)
        values[..., 5, 7] = 90_000.0
        return values.astype(plane.dtype)
    if name == "flags":
        return np.zeros(shape, plane.dtype)
    return random.integers(0, 4000, shape).astype(plane.dtype)


def chain(stage: Stage, larger: int = 1) -> Staged:
    planes = stage.example_planes()
    shape = (FRAMES, ROWS * larger, COLUMNS_PX * larger)
    arrays = {name: example_values(name, plane, shape) for name, plane in planes.items()}
    return Staged(ArrayFrames(grid(larger=larger), arrays), (stage,), key=(3, 5), fixed_key=(7, 9))


def example(case: tuple[str, int]) -> Stage:
    return STAGES[case[0]].examples()[case[1]]


def identical(one: Patch, two: Patch) -> bool:
    return all(one[name].tobytes() == two[name].tobytes() and one[name].dtype == two[name].dtype for name in one)


def test_every_stage_has_a_case() -> None:
    assert len(STAGES) >= 12
    assert all(stage.examples() for stage in STAGES.values())


@pytest.mark.parametrize("case", CASES, ids=str)
@given(data=st.data())
@settings(max_examples=12)
def test_a_window_is_the_crop_of_any_window_around_it(case: tuple[str, int], data: st.DataObject) -> None:
    producer = chain(example(case))
    planes = set(example(case).writes)
    large, small = data.draw(pairs(producer.grid.window))
    assert identical(producer.produce(small, planes), producer.produce(large, planes).crop(small))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_written_planes_are_as_declared(case: tuple[str, int]) -> None:
    producer = chain(example(case))
    patch = producer.produce(producer.grid.window, set(example(case).writes))
    for name in example(case).writes:
        assert patch[name].dtype == producer.planes[name].dtype
        assert patch[name].shape == producer.grid.window.shape
        if patch[name].dtype.kind == "f":
            assert np.isfinite(patch[name]).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_options_are_frozen_pickle_and_go_through_toml(case: tuple[str, int]) -> None:
    stage = example(case)
    with pytest.raises(Exception, match="frozen"):
        stage.kind = "other"  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(stage)) == stage
    again = type(stage).from_toml(stage.to_toml())
    assert again == stage and again.digest() == stage.digest()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_unknown_option_is_named(case: tuple[str, int]) -> None:
    stage = example(case)
    with pytest.raises(OptionError, match="no_such_option"):
        stage.replace(no_such_option=1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forecast_bytes_hold(case: tuple[str, int]) -> None:
    """numpy reports its buffers to tracemalloc: the peak of a produce stays under ``peak_bytes``."""
    stage = example(case)
    shape = (2, 256, 320)
    first = {k: v[:2] for k, v in grid().columns.items()}  # type: ignore[union-attr]
    place = Grid(Span(0, shape[1]), Span(0, shape[2]), first, cfa="RGGB")
    arrays = {name: example_values(name, plane, shape) for name, plane in stage.example_planes().items()}
    producer = Staged(ArrayFrames(place, arrays), (stage,), key=(3, 5), fixed_key=(7, 9))
    planes = set(stage.writes)
    producer.produce(place.window, planes)  # compile kernels, fill the cache of fixed maps
    tracemalloc.start()
    producer.produce(place.window, planes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= producer.peak_bytes(place.window, planes) + 2**18


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stage_that_conserves_charge_does(case: tuple[str, int]) -> None:
    stage = example(case)
    if not stage.conserves_charge:
        return
    producer = chain(stage)
    name = stage.writes[0]
    before = producer.parent.produce(producer.grid.window, {name})[name].sum(dtype=np.float64)
    after = producer.produce(producer.grid.window, {name})[name].sum(dtype=np.float64)
    assert after == pytest.approx(before, rel=1e-6)


def test_no_two_stages_share_a_stream_and_released_numbers_stay() -> None:
    streams = {stage.stream: kind for kind, stage in STAGES.items() if stage.stream is not None}
    drawing = [kind for kind, stage in STAGES.items() if stage.stream is not None]
    assert len(streams) == len(drawing)
    pinned = dict(line.split() for line in PINNED.read_text().splitlines() if line and not line.startswith("#"))
    for kind, number in pinned.items():
        assert STAGES[kind].stream == int(number), f"stage {kind}: renumbering a stream changes every image"
    assert set(drawing) <= set(pinned), "add the new stage's stream to tests/streams.txt"


def test_every_scope_is_proven_by_a_real_stage() -> None:
    scopes = {stage.scope for stage in STAGES.values()}
    assert {Scope.PIXEL, Scope.NEIGHBOURS, Scope.LINES, Scope.HISTORY} <= scopes
    assert any(issubclass(stage, HistoryStage) for stage in STAGES.values())


def depends_on_its_key(stage: Stage, larger: int) -> bool:
    producer = chain(stage, larger)
    other = Staged(producer.parent, producer.stages, key=(4, 5), fixed_key=(8, 9))
    one, two = (p.produce(p.grid.window, set(stage.writes)) for p in (producer, other))
    return not identical(one, two)


def test_a_stage_draws_other_numbers_for_another_key() -> None:
    for kind, cls in STAGES.items():
        if cls.stream is not None:  # rare events need a larger frame
            found = any(depends_on_its_key(stage, larger) for larger in (1, 6, 40) for stage in cls.examples())
            assert found, f"{kind} does not depend on its key"


def test_a_window_outside_the_grid_is_refused() -> None:
    producer = chain(STAGES["dark"].examples()[0])
    with pytest.raises(ValueError, match="leaves the grid"):
        producer.produce(Window(Span(0, 1), Span(0, 5), Span(0, 5)), {"expected_electrons"})
