"""Users get types: a type checker on a user's script knows what functions return and refuses what they do not take."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import getframes_xr as gx

SCRIPT = """
import xarray as xr
import getframes_xr as gx

session = gx.open_session("M94")
lights = session["lights"].to_dataset()
clean = gx.calibrate(lights)
moves = gx.normalise(gx.find_stars(clean).load(), gx.register(gx.find_stars(clean).load()))
stacked = gx.stack(gx.warp(clean, moves), reject=gx.reject.SigmaClip(kappa=3.0))
reveal_type(stacked)
reveal_type(gx.plan(stacked).tasks)
reveal_type(gx.psf.Moffat(fwhm_arcsec=2.0, beta=3.0))
reveal_type(gx.save_frames(stacked, "out.zarr").made)
gx.stack(clean, rejct=1)
gx.reject.SigmaClip(kapa=3.0)
gx.stak(clean)
"""
SEEN = (
    'Revealed type is "xarray.core.dataset.Dataset"',
    'Revealed type is "int"',
    'Revealed type is "getframes_xr.light.psf.moffat.Moffat"',
    'Revealed type is "int"',
    'Unexpected keyword argument "rejct" for "stack"',
    'Unexpected keyword argument "kapa" for "SigmaClip"',
    'Module has no attribute "stak"',
)


def test_a_type_checker_sees_what_a_users_script_does(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text("[mypy]\nplugins = pydantic.mypy\nfollow_untyped_imports = False\n")
    root = Path(gx.__file__).resolve().parents[1]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "--cache-dir",
        str(root / ".mypy_cache"),
        "script.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"MYPYPATH": str(root), "PATH": ""}
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("script.py")]
    numbers = iter(said)
    for expected in SEEN:
        assert any(expected in line.replace("builtins.", "") for line in numbers), (
            f"{expected}\n{done.stdout}{done.stderr}"
        )


def test_what_checkers_see_is_what_the_door_offers() -> None:
    tree = ast.parse(Path(gx.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    shown = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert shown == set(gx.__all__)


def test_families_show_their_own_names_alone() -> None:
    for name in ("atmosphere", "optics", "pointing", "psf", "reject", "sources"):
        family = getattr(gx, name)
        shown = [key for key in dir(family) if not key.startswith("_")] if name == "reject" else family.__all__
        foreign = {"Annotated", "BeforeValidator", "ClassVar", "NDArray", "Window", "Any"}
        assert not foreign & set(shown) and all(getattr(family, key).__doc__ for key in family.__all__)
