"""HAT-P-32 through ``reduce_session``: 146 files, 142 frames, a union canvas, the transit in the light curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.optimize import least_squares

import getframes_xr as gx
from getframes_xr.workflows.session import ReduceOptions, Run, reduce_session
from tests.real.whole_road import apply, between, rotation_deg, scale, table

MIDDLE_UT_H = 4 + 57.5 / 60  # of the ephemeris at the observatory, 2017-12-20


@pytest.fixture(scope="module")
def run(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = ReduceOptions(target=(286.0, 423.1), compare=((181.9, 463.9),))
    return reduce_session(real / "hatp32", out=tmp_path_factory.mktemp("hatp32") / "run", options=options)


def test_146_files_are_142_frames_and_4_repeats_all_registered(run: Run) -> None:
    files = [file for file in run.manifest["files"] if file["kind"] == "light"]
    assert len(files) == 146
    assert sum(file["status"] == "duplicate" for file in files) == 4
    assert [record["reason"] for record in run.manifest["frames"]] == ["used"] * 142
    funnel = {step["step"]: step["frames"] for step in run.manifest["funnel"]}
    assert funnel["light frames"] == 146 and funnel["registered"] == funnel["stacked"] == 142
    text = " ".join(run.manifest["session"]["warnings"])
    assert "UT-OBS" in text and "DATE-OBS is local" in text and "4 files duplicate" in text


def test_frames_lie_where_the_reference_table_puts_them(real: Path, run: Run) -> None:
    """Every frame's target and comparison come onto those of the first one: 0.17 px median, 0.49 px worst there."""
    rows = {row["file"].split(".")[0]: row for row in table(real / "hatp32" / "reference_lightcurve.csv")}
    first, errors = run.manifest["frames"][0], []
    for record in run.manifest["frames"]:
        row = rows[Path(record["file"]).name.split(".")[0]]
        found = between(record, first)
        places = [[float(row["y_target"]), float(row["x_target"])], [float(row["y_comp"]), float(row["x_comp"])]]
        errors.append(np.abs(apply(found, places) - [[285.984, 423.082], [181.851, 463.945]]).max())
        assert abs(rotation_deg(found)) < 0.7 and scale(found) == pytest.approx(1.0, abs=8e-4)
    assert np.median(errors) < 0.2 and max(errors) < 0.5
    last = between(run.manifest["frames"][-1], first)
    assert apply(last, [304.7, 150.7]) == pytest.approx([286.0, 423.1], abs=0.5)


def test_the_canvas_is_the_union_and_its_coverage_that_of_the_frames(real: Path, run: Run) -> None:
    """Against the frames' places by the reference table, an independent registration of 0.2 .. 0.5 px."""
    stack = gx.open_image(run.folder / "stack.fits")
    coverage = stack["coverage"].values
    rows, columns = coverage.shape
    assert 500 + 50 < rows < 500 + 90 and 650 + 270 < columns < 650 + 290  # drift 276 px, 50 px at the dome's pauses
    assert coverage.max() == 142
    reference = run.manifest["reference_frame"]
    known = {row["file"].split(".")[0]: row for row in table(real / "hatp32" / "reference_lightcurve.csv")}
    y, x = np.meshgrid(stack["y"].values[::23], stack["x"].values[::29], indexing="ij")
    expected = np.zeros(y.shape, int)
    to_first = [similarity(known[Path(record["file"]).name.split(".")[0]]) for record in run.manifest["frames"]]
    at = next(k for k, record in enumerate(run.manifest["frames"]) if record["frame"] == reference)
    for transform in to_first:
        to_frame = np.linalg.inv(transform) @ to_first[at]
        place = to_frame[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(y.size)])
        inside = (place[0] > -0.5) & (place[0] < 649.5) & (place[1] > -0.5) & (place[1] < 499.5)
        expected += inside.reshape(y.shape)
    difference = np.abs(coverage[::23, ::29].astype(int) - expected)
    assert np.percentile(difference, 95) <= 3 and difference.max() <= 12  # 2 px of drift a frame, 0.2 .. 0.5 px errors
    outside = ~binary_dilation(coverage > 0, np.ones((3, 3)), iterations=2)  # a sample is laid over its neighbours
    assert outside.any() and np.isnan(stack["image"].values[outside]).all()


def similarity(row: dict[str, str]) -> np.ndarray:
    """(3, 3) in (x, y): a frame onto the first one."""
    turn, size = np.deg2rad(float(row["rotation_deg"])), float(row["scale"])
    matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = [float(row["shift_x_px"]), float(row["shift_y_px"])]
    return np.vstack([np.column_stack([matrix, shift]), [0, 0, 1]])


def test_times_are_right_to_the_millisecond(real: Path, run: Run) -> None:
    for record, row in zip(run.manifest["frames"], table(real / "hatp32" / "reference_lightcurve.csv"), strict=True):
        mjd = (np.datetime64(record["time"]) - np.datetime64("1858-11-17")) / np.timedelta64(1, "D")
        assert mjd == pytest.approx(float(row["mjd_utc_mid"]), abs=1.1e-6)  # the table has 6 decimals: 0.09 s
    assert run.manifest["frames"][0]["time"].startswith("2017-12-20T01:34:13.317")


def transit(values: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Trapezoid (middle, length, depth, ingress) times a quadratic baseline, as the README fits it."""
    middle, length, depth, ingress, *baseline = values
    inside = np.clip((length / 2 - np.abs(hours - middle)) / ingress, 0, 1)
    return np.polyval(baseline, hours - 5) * (1 - depth * inside)


def test_the_light_curve_shows_the_transit(run: Run) -> None:
    lines = (run.folder / "light_curve.csv").read_text().splitlines()
    names = lines[0].split(",")
    cells = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    flux = np.array([float(cell["flux"]) for cell in cells])
    error = np.array([float(cell["flux_err"]) for cell in cells])
    times = np.array([np.datetime64(cell["time_utc_mid"]) for cell in cells])
    hours = (times - np.datetime64("2017-12-20")) / np.timedelta64(1, "h")
    assert len(flux) == 142 and np.isfinite(flux).all()
    start = [MIDDLE_UT_H, 2.95, 0.022, 0.3, 0, 0, 1]
    steps = [0.1, 0.1, 0.01, 0.1, 0.01, 0.01, 0.01]
    fit = least_squares(lambda values: transit(values, hours) - flux, start, x_scale=steps)
    middle, length, depth = fit.x[:3]
    assert 0.019 <= depth <= 0.026
    assert abs(middle - MIDDLE_UT_H) * 60 <= 4.0
    assert 2.6 <= length <= 3.4
    assert np.std(np.diff(flux)) / np.sqrt(2) <= 0.0064
    assert np.std(fit.fun[np.abs(hours - middle) > length / 2]) <= 0.0085
    assert 0.3 < np.median(error) / (np.std(np.diff(flux)) / np.sqrt(2)) < 1.5  # errors are those of the scatter
    radius_px = run.manifest["light_curve"]["radius_px"]
    assert 3.0 <= radius_px <= 8.0  # chosen by the data


def test_the_stack_shows_the_night_sharp_and_deep(run: Run) -> None:
    """A sample is laid bilinearly: the mean of sum w^2 is (2/3)^2, so a pixel has 2/3 of the noise of a plain mean."""
    stack = gx.open_image(run.folder / "stack.fits")
    noise = stack["noise"].values[stack["coverage"].values == 142]
    one = np.median([record["variance"]["mono"] for record in run.manifest["frames"]]) ** 0.5
    assert np.nanmedian(noise) * np.sqrt(142) / one == pytest.approx(2 / 3, abs=0.05)
