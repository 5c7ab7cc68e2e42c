"""The cases that benchmarks time and oracle tests check: each compares results with the peer before any clock runs.

A case gives our call, the peer's call, a check of the two results, and the number of samples (pixels or pixel-frames).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One comparison; ``goal`` is the ratio of CPU seconds (peer / ours) to reach."""

    name: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    check: Callable[[Any, Any], None]
    samples: int
    goal: float
    repeats: int = 5


def expose_case(electrons: float, shape: tuple[int, int] = (2048, 2048)) -> Case:
    """One exposure with dark, PRNU, DSNU, shot, read noise, bias and ADC, fixed maps warm, against getframes 2.6."""
    from getframes import Camera, CameraConfig

    import getframes_xr as gx
    from getframes_xr.core.window import Span
    from getframes_xr.face.frames_in import as_producer

    config = CameraConfig(
        name="bench", sensor_type="CMOS", resolution=shape, pixel_size_um=6.5, quantum_efficiency=1.0,
        full_well_e=60000.0, bit_depth=16, gain_e_per_adu=1.0, bias_offset_adu=200.0, read_noise_e=3.0,
        dark_current_e_per_s=0.1, dark_current_ref_temp_c=-10.0, dark_current_nonuniformity=0.05, prnu=0.01,
    )  # fmt: skip
    peer = Camera(config, precision="double", default_temperature_c=-10.0)
    stages = [
        {"kind": "quantum_efficiency", "efficiency": 1.0},
        {"kind": "prnu", "rms": 0.01},
        {"kind": "dark", "rate_e_per_s": 0.1, "nonuniformity": 0.05, "reference_temperature_c": -10.0},
        {"kind": "shot"},
        {"kind": "full_well", "full_well_e": 60000.0},
        {"kind": "read_noise", "rms_e": 3.0},
        {"kind": "gain", "e_per_adu": 1.0},
        {"kind": "bias", "offset_adu": 200.0},
        {"kind": "adc", "bits": 16},
    ]
    camera = gx.Camera(name="bench", serial="bench-1", shape=shape, pixel_um=6.5, temperature_c=-10.0, stages=stages)
    frames = gx.expose(camera, electrons, gx.Exposures(n=64, exposure_s=1.0), seed=1, planes=("adu",))
    producer = as_producer(frames)
    counter = iter(range(10**9))

    def ours() -> np.ndarray:
        at = next(counter) % 64
        window = producer.grid.window.with_frames(Span(at, at + 1))
        return producer.produce(window, {"adu"})["adu"]

    def theirs() -> np.ndarray:
        return np.asarray(peer.expose(electrons, 1.0, seed=next(counter)).data)

    def check(one: np.ndarray, two: np.ndarray) -> None:
        n = one.size
        spread = float(two.std())
        assert abs(one.mean() - two.mean()) < 5 * spread * np.sqrt(2 / n) + 0.01 * electrons / np.sqrt(n) * 5
        assert abs(one.std() / spread - 1) < 5 * np.sqrt(1 / n) + 2e-3

    goals = {2.0: 4.0, 40.0: 5.0, 2000.0: 5.0}
    return Case(f"expose 2048^2 at {electrons:g} e-", ours, theirs, check, shape[0] * shape[1], goals[electrons])


def stack_case(folder: Path, n: int = 60, shape: tuple[int, int] = (2048, 2048)) -> Case:
    """Sigma-clipped stack of FITS files against ``ccdproc.combine``."""
    import logging

    from astropy.io import fits
    from ccdproc import combine

    import getframes_xr as gx

    logging.getLogger("astropy").setLevel("WARNING")
    random = np.random.default_rng(5)
    paths = []
    for at in range(n):
        frame = random.normal(1000, 12, shape).round().astype(np.uint16)
        frame.ravel()[random.integers(0, frame.size, 200)] = 40000
        path = folder / f"frame_{at:03d}.fits"
        if not path.exists():
            header = fits.Header({"EXPTIME": 10.0, "IMAGETYP": "Light Frame"})
            header["DATE-OBS"] = f"2026-01-01T00:{at // 6:02d}:{at % 6 * 10:02d}"
            fits.PrimaryHDU(frame, header).writeto(path)
        paths.append(str(path))

    def ours() -> np.ndarray:
        frames = gx.open_frames(paths)
        return gx.stack(frames, reject=gx.reject.SigmaClip(kappa=3.0, maxiters=5)).image.values

    def theirs() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(
                combine(
                    paths, unit="adu", method="average", sigma_clip=True, sigma_clip_low_thresh=3.0,
                    sigma_clip_high_thresh=3.0, sigma_clip_func=np.ma.median, sigma_clip_dev_func=np.ma.std,
                    mem_limit=1e9,
                ).data
            )  # fmt: skip

    def check(one: np.ndarray, two: np.ndarray) -> None:
        # ccdproc clips once, we until nothing more falls: the means differ by a small part of their error
        assert abs(np.mean(one - two)) < 0.05 and np.std(one - two) < 0.5 * 12 / np.sqrt(n)

    return Case(
        f"stack of {n} FITS, sigma clip, against ccdproc", ours, theirs, check, n * shape[0] * shape[1], 40.0, 3
    )


