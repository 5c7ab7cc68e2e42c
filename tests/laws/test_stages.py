"""Laws of stages, walked over the registry: a new stage is tested as soon as its file exists."""

from __future__ import annotations

from pathlib import Path

import pytest

import getframes_xr.detector as detector_room
import getframes_xr.reduce as reduce_room
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.stage import STAGES, HistoryStage, Scope, Stage
from tests.laws import kit, stages
from tests.laws.rooms import import_all

import_all(detector_room)
import_all(reduce_room)

CASES = [(kind, n) for kind in STAGES for n in range(len(STAGES[kind].examples()))]
PINNED = Path(__file__).parents[1] / "streams.txt"
CONSERVING = {"diffusion", "blooming", "parallel_cti", "serial_cti", "ipc"}

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_kind = pytest.mark.parametrize("kind", sorted(STAGES))


def example(case: tuple[str, int]) -> Stage:
    stage: Stage = STAGES[case[0]].examples()[case[1]]
    return stage


def drawing() -> list[str]:
    return [kind for kind, stage in STAGES.items() if stage.stream is not None]


def test_every_stage_has_a_case() -> None:
    assert len(STAGES) >= 27 and {kind for kind, _ in CASES} == set(STAGES)


@each_case
def test_a_window_is_the_crop_of_any_window_around_it(case: tuple[str, int]) -> None:
    kit.windows_agree(stages.chain(example(case)), example(case).writes)


@each_case
def test_what_was_asked_before_does_not_show(case: tuple[str, int]) -> None:
    kit.asked_again_agrees(stages.chain(example(case)), example(case).writes)


@each_case
def test_any_number_of_threads_gives_the_same_bytes(case: tuple[str, int]) -> None:
    kit.threads_agree(stages.chain(example(case)), example(case).writes)


@each_case
def test_frames_go_by_their_numbers(case: tuple[str, int]) -> None:
    stages.frames_go_by_number(example(case))


@each_case
def test_planes_are_as_declared(case: tuple[str, int]) -> None:
    stages.planes_are_as_declared(example(case))


@each_kind
def test_every_option_tells_in_the_token(kind: str) -> None:
    kit.every_option_tells(STAGES[kind].examples(), stages.chain)


@each_kind
def test_every_option_changes_what_is_made(kind: str) -> None:
    stages.every_option_works(STAGES[kind].examples())


def test_what_was_kept_of_other_options_does_not_show() -> None:
    stages.order_does_not_show(stage for cls in STAGES.values() for stage in cls.examples())


@each_case
def test_bytes_are_as_forecast(case: tuple[str, int]) -> None:
    stages.bytes_are_as_forecast(example(case))


def test_stages_that_move_charge_say_that_they_conserve_it() -> None:
    assert {kind for kind, stage in STAGES.items() if stage.conserves_charge} >= CONSERVING


@pytest.mark.parametrize("case", [case for case in CASES if STAGES[case[0]].conserves_charge], ids=str)
def test_a_stage_that_conserves_charge_does(case: tuple[str, int]) -> None:
    stages.charge_is_conserved(example(case))


def test_no_two_stages_share_a_stream_and_released_numbers_stay() -> None:
    streams = {STAGES[kind].stream: kind for kind in drawing()}
    assert len(streams) == len(drawing())
    pinned = dict(line.split() for line in PINNED.read_text().splitlines() if line and not line.startswith("#"))
    for kind, number in pinned.items():
        assert STAGES[kind].stream == int(number), f"stage {kind}: renumbering a stream changes every image"
    assert set(drawing()) <= set(pinned), "add the new stage's stream to tests/streams.txt"


@pytest.mark.parametrize("kind", drawing())
def test_draws_belong_to_the_key(kind: str) -> None:
    stages.draws_belong_to_the_key(STAGES[kind].examples())


@pytest.mark.parametrize("kind", drawing())
def test_two_stages_of_a_kind_in_one_chain_share_no_draws(kind: str) -> None:
    stages.two_of_a_kind_share_no_draws(STAGES[kind].examples())


def test_every_scope_is_proven_by_a_real_stage() -> None:
    assert {stage.scope for stage in STAGES.values()} == set(Scope)
    assert all((stage.scope is Scope.HISTORY) == issubclass(stage, HistoryStage) for stage in STAGES.values())


def test_a_window_outside_the_grid_is_refused() -> None:
    producer = stages.chain(STAGES["dark"].examples()[0])
    with pytest.raises(ValueError, match="leaves the grid"):
        producer.produce(Window(Span(0, 1), Span(0, 5), Span(0, 5)), {"expected_electrons"})
