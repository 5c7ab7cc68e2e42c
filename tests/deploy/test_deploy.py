"""The commands of deploy/README.md: a scheduler and workers as processes on loopback, and jobs that go through them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.face.budget import GIB, budget
from getframes_xr.io.journal import Journal
from tests.io.slow_writer import FRAMES, night, slow_night

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.alone
README = (ROOT / "deploy" / "README.md").read_text()


def command_of_readme(script: str, **changes: str) -> list[str]:
    """The line of the README that starts ``script``, with other values for some of its words."""
    line = next(line for line in README.splitlines() if line.startswith(f"deploy/{script}"))
    words = shlex.split(line)
    for option, value in changes.items():
        name = "--" + option.replace("_", "-")
        words[words.index(name) + 1 if name in words else 1] = value
    return words


@contextmanager
def started(command: list[str], folder: Path, name: str) -> Iterator[Path]:
    log = folder / f"{name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True,
            env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        yield log
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cluster")
    scheduler = [*command_of_readme("scheduler.sh", host="127.0.0.1", port="0"), "--no-dashboard"]
    with started(scheduler, folder, "scheduler") as log:
        found = None
        for _ in range(600):
            found = re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())
            if found is not None:
                break
            time.sleep(0.1)
        assert found is not None, log.read_text()
        worker = command_of_readme("worker.sh", scheduler=found[1], nworkers="2", memory_limit="1GiB")
        with started([*worker, "--no-dashboard", "--local-directory", str(folder)], folder, "workers"):
            yield found[1]


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    with gx.client(address) as found:
        found.wait_for_workers(2, timeout=120)
        yield found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with dask.config.set(scheduler="threads"):
        return Path(gx.save_frames(night(), tmp_path_factory.mktemp("local") / "night.zarr").path)


def digests(store: Path) -> dict[str, Any]:
    return {p.name: json.loads(p.read_text())["digests"] for p in (store / "adu" / ".gx" / "done").iterdir()}


def time_of_arrays() -> float:
    """CPU seconds of 300 rounds with temporary arrays of 1 MB."""
    before = time.process_time()
    for _ in range(300):
        values = np.ones((512, 512), np.float32)
        values = (values * 2 + values) - values
    return time.process_time() - before


def test_workers_have_the_package_and_an_allocator_that_keeps_its_arrays(client: Any) -> None:
    loaded = client.run(lambda: "getframes_xr.reduce.stack" in sys.modules)
    assert list(loaded.values()) == [True, True]
    assert set(client.run(lambda: os.environ.get("MALLOC_MMAP_THRESHOLD_")).values()) == {"33554432"}
    here = min(time_of_arrays() for _ in range(3))
    there = min(min(client.run(time_of_arrays).values()) for _ in range(3))
    assert there < 4 * here  # 17 times with the nanny's own setting


def test_the_budget_is_that_of_the_smallest_worker(client: Any) -> None:
    found = budget()
    assert found.limit == int(0.6 * GIB) and (found.threads, found.processes) == (1, 2)
    assert "1 of 1 in each of 2 workers" in str(gx.plan(night()))
    with pytest.raises(gx.PlanError, match="give the workers a limit of"), gx.memory("100MiB"):
        gx.plan(night())


def test_a_store_and_a_stack_made_by_workers_are_those_made_here(client: Any, local: Path, tmp_path: Path) -> None:
    far = gx.save_frames(night(), tmp_path / "far.zarr").path
    assert digests(far) == digests(local) and gx.verify(far) == []
    stacked = gx.plan(gx.master(gx.open_frames(far))).compute()
    with dask.config.set(scheduler="threads"):
        here = gx.plan(gx.master(gx.open_frames(local))).compute()
    for plane in here.data_vars:
        assert stacked[plane].values.tobytes() == here[plane].values.tobytes(), plane


def test_a_worker_killed_in_the_middle_does_not_show(client: Any, local: Path, tmp_path: Path) -> None:
    store = tmp_path / "night.zarr"
    before = client.run(os.getpid)
    done = Journal(store / "adu")

    def kill() -> None:
        while not done.done.is_dir() or len(done.indices()) < 3:
            time.sleep(0.01)
        os.kill(next(iter(before.values())), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    saved = gx.save_frames(slow_night(tmp_path / "log", 0.15), store)
    killer.join(60)
    assert not killer.is_alive()
    client.wait_for_workers(2, timeout=120)
    assert set(client.run(os.getpid).values()) != set(before.values()), "nobody was killed"
    assert digests(store) == digests(local) and gx.verify(store) == []
    made_twice = len((tmp_path / "log").read_text().splitlines()) - saved.shards
    assert 0 <= made_twice <= 1  # the killed worker had one thread
    assert not list(store.rglob("*.partial")) and gx.open_frames(store).sizes["time"] == FRAMES


def test_a_worker_without_an_address_says_how_it_is_used() -> None:
    run = subprocess.run([ROOT / "deploy" / "worker.sh"], capture_output=True, text=True, timeout=20)
    assert run.returncode == 2 and "usage:" in run.stderr


def test_every_file_the_readme_names_is_there() -> None:
    for name in set(re.findall(r"(?:deploy/)?([\w-]+\.(?:sh|yaml|service))", README)):
        assert (ROOT / "deploy" / name).is_file(), name
