"""Runs that are killed, resumed, started twice, or run out of disk."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from getframes_xr.core.errors import StoreError
from getframes_xr.io import shards
from getframes_xr.io.journal import Journal
from getframes_xr.io.store import save_frames, verify
from getframes_xr.io.zarr import open_store
from tests.io.slow_writer import CODE_IN_TOKENS, FRAMES, THREADS, night, steady_code

ROOT = Path(__file__).resolve().parents[2]


def start(store: Path, log: Path, *options: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.io.slow_writer", str(store), str(log), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def wait_for_marks(store: Path, count: int, process: subprocess.Popen[str]) -> None:
    done = store / "adu" / ".gx" / "done"
    while not done.is_dir() or len(list(done.glob("*"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.fixture(scope="module", autouse=True)
def same_code_in_all_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for place in CODE_IN_TOKENS:
            patch.setattr(place, steady_code)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        return save_frames(night(), tmp_path_factory.mktemp("undisturbed") / "night.zarr").path


def values_of(store: Path) -> dict[str, Any]:
    done = store / "adu" / ".gx" / "done"
    return {path.name: json.loads(path.read_text())["digests"] for path in done.iterdir()}


def test_a_run_killed_three_times_goes_on_with_the_same_options_only_and_ends_identical(
    undisturbed: Path, tmp_path: Path
) -> None:
    store, log = tmp_path / "night.zarr", tmp_path / "log"
    dice = random.Random(20260301)
    total = len(values_of(undisturbed))
    for kill in range(3):
        process = start(store, log)
        wait_for_marks(store, 1 + (kill * total) // 4 + dice.randrange(3), process)
        time.sleep(dice.uniform(0, 0.12))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with pytest.raises(StoreError, match=rf"\d+ of {FRAMES} frames; run the same save_frames again"):
            open_store(store)
    before = values_of(store)
    with pytest.raises(StoreError, match=r"another recipe: read_noise\.rms_e 3\.0 -> 5\.0"):
        save_frames(night(read_noise_e=5.0), store)
    assert values_of(store) == before
    last = start(store, log)
    out, errors = last.communicate(timeout=120)
    assert last.returncode == 0, out + errors
    assert values_of(store) == values_of(undisturbed) and verify(store) == []
    begun = Counter(log.read_text().split("\n")[:-1])
    assert len(begun) == total
    assert sum(begun.values()) - total <= 3 * THREADS
    assert not list(tmp_path.rglob("*.partial"))
    one, two = open_store(store).load(), open_store(undisturbed).load()
    for plane in one.data_vars:
        assert one[plane].values.tobytes() == two[plane].values.tobytes()


def test_a_run_killed_while_the_store_is_being_made_leaves_no_half_store(tmp_path: Path) -> None:
    store, log = tmp_path / "night.zarr", tmp_path / "log"
    process = start(store, log)
    while not list(tmp_path.glob(".night.zarr.*")) and not store.exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not store.exists() or (store / "zarr.json").exists()
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        save_frames(night(), store)
    assert verify(store) == [] and open_store(store).sizes["time"] == FRAMES


def test_a_second_run_on_a_store_in_use_is_refused_with_the_holders_name(tmp_path: Path) -> None:
    store, log = tmp_path / "night.zarr", tmp_path / "log"
    first = start(store, log, "pause_s=3")
    wait_for_marks(store, 1, first)
    for overwrite, noise in ((False, 3.0), (True, 5.0)):
        with pytest.raises(StoreError, match=rf"being written by host {socket.gethostname()} pid {first.pid} since"):
            save_frames(night(noise), store, overwrite=overwrite)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        save_frames(night(), store)  # the lock died with its holder
    assert verify(store) == []


def test_a_failing_disk_is_one_store_error_and_the_run_goes_on_afterwards(tmp_path: Path) -> None:
    """The process may write files of 200 kB only: the system refuses the first shard with an OSError."""
    store, log = tmp_path / "night.zarr", tmp_path / "log"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = start(store, log, preexec_fn=small_files)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert out.count("\n") == 1 and f"cannot write to {store}: File too large" in out
    assert values_of(store) == {} and not list(store.rglob("*.partial"))
    assert not [p for p in (store / "adu" / "c").rglob("*") if p.is_file()]
    with pytest.raises(StoreError, match=f"0 of {FRAMES} frames"):
        open_store(store)
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        save_frames(night(), store)
    assert verify(store) == []


def test_a_full_disk_says_what_to_do_and_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "night.zarr"
    written = []

    def refuse(self: Any, content: bytes) -> None:
        written.append(len(content))
        if len(written) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(self, content)

    whole = shards.ShardWriter._write
    monkeypatch.setattr(shards.ShardWriter, "_write", refuse)
    with dask.config.set(scheduler="sync"), pytest.raises(StoreError, match="left on device; free some space"):
        save_frames(night(), store)
    monkeypatch.undo()
    done = len(Journal(store / "adu").indices())
    assert 0 < done < 14 and verify(store) == [] and not list(store.rglob("*.partial"))
    assert save_frames(night(), store).made == save_frames_total(store) - done
    assert verify(store) == []


def save_frames_total(store: Path) -> int:
    return len(Journal(store / "adu").indices())


def test_a_resumed_run_gives_the_values_of_the_simulator(undisturbed: Path) -> None:
    back = open_store(undisturbed)
    fresh = night().isel(time=[0, 17, FRAMES - 1]).load()
    for plane in fresh.data_vars:
        assert np.array_equal(back[plane].isel(time=[0, 17, FRAMES - 1]).values, fresh[plane].values)
