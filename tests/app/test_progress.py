"""What a run says while it goes, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from getframes_xr.app.progress import PlainProgress, TerminalProgress, amounts, left_s, progress_on, size, span


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_are_few_and_say_how_long_it_will_take() -> None:
    lines: list[str] = []
    clock = Clock()
    shown = PlainProgress(lines.append, clock)
    shown({"event": "PhaseStarted", "phase": "stars"})
    for done in range(1, 61):
        clock.now = float(done)
        shown({"event": "Progress", "phase": "stars", "done": done, "total": 60, "unit": "frames"})
    shown({"event": "PhaseFinished", "phase": "stars", "seconds": 60.0})
    assert lines[0] == "stars: 5 of 60 frames, about 55 s left"
    assert lines[1] == "stars: 10 of 60 frames, about 50 s left"
    assert lines[-1] == "stars: done in 1 min 0 s"
    assert len(lines) == 60 // 5 + 1


EVENTS = (
    ({"event": "PhaseSkipped", "phase": "moves"}, "moves: kept from before"),
    ({"event": "Session", "lights": 70, "hours": 0.39, "camera": "S50"}, "session: 70 light frames, 0.39 h, S50"),
    (
        {
            "event": "FrameRejected",
            "frame": 3,
            "file": "/a/b_0003.fits",
            "reason": "elongated",
            "verdict": "shape: 0.5",
        },
        "frame 3 (b_0003.fits) is not used: shape: 0.5",
    ),
    ({"event": "Warning", "text": "2 files [are] duplicates"}, "warning: 2 files [are] duplicates"),
    ({"event": "Unheard"}, None),
)


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_every_event_has_its_line(event: dict[str, object], line: str | None) -> None:
    lines: list[str] = []
    PlainProgress(lines.append)(event)
    assert lines == ([line] if line else [])


@pytest.mark.parametrize("event", [event for event, line in EVENTS if line and "phase" not in event])
def test_a_terminal_shows_the_same_words(event: dict[str, object]) -> None:
    written = io.StringIO()
    with TerminalProgress(Console(file=written, force_terminal=True, width=120, no_color=True)) as shown:
        shown(event)
    lines: list[str] = []
    PlainProgress(lines.append)(event)
    assert lines[0] in written.getvalue()


def test_a_terminal_shows_a_bar_with_frames_bytes_and_time() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=140)
    with progress_on(console) as shown:
        assert isinstance(shown, TerminalProgress)
        shown({"event": "PhaseStarted", "phase": "save"})
        counts = {"bytes_done": 1.5e9, "bytes_total": 4e9}
        shown({"event": "Progress", "phase": "save", "done": 24, "total": 70, "unit": "frames", **counts})
        shown._bars.refresh()  # type: ignore[attr-defined]
        shown({"event": "PhaseFinished", "phase": "save", "seconds": 12})
    assert "24 of 70 frames, 1.5 GB of 4.0 GB" in written.getvalue()
    assert "12 s" in written.getvalue()
    assert isinstance(progress_on(Console(file=io.StringIO())), PlainProgress)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")],
)
def test_bytes_are_written_in_powers_of_a_thousand(count: float, text: str) -> None:
    assert size(count) == text


def test_times_and_amounts_are_written_for_people() -> None:
    assert [span(s) for s in (0.4, 59.4, 125, 3780)] == ["0 s", "59 s", "2 min 5 s", "1 h 3 min"]
    assert amounts({"done": 1.2e9, "total": 4e9, "unit": "bytes"}) == "1.2 GB of 4.0 GB"
    assert left_s(10.0, 0, 5) is None
    assert left_s(10.0, 2, 6) == 20.0
