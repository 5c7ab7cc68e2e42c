"""The memory budget: how much a process may take, and how many threads share it.

``memory`` means the resident memory of a whole process. Who runs the tasks decides: the workers of the active
``distributed`` client (threads of a worker, 0.6 of the smallest worker's limit: above that distributed spills), else
dask's own settings in this process. Without a word from the user the budget is a quarter of the machine, at most 1 GiB,
but 256 MiB above what the process already holds (arrays loaded in a notebook) at least.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import dask

from getframes_xr.core import allocator
from getframes_xr.core.errors import OptionError

MIB: Final = 2**20
GIB: Final = 2**30
ROOM_BYTES: Final = 256 * MIB  # a budget nobody asked for leaves this much above what the user already holds
BASE_BYTES: Final = 300 * MIB  # a process with everything imported
SHARE_OF_WORKER: Final = 0.6
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_ASKED: ContextVar[int | None] = ContextVar("memory asked for", default=None)
_ALONE: Final = {"sync", "synchronous", "single-threaded"}
_PROCESSES: Final = {"processes", "multiprocessing"}


def bytes_of_text(size: str | int) -> int:
    """Bytes of ``"1GiB"``, ``"500 MB"`` or a number.

    Raises
    ------
    OptionError : it is no size, or not positive
    """
    allowed = "a positive size such as '1GiB', '500 MB' or a number of bytes"
    if isinstance(size, str):
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", size.lower())
        if found is None or (found[3] and not found[2]):
            raise OptionError("memory", size, allowed)
        unit = _UNITS[found[2]] if not found[3] else 1024 ** "kmgt".index(found[2]) * 1024
        value = float(found[1]) * unit
    elif isinstance(size, int) and not isinstance(size, bool):
        value = size
    else:
        raise OptionError("memory", size, allowed)
    if not 1 <= value < 2**60:
        raise OptionError("memory", size, allowed)
    return int(value)


def text_of_bytes(size: float) -> str:
    """Bytes for people: ``"1.5 GiB"``."""
    for unit, scale in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB), ("kiB", 2**10)):
        if abs(size) >= scale:
            value = size / scale
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{size:.0f} B"


@contextmanager
def memory(size: str | int) -> Iterator[None]:
    """Give everything inside the ``with`` block a budget: ``with gx.memory("1GiB"): ...``

    Parameters
    ----------
    size : resident memory of the whole process (of each worker), ``"1GiB"`` or a number of bytes

    Raises
    ------
    OptionError : it is no size
    """
    token = _ASKED.set(bytes_of_text(size))
    try:
        yield
    finally:
        _ASKED.reset(token)


@cache
def machine_bytes() -> int:
    """Memory of the machine, or of the control group this process is kept in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return total


def resident_bytes() -> int:
    """Resident memory of this process now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Budget:
    """What one process may take: ``limit`` bytes in all, of which ``base`` are there before work begins.

    ``threads`` run at a time and ``fewest`` may run at a time (a cluster's workers cannot be told to use fewer).
    """

    limit: int
    threads: int
    base: int = BASE_BYTES
    fewest: int = 1
    where: str = "this process"
    processes: int = 1

    @property
    def above_base(self) -> int:
        return self.limit - self.base


def budget(size: str | int | None = None) -> Budget:
    """The budget that holds here and now.

    Parameters
    ----------
    size : asked for; by default what ``with memory(...)`` says, else what the cluster or the machine allows

    Raises
    ------
    OptionError : it is no size
    """
    asked = _ASKED.get() if size is None else bytes_of_text(size)
    client = active_client()
    if client is not None:
        found = _of_cluster(client, asked)
        if found is not None:
            return found
    allocator.trim()  # what was freed before is no part of the base
    base = max(BASE_BYTES, resident_bytes())
    limit = max(min(machine_bytes() // 4, GIB), base + ROOM_BYTES) if asked is None else asked
    return Budget(limit, _threads(), base)


def active_client() -> Any | None:
    """The ``distributed`` client that a computation started now would use, if there is one."""
    scheduler = dask.config.get("scheduler", None)
    if getattr(scheduler, "scheduler_info", None) is not None:
        return scheduler
    distributed = sys.modules.get("distributed")
    if distributed is None or scheduler not in (None, "dask.distributed", "distributed"):
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None


def runs_here() -> bool:
    """True where tasks run in threads of this process, so that they can write into one array."""
    scheduler = dask.config.get("scheduler", None)
    return active_client() is None and (scheduler is None or scheduler in _ALONE | {"threads", "threading"})


def _threads() -> int:
    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str) and scheduler.lower() in _ALONE | _PROCESSES:
        return 1
    pool = dask.config.get("pool", None)
    workers = getattr(pool, "_max_workers", pool if isinstance(pool, int) else None)
    return max(1, int(dask.config.get("num_workers", None) or workers or dask.system.CPU_COUNT))


def _of_cluster(client: Any, asked: int | None) -> Budget | None:
    try:
        workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    except TypeError:
        workers = list(client.scheduler_info()["workers"].values())
    if not workers:
        return None
    limits = [w["memory_limit"] for w in workers if w.get("memory_limit")] or [machine_bytes() // len(workers)]
    limit = int(SHARE_OF_WORKER * min(limits))
    resident = [int(w.get("metrics", {}).get("memory", 0)) for w in workers]
    threads = max(int(w["nthreads"]) for w in workers)
    where = f"each of {len(workers)} workers"
    limit = limit if asked is None else min(asked, limit)
    return Budget(limit, threads, max(BASE_BYTES, *resident), threads, where, len(workers))


def limited_threads(threads: int) -> Any:
    """A ``with`` block in which dask's threads in this process are at most so many."""
    return dask.config.set(num_workers=threads)
