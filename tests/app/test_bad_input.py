"""Bad input ends with one clear line on stderr, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from getframes_xr.app.cli import run
from getframes_xr.core.errors import DataError
from getframes_xr.io.frames import open_frames
from tests.app.sessions import experiment, lights

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must end with exit code 2 and one line on stderr; gives the line."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> str:
        capsys.readouterr()
        code = run([str(item) for item in arguments])
        shown = capsys.readouterr()
        assert code == 2, shown.out + shown.err
        return _only_line(shown.out, shown.err)

    return command


def refused_in_a_process(*arguments: object, cwd: Path, limit_bytes: int | None = None) -> str:
    """The same in a process of its own, where no file may grow beyond ``limit_bytes``."""

    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-m", "getframes_xr.app.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, cwd=cwd, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    return _only_line(done.stdout, done.stderr)


def _only_line(out: str, err: str) -> str:
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("getframes-xr: ")
    assert "Traceback" not in out + err
    return lines[0].removeprefix("getframes-xr: ")


def products(folder: Path) -> list[str]:
    """Files that look like a result, or like half of one."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    finished = ("stack.fits", "stack.png", "manifest.json", "report.html")
    return [
        name for name in found if name.endswith((".partial", ".part", ".tmp")) or os.path.basename(name) in finished
    ]


def test_an_empty_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = refused("reduce", "empty")
    assert "there are no files in it" in line
    assert str(tmp_path / "empty") in line
    assert not (tmp_path / "processed").exists()


def test_a_folder_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    assert "nowhere" in refused("reduce", "nowhere")
    assert not (tmp_path / "processed").exists()


def test_files_that_are_not_fits(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    (folder / "light_001.fits").write_text("this is a letter")
    (folder / "light_002.fits").write_bytes(b"")
    line = refused("reduce", folder)
    assert "no frame can be used" in line
    assert "light_00" in line
    assert not (tmp_path / "processed").exists()


def test_mixed_shapes_where_one_shape_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = lights(tmp_path / "night", frames=2)
    lights(folder / "other", shape=(100, 120), frames=2)
    with pytest.raises(DataError, match=r"100.*120|160.*200"):
        open_frames(folder)
    assert run(["frames", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "160 x 200" in out
    assert "100 x 120" in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jitter_arcsec": "jiter_arcsec"}, ("jiter_arcsec", "does not exist", "jitter_arcsec")),
        ({"jitter_arcsec = 4.0": "jitter_arcsec = -4.0"}, ("jitter_arcsec=-4.0", ">= 0")),
        ({"generic_ccd": "generic_cdc"}, ("generic_cdc", "generic_ccd")),
        ({"seed = 3": "seed == 3"}, ("night.toml", "line 2")),
    ],
)
def test_an_experiment_with_a_wrong_option(
    refused: Refused, tmp_path: Path, changes: dict[str, str], words: tuple[str, ...]
) -> None:
    line = refused("simulate", experiment(tmp_path, **changes))
    for word in words:
        assert word in line
    assert [path.name for path in tmp_path.iterdir()] == ["night.toml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keep = 1.5", ("keep=1.5", "<= 1")),
        ("kep = 0.9", ("kep", "does not exist", "keep")),
        ('canvas = "onion"', ("canvas", "union")),
        ("keep = ", ("options.toml", "not TOML")),
    ],
)
def test_reduce_options_that_are_wrong(refused: Refused, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "options.toml").write_text(text)
    line = refused("reduce", lights(tmp_path / "night", frames=2), "--options", "options.toml")
    for word in words:
        assert word in line
    assert not (tmp_path / "processed").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--keep", "2"), ("keep=2.0", "<= 1")),
        (("--target", "12"), ("--target", "Y,X")),
        (("--kep", "1"), ("No such option", "--kep")),
        (("--from-phase", "nothing"), ("from_phase", "stars")),
        (("--memory", "much"), ("memory", "1GiB")),
        (("--scheduler", "tcp:/x"), ("--scheduler", "tcp://")),
    ],
)
def test_flags_that_are_wrong(refused: Refused, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    line = refused("reduce", lights(tmp_path / "night", frames=2), *flags)
    for word in words:
        assert word in line
    assert products(tmp_path) == []


def test_an_output_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    folder = lights(tmp_path / "night", frames=2)
    (tmp_path / "taken").write_text("a file, not a folder")
    assert "taken" in refused("reduce", folder, "--out", "taken/run")
    assert "taken" in refused("simulate", experiment(tmp_path), "--out", "taken/night.zarr")
    assert (tmp_path / "taken").read_text() == "a file, not a folder"


def test_a_full_disk_leaves_no_product_and_the_run_goes_on_later(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the same write fails, without root."""
    folder = lights(tmp_path / "night")
    line = refused_in_a_process("reduce", folder, "--out", "run", cwd=tmp_path, limit_bytes=40_000)
    assert "run/phases" in line
    assert "free" in line or "disk" in line or "File too large" in line
    assert products(tmp_path) == []
    command = [sys.executable, "-m", "getframes_xr.app.cli", "reduce", str(folder), "--out", "run"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_full_disk_under_a_store_leaves_an_unfinished_store_that_says_so(tmp_path: Path) -> None:
    path = experiment(tmp_path)
    line = refused_in_a_process("simulate", path, cwd=tmp_path, limit_bytes=20_000)
    assert "night.zarr" in line
    if (tmp_path / "night.zarr").exists():
        assert "0 of 8 frames" in refused_in_a_process("plan", "night.zarr", cwd=tmp_path)


def test_a_session_where_nothing_registers(refused: Refused, tmp_path: Path) -> None:
    folder = lights(tmp_path / "night", frames=6, starless=True)
    line = refused("reduce", folder, "--out", "run")
    assert "none of the 6 frames can be used: no match (5), no other frame (1); frame " in line
    assert [name for name in products(tmp_path) if not name.endswith("manifest.json")] == []


def test_a_budget_that_is_too_small(refused: Refused, tmp_path: Path) -> None:
    folder = lights(tmp_path / "night", frames=2)
    for command in (("reduce", folder), ("plan", folder)):
        line = refused(*command, "--memory", "50MiB")
        assert "50 MiB" in line
        assert "memory=" in line
    assert products(tmp_path) == []


def test_a_truncated_frame_is_set_aside_and_the_run_goes_on(tmp_path: Path) -> None:
    import json

    folder = lights(tmp_path / "night")
    whole = (folder / "light_003.fits").read_bytes()
    (folder / "light_003.fits").write_bytes(whole[: len(whole) // 2])
    command = [sys.executable, "-m", "getframes_xr.app.cli", "reduce", str(folder), "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert sum(frame["used"] for frame in facts["frames"]) == 7
    aside = [item for item in facts["files"] if item["file"].endswith("light_003.fits")]
    assert "truncated" in aside[0]["remark"]
    assert "light_003.fits" in (tmp_path / "run" / "report.html").read_text()


def test_a_traceback_is_shown_only_when_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "getframes_xr.app.cli", "frames", "nowhere", "--debug"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


def test_no_frame_of_the_night_is_blank() -> None:
    """The nights of these tests hold stars: what is refused is refused for its own reason."""
    import tempfile

    from astropy.io import fits

    with tempfile.TemporaryDirectory() as name:
        values = fits.getdata(lights(Path(name), frames=1) / "light_000.fits")
    assert np.percentile(values, 99.9) > np.median(values) + 20 * 6
