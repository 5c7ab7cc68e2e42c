"""Small frames for the tests of stages: arrays in, one stage or a chain over them, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.engine.stage import Stage
from getframes_xr.engine.staged import Staged


def grid(shape: tuple[int, int, int], exposure_s: float = 1.0, temperature_c: float = 20.0, **more: Any) -> Grid:
    """Frames 0, 1, ... one second apart, of ``shape`` (time, y, x)."""
    n = shape[0]
    step = np.timedelta64(round((exposure_s + 1.0) * 1e9), "ns")
    columns: dict[str, Any] = {
        "frame": np.arange(n),
        "start": np.datetime64("2026-01-01", "ns") + np.arange(n) * step,
        "exposure_s": np.full(n, exposure_s),
        "temperature_c": np.full(n, temperature_c),
    }
    return Grid(Span(0, shape[1]), Span(0, shape[2]), columns, **more)


def run(
    stages: Stage | tuple[Stage, ...],
    planes: dict[str, Any],
    *,
    on: Grid | None = None,
    key: tuple[int, int] = (11, 12),
    fixed_key: tuple[int, int] = (13, 14),
    want: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Run stages over arrays (time, y, x) and give the planes they write, as float64 where they are float."""
    chain = stages if isinstance(stages, tuple) else (stages,)
    shape = next(iter(planes.values())).shape
    frames = Staged(ArrayFrames(on or grid(shape), planes), chain, key=key, fixed_key=fixed_key)
    patch = frames.produce(frames.grid.window, want or chain[-1].writes)
    return {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in patch.planes.items()}


def even(level: float, shape: tuple[int, int, int] = (1, 512, 512)) -> Any:
    """The same number everywhere, float32."""
    return np.full(shape, level, np.float32)


def within(value: float, expected: float, sigma: float, times: float = 5.0) -> bool:
    """Whether an estimate lies within ``times`` standard errors of what it must be."""
    return abs(value - expected) <= times * sigma
