"""Registration of real sessions against the figures measured in the data folder's README (sep and astroalign)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from getframes_xr.io.session import open_session
from getframes_xr.measure.phase import phase_shifts
from getframes_xr.measure.registration import register
from getframes_xr.measure.stars import find_stars
from getframes_xr.reduce.calibrate import calibrate
from getframes_xr.reduce.master import master
from getframes_xr.reduce.normalise import normalise


def lights_of(*folders: Path) -> xr.Dataset:
    return open_session(*folders)["lights"].to_dataset()


def registered(*folders: Path) -> tuple[xr.Dataset, xr.Dataset]:
    stars = find_stars(calibrate(lights_of(*folders))).load()
    return stars, register(stars)


def relative(moves: xr.Dataset, one: int, other: int) -> np.ndarray:
    """Transform (2, 3) from frame position ``one`` to ``other``."""
    full = [np.vstack([moves["transform"].values[f], [0, 0, 1]]) for f in (one, other)]
    return (np.linalg.inv(full[1]) @ full[0])[:2]


def angle(transform: np.ndarray) -> float:
    """Rotation in degrees in the (x, y) sense of the README."""
    return float(np.rad2deg(np.arctan2(transform[0, 1] - transform[1, 0], transform[0, 0] + transform[1, 1])))


def scale(transform: np.ndarray) -> float:
    return float(np.sqrt(np.linalg.det(transform[:, :2])))


@pytest.fixture(scope="module")
def m94(real: Path) -> tuple[xr.Dataset, xr.Dataset]:
    return registered(real / "m94")


def at(moves: xr.Dataset, run: str) -> np.ndarray:
    return np.flatnonzero([run in str(name) for name in moves["file"].values])


@pytest.mark.parametrize("run", ["run_a", "run_b", "run_c"])
def test_every_frame_of_a_run_of_m94_registers(real: Path, run: str) -> None:
    _, moves = registered(real / "m94" / run)
    assert moves["verified"].all()
    assert (moves["rms_px"] <= 0.6).all()  # 0.3 superpixels of the README


def test_all_runs_of_m94_come_onto_one_grid(m94: tuple[xr.Dataset, xr.Dataset]) -> None:
    _, moves = m94
    assert moves["verified"].all() and moves.sizes["time"] == 16
    a, b, c = (at(moves, run)[0] for run in ("run_a", "run_b", "run_c"))
    for one, other, turn, size, shift in (
        (b, a, -0.294, 1.00037, (11.6, -1.7)), (c, a, 69.37, 0.99856, (662.5, 71.7)), (c, b, 69.67, 0.99824, None),
    ):  # fmt: skip
        found = relative(moves, one, other)
        # within the bands of the README: 0.02 deg (0.05 between telescopes); an affine model moves both a little
        assert abs(angle(found) - turn) < (0.02 if one == b else 0.05)
        assert abs(scale(found) - size) < 3e-4
        if shift is not None:  # superpixels, (x, y), of the superpixel (0, 0), whose centre is the pixel (0.5, 0.5)
            moved = found[:, :2] @ [0.5, 0.5] + found[:, 2]
            assert np.abs((moved[::-1] - 0.5) / 2 - shift).max() < (0.3 if one == b else 0.9)


def test_rotation_of_run_c_is_that_of_the_reference_table(real: Path, m94: tuple[xr.Dataset, xr.Dataset]) -> None:
    _, moves = m94
    run = at(moves, "run_c")
    rise = [angle(relative(moves, f, run[0])) for f in run]
    assert max(np.abs(rise)) == pytest.approx(0.151, abs=0.02)


def test_the_field_of_ngc7023_turns_as_its_wcs_says(real: Path) -> None:
    stars, moves = registered(real / "ngc7023")
    assert moves["verified"].all() and moves.attrs["static_detections"] < 10
    alt = at(moves, "altaz_2024")
    turn = [angle(relative(moves, f, alt[0])) for f in alt]
    # star match rotation 0, 0.0555, 0.1660 deg; WCS 57.899, 57.841, 57.730
    assert np.allclose(np.abs(turn), [0, 0.0555, 0.1660], atol=0.012)
    seconds = (moves["time"].values[alt[-1]] - moves["time"].values[alt[0]]) / np.timedelta64(1, "s")
    assert 0.0046 <= abs(turn[-1]) / seconds <= 0.0052
    clipped = relative(moves, at(moves, "eq_2025")[0], alt[0])
    assert abs(angle(clipped) + 121.46) < 0.05 and abs(scale(clipped) - 0.99919) < 3e-4


@pytest.fixture(scope="module")
def tree(real: Path) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    session = open_session(real / "ccd_ub17")
    bias, dark = (master(session[kind].to_dataset()) for kind in ("biases", "darks"))
    flat = master(calibrate(session["flats"].to_dataset(), bias=bias))
    clean = calibrate(session["lights"].to_dataset(), dark=dark, flat=flat)
    stars = find_stars(clean).load()
    return clean, stars, register(stars)


def test_defocused_stars_of_ten_pixels_are_found_and_matched(tree: tuple[xr.Dataset, xr.Dataset, xr.Dataset]) -> None:
    _, stars, moves = tree
    assert (stars["fwhm_px"].values > 8).all() and (stars["detection_scale"].values == 2).all()
    assert moves["verified"].all()
    found = relative(moves, 0, 1)
    centre = np.array([509.5, 764.5])
    # the README's similarity of 22 stars: rotation -0.043 deg, scale 0.99983, shift (x, y) -18.8, -88.1, rms 0.58 px
    t, s = np.deg2rad(-0.043), 0.99983
    expected = s * np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) @ centre + [-88.1, -18.8]
    assert np.abs(found[:, :2] @ centre + found[:, 2] - expected).max() < 3 * 0.58 / np.sqrt(22) + 0.3


def test_the_frame_that_hit_a_tree_is_named_and_left_out(tree: tuple[xr.Dataset, xr.Dataset, xr.Dataset]) -> None:
    _, stars, moves = tree
    normal = normalise(stars, moves)
    assert normal["used"].values.tolist() == [True, False]
    assert normal["reason"].values[1] == "too_dim"
    ratio = normal["transparency"].values[1] / normal["transparency"].values[0]
    assert 0.22 < ratio < 0.30  # star fluxes 0.237 .. 0.267; the sky, 0.349, would be wrong by 40 %


def test_calibration_leaves_a_flat_sky_under_the_stars(tree: tuple[xr.Dataset, xr.Dataset, xr.Dataset]) -> None:
    _, stars, _ = tree
    low, middle, high = np.percentile(stars["sky"].values[0], [5, 50, 95])
    assert (high - low) / middle <= 0.02  # 8.1 % raw


def test_the_moving_cluster_of_m13_is_followed_and_not_the_sensor(real: Path) -> None:
    clean = calibrate(lights_of(real / "m13"))
    shifts = phase_shifts(clean).load()
    moves = register(find_stars(clean).load(), shifts=shifts)
    assert moves["verified"].all()
    assert np.allclose(moves["transform"].values[:, 1, 2], [0.0, 12.6, 24.6], atol=1.5)


def test_no_frame_of_m13_is_verified_at_no_shift(real: Path) -> None:
    _, moves = registered(real / "m13")
    reference = int(np.flatnonzero(moves["frame"].values == moves.attrs["reference_frame"])[0])
    for f in np.flatnonzero(moves["verified"].values):
        if f != reference:
            centre = np.array([519.5, 695.5])
            moved = moves["transform"].values[f]
            assert np.hypot(*(moved[:, :2] @ centre + moved[:, 2] - centre)) > 9


def test_shifts_of_hatp32_are_those_of_the_reference_table(real: Path) -> None:
    _, moves = registered(real / "hatp32")
    assert moves["verified"].all() and moves.sizes["time"] == 142
    with open(real / "hatp32" / "reference_lightcurve.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 142
    names = {Path(str(name)).stem.removesuffix(".FITS"): f for f, name in enumerate(moves["file"].values)}
    for row in rows:
        found = relative(moves, names[row["file"].removesuffix(".FITS")], 0)
        target = found[:, :2] @ [float(row["y_target"]), float(row["x_target"])] + found[:, 2]
        assert np.abs(target - [285.98, 423.08]).max() < 0.5  # its centroids: 0.17 px median, 0.49 px worst
    last = relative(moves, 141, 0)
    moved = last[:, :2] @ [304.7, 150.7] + last[:, 2]
    assert np.abs(moved - [286.0, 423.1]).max() < 0.5
    assert angle(last) == pytest.approx(0.58, abs=0.03)
