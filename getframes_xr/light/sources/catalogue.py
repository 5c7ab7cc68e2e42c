"""Light of a catalogue of stars, of any size: cell index, then the kernels of points.py on the stars that reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.window import Window
from getframes_xr.light.cells import CellIndex, index_cells
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.points import add_points, phi_table, place_points
from getframes_xr.light.sight import Sight, View, frame_diagonal
from getframes_xr.light.sources.family import Light

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CatalogueLight(Light):
    """Stars at given places of the reference frame.

    Parameters
    ----------
    y, x : float64 (n,) [px], at the start of frame 0
    rates : float64 (n, b) [photon/s]
    motion : float64 (n or 0, 2) [px/s]
    curves : rows and light curves of the variable stars, rows increasing
    """

    sight: Sight
    y: Floats
    x: Floats
    rates: Floats
    motion: Floats
    curves: tuple[tuple[int, LightCurve], ...] = ()

    def __post_init__(self) -> None:
        _ = self.index  # now, not once per thread later

    @cached_property
    def strength(self) -> Floats:
        """Brightest band of each star at its brightest [photon/s]: decides the size of its stamp."""
        strongest = self.rates.max(axis=1)
        for row, curve in self.curves:
            strongest[row] *= max(1.0, curve.peak)
        return np.ascontiguousarray(strongest)

    @cached_property
    def index(self) -> CellIndex:
        """Where which stars are; stars with a motion of their own are not indexed."""
        if len(self.motion):
            return CellIndex((), len(self.y))
        return index_cells(self.y, self.x, self.strength)

    def chosen(self, window: Window, view: View) -> Integers:
        """Rows of the stars that may reach a window in an exposure."""
        if len(self.motion):
            return np.arange(len(self.y), dtype=np.int64)
        radii, brightest = self.sight.mixture.reach
        per_area = view.exposure_s / (view.fwhm_px * view.fwhm_px)
        reach: dict[float, float] = {}
        for strongest in self.index.strongest:
            at = min(int(np.searchsorted(brightest, strongest * per_area)) + 1, len(radii) - 1)  # one more: rounding
            reach[strongest] = float(radii[at]) * view.fwhm_px + 2.0
        furthest = max(reach.values(), default=0.0)
        path = view.path_bound_px(frame_diagonal(self.sight.y, self.sight.x) + furthest)
        box = view.reference_box((window.y.start - 1.0, window.y.stop, window.x.start - 1.0, window.x.stop))
        turned = 1.5 if view.angle_deg else 1.0  # a turned stamp is reached over its corner
        return self.index.query(box, {name: turned * far + path for name, far in reach.items()})

    def add(self, out: Floats, window: Window, view: View) -> None:
        chosen = self.chosen(window, view)
        if len(chosen) == 0:
            return
        mixture = self.sight.mixture
        places = np.empty((len(chosen), 4))
        reach = np.empty(len(chosen), np.int64)
        strength = self.strength
        radii, brightest = mixture.reach
        brightest = brightest / max(view.exposure_s, 1e-12)
        place_points(
            chosen, self.y, self.x, self.motion, strength, view.geometry, radii, brightest, view.fwhm_px, places, reach
        )  # fmt: skip
        photons = self.rates[chosen] * (view.exposure_s * view.transparency)
        for row, curve in self.curves:
            at = int(np.searchsorted(chosen, row))
            if at < len(chosen) and chosen[at] == row:
                photons[at] *= float(curve.mean(view.start_s, view.start_s + view.exposure_s))
        add_points(
            out, window.y.start, window.x.start, places, reach, photons, self.sight.parity, view.fwhm_px,
            mixture.weight, mixture.sigma, mixture.dy, mixture.dx, *phi_table(),
        )  # fmt: skip

    def peak_bytes(self, window: Window, view: View) -> int:
        kept = self.y.nbytes + self.x.nbytes + self.rates.nbytes + self.motion.nbytes + self.strength.nbytes
        per_star = 8 + 8 + 4 * 8 + 8 + 2 * 8 * self.rates.shape[1]  # row (twice), place, reach, photons (twice)
        scratch = len(self.chosen(window, view)) * per_star + 64 * 8 * len(window.x)
        return int(kept + self.index.nbytes + scratch)
