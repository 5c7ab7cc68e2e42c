"""The run folder: each phase's product under a content hash, one manifest, one timeline, one lock.

A phase is looked up by the digest of all that decides its product. If the product is there the phase is skipped, so a
run that was killed goes on where it was; the folder of another recipe is refused with the difference named. What
happened is appended to ``events.jsonl``; every decision stands in ``manifest.json``.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from getframes_xr.core import allocator
from getframes_xr.core.digest import code_version, digest
from getframes_xr.core.errors import OptionError, StoreError

Product = TypeVar("Product")
OnEvent = Callable[[Mapping[str, Any]], None]
MANIFEST, EVENTS, RECIPE, LOCK = "manifest.json", "events.jsonl", "recipe.json", ".lock"


def plain(value: Any) -> Any:
    """JSON's own types out of numpy's; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return plain(value.item())
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, str | int | bool | None):
        return value
    return str(value)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that touch numbers."""
    from importlib.metadata import version

    packages = ("numpy", "scipy", "numba", "xarray", "dask", "zarr", "astropy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def write_whole(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename: readers see the old one or the new one.

    Raises
    ------
    StoreError : the disk is full or the folder cannot be written
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error


class RunFolder:
    """A folder that one run writes and any reader may open.

    Parameters
    ----------
    path : folder; made if it is not there
    inputs, options : all that decides the result; kept in ``recipe.json``
    phases : names of all phases, in their order
    on_event : called with every event, for progress

    Raises
    ------
    StoreError : another run holds the folder, it holds the frames of another session, or it cannot be written
    """

    def __init__(
        self,
        path: str | Path,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        phases: Sequence[str],
        on_event: OnEvent | None = None,
    ) -> None:
        self.path = Path(path)
        self.inputs = inputs
        self.recipe = plain({**inputs, **options})
        self.names = tuple(phases)
        self.on_event = on_event
        self.phases: dict[str, dict[str, Any]] = {}
        self.from_phase: str | None = None

    @contextmanager
    def open(self, from_phase: str | None = None) -> Iterator[RunFolder]:
        """Hold the folder's lock for the length of a run.

        Raises
        ------
        StoreError : another run holds it, or it belongs to other frames
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write to {self.path}: {error.strerror}; choose another --out") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = (self.path / LOCK).read_text().strip() or "another process"
                raise StoreError(f"{self.path} is in use by {holder}; wait for it or choose another --out") from error
            os.ftruncate(descriptor, 0)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())
            self._check_recipe()
            self.from_phase = from_phase
            yield self
        finally:
            os.close(descriptor)

    def _check_recipe(self) -> None:
        """Refuse the frames of another session; other options make other phases anew, which their keys tell."""
        known = self.path / RECIPE
        if known.exists():
            old = json.loads(known.read_text())
            here = plain(self.inputs)
            changed = [
                f"{name}: {old.get(name)!r} -> {here.get(name)!r}"
                for name in sorted({*here, *(set(old) & {"inputs", "darks", "flats", "biases"})})
                if old.get(name) != here.get(name)
            ]
            if changed:
                raise StoreError(
                    f"{self.path} holds a run of other frames ({'; '.join(changed)}); "
                    "choose another --out, or remove the folder"
                )
        write_whole(known, json.dumps(self.recipe, indent=1))

    def say(self, event: str, **facts: Any) -> None:
        """Append one event to the timeline."""
        record = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **plain(facts)}
        with (self.path / EVENTS).open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        if self.on_event is not None:
            self.on_event(record)

    def progress(self, phase: str, done: int, total: int, unit: str) -> None:
        """Tell the watcher how far a phase is; not part of the timeline."""
        if self.on_event is not None:
            self.on_event({"event": "Progress", "phase": phase, "done": done, "total": total, "unit": unit})

    def phase(
        self,
        name: str,
        decides: Any,
        make: Callable[[Path], object],
        load: Callable[[Path], Product],
        suffix: str = ".zarr",
    ) -> Product:
        """The product of a phase: loaded if the folder has it, else made and kept.

        Parameters
        ----------
        name : of the phase, as ``--from-phase`` takes it
        decides : everything that decides the product; its digest is the product's name
        make : writes the product to the given path (may be interrupted: a product counts once its mark is there)
        load : reads it back
        """
        key = digest(name, decides, code_version(), size=8)
        product = self.path / "phases" / f"{name}-{key}{suffix}"
        mark = product.with_name(product.name + ".done")
        anew = self.from_phase is not None and self.names.index(name) >= self.names.index(self.from_phase)
        if anew and mark.exists():
            mark.unlink()
            _remove(product)
        started = time.monotonic()
        if mark.exists():
            self._note(name, key, 0.0, skipped=True)
            self.say("PhaseSkipped", phase=name, key=key)
            return load(product)
        product.parent.mkdir(exist_ok=True)
        self.say("PhaseStarted", phase=name, key=key)
        try:
            make(product)
            write_whole(mark, key)
        except OSError as error:
            raise StoreError(f"cannot write {product}: {error.strerror}; free space or choose another --out") from error
        allocator.trim()  # what the phase has freed is not the next one's base
        seconds = round(time.monotonic() - started, 3)
        self._note(name, key, seconds, skipped=False)
        self.say("PhaseFinished", phase=name, key=key, seconds=seconds)
        return load(product)

    def _note(self, name: str, key: str, seconds: float, *, skipped: bool) -> None:
        """For the manifest: a phase may run several times (masters), under one key each."""
        known = self.phases.setdefault(name, {"keys": [], "seconds": 0.0, "skipped": True})
        known["keys"].append(key)
        known["seconds"] = round(known["seconds"] + seconds, 3)
        known["skipped"] = known["skipped"] and skipped

    def check_phase(self, name: str | None) -> None:
        """Refuse a phase that does not exist.

        Raises
        ------
        OptionError : ``name`` is none of the run's phases
        """
        if name is not None and name not in self.names:
            raise OptionError("from_phase", name, ", ".join(self.names))

    def manifest(self, facts: Mapping[str, Any]) -> None:
        """Write the manifest whole."""
        write_whole(self.path / MANIFEST, json.dumps(plain({**facts, "phases": self.phases}), indent=1))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
