"""Workers of dask's scheduler: on this machine or on many, each with the package loaded and an allocator that is fast.

Frames do not know who computes them, so a cluster gives the same bytes. Three things make it work well: every worker
loads the package and its kernels before its first task, the budget of a task is 0.6 of the smallest worker's limit
(above that dask spills), and the allocator is mended (``core/allocator``): the nanny starts workers with
MALLOC_TRIM_THRESHOLD_ = 64 kB, which costs most of the CPU. Workers started here run without it; for others the plugin
sets both thresholds to what glibc would have adapted to.
"""

from __future__ import annotations

import os
from typing import Any, Final

import dask
import numpy as np
from distributed import Client, WorkerPlugin

from getframes_xr.core import allocator
from getframes_xr.core.draws import Draws
from getframes_xr.core.errors import OptionError
from getframes_xr.core.window import Span
from getframes_xr.face.budget import bytes_of_text

CONNECT_S: Final = 10
_PLUGIN: Final = "getframes-xr"


class LoadPackage(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Load the package and its kernels and mend the allocator, before a worker's first task."""

    name = _PLUGIN

    def setup(self, worker: Any) -> None:
        allocator.mend()
        warm()


def warm() -> None:
    """Load the rooms that work in tasks, and run the kernels of noise once."""
    from getframes_xr.io import frames, store  # noqa: F401 (loading them is the purpose)
    from getframes_xr.measure import stars  # noqa: F401
    from getframes_xr.reduce import calibrate, splat, stack, warp  # noqa: F401
    from getframes_xr.workflows import observe  # noqa: F401

    draws = Draws((0, 0), np.zeros(1, np.int64), Span(0, 1), Span(0, 8), 0)
    draws.normal()
    draws.poisson(np.full((1, 1, 8), 3.0, np.float32))


def client(
    address: str | None = None, *, memory: str | int = "2GiB", workers: int | None = None, threads: int = 1
) -> Client:
    """Connect to a dask scheduler, or start workers on this machine; use it in a ``with`` block.

    While the client is open, everything that computes goes through it.

    Parameters
    ----------
    address : of a running scheduler, such as ``tcp://host:8786``; None starts workers here
    memory : limit of each worker started here; tasks are planned for 0.6 of it
    workers : processes to start here, one per core by default
    threads : per worker started here

    Returns
    -------
    distributed.Client

    Raises
    ------
    OptionError : nobody answers at ``address``; a memory, workers or threads that cannot be
    """
    if address is not None:
        try:
            found = Client(address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            wanted = "the address of a running scheduler, such as tcp://host:8786 (start one with: dask scheduler)"
            raise OptionError("scheduler", address, wanted) from error
    else:
        count = workers if workers is not None else os.cpu_count() or 1
        for name, value in (("workers", count), ("threads", threads)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(name, value, "1 or more")
        environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}))
        environment.pop(allocator.TRIM_VARIABLE, None)
        with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
            found = Client(
                n_workers=count,
                threads_per_worker=threads,
                memory_limit=bytes_of_text(memory),
                dashboard_address=":0",
                silence_logs=40,
            )
    found.register_plugin(LoadPackage())
    return found


__all__ = ["LoadPackage", "client", "warm"]
