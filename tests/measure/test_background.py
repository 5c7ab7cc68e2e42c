"""Block levels and pixel variances of one frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from getframes_xr.core.vocabulary import BAD
from getframes_xr.measure.background import background, lattice_of, level_at, select, smooth_levels
from tests.measure.star_fields import mosaic, scatter_stars, stars_image


def clean_flags(image):
    return np.zeros(image.shape, np.uint16)


def test_selection_by_rank_equals_sorting() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 5, 64, 257):
        values = rng.integers(0, 9, n).astype(np.float32)  # many equal values
        for rank in {0, n // 3, n - 1}:
            assert select(values.copy(), n, rank) == np.sort(values)[rank]


def test_levels_and_variance_of_pure_noise_are_those_of_the_noise() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(500.0, 9.0, (320, 320)).astype(np.float32)
    levels, variance = background(image, clean_flags(image), lattice_of(None))
    assert levels.shape == (1, 10, 10)
    per_block = 9.0 / np.sqrt(512)  # every second row of 32 x 32
    assert np.abs(levels - 500.0).max() < 5 * per_block
    assert abs(levels.mean() - 500.0) < 5 * per_block / 10
    # 25 blocks of 960 differences each, of a median: sd of the variance is below 1.5 %
    assert abs(variance[0] / 81.0 - 1) < 0.06


def test_a_coarse_converter_does_not_spoil_the_variance() -> None:
    rng = np.random.default_rng(3)
    image = (16.0 * np.round(rng.normal(60.0, 1.1, (320, 320)))).astype(np.float32)
    _, variance = background(image, clean_flags(image), lattice_of(None))
    assert abs(variance[0] / (256 * (1.1**2 + 1 / 12)) - 1) < 0.06  # Sheppard: the step adds 1/12


def test_a_gradient_is_followed_and_adds_no_variance() -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[0:320, 0:320]
    image = (300 + 0.2 * x - 0.1 * y + rng.normal(0, 5.0, x.shape)).astype(np.float32)
    levels, variance = background(image, clean_flags(image), lattice_of(None))
    centre = 15.5 + 32 * np.arange(10)
    expected = 300 + 0.2 * centre[None, :] - 0.1 * (centre - 0.5)[:, None]  # even rows only: half a row up
    assert np.abs(levels[0] - expected).max() < 5 * 6.0 / np.sqrt(512)
    assert abs(variance[0] / 25.0 - 1) < 0.06


@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (0, 1), (3, 7)])
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_bands_are_told_by_the_absolute_pixel(pattern: str, origin: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    shape = (96, 128)
    bands = [rng.normal(mean, 3.0, shape) for mean in (100, 200, 300)]
    image = mosaic(pattern, shape, bands, *origin).astype(np.float32)
    levels, variance = background(image, clean_flags(image), lattice_of(pattern), origin)
    for band, mean in enumerate((100, 200, 300)):
        assert np.abs(levels[band] - mean).max() < 5 * 3.0 / np.sqrt(96)
        assert abs(variance[band] / 9.0 - 1) < 0.2


def test_stars_lift_the_level_by_less_than_a_tenth_of_the_noise() -> None:
    rng = np.random.default_rng(6)
    shape = (320, 320)
    places = scatter_stars(rng, 60, shape)
    image = stars_image(shape, *places.T, rng.uniform(500, 20000, 60), 3.0) + rng.normal(100, 10, shape)
    levels, _ = background(image.astype(np.float32), clean_flags(image), lattice_of(None))
    assert 0 <= np.median(levels) - 100 < 1.0


def test_flagged_and_missing_pixels_take_no_part() -> None:
    rng = np.random.default_rng(7)
    image = rng.normal(50.0, 4.0, (64, 64)).astype(np.float32)
    flags = clean_flags(image)
    image[:32, :32], flags[:32, :32] = 1e6, 8
    image[40, 40] = np.nan
    levels, variance = background(image, flags, lattice_of(None), bad=BAD)
    assert np.isnan(levels[0, 0, 0])
    assert np.abs(levels[0][np.isfinite(levels[0])] - 50).max() < 5 * 4.0 / np.sqrt(500)
    assert abs(variance[0] / 16 - 1) < 0.25
    filled = smooth_levels(levels)
    assert np.isfinite(filled).all()


def test_smoothing_is_the_median_of_nine_inside() -> None:
    levels = np.random.default_rng(8).normal(0, 1, (2, 9, 11)).astype(np.float32)
    ours = smooth_levels(levels)
    for band in range(2):
        assert np.allclose(ours[band, 1:-1, 1:-1], median_filter(levels[band], 3)[1:-1, 1:-1], atol=0)


def test_levels_between_block_centres_are_bilinear() -> None:
    levels = np.arange(12, dtype=np.float64).reshape(1, 3, 4)  # 4 i + j
    assert level_at(levels, 0, 15.5, 15.5) == 0.0
    assert level_at(levels, 0, 15.5 + 16, 15.5 + 8) == pytest.approx(2.25)
    assert level_at(levels, 0, -50.0, 1000.0) == 3.0
