"""CCD sessions through ``reduce_session``: a whole small night with a ruined frame; a cluster over fixed pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sep

import getframes_xr as gx
from getframes_xr.workflows.session import Run, reduce_session
from tests.real.whole_road import apply, between, boxes


@pytest.fixture(scope="module")
def ub17(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return reduce_session(real / "ccd_ub17", out=tmp_path_factory.mktemp("ub17") / "run")


def test_a_whole_night_is_calibrated_by_its_own_biases_darks_and_flats(ub17: Run) -> None:
    assert ub17.manifest["session"]["masters"] == ["bias", "dark", "flat"]
    kinds = [file["kind"] for file in ub17.manifest["files"]]
    assert [kinds.count(kind) for kind in ("bias", "dark", "flat", "light")] == [2, 2, 2, 2]
    # 1 - 2 thousand pixels above 1000 ADU in the dark, 14.5 thousand above 100 ADU
    assert 1_000 < ub17.manifest["cosmetic"]["hot"] < 15_000


def test_the_frame_that_hit_a_tree_has_no_weight(ub17: Run) -> None:
    good, tree = ub17.manifest["frames"]
    assert good["file"].startswith("UB17-001") and good["used"] and tree["file"].startswith("UB17-033")
    assert not tree["used"] and tree["reason"] == "too_dim"
    assert tree["weight"]["mono"] < 0.1 * good["weight"]["mono"]
    assert 0.22 < tree["transparency"] / good["transparency"] < 0.30  # stars 0.237 .. 0.267; by the sky 0.349
    assert ub17.summary["used"] == 1


def test_both_frames_lie_where_22_stars_put_them(ub17: Run) -> None:
    good, tree = ub17.manifest["frames"]
    centre = np.array([509.5, 764.5])
    turn, size = np.deg2rad(-0.043), 0.99983
    matrix = size * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    # rms 0.58 px over 22 stars, three standard errors, and what an affine model moves
    assert np.abs(apply(between(good, tree), centre) - (matrix @ centre + [-88.1, -18.8])).max() < 0.7


def test_the_calibrated_sky_is_even_and_its_stars_are_stars(real: Path, ub17: Run) -> None:
    """5-95 % of a 64 px mesh within 2 % of the level (8.1 % raw); 120 .. 170 detections at 6 sigma (318 raw)."""
    session = gx.open_session(real / "ccd_ub17")
    lights, biases, darks, flats = (session[k].to_dataset() for k in ("lights", "biases", "darks", "flats"))
    bias = gx.master(biases)
    flat = gx.master(gx.calibrate(flats, bias=bias))
    clean = gx.calibrate(lights, dark=gx.master(darks), bias=bias, flat=flat, cosmetic=gx.cosmetic(lights))
    spreads, found = [], []
    for data, plane in ((lights, "adu"), (clean, "image")):
        image = np.ascontiguousarray(data[plane].isel(time=0).values, np.float32)
        mesh = sep.Background(image, bw=64, bh=64)
        low, middle, high = np.percentile(mesh.back(), [5, 50, 95])
        spreads.append((high - low) / middle)
        found.append(len(sep.extract(image - mesh, 6, err=mesh.rms())))
    assert spreads[0] > 0.07 and spreads[1] <= 0.02
    assert found[0] > 280 and 120 <= found[1] <= 170
    assert gx.open_image(ub17.folder / "stack.fits")["image"].attrs["units"] == "electron"  # EGAIN is in the header


@pytest.fixture(scope="module")
def m13(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return reduce_session(real / "m13", out=tmp_path_factory.mktemp("m13") / "run")


def test_the_cluster_of_m13_is_followed_and_not_the_fixed_pattern(m13: Run) -> None:
    frames = m13.manifest["frames"]
    assert [frame["used"] for frame in frames] == [True] * 3
    centres = np.array([[515.7, 659.7], [515.4, 647.1], [518.5, 635.1]])  # 12-px smoothed centroids of the core
    for frame, centre, dx in zip(frames, centres, (0.0, 12.6, 24.6), strict=True):
        moved = apply(between(frame, frames[0]), centre)
        assert moved[1] - centre[1] == pytest.approx(dx, abs=1.5)
        assert np.abs(moved - centres[0]).max() < 2.0


def test_row_noise_of_m13_is_not_taken_for_trails(m13: Run) -> None:
    assert m13.manifest["lines"] == []


def test_the_core_of_m13_stands_out_in_the_stack_at_one_place(m13: Run) -> None:
    stack = gx.open_image(m13.folder / "stack.fits")
    assert stack["coverage"].values.max() == 3
    reference = next(f for f in m13.manifest["frames"] if f["frame"] == m13.manifest["reference_frame"])
    y, x = apply(between(m13.manifest["frames"][0], reference), [515.7, 659.7])
    image = stack["image"].values
    row, column = int(round(y - stack["y"].values[0])), int(round(x - stack["x"].values[0]))
    core = np.nanmean(image[row - 20 : row + 21, column - 20 : column + 21])
    sky = boxes(np.nan_to_num(image[100:-100, 100:-100]), 41)
    assert core > np.median(sky) + 5 * 1.4826 * np.median(np.abs(sky - np.median(sky)))
