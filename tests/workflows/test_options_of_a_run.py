"""An option is stated once: its phases, its flag and its place in TOML follow, and a run redoes what depends on it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.app import cli
from getframes_xr.core.digest import digest
from getframes_xr.workflows.session import PHASES, STANDS_ON, ReduceOptions, reduce_session
from getframes_xr.workflows.validate import stack_of

OTHER: dict[str, Any] = {
    "keep": 0.8,
    "frame_list": "chosen.txt",
    "canvas": "reference",
    "target": (40.0, 50.0),
    "compare": ((30.0, 60.0),),
    "at": 3,
    "radius_px": 4.0,
    "kappa": 5.0,
    "tolerance": 3.0,
    "lines": False,
}


def test_every_option_says_which_phases_it_decides() -> None:
    assert set(OTHER) == set(ReduceOptions.model_fields), "a new option: give it another value here"
    for name in ReduceOptions.model_fields:
        phases = ReduceOptions.decides(name)
        assert phases and phases <= set(PHASES), f"{name} decides {set(phases) or 'no phase'}"


@pytest.mark.parametrize("name", sorted(OTHER))
def test_another_value_changes_the_keys_of_just_the_phases_it_decides_and_those_on_them(name: str) -> None:
    one, other = ReduceOptions(), ReduceOptions(**{name: OTHER[name]})
    changed = {phase for phase in PHASES if digest(one.deciding(phase)) != digest(other.deciding(phase))}
    declared = ReduceOptions.decides(name)
    assert changed == {phase for phase in PHASES if declared & {phase, *STANDS_ON[phase]}}


def test_every_option_has_a_flag_and_a_place_in_toml() -> None:
    flags = set(inspect.signature(cli.reduce).parameters)
    assert set(ReduceOptions.model_fields) <= flags
    changed = ReduceOptions(**OTHER)
    assert ReduceOptions.from_toml(changed.to_toml()) == changed


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small frames with stars."""
    folder = tmp_path_factory.mktemp("night")
    camera = gx.Camera.preset("generic_cmos").replace(shape=(110, 130))
    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.1, plate_scale_arcsec_per_px=2.0, band="johnson_V"),
        psf=gx.psf.Moffat(fwhm_arcsec=6.0, beta=3.0),
        sources=[gx.StarField(n=80, magnitude=(7.0, 12.0), seed=4), gx.Sky(mag_per_arcsec2=20.0)],
        pointing=gx.Pointing(jitter_arcsec=3.0),
    )
    exposures = gx.Exposures(n=8, exposure_s=10.0, start="2026-03-01T02:00:00")
    gx.save_fits_frames(gx.observe(scene, camera, exposures, seed=1, planes=("adu",)), folder / "light")
    return folder


@pytest.fixture(scope="module")
def run_folder(night: Path) -> Iterator[Path]:
    yield reduce_session(night / "light", out=night / "run").folder


def made(folder: Path) -> dict[str, bool]:
    """Of the last run's manifest: phase -> whether it was made, not kept."""
    phases = json.loads((folder / "manifest.json").read_text())["phases"]
    return {name: not facts["skipped"] for name, facts in phases.items()}


def command(*words: str) -> int:
    return cli.run(list(words))


def test_the_same_folder_with_another_target_makes_the_light_curve_alone(night: Path, run_folder: Path) -> None:
    place = ("reduce", str(night / "light"), "--out", str(run_folder))
    assert command(*place, "--target", "60,70", "--compare", "40,50", "--radius-px", "4") == 0
    assert {name for name, anew in made(run_folder).items() if anew} == {"light_curve"}
    assert (run_folder / "light_curve.csv").is_file()


def test_another_kappa_makes_the_stack_alone_and_validation_takes_the_stack_of_this_run(
    night: Path, run_folder: Path
) -> None:
    place = ("reduce", str(night / "light"), "--out", str(run_folder))
    assert command(*place, "--kappa", "2.0") == 0
    assert {name for name, anew in made(run_folder).items() if anew} == {"stack"}
    assert len(list((run_folder / "phases").glob("stack-*.zarr"))) == 2
    for kappa in (2.0, 4.0):
        run = reduce_session(night / "light", out=run_folder, options=ReduceOptions(kappa=kappa))
        (key,) = run.manifest["phases"]["stack"]["keys"]
        expected = gx.open_frames(run_folder / "phases" / f"stack-{key}.zarr")["image"].values
        assert np.array_equal(stack_of(run)["image"].values, expected, equal_nan=True)


