"""The plan of a run, before anything starts: print it, compute it, save it.

``face.forecast`` chooses windows and threads for the budget; a ``Plan`` says what they are, counts tasks and bytes,
names the producer that takes most and the knob to turn, and runs under the same budget.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Window
from getframes_xr.engine.held import held_below
from getframes_xr.engine.producer import Producer
from getframes_xr.face.budget import Budget, budget, limited_threads, memory, runs_here, text_of_bytes
from getframes_xr.face.forecast import (
    Choice,
    Forecast,
    Tile,
    asked_pixels,
    choose,
    count_tasks,
    dominating,
    first_window,
    knob_of,
    read_bytes,
    tiles_of,
)
from getframes_xr.face.foreign import foreign_below
from getframes_xr.face.frames_in import FramesLike, as_producer, dataset_in, planes_of
from getframes_xr.face.lazy import lazy, run
from getframes_xr.io.store import save_frames

SAMPLES: Final = 24  # windows that are looked at to count bytes


@dataclass(frozen=True)
class Plan:
    """What a run will do: ``print`` it, then ``compute()`` or ``save(path)`` under the same budget."""

    data: xr.Dataset
    producer: Producer
    planes: tuple[str, ...]
    budget: Budget
    choice: Choice

    @property
    def chunks(self) -> Tile:
        """(frames, rows, columns) of one window."""
        return self.choice.tile

    @property
    def forecast(self) -> Forecast:
        return self.choice.forecast

    @cached_property
    def tasks(self) -> int:
        return count_tasks(self.producer.grid.window.shape, self.chunks)

    @cached_property
    def _samples(self) -> list[Window]:
        windows = list(tiles_of(self.producer.grid.window, self.chunks))
        step = max(1, len(windows) // SAMPLES)
        return windows[step // 2 :: step]

    @cached_property
    def bytes_read(self) -> int:
        """Bytes read from files, before compression (an estimate from some of the windows), and once for the Held."""
        scale = self.tasks / len(self._samples)
        own = scale * sum(read_bytes(self.producer, window, self.planes) for window in self._samples)
        held = sum(read_bytes(i.parent, i.grid.window, tuple(i.planes)) for i in held_below(self.producer))
        return int(own + held)

    @cached_property
    def amplification(self) -> float:
        """How many times a pixel of the frames at the ground is asked for, on average."""
        scale = self.tasks / len(self._samples)
        asked = scale * sum(asked_pixels(self.producer, window, self.planes) for window in self._samples)
        once = asked_pixels(self.producer, self.producer.grid.window, self.planes)
        return asked / once if once else 1.0

    @property
    def bytes_written(self) -> int:
        """Bytes of the result, before compression."""
        return self.producer.bytes_of(self.producer.grid.window, self.planes)

    @cached_property
    def dominates(self) -> str:
        """The producer that takes most of the memory."""
        if self.forecast.held > self.forecast.threads * self.forecast.per_task:
            return "Held"
        window = first_window(self.producer.grid.window, self.chunks)
        return type(dominating(self.producer, window, self.planes)).__name__

    @property
    def knob(self) -> str:
        """What to turn to need less, or be allowed more."""
        return knob_of(self.forecast, self.budget)

    def compute(self) -> xr.Dataset:
        """Load the result, in these windows and with these threads.

        Raises
        ------
        PlanError : the result does not fit the budget
        """
        fits = choose(self.producer, self.planes, within=self.budget, collected=True)
        with limited_threads(fits.forecast.threads):
            made = _collect(self.producer, self.planes, fits.tile)
        shown = {
            name: (data.dims, _like(made[name], data), data.attrs)
            for name, data in self.data[list(self.planes)].items()
        }
        return self.data.drop_vars(self.planes).load().assign(shown)

    def save(self, path: str | Path, **options: Any) -> Any:
        """Write the result with ``save_frames`` under this plan's budget; takes its further options.

        Raises
        ------
        StoreError : the store is in use, holds another recipe, or the disk refuses
        """
        with memory(self.budget.limit):
            return save_frames(self.data, path, **options)

    def __str__(self) -> str:
        grid, forecast = self.producer.grid, self.forecast
        n, rows, columns = grid.window.shape
        bands = f" x {len(grid.bands)} bands" if grid.bands else ""
        frames = f"{n} frames of " if grid.timed else ""
        f, r, c = self.chunks
        shape = f"{f} x {r} x {c}" if grid.timed else f"{r} x {c}"
        lines = [
            ("result", f"{frames}{rows} x {columns}{bands}: {', '.join(self.planes)}"),
            ("windows", f"{shape} ({self.tasks} tasks)"),
            ("bytes read", f"{text_of_bytes(self.bytes_read)} (every pixel {self.amplification:.3g} times)"),
            ("bytes made", f"{text_of_bytes(self.bytes_written)} before compression"),
            ("threads", f"{forecast.threads} of {self.budget.threads} in {self.budget.where}"),
            ("memory", f"{text_of_bytes(forecast.peak)} of {text_of_bytes(self.budget.limit)} forecast"),
            ("", f"{text_of_bytes(forecast.base)} before work begins"),
        ]
        if forecast.held:
            lines.append(("", f"{text_of_bytes(forecast.held)} held for all tasks"))
        if forecast.caches:
            lines.append(("", f"{text_of_bytes(forecast.caches)} in caches"))
        lines.append(
            ("", f"{forecast.threads} x {text_of_bytes(forecast.per_task)} in tasks, most in {self.dominates}")
        )
        lines.append(("knob", self.knob))
        return "\n".join(_wrapped(name, text) for name, text in lines)


def _wrapped(name: str, text: str) -> str:
    """One line of a plan, its further lines under its text."""
    return fill(text, 80, initial_indent=f"{name:<12}", subsequent_indent=" " * 12)


class _Into:
    """A sink that puts windows into arrays of this process; nothing is kept of a task but its pixels."""

    def __init__(self, producer: Producer, planes: Collection[str]) -> None:
        grid = producer.grid
        self.whole = Patch(
            grid.window,
            {name: np.empty(grid.shape(grid.window), producer.planes[name].dtype) for name in planes},
            grid.timed,
        )

    def __dask_tokenize__(self) -> str:
        return uuid.uuid4().hex

    def __call__(self, patch: Patch, window: Window) -> None:
        target = self.whole.view(window)
        for name in target:
            target[name][...] = patch[name]


def _collect(producer: Producer, planes: tuple[str, ...], tile: Tile) -> xr.Dataset:
    """The whole result in memory: here tasks write into the arrays, from other processes they come as chunks."""
    shown = lazy(producer, planes, tile)
    if not runs_here() or foreign_below(producer):
        return shown.compute()
    into = _Into(producer, planes)
    run(producer, tiles_of(producer.grid.window, tile), planes, into)
    return shown.assign({name: (shown[name].dims, into.whole[name], shown[name].attrs) for name in planes})


def _like(made: xr.DataArray, shown: xr.DataArray) -> Any:
    """Values in the order of dims that the user's array has (one frame of it may have no time)."""
    if set(made.dims) == set(shown.dims):
        return made.transpose(*shown.dims).values
    return made.values.reshape(shown.shape)


