"""Workers of dask's scheduler: on this machine or on many, each with the package loaded and an allocator that is fast.

Frames do not know who computes them, so a cluster gives the same bytes. Three things make it work well: every worker
imports the package before its first task (kernels come from the cache on disk), the budget of a task is 0.6 of the
smallest worker's limit (above that dask spills), and workers started here keep glibc's trim threshold high: the nanny's
default of 64 kB costs up to 2.5 times the CPU, because every temporary array is mapped and given back.
"""

from __future__ import annotations

import os
from typing import Any, Final

import dask
from distributed import Client, WorkerPlugin

from getframes_xr.core.errors import OptionError
from getframes_xr.engine.budget import bytes_of_text

TRIM_BYTES: Final = 256 * 2**20
CONNECT_S: Final = 10
_PLUGIN: Final = "getframes-xr"


class LoadPackage(WorkerPlugin):  # type: ignore[misc]
    """Import the package and what every task needs before a worker's first task."""

    name = _PLUGIN

    def setup(self, worker: Any) -> None:
        import numba  # noqa: F401
        import xarray  # noqa: F401

        import getframes_xr.engine.lazy  # noqa: F401


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
        environment["MALLOC_TRIM_THRESHOLD_"] = TRIM_BYTES
        with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
            found = Client(
                n_workers=count,
                threads_per_worker=threads,
                memory_limit=bytes_of_text(memory),
                dashboard_address=None,
                silence_logs=40,
            )
    found.register_plugin(LoadPackage())
    return found


__all__ = ["LoadPackage", "client"]
