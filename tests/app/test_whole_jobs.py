"""Whole jobs as typed: flags and TOML reach what they decide, and what is written down is what happened.

The night is made so that nothing is neutral: frames numbered from 0 in the order of the files, clear ones scattered
among cloudy ones, a drift that differs along y and x, one variable star far off the diagonal, a mirror place of which
shows another star.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.app.cli import run
from getframes_xr.workflows.validate import Figure, without_truth

SHAPE, N = (260, 300), 12
CLEAR = (1, 4, 5, 8, 10, 11)  # the other frames see half of the light
VARIABLE, MIRROR, STEADY = (60.0, 190.0), (190.0, 60.0), ((200.0, 230.0), (120.0, 90.0))
DIP = (40.0, 75.0)  # seconds: frames 4..6
DRIFT = (0.10, -0.06)  # arcsec/s; 2 arcsec/px
COMMAND = ["--canvas", "reference"]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lights as FITS files."""
    places = np.array([VARIABLE, MIRROR, *STEADY])
    stars = gx.Stars(
        y=places[:, 0], x=places[:, 1], magnitude=[8.6, 8.6, 8.3, 8.4], name=["v", "m", "a", "b"],
        light_curve={"v": gx.LightCurve.box(0.3, *DIP)},
    )  # fmt: skip
    clouds = gx.LightCurve.table(
        np.concatenate([[12.0 * k, 12.0 * k + 11.9] for k in range(N)]),
        np.repeat([1.0 if k in CLEAR else 0.5 for k in range(N)], 2),
    )
    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.15, plate_scale_arcsec_per_px=2.0, band="johnson_R"),
        psf=gx.psf.Gaussian(fwhm_arcsec=6.5),
        sources=[stars, gx.StarField(n=60, magnitude=(9.5, 11.5), seed=8), gx.Sky(mag_per_arcsec2=20.0)],
        pointing=gx.Pointing(drift_arcsec_per_s=DRIFT),
        transparency=gx.atmosphere.Transparency(rms_mag=0.0, curve=clouds),
    )
    camera = gx.Camera.preset("generic_ccd").replace(shape=SHAPE).without("hot_pixels", "cosmic_rays")
    exposures = gx.Exposures(n=N, exposure_s=10.0, cadence_s=12.0, start="2026-03-01T02:00:00")
    folder = tmp_path_factory.mktemp("whole")
    gx.save_fits_frames(without_truth(gx.observe(scene, camera, exposures, seed=5)), folder / "lights")
    return folder / "lights"


def reduced(night: Path, out: Path, *flags: object) -> dict[str, Any]:
    assert run(["reduce", str(night), "--out", str(out), *COMMAND, *map(str, flags)]) == 0
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return manifest


def used(manifest: dict[str, Any]) -> set[int]:
    return {record["frame"] for record in manifest["frames"] if record["used"]}


