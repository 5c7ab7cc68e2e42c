"""CPU seconds and wall seconds of a call: the median of a few repeats, warm, one thread unless said."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Medians of a few repeats."""

    cpu_s: float
    wall_s: float
    result: Any


def timed(call: Callable[[], Any], repeats: int = 5) -> Timing:
    """Run once to warm up (kernels, caches), then ``repeats`` times."""
    result = call()
    cpu, wall = [], []
    for _ in range(repeats):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        result = call()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return Timing(statistics.median(cpu), statistics.median(wall), result)
