"""The pages do what they say: their code runs as it stands, their commands and links exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from getframes_xr.app.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WRITTEN = [page for page in PAGES if page.parent.name != "reference"]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def run_page(page: Path, folder: Path) -> str:
    """Run the Python of a page in a folder of its own; blocks that begin with ``# file: name`` become that file."""
    script = []
    for block in blocks(page, "python"):
        named = re.match(r"# file: (\S+)\n", block)
        if named:
            (folder / named[1]).write_text(block[named.end() :])
        else:
            script.append(block)
    (folder / "page.py").write_text("\n".join(script))
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


CODE = [page for page in WRITTEN if blocks(page, "python") and page.parent.name != "tutorial"]


@pytest.mark.parametrize("page", CODE, ids=name)
def test_the_code_of_a_page_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)
    for block in blocks(page, "bash"):
        for command in block.strip().splitlines():
            words = shlex.split(command)
            assert words[0] == "python"
            environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
            done = subprocess.run(
                [sys.executable, *words[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
            passed = re.search(r"(\d+) passed", done.stdout)
            assert passed is not None and int(passed[1]) >= 4
            assert "skipped" not in done.stdout


def test_the_tutorial_finds_the_transit_it_put_in(tmp_path: Path) -> None:
    out = run_page(DOCS / "tutorial" / "first_night.md", tmp_path)
    found = re.search(r"depth (-?[\d.]+) \+- ([\d.]+) %", out)
    assert found is not None, out
    depth, error = float(found[1]), float(found[2])
    assert depth > 10 * error, "the dip is seen at more than 10 sigma"
    assert abs(depth - 1.0) < 4 * error
    assert "forecast" in out
    for product in ("night.zarr", "stack.fits", "stack.png", "first_frame.png"):
        assert (tmp_path / product).exists()


def test_the_tutorial_holds_the_lines_that_are_promised() -> None:
    """The first lines of the tutorial are the package's promise: they stand on the page word for word."""
    text = "\n".join(blocks(DOCS / "tutorial" / "first_night.md", "python"))
    for line in (
        'camera = gx.Camera.preset("generic_ccd")',
        "frames = gx.observe(scene, camera, night, seed=0)",
        'gx.save_frames(frames, "night.zarr")',
        'lights = gx.open_frames("night.zarr")',
        "darks = gx.dark(camera, gx.Exposures(n=25, exposure_s=20.0), seed=1)",
        "clean = gx.calibrate(lights, dark=gx.master(darks))",
        "stars = gx.find_stars(clean).load()",
        "moves = gx.register(stars)",
        "stacked = gx.stack(gx.warp(clean, moves), reject=gx.reject.SigmaClip(kappa=3.0))",
        "curve = gx.light_curve(clean, moves, target=(164, 190), comparisons=[(280, 330)], radius_px=4).load()",
        'print(gx.plan(stacked, memory="1GiB"))',
        'gx.save_image(stacked, "stack.fits")',
    ):
        assert line in text


def known_options() -> dict[str, set[str]]:
    """Options of every command."""
    group = typer.main.get_command(app)
    return {
        command: {text for parameter in found.params for text in (*parameter.opts, *parameter.secondary_opts)}
        for command, found in group.commands.items()  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("page", [*WRITTEN, ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    known = known_options()
    for line in re.findall(r"(?m)^(?:\$ )?getframes-xr (.*)$", page.read_text()):
        words = shlex.split(line.split(" #")[0])
        command = next((word for word in words if not word.startswith("-")), None)
        if command is None:
            continue
        assert command in known, f"getframes-xr {line}"
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known[command] | {"--help"}, f"getframes-xr {line}"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith(("http:", "https:", "reference/")):
            assert (page.parent / link).exists(), link