def clip_case(n: int = 60, side: int = 512) -> Case:
    """The clip itself, in memory, against ``astropy.stats.sigma_clip``."""
    from astropy.stats import sigma_clip

    import getframes_xr as gx
    from getframes_xr.core.window import Grid, Span
    from getframes_xr.engine.producer import ArrayFrames
    from getframes_xr.reduce.stack import stacked

    random = np.random.default_rng(7)
    cube = random.normal(1000, 12, (n, side, side)).round().astype(np.uint16)
    cube[random.random(cube.shape) < 0.01] = 30000
    grid = Grid(Span(0, side), Span(0, side), {"frame": np.arange(n)})
    producer = stacked(ArrayFrames(grid, {"adu": cube}), "adu", gx.reject.SigmaClip(kappa=3.0, maxiters=5))
    floats = cube.astype(np.float64)

    def ours() -> np.ndarray:
        return producer.produce(producer.grid.window, {"image", "count"})["image"]

    def theirs() -> np.ndarray:
        clipped = sigma_clip(
            floats, sigma=3, maxiters=5, axis=0, cenfunc="median", stdfunc="std", masked=False, copy=True
        )
        return np.asarray(np.nanmean(clipped, axis=0))

    def check(one: np.ndarray, two: np.ndarray) -> None:
        np.testing.assert_allclose(one, two, rtol=2e-7)

    return Case("sigma clip in memory against astropy", ours, theirs, check, cube.size, 20.0)


def warp_case(*, shift_only: bool, side: int = 2048) -> Case:
    """Bicubic warp of one frame against scipy's cubic spline resampling."""
    import xarray as xr
    from scipy import ndimage

    import getframes_xr as gx
    from getframes_xr.face.frames_in import as_producer

    y, x = np.mgrid[:side, :side].astype(np.float32)
    image = (np.sin(x / 9) * np.cos(y / 7) * 100 + 500).astype(np.float32)
    turn = 0.0 if shift_only else np.deg2rad(1.3)
    move = np.array([[np.cos(turn), -np.sin(turn), 3.3], [np.sin(turn), np.cos(turn), -2.6]])
    frames = xr.Dataset({"image": (("time", "y", "x"), image[None])}, {"frame": ("time", [0])})
    moves = xr.Dataset(
        {"transform": (("time", "axis", "term"), move[None]), "verified": ("time", [True])}, {"frame": ("time", [0])}
    )
    producer = as_producer(gx.warp(frames, moves, kernel="bicubic"))
    inverse = np.linalg.inv(np.vstack([move, [0, 0, 1]]))

    def ours() -> np.ndarray:
        return producer.produce(producer.grid.window, {"image"})["image"][0]

    def theirs() -> np.ndarray:
        if shift_only:
            return np.asarray(ndimage.shift(image, move[:, 2], order=3, cval=np.nan))
        return np.asarray(ndimage.affine_transform(image, inverse[:2, :2], inverse[:2, 2], order=3, cval=np.nan))

    def check(one: np.ndarray, two: np.ndarray) -> None:
        inner = (slice(80, -80), slice(80, -80))
        # two cubic kernels on a wave of 44 px: they differ by the interpolation error, well below 0.1 of 100
        np.testing.assert_allclose(one[inner], two[inner], atol=0.1)

    kind = "pure shift" if shift_only else "rotation"
    return Case(
        f"bicubic warp, {kind}, against scipy order 3", ours, theirs, check, side * side, 40.0 if shift_only else 10.0
    )
