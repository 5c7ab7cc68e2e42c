"""Phase correlation believes structure, not noise."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

import getframes_xr as gx


def cube(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values.astype(np.float32), dims=("time", "y", "x"), name="image")


@pytest.mark.parametrize("shape", [(80, 100), (160, 200), (400, 500)])
def test_frames_of_pure_noise_are_never_verified(shape: tuple[int, int]) -> None:
    """6 sigma: the highest of the (at most 5e4 independent) values of a map of noise is 4.9 at 90 % of the time."""
    noise = np.random.default_rng(2).normal(500.0, 10.0, (10, *shape))
    found = gx.phase_shifts(cube(noise)).load()
    assert not found["verified"][1:].any()
    assert float(found["peak_sigma"][1:].max()) < 6.0


def test_a_faint_nebula_is_followed_to_a_pixel() -> None:
    """A structure of a third of the noise per pixel; the shift is known because it was put in."""
    draws = np.random.default_rng(3)
    sky = 60.0 * gaussian_filter(draws.normal(size=(260, 320)), 6.0)
    moves = [(0, 0), (7, -12), (15, 3), (-9, 20)]
    frames = np.stack([sky[30 + dy : 190 + dy, 40 + dx : 240 + dx] for dy, dx in moves])
    found = gx.phase_shifts(cube(frames + draws.normal(0.0, 8.0, frames.shape))).load()
    assert found["verified"].values.all()
    for axis, column in enumerate(("dy", "dx")):
        np.testing.assert_allclose(found[column].values, [move[axis] for move in moves], atol=1.0)
