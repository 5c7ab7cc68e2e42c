"""Measuring against programs of others: photutils (apertures), sep (background, finding), astroalign (transforms)."""

from __future__ import annotations

import astroalign
import numpy as np
import pytest
import sep
from photutils.aperture import CircularAperture
from photutils.aperture import aperture_photometry as photutils_photometry
from photutils.geometry import circular_overlap_grid

from getframes_xr.face.lazy import lazy
from getframes_xr.measure.background import lattice_of
from getframes_xr.measure.overlap import overlap
from getframes_xr.measure.photometry import aperture_photometry
from getframes_xr.measure.registration import register
from getframes_xr.measure.stars import scan_frame
from tests.frames import held_frames
from tests.measure.star_fields import noisy, scatter_stars, stars_image
from tests.measure.star_tables import apply, invert, move_of, sky_of, star_table

SHAPE = (256, 320)


@pytest.mark.parametrize("radius", [0.4, 1.0, 3.7, 9.2])
def test_pixel_shares_are_those_of_photutils(radius: float) -> None:
    n = 2 * int(radius + 3) + 1
    ours = [[overlap(y - n // 2 - 0.31, x - n // 2 + 0.17, radius) for x in range(n)] for y in range(n)]
    edges = np.array([-0.5, n - 0.5]) - n // 2
    theirs = circular_overlap_grid(
        edges[0] + 0.17, edges[1] + 0.17, edges[0] - 0.31, edges[1] - 0.31, n, n, radius, 1, 1
    )
    assert np.allclose(ours, theirs, atol=1e-12)


def test_sums_are_those_of_photutils() -> None:
    rng = np.random.default_rng(91)
    places = scatter_stars(rng, 20, SHAPE, margin=30)
    image = noisy(rng, stars_image(SHAPE, *places.T, rng.uniform(500, 5e4, 20), 3.0) + 40)
    table = aperture_photometry(lazy(held_frames(image[None], exposure_s=[1.0])), places, 4.3, (9.0, 17.0)).load()
    sky = table["sky"].values[0]
    theirs = photutils_photometry(image.astype(np.float64), CircularAperture(places[:, ::-1], r=4.3))["aperture_sum"]
    ours = table["flux"].values[0, :, 0] + sky * np.pi * 4.3**2
    assert np.allclose(ours, theirs, rtol=1e-9)


def test_the_sky_and_noise_are_those_of_sep() -> None:
    rng = np.random.default_rng(92)
    places = scatter_stars(rng, 40, SHAPE)
    image = noisy(rng, stars_image(SHAPE, *places.T, rng.uniform(500, 3e4, 40), 3.0) + 120)
    scan = scan_frame(image, np.zeros(SHAPE, np.uint16), lattice_of(None))
    theirs = sep.Background(image, bw=32, bh=32)
    assert abs(np.median(scan.levels) - theirs.globalback) < 0.1 * theirs.globalrms
    assert abs(np.sqrt(scan.variance[0]) / theirs.globalrms - 1) < 0.06


def test_stars_and_places_are_those_of_sep() -> None:
    rng = np.random.default_rng(93)
    places = scatter_stars(rng, 40, SHAPE)
    image = noisy(rng, stars_image(SHAPE, *places.T, rng.uniform(3000, 3e4, 40), 3.0) + 60)
    scan = scan_frame(image, np.zeros(SHAPE, np.uint16), lattice_of(None))
    theirs = sep.extract(image - sep.Background(image).back(), 5.0, err=sep.Background(image).globalrms, minarea=5)
    x, y, _ = sep.winpos(image - sep.Background(image).back(), theirs["x"], theirs["y"], 1.27)
    d = np.hypot(scan.y[:, None] - y, scan.x[:, None] - x)
    assert (d.min(0) < 0.12).mean() > 0.97
    assert len(scan.y) == pytest.approx(len(y), abs=2)


@pytest.mark.parametrize("turn_deg", [5.0, 130.0])
def test_transforms_are_those_of_astroalign(turn_deg: float) -> None:
    rng = np.random.default_rng(94)
    moves = [move_of(0.0), move_of(turn_deg, (14.0, -22.0), 1.0005)]
    table = star_table(rng, moves, sky_of(rng))
    found = register(table, reference=0)
    lists = [np.stack([table["x"].values[f], table["y"].values[f]], 1)[:40] for f in (1, 0)]
    theirs, _ = astroalign.find_transform(*lists)
    corners = np.array([[50.0, 60.0], [600.0, 80.0], [300.0, 800.0]])
    ours = apply(found["transform"].values[1], corners)
    assert np.abs(ours - theirs(corners[:, ::-1])[:, ::-1]).max() < 0.15  # its control points are few
    truth = apply(moves[0], apply(invert(moves[1]), corners))
    assert np.abs(ours - truth).max() < np.abs(theirs(corners[:, ::-1])[:, ::-1] - truth).max() + 0.02
