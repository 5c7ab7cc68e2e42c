"""Laws of producers, walked over all classes: a class without a case in ``tests/laws/producers.py`` fails."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import getframes_xr
from getframes_xr.core.digest import code_version
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.ask import some
from getframes_xr.engine.held import Handed, Held, handed, held_below
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.reduction import Reduction
from getframes_xr.face.foreign import DaskFrames, foreign_below
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.splat.splat import splat
from tests.laws import producer_laws as laws
from tests.laws.producer_laws import asked_of, identical, whole
from tests.laws.producers import CASES, clean, moves_table, subclasses
from tests.laws.rooms import import_all
from tests.strategies import pairs

import_all(getframes_xr)

SMALL, LARGE = (6, 26, 34), (5, 288, 352)
FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    FOLDER[:] = [tmp_path_factory.mktemp("laws")]


def made(name: str, size: tuple[int, int, int] = SMALL) -> Producer:
    return built(name, size)


@cache
def built(name: str, size: tuple[int, int, int]) -> Producer:
    return CASES[name](FOLDER[0], size)


@cache
def blocks(name: str, size: tuple[int, int, int] = SMALL) -> Mapping[str, list[Patch]]:
    """What the graph hands to a task of this producer: its Held products and the blocks of foreign arrays."""
    producer = made(name, size)
    held = [*held_below(producer), *([producer] if isinstance(producer, Held) else [])]
    found = {item.token(): [item.parent.produce(item.grid.window, item.planes)] for item in held}
    for foreign in foreign_below(producer):
        found[foreign.token()] = [
            foreign.produce(w, foreign.planes) for _, w in foreign.blocks_under(foreign.grid.window)
        ]
    return found


def in_a_task(name: str, size: tuple[int, int, int] = SMALL) -> AbstractContextManager[None]:
    return handed(blocks(name, size))


each_case = pytest.mark.parametrize("name", sorted(CASES))


def test_every_class_of_producers_has_a_case() -> None:
    ours = {cls for cls in subclasses(Producer) if cls.__module__.startswith("getframes_xr.")}
    ours -= {Handed, Reduction}  # parents of others
    shown = {type(item) for name in CASES for item in made(name).walk()}
    assert not ours - shown, f"add a case to tests/laws/producers.py for {ours - shown}"
    named = {name.split("_")[0] for name in CASES}
    assert {cls.__name__ for cls in ours} <= named, "each class is the last of its chain in a case of its own name"
    assert all(type(made(name)).__name__ == name.split("_")[0] for name in CASES)


@each_case
@given(data=st.data())
@settings(max_examples=15)
def test_a_window_is_the_crop_of_any_window_around_it_and_planes_come_alone(name: str, data: st.DataObject) -> None:
    producer = made(name)
    large, small = data.draw(pairs(producer.grid.window))
    wanted = data.draw(st.sets(st.sampled_from(sorted(producer.planes)), min_size=1))
    with in_a_task(name):
        laws.windows(producer, large, small, wanted)


@each_case
def test_planes_are_as_declared(name: str) -> None:
    producer = made(name)
    with in_a_task(name):
        patch = whole(producer)
    assert set(patch) == set(producer.planes) and producer.planes
    assert patch.window == producer.grid.window and patch.timed == producer.grid.timed
    for plane, declared in producer.planes.items():
        assert isinstance(declared, Plane)
        assert patch[plane].dtype == declared.dtype
        assert patch[plane].shape == producer.grid.shape(producer.grid.window)
        assert len(producer.grid.dims) == patch[plane].ndim


@each_case
def test_values_vary_so_that_a_wrong_window_would_show(name: str) -> None:
    producer = made(name)
    if producer.grid.window.pixels == 1:
        return  # one number
    with in_a_task(name):
        patch = whole(producer)
    assert any(
        len(np.unique(values[np.isfinite(values)] if values.dtype.kind == "f" else values)) > 1
        for values in patch.planes.values()
    )


@each_case
def test_a_patch_belongs_to_the_task_that_asked_for_it(name: str) -> None:
    producer = made(name)
    with in_a_task(name):
        laws.ownership(producer)


@each_case
def test_outside_a_run_the_bytes_are_those_of_a_task_and_of_two_threads(name: str) -> None:
    producer = made(name)
    window = producer.grid.window.with_frames(Span(0, min(2, producer.grid.n_frames)))
    with in_a_task(name):
        expected = producer.produce(window, producer.planes)
    assert identical(producer.produce(window, producer.planes), expected)
    if not isinstance(producer, DaskFrames):
        laws.threads(producer, window, expected)


@each_case
def test_an_empty_window_gives_an_empty_patch(name: str) -> None:
    producer = made(name)
    outer = producer.grid.window
    nothing = Span(outer.y.start, outer.y.start)
    windows = [Window(outer.frames, nothing, outer.x), Window(outer.frames, outer.y, Span(outer.x.stop, outer.x.stop))]
    if producer.grid.timed:
        windows.append(Window(Span(1, 1), outer.y, outer.x))
    for window in windows:
        patch = producer.produce(window, producer.planes)
        assert {values.shape for values in patch.planes.values()} == {producer.grid.shape(window)}
        assert producer.peak_bytes(window, producer.planes) >= 0


@each_case
def test_a_window_outside_the_grid_and_an_unknown_plane_are_refused(name: str) -> None:
    producer = made(name)
    outer = producer.grid.window
    for window in (
        Window(outer.frames, outer.y.grow(1), outer.x),
        Window(outer.frames, outer.y, Span(outer.x.start - 1, outer.x.stop)),
        Window(Span(0, outer.frames.stop + 1), outer.y, outer.x),
    ):
        with pytest.raises(DataError, match="leaves the grid"):
            producer.produce(window, producer.planes)
    with pytest.raises(DataError, match=next(iter(producer.planes))):
        producer.produce(outer, ["no_such_plane"])


@each_case
def test_a_producer_is_frozen_pickles_and_stays_equal(name: str) -> None:
    producer = made(name)
    for known in dataclasses.fields(producer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(producer, known.name, None)
    again = pickle.loads(pickle.dumps(producer))
    assert again == producer and hash(again) == hash(producer) and again.token() == producer.token()
    assert again is not producer and again.grid == producer.grid
    with in_a_task(name):
        assert identical(whole(again), whole(producer))


def anew(producer: Producer) -> Producer:
    """The same recipe without any token kept from before."""
    return producer.with_parents(*map(anew, producer.parents))


TOKENS = """
import pickle, sys
import getframes_xr.core.digest as digesting
digesting.code_version = lambda: sys.argv[2]  # a source file saved in the meantime is not what is tested here
def anew(producer):
    return producer.with_parents(*map(anew, producer.parents))
