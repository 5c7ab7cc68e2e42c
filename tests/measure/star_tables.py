"""Tables as ``find_stars`` gives them, drawn directly from a catalogue: places with errors, no pixels."""

from __future__ import annotations

import numpy as np
import xarray as xr

from tests.measure.star_fields import rotation

SHAPE = (700, 900)
CENTRE = np.array([349.5, 449.5])


def move_of(angle_deg=0.0, shift=(0.0, 0.0), scale=1.0):
    """Transform sky -> frame (2, 3) about the frame's centre."""
    matrix = rotation(angle_deg, scale)
    return np.concatenate([matrix, (CENTRE + np.asarray(shift) - matrix @ CENTRE)[:, None]], 1)


def invert(move):
    matrix = np.linalg.inv(move[:, :2])
    return np.concatenate([matrix, -(matrix @ move[:, 2])[:, None]], 1)


def compose(outer, inner):
    matrix = outer[:, :2] @ inner[:, :2]
    return np.concatenate([matrix, (outer[:, :2] @ inner[:, 2] + outer[:, 2])[:, None]], 1)


def apply(move, places):
    return places @ move[:, :2].T + move[:, 2]


def sky_of(rng, n=400, reach=1.6):
    """Stars on a patch larger than the frame: places, fluxes."""
    half = np.array(SHAPE) * reach / 2
    places = CENTRE + rng.uniform(-half, half, (n, 2))
    return places, 300.0 * rng.pareto(1.0, n) + 300.0


def star_table(rng, moves, sky, *, transparency=None, extra=None, sources=300, noise=True, fwhm=3.0, **changes):
    """A table of frames that see ``sky`` through ``moves``; ``extra`` (places, flux) are fixed to the sensor.

    SNR = flux t / 50; centroid sigma = 0.6 fwhm / SNR and 0.02 px, as the finder promises; limit 5 sigma.
    """
    places, flux = sky
    n = len(moves)
    transparency = np.ones(n) if transparency is None else transparency
    names = ("y", "x", "snr", "amplitude", "flux", "flux_err", "star_fwhm_px", "moment_plus", "moment_cross")
    columns = {name: np.full((n, sources), np.nan) for name in names}
    for f, move in enumerate(moves):
        here, light = apply(move, places), flux * transparency[f]
        if extra is not None:
            here, light = np.concatenate([here, extra[0]]), np.concatenate([light, extra[1]])
        inside = ((here > 8) & (here < np.array(SHAPE) - 9)).all(1) & (light / 50 > 5)
        here, light = here[inside], light[inside]
        snr = light / 50
        sigma = np.hypot(0.02, 0.6 * fwhm / snr)
        order = np.argsort(-light, kind="stable")[:sources]
        jitter = rng.normal(0, 1, here.shape) * sigma[:, None] if noise else 0.0
        rows = {"y": (here + jitter)[:, 0], "x": (here + jitter)[:, 1], "snr": snr, "amplitude": light, "flux": light,
                "flux_err": np.full(len(light), 50.0), "star_fwhm_px": np.full(len(light), fwhm),
                "moment_plus": np.zeros(len(light)), "moment_cross": np.zeros(len(light))}  # fmt: skip
        rows["flux"] = light + rng.normal(0, 50.0, len(light)) * noise
        for name, values in rows.items():
            columns[name][f, : len(order)] = values[order]
    blocks = (n, 1, -(-SHAPE[0] // 32), -(-SHAPE[1] // 32))
    table = xr.Dataset(
        {name: (("time", "source"), values) for name, values in columns.items()}
        | {
            "saturated": (("time", "source"), np.zeros((n, sources), bool)),
            "round": (("time", "source"), np.isfinite(columns["y"])),
            "n_stars": (("time",), np.isfinite(columns["y"]).sum(1)),
            "fwhm_px": (("time",), np.full(n, fwhm)),
            "elongation": (("time",), np.full(n, 0.03)),
            "saturated_share": (("time",), np.zeros(n)),
            "detection_scale": (("time",), np.ones(n)),
            "background": (("time", "band"), np.full((n, 1), 100.0)),
            "variance": (("time", "band"), np.full((n, 1), 120.0)),
            "sky": (("time", "band", "block_y", "block_x"), np.full(blocks, 100.0, np.float32)),
        },
        {"frame": ("time", np.arange(n)), "exposure_s": ("time", np.full(n, 10.0)), "band": ["mono"]},
        {"frame_shape": list(SHAPE), "frame_origin": [0, 0], "units": "electron", "block_px": 32},
    )
    return table.assign(changes)


def errors_of(moves_table, moves):
    """rms of each frame's transform over corners and centre against the truth, up to one common similarity."""
    points = np.array([[0, 0], [0, SHAPE[1]], [SHAPE[0], 0], [SHAPE[0], SHAPE[1]], CENTRE], float)
    ours, truth, frames = [], [], []
    for f in np.flatnonzero(moves_table["verified"].values):
        ours.append(apply(moves_table["transform"].values[f], points))
        truth.append(apply(invert(moves[f]), points))
        frames.append(f)
    p, q = (np.concatenate(each) @ [1j, 1.0] for each in (ours, truth))
    a = np.vdot(p - p.mean(), q - q.mean()) / np.vdot(p - p.mean(), p - p.mean())
    rest = (np.abs(a * (p - p.mean()) - (q - q.mean())) ** 2).reshape(-1, len(points))
    return dict(zip(frames, np.sqrt(rest.mean(1)), strict=True))
