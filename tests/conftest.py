"""Shared ground of the tests: real frames, a scheduler that refuses to compute, small frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

REAL = Path(os.environ.get("GETFRAMES_XR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
_left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the real frames, the tests on them are taken out of the run and counted in one line."""
    if REAL.is_dir():
        return
    kept = [item for item in items if "real" not in Path(item.fspath).parts]
    _left_out.extend(item.nodeid for item in items if "real" in Path(item.fspath).parts)
    items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.write_line(
            f"{len(_left_out)} tests on real frames left out: set GETFRAMES_XR_DATA to the folder that holds them"
        )


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of the real frames (read-only)."""
    return REAL


class Computed(AssertionError):
    """Somebody computed where nothing may be computed."""


def _refuse(*_: object, **__: object) -> None:
    raise Computed("a lazy function computed")


@pytest.fixture
def refuses_to_compute() -> Iterator[None]:
    """Under this fixture every dask computation fails."""
    with dask.config.set(scheduler=_refuse):
        yield
