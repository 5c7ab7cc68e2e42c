"""Shared ground of the tests: who runs beside whom, what is made once, real frames, a scheduler that refuses.

``make test`` runs two workers side by side, then what measures memory, time or processes by itself (``alone``). A test
that uses a fixture of its module stays with its module, so that the fixture is made by one worker; all others go to
whoever is free.
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
    """Mark the slow rooms, keep tests of one module's fixtures together; without the real frames leave theirs out."""
    for item in items:
        place = Path(item.fspath).relative_to(HERE)
        if place.parts[0] in SLOW or place.as_posix() in SLOW:
            item.add_marker("slow")
        if _shares_with_its_module(item):
            item.add_marker(pytest.mark.xdist_group(place.as_posix()))
    if REAL.is_dir():
        return
    kept = [item for item in items if "real" not in Path(item.fspath).parts]
    _left_out.extend(item.nodeid for item in items if "real" in Path(item.fspath).parts)
    items[:] = kept


def _shares_with_its_module(item: pytest.Item) -> bool:
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009  # pytest says it nowhere else
    return any(definition.scope == "module" for definitions in fixtures for definition in definitions)


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
