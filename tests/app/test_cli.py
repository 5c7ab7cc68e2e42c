"""The commands do what their help says, in words a person can use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.app.cli import run
from tests.app.manifests import manifest, run_folder
from tests.app.sessions import experiment, lights

COMMANDS = ("demo", "presets", "simulate", "frames", "reduce", "validate", "plan", "report")


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Output of a command that ends well."""
    capsys.readouterr()
    code = run([str(item) for item in arguments])
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    return shown.out


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom getframes_xr.app.cli import run\nrun(['--help'])\n"
        "print(sorted({'numpy', 'xarray', 'astropy', 'numba', 'dask', 'matplotlib', 'zarr'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", out)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, name, "--help")
    assert "Usage:" in out
    assert "--debug" in out


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version").strip() == f"getframes-xr {gx.__version__}"


def test_presets_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "presets")
    for name in gx.Camera.presets():
        assert name in out
    assert str(gx.Camera.preset("generic_ccd")) in said(capsys, "presets", "generic_ccd")
    text = said(capsys, "presets", "seestar_s50", "--toml")
    assert gx.Camera.from_toml(text) == gx.Camera.preset("seestar_s50")


def test_simulate_writes_what_observe_says_and_goes_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = experiment(tmp_path, **{"seed = 3": "seed = 3\ndarks = 2"})
    out = said(capsys, "simulate", path)
    assert out.splitlines()[0] == f"writing to {tmp_path / 'night.zarr'}"
    stored = gx.open_frames(tmp_path / "night.zarr")
    from getframes_xr.workflows.observe import load_experiment

    np.testing.assert_array_equal(stored["adu"].values, load_experiment(path).observe()["adu"].values)
    assert gx.open_frames(tmp_path / "night_darks.zarr").sizes["time"] == 2
    assert "kept from before" in said(capsys, "simulate", path)


def test_frames_and_plan_say_what_is_in_a_store_and_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = experiment(tmp_path)
    said(capsys, "simulate", path)
    out = said(capsys, "frames", tmp_path / "night.zarr")
    assert re.search(r"store\s+8\s+20\s+0\.04\s+160 x 200\s+mono\s+2026-03-01 02:00:00\s+generic CCD", out)
    assert "planes: adu, truth_electrons, flags" in out
    folder = lights(tmp_path / "fits", frames=3)
    (folder / "notes.txt").write_text("clouds")
    truncated = folder / "light_002.fits"
    truncated.write_bytes(truncated.read_bytes()[:20000])
    out = said(capsys, "frames", folder)
    assert re.search(r"lights\s+2\s+20\s", out)
    assert re.search(r"light_002\.fits\s+\w*\s+unusable\s+.*truncated", out)
    assert "notes.txt" not in out
    assert "notes.txt" in said(capsys, "frames", folder, "--all")
    for source in (path, tmp_path / "night.zarr", folder):
        assert "forecast" in said(capsys, "plan", source, "--memory", "1GiB")


def test_report_writes_the_page_anew(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", manifest(frames=5), shape=(60, 80))
    assert said(capsys, "report", folder).strip() == str(folder / "report.html")
    assert (folder / "report.html").stat().st_size > 10_000


def as_from_a_terminal() -> None:
    """A shell's background jobs, and so tests run in one, ignore interrupts; a command at a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.nice(5)


def test_an_interrupt_ends_with_one_line_and_130(tmp_path: Path) -> None:
    path = experiment(tmp_path, **{"n = 8": "n = 4000", "[160, 200]": "[512, 512]"})
    command = [sys.executable, "-m", "getframes_xr.app.cli", "simulate", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_from_a_terminal
    )
    deadline = time.monotonic() + 60
    done = tmp_path / "night.zarr" / "adu"
    while not list(done.glob(".gx/done/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == ["getframes-xr: interrupted; the same command goes on where it stopped"]


def test_frames_takes_one_file_and_says_why_another_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that is named itself, whole and cut off, as the help promises."""
    paths = gx.save_fits_frames(gx.lazy(lights_of_one()), tmp_path / "night")
    assert "1" in said(capsys, "frames", paths[0]) and run(["frames", str(paths[0])]) == 0
    whole = Path(paths[0]).read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert run(["frames", str(tmp_path / "cut.fits")]) == 2
    error = capsys.readouterr().err
    assert "cut.fits" in error and "no frame can be used" in error and error.count("\n") == 1
    assert run(["frames", str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def lights_of_one() -> object:
    from tests.laws.producers import raw

    return raw((1, 60, 80))
