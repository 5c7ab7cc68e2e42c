"""``validate``: a night, its reduction and its truth; figures that pass when it is right and fail when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.workflows.session import ReduceOptions
from getframes_xr.workflows.validate import (
    HIDDEN,
    Figure,
    Validation,
    common_similarity,
    compare,
    small_night,
    summary,
    true_transforms,
    truth_of,
    validate,
    without_truth,
)


@pytest.fixture(scope="module")
def night() -> gx.Experiment:
    whole = small_night()
    return whole.replace(exposures=whole.exposures.replace(n=12))  # frame 9 is knocked


@pytest.fixture(scope="module")
def validation(night: gx.Experiment, tmp_path_factory: pytest.TempPathFactory) -> Validation:
    return validate(night, out=tmp_path_factory.mktemp("validation"))


def figure(validation: Validation, name: str) -> Figure:
    (found,) = [item for item in validation.figures if item.name.startswith(name)]
    return found


def test_the_reduction_of_a_small_night_is_right(validation: Validation) -> None:
    assert validation.passed, f"\n{validation}"
    names = [item.name for item in validation.figures]
    assert {name.split(",")[0].split(":")[0] for name in names} >= {"transforms", "ruined frames not named", "noise"}
    assert (
        sum(name.startswith("stars, ") for name in names) == 3
        and sum(name.startswith("noise, ") for name in names) == 3
    )
    assert figure(validation, "ruined frames").unit == "of 1"
    assert all(np.isfinite(item.value) for item in validation.figures)


def test_the_reduction_is_told_nothing_of_the_truth(night: gx.Experiment, validation: Validation) -> None:
    raw = gx.open_frames(validation.run.folder.parent / "raw" / "night.zarr")
    assert list(raw.data_vars) == ["adu"] and not set(HIDDEN) & set(raw.coords)
    assert "seed" not in raw.attrs and "scene_seed" not in raw.attrs
    shown = without_truth(night.observe())
    assert set(shown.coords) == set(raw.coords)
    text = json.dumps({name: str(value) for name, value in raw.attrs.items()})
    assert "jolt" not in text and str(night.scene.sources[0].seed) + '"' not in raw.attrs.get("notes", "")


def test_the_truth_is_that_of_the_simulator(night: gx.Experiment) -> None:
    """A star stands in each frame where the true transform of its place says; its electrons are there."""
    truth = truth_of(night)
    assert truth.sizes["time"] == 12 and truth.sizes["band"] == 3
    light = night.scene.frames(night.camera.shape, night.exposures, night.seed, None)
    transforms = true_transforms(light)
    middle = np.hypot(truth["star_y"].values - 270, truth["star_x"].values - 480)
    place = np.array([truth[name].values[middle.argmin()] for name in ("star_y", "star_x")])
    alone = night.scene.replace(sources=(gx.Stars(y=place[0], x=place[1], magnitude=8.0),))
    frames = alone.frames(night.camera.shape, night.exposures, night.seed, None)
    for at in (0, 5, 11):
        window = frames.grid.window.with_frames(type(frames.grid.window.frames)(at, at + 1))
        photons = frames.produce(window, ["photons"])["photons"][0].astype(float)
        y, x = np.indices(photons.shape)
        centroid = np.array([(photons * y).sum(), (photons * x).sum()]) / photons.sum()
        expected = transforms[at, :, :2] @ place + transforms[at, :, 2]
        assert np.abs(centroid - expected).max() < 0.05  # what the frame's borders cut of the wings


def test_one_similarity_is_taken_off_and_no_more() -> None:
    """Frames that turn and move are matched by any common similarity; what differs per frame stays, in pixels."""
    random = np.random.default_rng(2)
    true = np.empty((5, 2, 3))
    for k, turn in enumerate(np.deg2rad([0, 3, 6, 9, 12])):
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        true[k] = np.column_stack([matrix, random.normal(0, 20, 2)])
    common = np.array([[0.8, -0.6, 11.0], [0.6, 0.8, -4.0]]) * [[1.01, 1.01, 1]]
    measured = np.empty_like(true)
    for k, transform in enumerate(true):
        back = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))
        measured[k] = common @ back
    found, error = common_similarity(measured, true, (300, 400))
    assert found == pytest.approx(common, abs=1e-9) and np.abs(error).max() < 1e-9
    measured[3, :, 2] += (0.0, 0.5)
    _, error = common_similarity(measured, true, (300, 400))
    assert np.abs(error[3, :, 1].mean()) == pytest.approx(0.4, abs=0.01)  # of 0.5, a fifth goes into the common shift


def test_a_wrong_result_misses_its_figures(night: gx.Experiment, validation: Validation) -> None:
    truth = truth_of(night)
    wrong = truth.copy(deep=True)
    wrong["transform"].values[4, 0, 2] += 1.0
    wrong["transparency"].values[:] *= np.linspace(0.9, 1.1, 12)
    figures = {item.name: item for item in compare(validation.run, wrong, night, [9, 2])}
    assert not figures["transforms, worst frame"].passed
    assert not figures["transparency, rms error"].passed
    assert figures["ruined frames not named"].value == 1.0 and not figures["ruined frames not named"].passed
    assert "MISSED" in str(Validation(validation.run, tuple(figures.values())))


def test_figures_go_into_a_file_as_plain_numbers(validation: Validation) -> None:
    text = json.dumps(summary(validation))
    assert json.loads(text)["ruined frames not named"] == {"value": 0.0, "limit": 0.0, "unit": "of 1"}


def test_validating_again_goes_on_from_what_is_there(night: gx.Experiment, validation: Validation) -> None:
    again = validate(night, out=validation.run.folder.parent)
    assert all(phase["skipped"] for phase in again.run.manifest["phases"].values())
    assert summary(again) == summary(validation)


def test_options_reach_the_reduction_and_toml_the_experiment(night: gx.Experiment, tmp_path: Path) -> None:
    small = night.replace(exposures=night.exposures.replace(n=5), camera=night.camera.replace(shape=(240, 320)))
    small.to_toml(tmp_path / "night.toml")
    options = ReduceOptions(canvas="reference", lines=False)
    found = validate(tmp_path / "night.toml", out=tmp_path / "out", options=options, ruined=())
    assert found.run.manifest["canvas"] == {"y": [0, 240], "x": [0, 320]}
    assert found.run.manifest["options"]["canvas"] == "reference"
