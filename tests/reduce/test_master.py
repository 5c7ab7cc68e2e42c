"""Masters: stacks of calibration frames, flats brought to one level first."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import DataError
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce import reject
from getframes_xr.reduce.calibrate import calibrate
from getframes_xr.reduce.master import master
from tests.frames import held_frames


def test_a_master_is_the_mean_of_its_frames_without_the_cosmic_rays(refuses_to_compute):
    rng = np.random.default_rng(0)
    values = rng.normal(500, 5, (25, 16, 20))
    clean = values.copy()
    hit = np.array([(n, n % 16, (3 * n) % 20) for n in range(25)])
    values[tuple(hit.T)] += 3000
    dataset = master(lazy(held_frames(values.astype(np.uint16), plane="adu", exposure_s=np.full(25, 30.0))))
    assert dataset.attrs["exposure_s"] == 30.0 and "time" not in dataset.dims
    made = as_producer(dataset)
    image = made.produce(made.grid.window, ("image",))["image"]
    error = 5 / np.sqrt(24)
    assert np.abs(image - clean.mean(axis=0)).max() < 4.5 * error  # 320 pixels; truncation to integers: 0.5 adu
    assert np.abs(image.mean() - clean.mean()) < 0.5 + 5 * error / np.sqrt(320)


def test_flats_of_a_changing_lamp_are_brought_to_one_level():
    rng = np.random.default_rng(1)
    response = rng.uniform(0.8, 1.2, (16, 20))
    levels = np.linspace(10_000, 20_000, 20)
    values = rng.poisson(levels[:, None, None] * response).astype(np.float32)
    made = master(lazy(held_frames(values)), equalise=True, reject=reject.Mean()).compute()
    flat = (made.image / made.image.mean()).values
    # each frame brings its shot noise, scaled to the mean level: sum of 1 / level_i over 20^2
    relative = np.sqrt(np.sum(1 / levels)) / 20
    assert np.abs(flat / (response / response.mean()) - 1).max() < 4.5 * relative / np.sqrt(0.8)
    assert float((made.noise / made.image).mean()) == pytest.approx(relative, rel=0.05)


def test_a_dark_frame_is_no_flat_to_be_scaled():
    values = np.ones((12, 8, 8), np.float32)
    values[3] = -1
    with pytest.raises(DataError, match="frame 3"):
        master(lazy(held_frames(values)), equalise=True).compute()


def test_dark_bias_and_flat_frames_become_calibrated_lights():
    """The whole way, from noisy frames of each kind: the light comes back within the noise of the masters."""
    rng = np.random.default_rng(2)
    shape = (24, 32)
    bias, dark = rng.normal(1000, 4, shape), rng.uniform(0, 3, shape)
    response = rng.uniform(0.85, 1.15, shape)

    def taken(mean, n, seconds):
        values = rng.poisson(np.broadcast_to(mean, (n, *shape))) + bias + rng.normal(0, 3, (n, *shape))
        return lazy(held_frames(np.round(values).astype(np.uint16), plane="adu", exposure_s=np.full(n, seconds)))

    biases, darks = taken(0 * dark, 50, 0.0), taken(dark * 100, 50, 100.0)
    flats, lights = taken(20_000 * response + dark, 40, 1.0), taken(900 * response + dark * 25, 60, 25.0)
    made = calibrate(lights, dark=master(darks), bias=master(biases), flat=master(flats))
    truth = 900 * response.mean()
    mean = made.image.mean("time").compute()
    per_pixel = np.sqrt((975 + 9) / 60 + (300 + 9) / 16 / 50 + 9 / 50 + (20_000 / 40) * (900 / 20_000) ** 2)
    assert abs(float(mean.mean()) - truth) < 5 * per_pixel / np.sqrt(mean.size)
    assert abs(float(mean.std()) / per_pixel - 1) < 5 / np.sqrt(2 * mean.size) + 0.03
