"""A tiny night whose truth is known: Gaussian stars on a turning, drifting field, raw mosaics or mono, in electrons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from getframes_xr.core.cfa import cfa_band
from getframes_xr.core.vocabulary import COLOUR_BANDS, Flag
from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.lazy import lazy

READ_NOISE_E = 2.0
SKY_E = {"red": 62.0, "green": 85.0, "blue": 55.0, "mono": 80.0}
COLOUR = {"red": 0.8, "green": 1.0, "blue": 0.7, "mono": 1.0}


@dataclass
class Night:
    frames: ArrayFrames
    moves: xr.Dataset
    signal: np.ndarray  # (time, y, x), noise-free light of the sky's sources in every raw pixel [e-]
    stars: np.ndarray  # (star, 3): y, x on the reference grid, electrons

    @property
    def clean(self):
        return lazy(self.frames)


def similarity(turn_deg: float, dy: float, dx: float, centre: tuple[float, float]) -> np.ndarray:
    """[y, x] of a frame -> reference: turned about the centre, then moved."""
    c, s = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack([turn, np.asarray(centre) - turn @ centre + (dy, dx)])


def night(
    n=8, shape=(70, 90), cfa="RGGB", *, seed=1, turn_deg=6.0, stars=20, most_e=3000.0, noise=True, y0=0, x0=0, fwhm=3.5
) -> Night:
    """Frames, their true moves, and the truth.

    `stars` is their number, or rows of (y, x, electrons). Transparency runs from 0.95 up to 1.03 and down again; the
    sky has its own plane per frame and band.
    """
    rng = np.random.default_rng(seed)
    bands = COLOUR_BANDS if cfa else ("mono",)
    centre = (y0 + (shape[0] - 1) / 2, x0 + (shape[1] - 1) / 2)
    steps = np.linspace(-0.5, 0.5, n) if n > 1 else np.zeros(1)
    transforms = np.stack([similarity(turn_deg * t, 5 * t + rng.normal(0, 0.4), -7 * t, centre) for t in steps])
    transparency = 1.0 - 0.15 * np.abs(steps) + 0.03
    number = stars if isinstance(stars, int) else 0
    places = np.column_stack(
        [rng.uniform(y0 - 5, y0 + shape[0] + 5, number), rng.uniform(x0 - 5, x0 + shape[1] + 5, number)]
    )
    light = np.exp(rng.uniform(math.log(60.0), math.log(most_e), len(places)))
    if not isinstance(stars, int):
        places, light = stars[:, :2], stars[:, 2]
    y, x = np.mgrid[y0 : y0 + shape[0], x0 : x0 + shape[1]].astype(float)
    names = np.array([[cfa_band(cfa, j, i) if cfa else "mono" for i in (0, 1)] for j in (0, 1)])[
        y.astype(int) % 2, x.astype(int) % 2
    ]
    sigma = fwhm / 2.355
    sky = np.zeros((n, len(bands), 3))
    signal, image = np.zeros((n, *shape)), np.zeros((n, *shape))
    for k, move in enumerate(transforms):
        at_y = move[0, 0] * y + move[0, 1] * x + move[0, 2]
        at_x = move[1, 0] * y + move[1, 1] * x + move[1, 2]
        scene = np.zeros(shape)
        for (star_y, star_x), e in zip(places, light, strict=True):
            scene += (
                e / (2 * math.pi * sigma**2) * np.exp(-((at_y - star_y) ** 2 + (at_x - star_x) ** 2) / (2 * sigma**2))
            )
        level = np.zeros(shape)
        for b, band in enumerate(bands):
            sky[k, b] = SKY_E[band] * (1 + 0.1 * steps[k]), SKY_E[band] * 2e-4 * (k - n / 2), SKY_E[band] * 1e-4
            mine = names == band
            signal[k][mine] = transparency[k] * COLOUR[band] * scene[mine]
            plane = sky[k, b, 0] + sky[k, b, 1] * (y - centre[0]) + sky[k, b, 2] * (x - centre[1])
            level[mine] = plane[mine]
        total = signal[k] + level
        image[k] = rng.poisson(total) + rng.normal(0, READ_NOISE_E, shape) if noise else total
    variance = sky[:, :, 0] + READ_NOISE_E**2
    moves = xr.Dataset(
        {
            "transform": (("time", "axis", "term"), transforms),
            "transparency": ("time", transparency),
            "sky": (("time", "band", "plane_term"), sky),
            "variance": (("time", "band"), variance),
            "weight": (("time", "band"), transparency[:, None] ** 2 / variance),
            "used": ("time", np.ones(n, bool)),
            "fwhm_px": ("time", np.full(n, fwhm)),
        },
        coords={"frame": ("time", np.arange(n)), "band": list(bands)},
        attrs={"units": "electron", "centre_px": centre},
    )
    columns = {"frame": np.arange(n), "exposure_s": np.full(n, 10.0)}
    grid = Grid(Span(y0, y0 + shape[0]), Span(x0, x0 + shape[1]), columns, cfa=cfa)
    arrays = {"image": image.astype(np.float32), "flags": np.zeros(image.shape, np.uint16)}
    return Night(ArrayFrames(grid, arrays, {"image": "electron"}), moves, signal, np.column_stack([places, light]))


def with_frames(made: Night, image=None, flags=None) -> Night:
    """The same night with other pixels."""
    arrays = {
        "image": made.frames.arrays["image"] if image is None else np.asarray(image, np.float32),
        "flags": made.frames.arrays["flags"] if flags is None else np.asarray(flags, np.uint16),
    }
    return Night(ArrayFrames(made.frames.grid, arrays, made.frames.units), made.moves, made.signal, made.stars)


SATURATED, HOT = int(Flag.SATURATED), int(Flag.HOT)