def test_frames_of_another_session_are_refused_with_the_difference_named(
    night: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (night / "other").mkdir()
    for path in sorted((night / "light").iterdir())[:4]:
        (night / "other" / path.name).write_bytes(path.read_bytes())
    assert command("reduce", str(night / "other"), "--out", str(run_folder)) == 2
    said = capsys.readouterr().err
    assert "holds a run of other frames" in said and "other" in said and said.count("\n") == 1


@pytest.mark.parametrize("phase, extra", [("masters", []), ("lines", ["--no-lines"]), ("stack", [])])
def test_from_a_phase_on_all_later_ones_are_made_whether_or_not_it_runs(
    night: Path, run_folder: Path, phase: str, extra: list[str]
) -> None:
    """This session has no masters, and --no-lines leaves the lines out."""
    place = ("reduce", str(night / "light"), "--out", str(run_folder))
    assert command(*place, *extra) == 0
    assert command(*place, "--from-phase", phase, *extra) == 0
    later = PHASES[PHASES.index(phase) :]
    assert made(run_folder) and all(anew == (name in later) for name, anew in made(run_folder).items())


@pytest.mark.parametrize(
    "words, said",
    [
        (["--target", "500,70", "--compare", "40,50"], "target=(500.0, 70.0) is not allowed; allowed: y in 0..109"),
        (["--target", "60,70", "--compare", "40,-1"], "compare=(40.0, -1.0) is not allowed"),
        (["--target", "60,70"], "at least one comparison star Y,X"),
        (["--compare", "60,70"], "the star Y,X that is compared"),
        (["--target", "60,70", "--compare", "40,50", "--at", "99"], "at=99 is not allowed; allowed: the number of one"),
        (["--frame-list", "LIST"], "names nobody.fits, which is no light frame of this session"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_cannot_be_is_refused_before_anything_is_made(
    night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str, dry: list[str]
) -> None:
    chosen = tmp_path / "list.txt"
    chosen.write_text("\n".join([path.name for path in sorted((night / "light").iterdir())[:3]] + ["nobody.fits"]))
    words = [str(chosen) if word == "LIST" else word for word in words]
    out = tmp_path / "run"
    assert command("reduce", str(night / "light"), "--out", str(out), *words, *dry) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not out.exists()


def test_a_dry_run_counts_the_frames_that_the_run_takes(
    night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two filters: the run takes the one with more exposure, and so says the dry run."""
    from astropy.io import fits

    both = tmp_path / "both"
    both.mkdir()
    for number, path in enumerate(sorted((night / "light").iterdir())[:6]):
        with fits.open(path) as file:
            file[0].header["FILTER"] = "R" if number < 4 else "B"
            file.writeto(both / path.name)
    assert command("reduce", str(both), "--out", str(tmp_path / "run"), "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "lights to reduce: 4 of 6" in shown and "filter R is reduced; left: B" in shown
    assert not (tmp_path / "run").exists()
    assert len(reduce_session(both, out=tmp_path / "run").manifest["frames"]) == 4


def test_what_the_user_says_are_darks_are_darks(
    night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without IMAGETYP, in a folder that is not called dark; a card still wins over the word."""
    from astropy.io import fits

    (tmp_path / "lights").mkdir()
    (tmp_path / "calib").mkdir()
    for number, path in enumerate(sorted((night / "light").iterdir())):
        with fits.open(path) as file:
            file[0].header.remove("IMAGETYP", ignore_missing=True)
            file[0].header.remove("FRAME", ignore_missing=True)
            if number == 7:
                file[0].header["IMAGETYP"] = "Bias Frame"
            file.writeto(tmp_path / ("lights" if number < 4 else "calib") / f"x{number}.fits")
    words = ("reduce", str(tmp_path / "lights"), "--darks", str(tmp_path / "calib"), "--dry-run")
    assert command(*words, "--out", str(tmp_path / "run")) == 0
    shown = capsys.readouterr().out
    assert "lights to reduce: 4 of 4" in shown
    session = gx.open_session(tmp_path / "lights", tmp_path / "calib", told={"dark": tmp_path / "calib"})
    assert {name: session[name].sizes["time"] for name in ("lights", "darks", "biases")} == {
        "lights": 4, "darks": 3, "biases": 1
    }  # fmt: skip


def test_frames_without_an_exposure_are_stacked_and_the_hours_are_not_told(
    night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from astropy.io import fits

    (tmp_path / "lights").mkdir()
    for path in sorted((night / "light").iterdir()):
        with fits.open(path) as file:
            for key in ("EXPTIME", "EXPOSURE"):
                file[0].header.remove(key, ignore_missing=True)
            file.writeto(tmp_path / "lights" / path.name)
    out = tmp_path / "run"
    assert command("reduce", str(tmp_path / "lights"), "--out", str(out)) == 0
    said = capsys.readouterr()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["session"]["hours"] is None and (out / "stack.fits").is_file() and (out / "report.html").is_file()
    (warning,) = (text for text in manifest["session"]["warnings"] if "EXPTIME" in text)
    assert "exposure of 8 frames is not known" in warning and "unexpected" not in said.err + said.out