@pytest.fixture(scope="module")
def measured(night: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The night reduced with a target, its flags against a TOML file that says otherwise."""
    out = tmp_path_factory.mktemp("measured")
    (out / "options.toml").write_text("keep = 0.25\ntarget = [190.0, 60.0]\nlines = false\nkappa = 5.0\n")
    flags = ["--options", out / "options.toml", "--keep", 1.0, "--target", "60,190"]
    for y, x in STEADY:
        flags += ["--compare", f"{y},{x}"]
    return out / "run", reduced(night, out / "run", *flags)


def test_a_share_keeps_the_best_frames_and_leaves_the_worst(night: Path, tmp_path: Path) -> None:
    """Half of the light is a quarter of the score: the clear half stays."""
    manifest = reduced(night, tmp_path / "run", "--keep", 0.5)
    assert used(manifest) == set(CLEAR)


def test_flags_win_over_toml_and_toml_over_defaults(measured: tuple[Path, dict[str, Any]]) -> None:
    _, manifest = measured
    assert used(manifest) == set(range(N)), "--keep 1.0 wins over 0.25"
    assert "lines" not in {name for name, phase in manifest["phases"].items() if phase}, "lines = false is the file's"
    assert manifest["canvas"] == {"y": [0, SHAPE[0]], "x": [0, SHAPE[1]]}


def test_toml_alone_decides_where_no_flag_is_given(night: Path, tmp_path: Path) -> None:
    (tmp_path / "options.toml").write_text("keep = 0.25\nlines = false\n")
    manifest = reduced(night, tmp_path / "run", "--options", tmp_path / "options.toml")
    assert len(used(manifest)) == 3 and used(manifest) < set(CLEAR)


def test_a_target_is_y_then_x_and_its_light_curve_is_that_star_s(measured: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = measured
    with open(folder / "light_curve.csv") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    column = next(name for name in rows[0] if "flux" in name and "err" not in name)
    flux = np.array([float(row[column]) for row in rows])
    inside = np.isin(np.arange(N), [4, 5])  # whole exposures within the dip
    beside = np.isin(np.arange(N), [3, 6])  # in part
    assert len(flux) == N
    depth = 1 - flux[inside].mean() / np.median(flux[~inside & ~beside])
    assert abs(depth - 0.3) < 0.02, flux


def test_shifts_in_the_manifest_undo_the_drift(measured: tuple[Path, dict[str, Any]]) -> None:
    """A frame later by t shows its stars DRIFT t further: its transform brings them back to the reference."""
    _, manifest = measured
    records = {record["frame"]: np.asarray(record["transform"], float) for record in manifest["frames"]}
    reference = next(f for f, move in records.items() if np.allclose(move, [[1, 0, 0], [0, 1, 0]], atol=1e-6))
    middle = (np.array(SHAPE) - 1) / 2
    for frame, move in records.items():
        shift = move[:, :2] @ middle + move[:, 2] - middle
        expected = -np.array(DRIFT) * 12.0 * (frame - reference) / 2.0
        np.testing.assert_allclose(shift, expected, atol=0.1, err_msg=str(frame))


@pytest.mark.parametrize(
    ("value", "passed"), [(0.5, True), (1.0, True), (1.1, False), (-0.5, True), (-1.1, False), (np.nan, False)]
)
def test_a_figure_misses_on_either_side(value: float, passed: bool) -> None:
    assert Figure("x", value, 1.0, "px").passed is passed


def test_validate_is_a_command_that_ends_with_0_or_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A night of the yardstick's own kind passes; one whose knocked frame nobody can tell from the others misses."""
    from getframes_xr.workflows.validate import small_night

    def cut(jolt_arcsec: float, shape: tuple[int, int], n: int) -> gx.Experiment:
        whole = small_night()
        jolt = gx.pointing.Jolt(frame=9, dy_arcsec=jolt_arcsec, dx_arcsec=0.8 * jolt_arcsec)
        scene = whole.scene.replace(pointing=whole.scene.pointing.replace(jolts=(jolt,)))
        exposures, camera = whole.exposures.replace(n=n), whole.camera.replace(shape=shape)
        return whole.replace(scene=scene, exposures=exposures, camera=camera)

    cut(45.0, (400, 620), 12).to_toml(tmp_path / "good.toml")
    code = run(["validate", str(tmp_path / "good.toml"), "--out", str(tmp_path / "good")])
    shown = capsys.readouterr()
    assert code == 0 and "MISSED" not in shown.out, shown.out + shown.err
    cut(0.3, (280, 400), 10).to_toml(tmp_path / "calm.toml")  # an eighth of a pixel: no star looks longer
    code = run(["validate", str(tmp_path / "calm.toml"), "--out", str(tmp_path / "calm")])
    shown = capsys.readouterr()
    assert code == 1 and "MISSED" in shown.out, shown.out + shown.err
    assert [line for line in shown.out.splitlines() if "MISSED" in line][0].startswith("ruined frames not named")
