"""The law of memory: real <= forecast <= 2 x real + 16 MiB above base, in fresh processes, at two budgets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dask
import pytest

import getframes_xr as gx
from getframes_xr.face.budget import MIB
from tests.face.measured import simulated

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.alone
FRAMES, SIDE = 24, 1536


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores that the jobs read: a large and a small night."""
    place = tmp_path_factory.mktemp("memory")
    with dask.config.set(scheduler="threads", num_workers=2):
        for n, side, name in ((FRAMES, SIDE, "large"), (4, 256, "small")):
            gx.save_frames(simulated(n, side)[["adu", "flags"]], place / f"{name}.zarr")
    return place


@pytest.mark.parametrize("budget", ["1GiB", "448MiB"])
@pytest.mark.parametrize("job", ["simulate", "master", "warp", "splat"])
def test_the_real_peak_lies_between_half_the_forecast_and_the_forecast(job: str, budget: str, folder: Path) -> None:
    command = [sys.executable, "-m", "tests.face.measured", job, budget, str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["peak"] <= found["budget"], found
    assert found["real"] <= found["forecast"] <= 2 * found["real"] + 16 * MIB, found
