"""Local cost: 26 megapixels, 1000 exposures, 1e5 stars; opened lazily, one 512 x 512 window of exposure 700 asked for.

Run: ``python -m benchmarks.local_cost``. The package is imported, kernels and
fixed maps are warm (a neighbouring exposure was asked before).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import getframes_xr as gx


def main() -> None:
    """Print the times, after the window was compared with the crop of its chunk."""
    shape = (5120, 5120)
    camera = gx.Camera.preset("generic_scmos").replace(shape=shape)
    scene = gx.Scene(
        telescope=gx.Telescope(
            aperture_diameter_m=0.5, throughput=0.6, plate_scale_arcsec_per_px=0.8, band="johnson_R"
        ),
        psf=gx.psf.Gaussian(fwhm_arcsec=2.2),
        sources=[gx.StarField(n=100_000, magnitude=(12.0, 20.0), seed=1), gx.Sky(mag_per_arcsec2=20.5)],
        pointing=gx.Pointing(jitter_arcsec=0.5),
    )
    gx.observe(scene, camera, gx.Exposures(n=1, exposure_s=10.0), seed=0)  # imports and the first kernel, 2 s once
    started = time.perf_counter()
    frames = gx.observe(scene, camera, gx.Exposures(n=1000, exposure_s=10.0), seed=0)
    opened = time.perf_counter() - started
    chunk = frames.adu.data.chunksize
    print(
        f"opened {frames.sizes['time']} x {shape[0]} x {shape[1]}, 1e5 stars, chunks {chunk}: {opened:.2f} s (goal 1)"
    )

    inside = {"y": slice(1100, 1612), "x": slice(1100, 1612)}
    across = {"y": slice(1800, 2312), "x": slice(1900, 2412)}
    for place in (inside, across):  # kernels, the star index and the maps of these tiles
        frames.isel(time=699, **place).gx.compute()
        frames.adu.isel(time=699, **place).compute()
    plain = _seconds(lambda: frames.adu.isel(time=700, **inside).compute())
    print(f"512 x 512 inside a chunk by .isel(...).compute(): {plain:.3f} s (goal 0.1)")
    for name, place in (("inside a chunk", inside), ("across chunks", across)):
        seconds = _seconds(lambda place=place: frames[["adu"]].isel(time=700, **place).gx.compute())
        print(f"512 x 512 {name} by .gx.compute(): {seconds:.3f} s (goal 0.1)")
    window = frames[["adu"]].isel(time=700, **across).gx.compute().adu.values
    whole = frames.adu.isel(time=700, y=slice(0, 4096), x=slice(0, 4096)).compute().values
    same = np.array_equal(window, whole[1800:2312, 1900:2412])
    print(f"equal to the crop of the full frame: {same}")
    assert same


def _seconds(call: Callable[[], object]) -> float:
    found = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return float(np.median(found))


if __name__ == "__main__":
    main()
