"""Sessions of colour telescopes through ``reduce_session``, against the acceptance bands of the data's README."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sep

import getframes_xr as gx
from getframes_xr.workflows.session import ReduceOptions, Run, reduce_session
from tests.real.whole_road import between, boxes, noise_of_boxes, rotation_deg, scale, shift_superpixel, table


def records(run: Run, part: str) -> list[dict]:
    return [record for record in run.manifest["frames"] if part in record["file"]]


def stamp(record: dict) -> str:
    """20250326-212046 of a file's name."""
    return record["file"].split("_IRCUT_")[1].split(".")[0]


@pytest.fixture(scope="module")
def run_a(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return reduce_session(real / "m94" / "run_a", out=tmp_path_factory.mktemp("m94") / "run_a")


@pytest.fixture(scope="module")
def m94(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return reduce_session(real / "m94", out=tmp_path_factory.mktemp("m94") / "all")


def test_every_frame_of_m94_is_used_and_nothing_is_taken_for_a_trail(m94: Run, run_a: Run) -> None:
    for run, count in ((m94, 16), (run_a, 8)):
        assert [record["reason"] for record in run.manifest["frames"]] == ["used"] * count
        assert run.manifest["lines"] == []
        assert max(record["rms_px"] for record in run.manifest["frames"]) <= 2 * 0.3
        text = " ".join(run.manifest["session"]["warnings"])
        assert "already subtracted a dark" in text and "do not subtract another" in text


@pytest.mark.parametrize("run", ["run_a", "run_b", "run_c"])
def test_m94_moves_as_the_reference_table_says(real: Path, m94: Run, run: str) -> None:
    """All three runs registered together: rotation 0.02 deg, scale 3e-4, shift 0.3 superpixels of the table."""
    rows = {
        row["file_stamp"]: row for row in table(real / "m94" / "registration_reference.csv") if row["folder"] == run
    }
    frames = records(m94, run)
    seen = 0
    for record in frames:
        row = rows[stamp(record)]
        found = between(record, frames[0])
        assert rotation_deg(found) == pytest.approx(float(row["rotation_deg"]), abs=0.02)
        assert scale(found) == pytest.approx(float(row["scale"]), abs=3e-4)
        # turned about its corner, the table's own error of rotation (0.2 superpixels rms over 45 stars) moves a shift
        assert np.abs(shift_superpixel(found)[::-1] - [float(row["dx_sp"]), float(row["dy_sp"])]).max() < 0.3
        seen += 1
    assert seen == {"run_a": 8, "run_b": 3, "run_c": 5}[run]


@pytest.mark.parametrize(
    ("one", "other", "turn_deg", "size", "shift_sp", "turn_band_deg"),
    [
        ("run_b", "run_a", -0.294, 1.00037, (11.6, -1.7), 0.02),
        ("run_c", "run_a", 69.37, 0.99856, (662.5, 71.7), 0.05),
        ("run_c", "run_b", 69.67, 0.99824, None, 0.05),
    ],
)
def test_runs_of_two_telescopes_come_onto_one_canvas(
    m94: Run,
    one: str,
    other: str,
    turn_deg: float,
    size: float,
    shift_sp: tuple[float, float] | None,
    turn_band_deg: float,
) -> None:
    found = between(records(m94, one)[0], records(m94, other)[0])
    assert rotation_deg(found) == pytest.approx(turn_deg, abs=turn_band_deg)
    assert scale(found) == pytest.approx(size, abs=3e-4)
    assert np.linalg.det(found[:, :2]) > 0  # no mirror
    if shift_sp is not None:  # 0.05 deg about the corner are 0.8 superpixels on the far side of the frame
        band = 0.3 if turn_band_deg < 0.05 else 0.3 + np.deg2rad(turn_band_deg) * np.hypot(*shift_sp)
        assert np.abs(shift_superpixel(found)[::-1] - shift_sp).max() < band


def test_the_union_of_two_telescopes_is_covered_as_the_frames_lie(m94: Run) -> None:
    stack = gx.open_image(m94.folder / "stack.fits")
    coverage = stack["coverage"].values[0]
    assert coverage.max() == 16 and coverage.min() == 0
    y, x = np.meshgrid(stack["y"].values[::37], stack["x"].values[::41], indexing="ij")
    expected = np.zeros(y.shape)
    for record in m94.manifest["frames"]:
        transform = np.vstack([np.asarray(record["transform"]), [0, 0, 1]])
        there = np.linalg.inv(transform)[:2] @ np.stack([y.ravel(), x.ravel(), np.ones(y.size)])
        inside = (there[0] > -0.5) & (there[0] < 1919.5) & (there[1] > -0.5) & (there[1] < 1079.5)
        expected += inside.reshape(y.shape)
    np.testing.assert_array_equal(coverage[::37, ::41], expected)


def test_eight_frames_of_m94_are_as_deep_as_eight_frames_can_be(real: Path, run_a: Run) -> None:
    """Gain >= 2.75 (sqrt 8 = 2.83), measured on 8 px boxes: the deposit's reach of a pixel does not count there."""
    stack = gx.open_image(run_a.folder / "stack.fits")
    red, green, blue = np.where(stack["coverage"].values == 8, stack["image"].values, np.nan)
    luminance = (red + 2 * green + blue) / 4
    reference = run_a.manifest["reference_frame"]
    lights = gx.open_session(real / "m94" / "run_a")["lights"].to_dataset()
    frame = gx.calibrate(lights)["image"].isel(time=int(np.flatnonzero(lights["frame"].values == reference)[0])).values
    assert noise_of_boxes(frame, 2) == pytest.approx(41.2, abs=0.7)  # sky noise of one frame: 40.7 .. 41.65
    assert noise_of_boxes(frame, 8) / noise_of_boxes(luminance, 8) >= 2.75
    counts = []
    for image in (boxes(frame, 2), boxes(luminance, 2)):  # superpixels, as the README counts them
        empty = ~np.isfinite(image)
        values = np.where(empty, 0, image).astype(np.float32)
        sky = sep.Background(values, mask=empty)
        counts.append(len(sep.extract(values - sky, 5 * sky.globalrms, mask=empty, minarea=2, filter_kernel=None)))
    assert 40 <= counts[0] <= 55 and counts[1] >= 65  # 45 .. 50 in one frame, 73 in a stack by whole pixels


@pytest.fixture(scope="module")
def ngc7023(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = ReduceOptions(lines=False)
    return reduce_session(real / "ngc7023", out=tmp_path_factory.mktemp("ngc7023") / "all", options=options)


def test_the_field_of_ngc7023_turns_as_its_sky_does(real: Path, ngc7023: Run) -> None:
    frames = records(ngc7023, "altaz_2024")
    assert all(record["used"] for record in ngc7023.manifest["frames"]) and len(frames) == 3
    turns = np.array([rotation_deg(between(record, frames[0])) for record in frames])
    seconds = np.array(
        [(np.datetime64(r["time"]) - np.datetime64(frames[0]["time"])) / np.timedelta64(1, "s") for r in frames]
    )
    assert 0.0046 <= abs(turns[-1]) / seconds[-1] <= 0.0052
    assert abs(turns[-1]) == pytest.approx(57.899 - 57.730, abs=0.006)  # the difference of the WCS angles
    rows = {row["file_stamp"]: row for row in table(real / "ngc7023" / "registration_reference.csv")}
    for record, turn in zip(frames, turns, strict=True):
        assert turn == pytest.approx(float(rows[stamp(record)]["rotation_deg"]), abs=0.012)


def test_the_clipped_frame_of_ngc7023_registers_and_is_said_to_be_clipped(ngc7023: Run) -> None:
    (clipped,) = records(ngc7023, "eq_2025")
    found = between(clipped, records(ngc7023, "altaz_2024")[0])
    assert rotation_deg(found) == pytest.approx(-121.46, abs=0.05)
    assert scale(found) == pytest.approx(0.99919, abs=3e-4)
    assert any("black level was cut: 6.5 %" in text for text in ngc7023.manifest["session"]["warnings"])


def test_the_sky_of_ngc7023_goes_onto_the_canvas_the_right_way_round(ngc7023: Run) -> None:
    """The frames' WCS has positive parity. HD 200775 is found in the stack where the stack's own WCS puts it."""
    stack = gx.open_image(ngc7023.folder / "stack.fits")
    reference = next(r for r in ngc7023.manifest["frames"] if r["frame"] == ngc7023.manifest["reference_frame"])
    first = records(ngc7023, "altaz_2024")[0]
    to_canvas = between(first, reference)
    y, x = to_canvas[:, :2] @ [970.58, 480.22] + to_canvas[:, 2]  # centroid of the star in the first frame
    green = stack["image"].sel(band="green", y=slice(int(y) - 6, int(y) + 6), x=slice(int(x) - 6, int(x) + 6)).values
    light = np.clip(np.nan_to_num(green - np.nanmedian(green)), 0, None)
    rows, columns = np.mgrid[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
    centre = np.array([(light * rows).sum(), (light * columns).sum()]) / light.sum()
    assert np.abs(centre - [y, x]).max() < 0.5
    found = np.array(stack.gx.pixel(315.40383, 68.16328))  # 21:01:36.92 +68:09:47.8
    assert np.abs(found - [y, x]).max() < 0.5  # within 0.15 px in each frame, and the registration
