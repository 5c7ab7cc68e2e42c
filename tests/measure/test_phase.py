"""Shifts without stars: the sky's structure must win over the sensor's own pattern."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from getframes_xr.core.errors import DataError
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.phase import phase_shifts
from getframes_xr.measure.registration import register
from getframes_xr.measure.stars import find_stars
from tests.frames import held_frames

SHIFTS = [(0.0, 0.0), (-9.0, 4.0), (-17.5, 9.0), (-25.0, 12.0)]


def cluster(rng, shifts, fixed=6.0, shape=(300, 380)):
    """Frames of unresolved lumps (sigma 5 px, 2 counts) under noise 5 and a fixed pattern per pixel and row."""
    lumps = gaussian_filter(rng.normal(0, 1, shape), 5.0)
    lumps *= 2.0 / lumps.std()
    pattern = rng.normal(0, fixed, shape) + rng.normal(0, fixed / 3, (shape[0], 1))
    return np.stack(
        [shift(lumps, (-dy, -dx), order=3, mode="wrap") + pattern + rng.normal(500, 5.0, shape) for dy, dx in shifts]
    ).astype(np.float32)


def frames(images):
    return lazy(held_frames(images, exposure_s=np.full(len(images), 5.0)))


def test_plain_correlation_would_find_the_sensor() -> None:
    images = cluster(np.random.default_rng(61), SHIFTS)
    one, other = (image - image.mean() for image in images[:2])
    found = np.fft.irfft2(np.fft.rfft2(one) * np.conj(np.fft.rfft2(other)), one.shape)
    assert np.unravel_index(found.argmax(), found.shape) == (0, 0)


def test_the_true_shift_is_found_and_verified() -> None:
    table = phase_shifts(frames(cluster(np.random.default_rng(61), SHIFTS))).load()
    assert table["verified"].all()
    truth = np.array(SHIFTS)
    assert np.abs(table["dy"].values - truth[:, 0]).max() < 1.0  # half a cell of 2 px
    assert np.abs(table["dx"].values - truth[:, 1]).max() < 1.0


def test_a_pattern_alone_is_never_verified() -> None:
    rng = np.random.default_rng(62)
    images = cluster(rng, SHIFTS, fixed=8.0)
    pattern = rng.normal(0, 8.0, images.shape[1:])
    alone = (pattern + rng.normal(500, 5.0, images.shape)).astype(np.float32)
    table = phase_shifts(frames(alone)).load()
    assert not table["verified"].values[1:].any()
    assert set(table["reason"].values[1:]) <= {"no_structure", "scales_disagree", "sensor_pattern"}


def test_moves_can_be_made_of_shifts() -> None:
    data = frames(cluster(np.random.default_rng(63), SHIFTS))
    moves = register(find_stars(data).load(), shifts=phase_shifts(data).load())
    assert moves["verified"].all() and (moves["reason"] == "used").all()
    assert np.abs(moves["transform"].values[:, :, 2] - np.array(SHIFTS)).max() < 1.0
    assert np.array_equal(moves["transform"].values[2, :, :2], np.eye(2))


def test_it_is_lazy(refuses_to_compute: None) -> None:
    table = phase_shifts(frames(cluster(np.random.default_rng(64), SHIFTS[:2])))
    assert table["dy"].chunks is not None


def test_small_frames_and_unknown_references_are_refused() -> None:
    with pytest.raises(DataError, match="at least 64 x 64"):
        phase_shifts(frames(np.zeros((2, 32, 90), np.float32)))
    with pytest.raises(DataError, match="there is no frame 9"):
        phase_shifts(frames(np.zeros((2, 90, 90), np.float32)), reference=9)
