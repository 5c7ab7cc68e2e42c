"""Transparency, sky and weights from tables; exclusions and their reasons."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import DataError
from getframes_xr.measure.registration import register
from getframes_xr.reduce.normalise import block_centres, fit_plane, normalise, transparencies
from tests.measure.star_tables import CENTRE, SHAPE, apply, invert, move_of, sky_of, star_table


def night(transparency, seed=81, **changes):
    rng = np.random.default_rng(seed)
    n = len(transparency)
    moves = [move_of(1.5 * k, (2.0 * k, -1.0 * k)) for k in range(n)]
    stars = star_table(rng, moves, sky_of(rng), transparency=np.asarray(transparency), **changes)
    return rng, moves, stars


def test_transparency_is_that_of_the_stars() -> None:
    truth = 1 - 0.25 * np.sin(np.arange(20) / 3) ** 2
    _, _, stars = night(truth)
    found = normalise(stars, register(stars))["transparency"].values
    # 60 stars of 1 % added error and better: 0.15-0.3 %
    assert np.std(found / truth) / np.mean(found / truth) < 0.004
    assert np.median(found) == pytest.approx(1.0)


def test_one_lying_star_does_not_pull_a_frame() -> None:
    rng = np.random.default_rng(82)
    flux = np.outer(np.linspace(0.8, 1.2, 9), rng.uniform(5e3, 5e4, 30)) + rng.normal(0, 30, (9, 30))
    straight = transparencies(flux, np.full(flux.shape, 30.0))
    flux[4, 7] *= 3.0
    assert abs(transparencies(flux, np.full(flux.shape, 30.0))[4] / straight[4] - 1) < 0.003


def test_frames_without_any_star_have_no_transparency() -> None:
    flux = np.full((3, 5), 1000.0)
    flux[1] = np.nan
    found = transparencies(flux, np.full((3, 5), 10.0))
    assert np.isnan(found[1]) and np.allclose(found[[0, 2]], 1)


def test_clouds_streaks_and_strangers_are_left_out_and_named() -> None:
    truth = np.ones(12)
    truth[4] = 0.12
    _, _, stars = night(truth)
    stars["variance"].values[4] = 230.0
    stars["moment_cross"].values[7] = -0.7
    stars["y"].values[9] = np.nan
    stars["x"].values[9] = np.nan
    stars["elongation"].values[9] = 0.5
    found = normalise(stars, register(stars))
    assert np.array_equal(np.flatnonzero(~found["used"].values), [4, 7, 9])
    assert found["reason"].values[[4, 7, 9]].tolist() == ["too_dim", "elongated", "no_match"]
    verdict = found["verdict"].values
    assert verdict[4].startswith("transparency 0.12, weight 0.0") and verdict[7].startswith("shape: elongation 0.5")
    assert verdict[9] == "no match: 0 stars found (elongation 0.50), no pattern in common with the reference"
    assert (found["weight"].values[[4, 7, 9]] == 0).all() and (np.delete(found["weight"].values, [4, 7, 9]) > 0).all()
    assert (verdict[found["used"].values] == "used").all()


def test_bad_seeing_and_a_bright_sky_alone_do_not_exclude() -> None:
    _, _, stars = night(np.ones(10))
    stars["fwhm_px"].values[3] = 9.0
    stars["star_fwhm_px"].values[3] = 9.0
    stars["variance"].values[6] = 5 * 120.0
    found = normalise(stars, register(stars))
    assert found["used"].all()
    assert found["weight"].values[6, 0] / np.median(found["weight"].values) == pytest.approx(0.2, rel=0.02)


def test_a_frame_behind_a_tree_is_left_out_though_its_sky_is_dark() -> None:
    _, _, stars = night([1.0, 1.02, 0.25, 0.99])
    stars["variance"].values[2] = 40.0
    found = normalise(stars, register(stars))
    assert not found["used"].values[2] and found["reason"].values[2] == "too_dim"
    # the sky is dark, so the weight alone (0.25^2 x 120 / 40 of the median) would have kept it
    numbers = found["reason_numbers"].isel(time=2).dropna("number")
    assert numbers["number"].values.tolist() == ["transparency", "weight", "light"]
    assert numbers.values == pytest.approx([0.25, 0.19, 0.245], rel=0.03)


def test_short_exposures_are_not_taken_for_clouds() -> None:
    truth = np.where(np.arange(8) % 2, 1.0, 0.3)
    _, _, stars = night(truth)
    stars = stars.assign_coords(exposure_s=("time", 10 * truth))
    stars["variance"].values[:, 0] = 120 * truth
    assert normalise(stars, register(stars))["used"].all()


def sky_blocks(moves, transparency, levels, slopes, rng, nebula=40.0):
    """Blocks of frames that see one nebula (fixed to the sky) through their own planes."""
    y, x = block_centres(SHAPE, (0, 0))
    yy, xx = np.meshgrid(y, x, indexing="ij")
    out = np.empty((len(moves), 1, *yy.shape), np.float32)
    for f, move in enumerate(moves):
        place = apply(invert(move), np.stack([yy.ravel(), xx.ravel()], 1)).reshape(*yy.shape, 2) - CENTRE
        light = nebula * np.exp(-0.5 * ((place[..., 0] / 120) ** 2 + ((place[..., 1] - 80) / 160) ** 2))
        plane = levels[f] + slopes[f, 0] * (yy - CENTRE[0]) + slopes[f, 1] * (xx - CENTRE[1])
        out[f, 0] = plane + transparency[f] * light + rng.normal(0, 0.4, yy.shape)
    return out


def test_the_sky_is_told_from_a_nebula_that_fills_the_frame() -> None:
    n = 16
    rng = np.random.default_rng(83)
    truth = 1 - 0.02 * np.arange(n)
    _, moves, stars = night(truth)
    levels = 80 + 8 * np.sin(np.arange(n))
    slopes = 0.02 * np.stack([np.cos(np.arange(n) / 4), np.sin(np.arange(n) / 4)], 1)
    stars["sky"].values[:] = sky_blocks(moves, truth, levels, slopes, rng)
    found = normalise(stars, register(stars))
    assert np.allclose(found.attrs["centre_px"], CENTRE)
    sky = found["sky"].values[:, 0]
    # what makes steps in a stack is the difference from frame to frame; a common offset does not
    rest = sky[:, 0] - levels
    assert np.std(rest) < 0.5
    tilt = (sky[:, 1:] - slopes) * np.array(SHAPE) / 2
    assert np.abs(tilt - tilt.mean(0)).max() < 1.0


def test_a_plane_is_fitted_through_stars_one_sidedly() -> None:
    rng = np.random.default_rng(84)
    y, x = rng.uniform(-400, 400, (2, 600))
    value = 50 + 0.01 * y - 0.02 * x + rng.normal(0, 0.3, 600)
    value[:90] += rng.uniform(1, 60, 90)
    value[100] = np.nan
    plane = np.zeros(3)
    kept = fit_plane(value, y, x, 3.0, 1.5, 8, plane)
    assert 350 < kept < 520
    assert abs(plane[0] - 50) < 0.15  # cutting the upper side at 1.5 sigma shifts the mean by about -0.1 sigma
    assert np.abs(plane[1:] - [0.01, -0.02]).max() < 5 * 0.3 / 230 / np.sqrt(450)


def test_without_shared_stars_every_frame_counts_alike() -> None:
    _, _, stars = night(np.ones(4))
    moves = register(stars)
    moves["match"].values[:] = -1
    found = normalise(stars, moves)
    assert found.attrs["n_transparency_stars"] == 0 and (found["transparency"] == 1).all() and found["used"].all()


def test_tables_that_do_not_belong_together_are_refused() -> None:
    _, _, stars = night(np.ones(5))
    moves = register(stars)
    with pytest.raises(DataError, match="different frames"):
        normalise(stars.isel(time=[0, 1, 2]), moves)
    with pytest.raises(DataError, match="has no"):
        normalise(stars.drop_vars("sky"), moves)
