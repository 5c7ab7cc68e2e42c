"""The command line works through a scheduler, with the same bytes (kills and budgets: tests/deploy)."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import getframes_xr as gx
from getframes_xr.core.errors import OptionError

BIN = Path(sys.executable).parent


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers as separate processes on loopback, started by the commands of the how-to page."""
    log = folder / "scheduler.log"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    started = []
    with log.open("wb") as file:
        started.append(subprocess.Popen(command, stdout=file, stderr=file))
    try:
        address = None
        deadline = time.monotonic() + 60
        while address is None and time.monotonic() < deadline:
            address = re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())
            time.sleep(0.1)
        assert address is not None, log.read_text()
        for _ in range(workers):
            worker = [BIN / "dask", "worker", address[1], "--nthreads", "1", "--memory-limit", "1GiB", "--no-dashboard"]
            started.append(subprocess.Popen([*worker, "--local-directory", str(folder)], **quiet))  # type: ignore[call-overload]
        yield address[1], started[1:]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


@pytest.mark.alone
def test_a_job_goes_through_the_command_line_to_a_scheduler(tmp_path: Path) -> None:
    from tests.app.sessions import experiment

    path = experiment(tmp_path)
    line = [sys.executable, "-m", "getframes_xr.app.cli"]
    store = str(tmp_path / "night.zarr")
    with cluster(tmp_path, workers=1) as (address, _):
        for command in (["simulate", str(path)], ["reduce", store, "--out", str(tmp_path / "far")]):
            done = subprocess.run(
                [*line, *command, "--scheduler", address], capture_output=True, text=True, timeout=180
            )
            assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    subprocess.run([*line, "reduce", store, "--out", str(tmp_path / "near")], check=True, capture_output=True)
    for extension in ("PRIMARY", "NOISE", "COUNT", "COVERAGE"):
        near, far = (fits.getdata(tmp_path / where / "stack.fits", extension) for where in ("near", "far"))
        assert near.tobytes() == far.tobytes(), extension
    from getframes_xr.workflows.observe import load_experiment

    stored = gx.open_frames(tmp_path / "night.zarr")
    np.testing.assert_array_equal(stored["adu"].values, load_experiment(path).observe()["adu"].values)


def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getframes_xr.workflows.cluster.CONNECT_S", 1)
    with pytest.raises(OptionError, match=r"scheduler='tcp://127\.0\.0\.1:1'.*dask scheduler"):
        gx.client("tcp://127.0.0.1:1")
    with pytest.raises(OptionError, match="workers=0"):
        gx.client(workers=0)
