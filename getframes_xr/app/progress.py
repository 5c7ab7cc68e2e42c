"""What a run says while it goes: a live line per phase on a terminal, plain lines elsewhere.

Both take the events of the workflows, mappings with ``event`` and facts (``PhaseStarted, PhaseFinished, PhaseSkipped,
Session, FrameRejected, Warning, Progress``), from any thread. Time left is what the done part took, scaled.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Event = Mapping[str, Any]
SILENCE_S = 5.0
"""plain lines about one phase come no closer than this"""


def size(count: float) -> str:
    """Bytes as people read them: ``1.5 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """A time as people read it: ``8 s``, ``2 min 5 s``, ``1 h 3 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def amounts(event: Event) -> str:
    """``24 of 70 frames``; ``1.2 of 4.0 GB`` for bytes; both where the event has both."""
    done, total, unit = event.get("done", 0), event.get("total", 0), str(event.get("unit", ""))
    text = f"{size(done)} of {size(total)}" if unit == "bytes" else f"{done:.0f} of {total:.0f} {unit}".strip()
    if event.get("bytes_total"):
        text += f", {size(event.get('bytes_done', 0))} of {size(event['bytes_total'])}"
    return text


def left_s(seconds: float, done: float, total: float) -> float | None:
    """Seconds left, None while it cannot be known."""
    return seconds * (total - done) / done if done > 0 and total >= done and seconds > 0 else None


class Progress(ABC):
    """Show the events of a run; use as a context manager and call with each event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def __call__(self, event: Event) -> None: ...


def said(event: Event) -> str | None:
    """The line for events that both kinds of progress print in the same words, None for others."""
    kind = event.get("event")
    if kind == "Session":
        return str(event.get("text") or _session(event))
    if kind == "FrameRejected":
        file = str(event.get("file") or "").rsplit("/", 1)[-1]
        name = f" ({file})" if file else ""
        return f"frame {event.get('frame')}{name} is not used: {event.get('verdict')}"
    if kind == "Warning":
        return f"warning: {event.get('text')}"
    return None


def _session(event: Event) -> str:
    count = event.get("lights")
    parts = [f"{count} light frame{'' if count == 1 else 's'}"] if isinstance(count, int) else []
    if isinstance(event.get("hours"), int | float):
        parts.append(f"{event['hours']:.2f} h")
    if event.get("camera"):
        parts.append(str(event["camera"]))
    return "session: " + (", ".join(parts) or "opened")


class PlainProgress(Progress):
    """One line when a phase ends, and one every few seconds while it lasts."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._started: dict[str, float] = {}
        self._spoke: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            line = said(event) or self._line(event)
            if line:
                self._write(line)

    def _line(self, event: Event) -> str | None:
        kind, phase, now = event.get("event"), str(event.get("phase", "")), self._clock()
        if kind == "PhaseStarted":
            self._started[phase] = self._spoke[phase] = now
        elif kind == "PhaseFinished":
            return f"{phase}: done in {span(float(event.get('seconds') or now - self._started.get(phase, now)))}"
        elif kind == "PhaseSkipped":
            return f"{phase}: kept from before"
        elif kind == "Progress":
            begun = self._started.setdefault(phase, now)
            if now - self._spoke.setdefault(phase, begun) < SILENCE_S:
                return None
            self._spoke[phase] = now
            left = left_s(now - begun, float(event.get("done", 0)), float(event.get("total", 0)))
            return f"{phase}: {amounts(event)}" + (f", about {span(left)} left" if left is not None else "")
        return None


class TerminalProgress(Progress):
    """A live line per running phase: bar, amounts, time left; finished phases stay above as plain lines."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[amounts]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bars = Bars(*columns, console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            line = said(event)
            if line is not None:
                style = "yellow" if event.get("event") in {"Warning", "FrameRejected"} else None
                self._bars.console.print(line, style=style, markup=False, highlight=False)
                return
            self._phase(event)

    def _phase(self, event: Event) -> None:
        kind, phase = event.get("event"), str(event.get("phase", ""))
        if kind in {"PhaseStarted", "Progress"} and phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=None, amounts="", left="")
            self._started[phase] = time.monotonic()
        if kind == "Progress":
            done, total = float(event.get("done", 0)), float(event.get("total", 0))
            left = left_s(time.monotonic() - self._started[phase], done, total)
            words = f"{span(left)} left" if left is not None else ""
            task = self._tasks[phase]
            self._bars.update(task, completed=done, total=total or None, amounts=amounts(event), left=words)
        elif kind in {"PhaseFinished", "PhaseSkipped"}:
            if phase in self._tasks:
                self._bars.remove_task(self._tasks.pop(phase))
            words = "kept from before" if kind == "PhaseSkipped" else span(float(event.get("seconds") or 0.0))
            self._bars.console.print(f"  {phase:<12} {words}", markup=False, highlight=False)


def progress_on(console: Console) -> Progress:
    """Live on a terminal, plain lines elsewhere."""
    if console.is_terminal:
        return TerminalProgress(console)
    return PlainProgress(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