def plan(data: FramesLike, memory: str | int | None = None) -> Plan:
    """What a run over ``data`` will do and take; nothing is computed.

    Parameters
    ----------
    data : frames or an image, lazy
    memory : budget for the whole process (each worker), ``"1GiB"`` or bytes; by default what holds now: ``gx.memory``,
        0.6 of the smallest worker, or a quarter of the machine, at most 1 GiB

    Returns
    -------
    Plan : ``print(plan)``, ``plan.compute()``, ``plan.save(path)``

    Raises
    ------
    PlanError : it does not fit; names the budget, the forecast and the knob to turn
    OptionError : ``memory`` is no size
    DataError : ``data`` are no frames, or an empty selection of some
    """
    shown = dataset_in(data, "plan")
    planes = tuple(planes_of(shown))
    producer = as_producer(data, planes)
    if 0 in producer.grid.shape(producer.grid.window):
        sizes = ", ".join(f"{dim} {size}" for dim, size in shown[planes[0]].sizes.items())
        raise DataError(
            f"there is nothing to plan: the selection is empty ({sizes}); choose at least one frame and pixel"
        )
    within = budget(memory)
    return Plan(shown, producer, planes, within, choose(producer, planes, within=within))


__all__ = ["Choice", "Forecast", "Plan", "choose", "memory", "plan", "tiles_of"]
