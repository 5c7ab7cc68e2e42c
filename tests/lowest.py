"""The declared lowest versions hold: a fresh environment with just these, and one small road from a scene to a stack.

    python -m tests.lowest      (make lowest; installs into .lowest/, which stays)

What is not declared (what the dependencies need themselves) comes in its newest version, as it does for a user.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".lowest"


def lowest(declared: str) -> str:
    """``zarr>=3.1`` -> ``zarr==3.1.*``: the lowest series, with its corrections."""
    found = re.fullmatch(r"([\w-]+)(\[[\w,]+\])?>=([\d.]+)", declared)
    if found is None:
        raise ValueError(f"{declared}: a dependency states its lowest version as name>=version")
    name, extras, version = found.groups()
    return f"{name}{extras or ''}=={version}" + (".*" if version.count(".") < 2 else "")


def road(folder: Path) -> None:
    """Simulate, save to Zarr and FITS, read again, reduce from the command line."""
    import getframes_xr as gx
    from getframes_xr.app.cli import run

    camera = gx.Camera.preset("generic_cmos").replace(shape=(96, 128))
    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.1, plate_scale_arcsec_per_px=2.0, band="johnson_V"),
        psf=gx.psf.Moffat(fwhm_arcsec=6.0, beta=3.0),
        sources=[gx.StarField(n=80, magnitude=(7.0, 12.0), seed=4), gx.Sky(mag_per_arcsec2=20.0)],
    )
    exposures = gx.Exposures(n=6, exposure_s=10.0, start="2026-03-01T02:00:00")
    night = gx.observe(scene, camera, exposures, seed=1, planes=("adu",))
    gx.save_frames(night, folder / "night.zarr")
    assert (gx.open_frames(folder / "night.zarr")["adu"].values == night["adu"].values).all()
    gx.save_fits_frames(night, folder / "night")
    assert run(["reduce", "--help"]) == 0
    assert run(["reduce", str(folder / "night"), "--out", str(folder / "run")]) == 0
    assert (folder / "run" / "stack.fits").is_file() and (folder / "run" / "report.html").is_file()


def main() -> int:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)
    wanted = [lowest(line) for line in declared]
    print("lowest:", ", ".join(wanted))
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    with tempfile.TemporaryDirectory() as folder:
        code = f"from pathlib import Path; from tests.lowest import road; road(Path({folder!r}))"
        done = subprocess.run([python, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    print("the lowest versions hold" if done.returncode == 0 else "the lowest versions FAIL")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
