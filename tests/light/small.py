"""Small scenes that the tests of this room share."""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.window import Span, Window
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.psf import Gaussian
from getframes_xr.light.scene import Scene, SceneFrames
from getframes_xr.light.telescope import Telescope

TELESCOPE = Telescope(aperture_diameter_m=0.2, throughput=0.5, plate_scale_arcsec_per_px=1.0, band="johnson_V")


def scene(sources: Any, **options: Any) -> Scene:
    chosen = {"telescope": TELESCOPE, "psf": Gaussian(fwhm_arcsec=3.0), "sources": sources} | options
    return Scene(**chosen)


def frames(sources: Any, shape: tuple[int, int] = (64, 72), *, n: int = 1, exposure_s: float = 10.0,
           cfa: str | None = None, seed: int = 1, **options: Any) -> SceneFrames:  # fmt: skip
    made = scene(sources, **options)
    return SceneFrames(made, made.grid(shape, Exposures(n=n, exposure_s=exposure_s), seed, cfa))


def light(producer: SceneFrames, window: Window | None = None) -> np.ndarray[Any, Any]:
    return producer.produce(producer.grid.window if window is None else window, ["photons"])["photons"]


def photons(magnitude: float, exposure_s: float = 10.0) -> float:
    """Photons of a star in an exposure, from the telescope's own formula."""
    return float(TELESCOPE.photon_rate(magnitude)) * exposure_s


def moments(image: np.ndarray[Any, Any]) -> tuple[float, float, float, float, float]:
    """Sum, centroid (y, x), variance (y, x)."""
    values = image.astype(np.float64)
    total = values.sum()
    y, x = np.indices(values.shape)
    cy, cx = (values * y).sum() / total, (values * x).sum() / total
    return total, cy, cx, (values * (y - cy) ** 2).sum() / total, (values * (x - cx) ** 2).sum() / total


def box(frames: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> Window:
    return Window(Span(*frames), Span(*y), Span(*x))
