"""One window without a scheduler: exact, at the price of the window, in forked processes too, masters kept once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.kept import KEPT
from getframes_xr.face.lazy import lazy

RNG = np.random.default_rng(11)
SHAPE = (9, 60, 70)


@dataclass(frozen=True, eq=False)
class Counted(ArrayFrames):
    """Writes a line for every window that is made."""

    log: Path = Path("log")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        with self.log.open("a") as lines:
            lines.write(f"{window}\n")
        return super().make(window, planes, given)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    KEPT.clear()
    yield
    KEPT.clear()


def calibrated(folder: Path) -> xr.Dataset:
    numbers = 20 + 3 * np.arange(SHAPE[0])
    columns = {"frame": numbers, "exposure_s": np.full(len(numbers), 10.0), "gain_e_per_adu": 1.0 + 0.01 * numbers}
    grid = Grid(Span(4, 64), Span(-6, 64), columns)
    adu = RNG.poisson(500.0, SHAPE).astype(np.uint16)
    dark = Counted(grid.select(np.arange(5)), {"adu": adu[:5] // 5}, {"adu": "adu"}, folder / "darks")
    return gx.calibrate(lazy(ArrayFrames(grid, {"adu": adu}, {"adu": "adu"})), dark=gx.master(lazy(dark)))


def asked(folder: Path) -> int:
    return len((folder / "darks").read_text().splitlines())


def test_windows_are_those_of_a_run_and_a_master_is_made_once(tmp_path: Path) -> None:
    clean = calibrated(tmp_path)
    expected = clean.compute(scheduler="sync")
    (tmp_path / "darks").unlink()
    with dask.config.set(scheduler=_refuse):
        for frame in (0, 7, 3):
            part = clean.isel(time=frame, y=slice(10, 40), x=slice(5, 25))
            xr.testing.assert_identical(part.gx.compute(), expected.isel(time=frame, y=slice(10, 40), x=slice(5, 25)))
    assert asked(tmp_path) == 1


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("a scheduler was asked")


def test_what_is_kept_stays_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = calibrated(tmp_path)
    monkeypatch.setattr(KEPT, "limit", 1000)
    one, two = (clean.isel(time=k).gx.compute().image.values for k in (1, 1))
    assert one.tobytes() == two.tobytes() and KEPT.nbytes == 0 and asked(tmp_path) == 2


FORKED = """
import multiprocessing, os, sys
import dask, numpy as np
import getframes_xr as gx
exposures = gx.Exposures(n=6, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T02:00:00")
camera = gx.Camera.preset("generic_cmos").replace(shape=(96, 128))
lights = gx.expose(camera, 20.0, exposures, seed=3)
clean = gx.calibrate(lights, bias=gx.master(gx.bias(camera, 6, seed=3)))
with dask.config.set(scheduler="threads", num_workers=2):
    whole = clean.compute()  # threads of the parent's pool live on

def one(k):
    return clean.isel(time=k, y=slice(10, 50), x=slice(20, 90)).gx.compute().image.values.tobytes()

with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(one, range(6))
part = whole.isel(y=slice(10, 50), x=slice(20, 90)).image.values
print(all(found[k] == np.ascontiguousarray(part[k]).tobytes() for k in range(6)))
"""


def test_a_forked_worker_computes_windows_after_its_parent_has_computed() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True"], done.stderr
