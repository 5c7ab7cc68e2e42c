"""Star fields for the tests of measure: Gaussian stars integrated over pixels by scipy's erf, noise by NumPy."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

COLOURS = {"R": 0, "G": 1, "B": 2}


def stars_image(shape, y, x, flux, fwhm_px):
    """Sum of Gaussian stars of the given total flux, integrated over pixels; pixel centres at integers."""
    sigma = fwhm_px / 2.3548200450309493
    image = np.zeros(shape)
    reach = int(np.ceil(6 * sigma)) + 2
    for b, a, f in zip(y, x, flux, strict=True):
        rows = np.arange(max(0, int(b) - reach), min(shape[0], int(b) + reach + 1))
        columns = np.arange(max(0, int(a) - reach), min(shape[1], int(a) + reach + 1))
        if not len(rows) or not len(columns):
            continue
        edge = np.sqrt(2) * sigma
        py = 0.5 * (erf((rows + 0.5 - b) / edge) - erf((rows - 0.5 - b) / edge))
        px = 0.5 * (erf((columns + 0.5 - a) / edge) - erf((columns - 0.5 - a) / edge))
        image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += f * np.outer(py, px)
    return image


def scatter_stars(rng, n, shape, margin=16.0, apart=14.0):
    """Places (n, 2) at random, no two nearer than ``apart``."""
    places = np.empty((0, 2))
    while len(places) < n:
        new = rng.uniform([margin, margin], [shape[0] - 1 - margin, shape[1] - 1 - margin])
        if not len(places) or np.hypot(*(places - new).T).min() >= apart:
            places = np.concatenate([places, new[None]])
    return places


def mosaic(pattern, shape, bands, y0=0, x0=0):
    """Raw image of a colour filter array from one image per band (3, y, x)."""
    out = np.empty(shape)
    for dy in (0, 1):
        for dx in (0, 1):
            band = COLOURS[pattern[2 * ((y0 + dy) & 1) + ((x0 + dx) & 1)]]
            out[dy::2, dx::2] = bands[band][dy::2, dx::2]
    return out


def noisy(rng, expected_e, read_noise_e=2.0):
    """Electrons with shot and read noise, float32."""
    return (rng.poisson(expected_e) + rng.normal(0, read_noise_e, expected_e.shape)).astype(np.float32)


def rotation(angle_deg, scale=1.0):
    """Matrix for (y, x) columns: what ``transform[:, :2]`` of a frame turned by the angle is."""
    c, s = scale * np.cos(np.deg2rad(angle_deg)), scale * np.sin(np.deg2rad(angle_deg))
    return np.array([[c, s], [-s, c]])
