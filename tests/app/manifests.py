"""A manifest of 70 invented frames: an alt-azimuth night with clouds, trailed frames and one that did not match."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from PIL import Image

from getframes_xr.core.verdict import Reason, Verdict
from getframes_xr.workflows.run_folder import plain

RUINED = {
    11: Verdict(Reason.ELONGATED, {"elongation": 0.52, "most": 0.35}),
    12: Verdict(Reason.ELONGATED, {"elongation": 0.41, "most": 0.35}),
    40: Verdict(Reason.TOO_DIM, {"transparency": 0.02, "weight": 0.001, "light": 0.02}),
    57: Verdict(Reason.NO_MATCH, {"stars": 3, "elongation": float("nan")}),
}


def manifest(frames: int = 70, seed: int = 5) -> dict[str, Any]:
    """Facts of a run as the session workflow writes them."""
    draws = np.random.default_rng(seed)
    start = np.datetime64("2026-03-01T02:00:00", "ms")
    rows = []
    for place in range(frames):
        phase = place / max(1, frames - 1)
        verdict = RUINED.get(place, Verdict(Reason.USED))
        sky = 210 + 25 * phase + draws.normal(0, 1.5)
        rows.append(
            {
                "frame": place,
                "file": f"/data/night/light_{place:04d}.fits",
                "time": str(start + np.timedelta64(int(22.5e3 * place), "ms")),
                "exposure_s": 20.0,
                "used": verdict.used,
                **verdict.to_dict(),
                "n_stars": int(900 - 300 * phase + draws.normal(0, 15)),
                "n_matched": 3 if place == 57 else int(420 + draws.normal(0, 12)),
                "rms_px": None if place == 57 else 0.11 + abs(draws.normal(0, 0.015)),
                "rotation_deg": None if place == 57 else 16.2 * (phase - 0.5),
                "scale": 1.0 + draws.normal(0, 2e-5),
                "shift_y_px": 30 * (phase - 0.5) + draws.normal(0, 1.2),
                "shift_x_px": -12 * (phase - 0.5) + draws.normal(0, 1.2),
                "transform": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
                "fwhm_px": 3.1 + 0.5 * np.sin(6 * phase) + draws.normal(0, 0.05),
                "elongation": 0.52 if place == 11 else 0.06 + abs(draws.normal(0, 0.01)),
                "transparency": 0.02 if place == 40 else 1.0 - 0.08 * phase + draws.normal(0, 0.003),
                "sky": {"red": 1.1 * sky, "green": 1.4 * sky, "blue": sky},
                "variance": {"red": 260.0, "green": 310.0, "blue": 240.0},
                "weight": {"red": 0.0038, "green": 0.0032, "blue": 0.0042},
                "score": float(draws.uniform(0.6, 1.0)),
            }
        )
    return {
        "version": "0.1.0",
        "units": "electron",
        "started": "2026-03-02T08:00:00+00:00",
        "finished": "2026-03-02T08:00:41+00:00",
        "name": "altaz night",
        "inputs": ["/data/night"],
        "options": {"canvas": "union", "keep": None, "splat": {"kappa": 4.0, "tolerance": 4.0}},
        "session": {
            "lights": frames,
            "hours": 0.39,
            "camera": "smart telescope, 1920 x 1080 RGGB",
            "warnings": ["2 files are duplicates of others & were <left> out"],
        },
        "files": [
            {
                "file": "light_0003_copy.fits",
                "kind": "light",
                "status": "duplicate",
                "remark": "same exposure as light_0003.fits",
            },
            {"file": "light_0070.fits", "kind": "light", "status": "unusable", "remark": "truncated: 1.2 of 4.1 MB"},
            {"file": "light_0000.fits", "kind": "light", "status": "used", "remark": "kind by the file's name"},
            {"file": "notes.txt", "kind": "", "status": "foreign", "remark": "not a FITS file (.txt)"},
        ],
        "frames": rows,
        "reference_frame": 33,
        "canvas": {"y": [-60, 1140], "x": [-40, 1960]},
        "cosmetic": {"hot": 1834, "dead": 12},
        "lines": [
            {"frame": 7, "angle_deg": 31.4, "offset_px": 220.5, "half_width_px": 6.2, "z": 21.3, "amplitude": 120.0},
            {"frame": 52, "angle_deg": 120.7, "offset_px": -80.1, "half_width_px": 7.9, "z": 12.8, "amplitude": 48.0},
        ],
        "funnel": [
            {"step": "files", "frames": frames + 2},
            {"step": "readable", "frames": frames + 1},
            {"step": "unique", "frames": frames},
            {"step": "registered", "frames": frames - 1},
            {"step": "used", "frames": frames - 3},
        ],
        "light_curve": {
            "time": [row["time"] for row in rows],
            "flux": [
                0.5 * (1.0 - (0.01 if 25 < i < 50 else 0.0)) + float(draws.normal(0, 8e-4)) for i in range(frames)
            ],
            "flux_err": [8e-4] * frames,
            "radius_px": 4.2,
        },
        "products": {"stack": "stack.fits", "picture": "stack.png", "coverage": "coverage.png"},
        "phases": {
            "session": {"key": "aa", "seconds": 0.4, "skipped": False},
            "map": {"key": "ab", "seconds": 0.9, "skipped": False},
            "scan": {"key": "ac", "seconds": 6.1, "skipped": False},
            "register": {"key": "ad", "skipped": True},
            "first": {"key": "ae", "seconds": 4.2, "skipped": False},
            "stack": {"key": "af", "seconds": 5.0, "skipped": False},
        },
    }


def run_folder(path: Path, facts: dict[str, Any] | None = None, shape: tuple[int, int] = (1200, 2000)) -> Path:
    """A run folder with a picture, a stack that has a coverage plane, and the manifest."""
    path.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(1)
    rows, columns = np.indices(shape)
    light = np.zeros(shape, np.float32)
    for _ in range(300):
        y, x, size, peak = draws.uniform(0, shape[0]), draws.uniform(0, shape[1]), 2.0, 10 ** draws.uniform(1, 2.4)
        box = (slice(max(0, int(y) - 9), int(y) + 9), slice(max(0, int(x) - 9), int(x) + 9))
        light[box] += peak * np.exp(-((rows[box] - y) ** 2 + (columns[box] - x) ** 2) / (2 * size**2))
    tint = np.stack([light * 1.0, light * 0.95, light * 1.1], axis=-1) + np.array([18, 20, 26])
    Image.fromarray(np.clip(tint, 0, 255).astype(np.uint8)).save(path / "stack.png")
    middle = np.hypot((rows - shape[0] / 2) / (shape[0] / 2), (columns - shape[1] / 2) / (shape[1] / 2))
    coverage = np.clip(67 * (1.55 - middle) / 0.55, 0, 67).astype(np.uint16)
    primary = fits.PrimaryHDU(np.zeros((3, 4, 4), np.float32))
    fits.HDUList([primary, fits.ImageHDU(np.stack([coverage] * 3), name="COVERAGE")]).writeto(
        path / "stack.fits", overwrite=True
    )
    (path / "manifest.json").write_text(json.dumps(plain(facts if facts is not None else manifest())))
    return path
