"""Shared ground of the tests: who runs beside whom, what is made once, real frames, a scheduler that refuses.

``make test`` runs what measures memory, time or processes by itself (``alone``), then two workers side by side. Tests
of a file with fixtures of the module stay together, so that one worker makes them; all others go to whoever is free.
"""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Processes that tests start run the code beside these tests, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER is not None:  # one thread per worker, said before NumPy and Numba are loaded; children inherit it
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

from collections.abc import Callable, Iterator  # noqa: E402
from functools import cache  # noqa: E402
from typing import Any  # noqa: E402

import dask  # noqa: E402
import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "suite",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("suite"), max_examples=5)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
if WORKER is not None:
    dask.config.set(num_workers=1)

SLOW = (  # whole jobs, other programs, other processes
    "app", "deploy", "docs", "oracle", "real", "workflows", "test_determinism.py", "core/test_draws_bytes.py",
    "core/test_kernel.py", "detector/test_bytes.py", "light/test_bytes.py", "io/test_zarr_resume.py",
)  # fmt: skip

REAL = Path(os.environ.get("GETFRAMES_XR_DATA", HERE.parents[1] / "shared" / "data"))
_left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow; without the real frames, the tests on them are taken out of the run and counted."""
    for item in items:
        place = Path(item.fspath).relative_to(HERE)
        if place.parts[0] in SLOW or place.as_posix() in SLOW:
            item.add_marker("slow")
    if REAL.is_dir():
        return
    kept = [item for item in items if "real" not in Path(item.fspath).parts]
    _left_out.extend(item.nodeid for item in items if "real" in Path(item.fspath).parts)
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who runs what: whole files where the module has fixtures, single tests else (xdist's own groups need marks that
    pytest 9 no longer carries in names)."""
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def shares(file: str) -> bool:
        return 'scope="module"' in (HERE.parent / file).read_text()

    class Files(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if shares(file) else nodeid

    return Files(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.write_line(
            f"{len(_left_out)} tests on real frames left out: set GETFRAMES_XR_DATA to the folder that holds them"
        )


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of the real frames (read-only)."""
    return REAL


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """``made_once(name, make)``: the folder that ``make(folder)`` filled, by whichever worker came first."""
    base = tmp_path_factory.getbasetemp()
    shared = base if WORKER is None else base.parent

    def of(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return of


class Computed(AssertionError):
    """Somebody computed where nothing may be computed."""


def _refuse(*_: object, **__: object) -> None:
    raise Computed("a lazy function computed")


@pytest.fixture
def refuses_to_compute() -> Iterator[None]:
    """Under this fixture every dask computation fails."""
    with dask.config.set(scheduler=_refuse):
        yield
