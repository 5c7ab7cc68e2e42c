"""A process that saves a simulated night slowly, to be killed: ``python -m tests.io.slow_writer STORE LOG [NAME=X]``.

Every shard that is begun leaves a line in LOG, so that a test can count what was made twice.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy

THREADS = 2
FRAMES = 40


@dataclass(frozen=True, eq=False)
class Logged(Producer):
    """``parent``, slowly, with a line in a log for every window."""

    parent: Producer
    log: Path
    pause_s: float = 0.0

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Mapping[str, Plane]:
        return self.parent.planes

    def token(self) -> str:
        return self.parent.token()

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="same")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        line = f"{window.frames.start} {window.y.start} {window.x.start}\n"
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line.encode())
        os.close(file)
        time.sleep(self.pause_s)
        return given.take()


CODE_IN_TOKENS = ("getframes_xr.engine.producer.code_version", "getframes_xr.io.recipe.code_version")


def steady_code() -> str:
    """In place of the digest of the sources, so that a test may run while they are edited."""
    return "the code under test"


def night(read_noise_e: float = 3.0) -> xr.Dataset:
    """A small night of our own simulator."""
    camera = gx.Camera.preset("generic_ccd").replace("read_noise", rms_e=read_noise_e)
    exposures = gx.Exposures(n=FRAMES, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T02:00:00")
    return gx.expose(camera, 5.0, exposures, seed=0)


def slow_night(log: Path, pause_s: float, **options: Any) -> xr.Dataset:
    """The same, logged."""
    shown = night(**options)
    return lazy(Logged(as_producer(shown), log, pause_s), [str(name) for name in shown.data_vars])


def main() -> None:
    store, log, *options = sys.argv[1:]
    for place in CODE_IN_TOKENS:
        module, name = place.rsplit(".", 1)
        setattr(importlib.import_module(module), name, steady_code)
    changes = {name: float(value) for name, value in (option.split("=") for option in options)}
    pause_s = changes.pop("pause_s", 0.05)
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        try:
            print(gx.save_frames(slow_night(Path(log), pause_s, **changes), store).made)
        except gx.StoreError as error:
            print(error)
            sys.exit(2)


if __name__ == "__main__":
    main()
