"""The night that several tests of whole reductions read: made once, by whichever worker comes first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import getframes_xr as gx
from tests.workflows import nights


def _write(folder: Path) -> None:
    frames = nights.raw(nights.altaz()).load()
    gx.save_fits_frames(frames, folder / "fits" / "light")
    gx.save_frames(frames, folder / "night.zarr")


@pytest.fixture(scope="session")
def files(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The alt-az night as FITS files and as a store."""
    return made_once("altaz night", _write)
