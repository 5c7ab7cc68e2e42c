"""A fresh process that does one job under a budget and says what it took: ``python -m tests.face.measured JOB ...``.

The job runs once small before, so that imports, machine code and thread pools are part of the base; then a thread looks
at the resident memory every 2 ms.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import getframes_xr as gx
from getframes_xr.face.budget import MIB, bytes_of_text, resident_bytes
from getframes_xr.face.forecast import choose
from getframes_xr.io.creation import root_of
from getframes_xr.io.store import _choice

THREADS = 2


def highest_bytes() -> int:
    """The kernel's own high-water mark since ``clear_refs``, if it keeps one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def measure(work: Callable[[], object]) -> tuple[int, int]:
    """Resident bytes before, and at the worst moment."""
    seen, end = [resident_bytes()], threading.Event()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        marked = highest_bytes() < seen[0] + 8 * MIB
    except OSError:
        marked = False

    def look() -> None:
        while not end.wait(0.002):
            seen.append(resident_bytes())

    before = resident_bytes()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        work()
    finally:
        end.set()
        thread.join()
    return before, max(*seen, highest_bytes() if marked else 0)


def exposures(n: int) -> Any:
    return gx.Exposures(n=n, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T02:00:00")


def simulated(n: int, side: int) -> xr.Dataset:
    """A scene on a camera with fixed maps, inter-pixel capacitance and all the noise."""
    camera = gx.Camera.preset("generic_scmos").replace(shape=(side, side))
    return gx.expose(camera, 20.0, exposures(n), seed=3)


def save(shown: xr.Dataset, path: Path) -> Any:
    producer = gx.as_producer(shown)
    choice = _choice(producer, root_of(producer, [str(n) for n in shown.data_vars], "fast"))
    gx.save_frames(shown, path)
    return choice


def compute(shown: xr.Dataset, path: Path) -> Any:
    plan = gx.plan(shown)
    plan.compute()
    return choose(plan.producer, plan.planes, within=plan.budget, collected=True)


def turned(frames: xr.Dataset) -> xr.Dataset:
    """Moves of a night with field rotation, as normalise gives them, without looking at a star."""
    n, side = frames.sizes["time"], frames.sizes["y"]
    angle = np.deg2rad(np.linspace(-4, 4, n))
    centre = (side - 1) / 2
    transform = np.empty((n, 2, 3))
    transform[:, 0, 0], transform[:, 0, 1] = np.cos(angle), -np.sin(angle)
    transform[:, 1, 0], transform[:, 1, 1] = np.sin(angle), np.cos(angle)
    transform[:, :, 2] = centre + np.linspace(0, 9.3, n)[:, None] - transform[:, :, :2].sum(axis=2) * centre
    ones = np.ones((n, 1))
    return xr.Dataset(
        {
            "transform": (("time", "axis", "term"), transform),
            "verified": ("time", np.ones(n, bool)), "used": ("time", np.ones(n, bool)),
            "transparency": ("time", np.ones(n)), "fwhm_px": ("time", np.full(n, 3.0)),
            "sky": (("time", "band", "plane_term"), np.stack([400 * ones, 0 * ones, 0 * ones], axis=-1)),
            "variance": (("time", "band"), 500 * ones), "weight": (("time", "band"), ones / 500),
        },
        {"frame": ("time", frames["frame"].values), "band": ["mono"]},
        {"reference_frame": int(frames["frame"][n // 2]), "frame_shape": (side, side), "frame_origin": (0, 0),
         "units": "electron"},
    )  # fmt: skip


def job(name: str, folder: Path, small: bool) -> Any:
    if name == "simulate":
        made = folder / f"made_{small}.zarr"
        shutil.rmtree(made, ignore_errors=True)
        return save(simulated(4, 256) if small else simulated(12, 2048), made)
    source = folder / ("small.zarr" if small else "large.zarr")
    if name == "master":
        return compute(gx.master(gx.open_frames(source)), folder)
    frames = gx.open_frames(source)
    clean = gx.calibrate(frames)
    if name == "warp":
        return compute(gx.stack(gx.warp(clean, turned(frames))), folder)
    if name == "splat":
        return compute(gx.splat(clean, turned(frames)), folder)
    raise SystemExit(f"no job {name}")


def main() -> None:
    name, size, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        job(name, folder, small=True)
        found: list[Any] = []
        with gx.memory(size):
            before, highest = measure(lambda: found.append(job(name, folder, small=False)))
    forecast = found[0].forecast
    print(
        json.dumps(
            {
                "before": before, "real": highest - before, "forecast": forecast.above_base, "peak": highest,
                "budget": bytes_of_text(size), "base": forecast.base, "threads": forecast.threads,
                "tile": [int(v) for v in np.array(found[0].tile)], "held": forecast.held, "caches": forecast.caches,
                "per_task": forecast.per_task, "result": forecast.result, "pid": os.getpid(),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
