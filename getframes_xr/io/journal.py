"""The journal of a store: which shards are done, who is writing, and what was left behind by a crash.

A shard is done when its mark is there: a small file with the digest of the values and the size of each plane's file,
put in place by a rename after the data. A file alone is not "done". The lock is an ``flock``: the kernel frees it at
once when its holder dies, however it dies; host, pid and start time in the file are for people. All of it lies in
``<first plane>/.gx/{done,lock,held}``: readers warn of foreign things in a group's root, not inside an array's folder.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import StoreError

Index = tuple[int, ...]
PARTIAL = ".partial"


@dataclass(frozen=True)
class Mark:
    """What is known of a finished shard: digest of the values and bytes on disk, by plane."""

    digests: Mapping[str, str]
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Journal:
    """Marks and lock of the store whose first plane lies in ``folder``."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / ".gx"

    @property
    def done(self) -> Path:
        return self.root / "done"

    @property
    def held(self) -> Path:
        """Folder of Held products that a run keeps until it is finished."""
        return self.root / "held"

    def create(self) -> None:
        self.done.mkdir(parents=True, exist_ok=True)

    def add(self, index: Index, mark: Mark) -> None:
        """Say that a shard is done."""
        name = ".".join(map(str, index))
        partial = self.done / f"{name}.{uuid.uuid4().hex}{PARTIAL}"
        try:
            partial.write_text(json.dumps({"digests": dict(mark.digests), "sizes": dict(mark.sizes)}))
            os.replace(partial, self.done / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def has(self, index: Index) -> bool:
        """True where a shard has its mark."""
        return (self.done / ".".join(map(str, index))).exists()

    def indices(self) -> set[Index]:
        """The shards that have a mark."""
        with os.scandir(self.done) as entries:
            return {tuple(map(int, e.name.split("."))) for e in entries if not e.name.endswith(PARTIAL)}

    def mark(self, index: Index) -> Mark:
        """The mark of a finished shard.

        Raises
        ------
        StoreError : the mark cannot be read
        """
        path = self.done / ".".join(map(str, index))
        try:
            known = json.loads(path.read_text())
            return Mark(known["digests"], known["sizes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the mark {path} cannot be read ({error}); remove it and save again") from error

    def forget(self, index: Index) -> None:
        (self.done / ".".join(map(str, index))).unlink(missing_ok=True)
        (self.root / "finished").unlink(missing_ok=True)

    def state(self) -> str:
        """Digest of all marks: of the values that are there. Read from the summary of a finished store."""
        summary = self.root / "finished"
        if summary.exists():
            return summary.read_text()
        return digest([[list(index), dict(self.mark(index).digests)] for index in sorted(self.indices())])

    def finish(self) -> None:
        """Say that all shards are done, with the digest of all marks."""
        state = self.state()
        partial = self.root / f"finished.{uuid.uuid4().hex}{PARTIAL}"
        partial.write_text(state)
        os.replace(partial, self.root / "finished")

    @property
    def finished(self) -> bool:
        return (self.root / "finished").exists()

    def holder(self) -> str:
        """Who holds (or last held) the lock, as text."""
        try:
            return (self.root / "lock").read_text().strip() or "another process"
        except OSError:
            return "another process"

    @contextmanager
    def locked(self, store: Path) -> Iterator[None]:
        """Hold the store's lock.

        Raises
        ------
        StoreError : somebody else holds it, or the folder cannot be written
        """
        path = self.root / "lock"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write to {store}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"{store} is being written by {self.holder()}; wait for it or end it") from None
            start = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            try:
                os.ftruncate(file, 0)
                os.pwrite(file, f"host {socket.gethostname()} pid {os.getpid()} since {start}\n".encode(), 0)
            except OSError:
                pass  # a full disk: the lock holds all the same, only its text is missing
            yield
        finally:
            os.close(file)


def sweep(store: Path, planes: Mapping[str, object]) -> int:
    """Remove what a killed writer left behind (``*.partial``); only under the lock. The number of files."""
    found = 0
    for plane in planes:
        for folder, _, names in os.walk(store / plane):
            for name in names:
                if name.endswith(PARTIAL):
                    Path(folder, name).unlink(missing_ok=True)
                    found += 1
    return found