for name, text in sorted(pickle.load(open(sys.argv[1], "rb")).items()):
    print(name, anew(pickle.loads(text)).token())
"""


def test_another_process_finds_the_same_tokens(tmp_path: Path) -> None:
    packed = {name: pickle.dumps(made(name)) for name in CASES}
    (tmp_path / "cases").write_bytes(pickle.dumps(packed))
    told = subprocess.run(
        [sys.executable, "-c", TOKENS, str(tmp_path / "cases"), code_version()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    theirs = dict(line.split() for line in told.splitlines())
    assert theirs == {name: anew(made(name)).token() for name in CASES}
    assert theirs == {name: made(name).token() for name in CASES}


NOT_PIXELS = {  # where a store lies, how it is cut and what a task is handed say nothing about the pixels
    "ZarrFrames": ("path", "layouts"),
    "SerFrames": ("path",),
    "DaskFrames": ("arrays", "planes", "chunks"),
}


@each_case
def test_every_field_decides_the_token(name: str) -> None:
    producer = made(name)
    laws.token(producer, NOT_PIXELS.get(type(producer).__name__, ()))


def test_recipes_that_differ_have_other_tokens() -> None:
    tokens = {item.token() for name in CASES for item in made(name).walk()}
    parts = {pickle.dumps((type(item).__qualname__, item.token())) for name in CASES for item in made(name).walk()}
    assert len(tokens) == len(parts)
    for name in CASES:
        assert made(name).token() != made(name, LARGE).token()


# --- what produce touches ------------------------------------------------------------------------------------------


LEAVES = {"ArrayFrames", "DaskFrames", "SceneFrames", "Illumination", "FitsFrames", "ZarrFrames", "SerFrames"}
FOLLOWED = [name for name in sorted(CASES) if name.split("_")[0] not in LEAVES]


@pytest.mark.parametrize("name", FOLLOWED)
@given(data=st.data())
@settings(max_examples=12)
def test_asks_made_are_the_asks_declared(name: str, data: st.DataObject) -> None:
    """What reaches the parents is what ``inputs`` says, all of it, in its order, once; a maybe may stay unasked."""
    producer = made(name)
    assert producer.parents, "a leaf: name it in LEAVES"
    window, _ = data.draw(pairs(producer.grid.window))
    wanted = frozenset(data.draw(st.sets(st.sampled_from(sorted(producer.planes)), min_size=1)))
    with nullcontext() if name.startswith("Held") else in_a_task(name):
        laws.asks(producer, window, wanted)


@pytest.mark.parametrize("name", FOLLOWED)
def test_only_the_engine_fetches(name: str) -> None:
    """A producer that asked a parent itself would meet one that refuses."""
    with in_a_task(name):
        laws.fetching(made(name))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_forecast_looks_at_a_bounded_number_of_asks(name: str) -> None:
    producer = made(name, LARGE)
    window, planes = producer.grid.window, frozenset(producer.planes)
    few = list(producer.inputs(window, planes, some))
    every_one = asked_of(producer.inputs(window, planes))
    assert len(few) <= 1000
    if len(few) < len(every_one):
        assert all(entry in every_one for entry in asked_of(few) if not name.startswith("ResidualBins"))


def test_a_forecast_of_three_thousand_frames_looks_at_few_asks() -> None:
    size = (3000, 4, 6)
    moves = moves_table(size).assign(transparency=("time", np.ones(3000)))
    splatted = as_producer(splat(lazy(clean(size)), moves, canvas="reference"))
    for producer in (*(CASES[name](FOLDER[0], size) for name in ("Selected_in_any_order", "Warped_union")), splatted):
        assert len(list(producer.inputs(producer.grid.window, frozenset(producer.planes), some))) <= 200


def test_a_small_window_touches_little() -> None:
    """Local cost: what one pixel of the middle needs of its leaves is a small part of them where nothing is global."""
    globally = {
        "FrameLevels",
        "Equalised",
        "FlatLevel",
        "CosmeticMap",
        "ExcessNoise",
        "CommonBins",
        "DetectorBins",
        "FrameLines",
        "Held",
    }
    for name in CASES:
        producer = made(name, LARGE)
        if name.split("_")[0] in globally or not producer.parents:
            continue
        outer = producer.grid.window
        y, x = (span.start + len(span) // 2 for span in (outer.y, outer.x))
        pixel = Window(Span(0, 1), Span(y, y + 1), Span(x, x + 1))
        for ask in producer.inputs(pixel, frozenset(producer.planes)):
            grid = ask.parent.grid
            if grid.y == Span(0, 2) and grid.x == Span(0, 2):
                continue  # the 2 x 2 levels of a flat
            assert len(ask.window.y) * len(ask.window.x) <= 0.05 * len(grid.y) * len(grid.x), name


# --- memory --------------------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("share", ["whole", "part"])
def test_forecast_bytes_hold_and_are_not_wild(name: str, share: str) -> None:
    """numpy tells tracemalloc of its buffers: real <= forecast <= 2 x real + 16 MiB (design 9)."""
    producer = made(name, LARGE)
    outer = producer.grid.window
    window = outer if share == "whole" else Window(
        Span(0, max(1, len(outer.frames) - 1)),
        Span(outer.y.start + len(outer.y) // 4, outer.y.stop),
        Span(outer.x.start, outer.x.stop - len(outer.x) // 3),
    )  # fmt: skip
    given_in = 0
    if isinstance(producer, DaskFrames):
        given_in = sum(producer.bytes_of(w, producer.planes) for _, w in producer.blocks_under(window))
    with in_a_task(name, LARGE):
        laws.memory(producer, window, given_in)
