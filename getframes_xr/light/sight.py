"""What sources are told: the sight (instrument and frame, the same for all exposures) and the view (one exposure)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from getframes_xr.core.cfa import cfa_index
from getframes_xr.core.elementary import sine_cosine_of_turns
from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import COLOUR_BANDS
from getframes_xr.core.window import Span
from getframes_xr.light.optics import Optic
from getframes_xr.light.psf import Mixture, Psf
from getframes_xr.light.rounding import rounded
from getframes_xr.light.telescope import Telescope
from getframes_xr.light.wcs import Wcs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sight:
    """Instrument and frame."""

    telescope: Telescope
    psf: Psf
    wcs: Wcs | None
    optics: tuple[Optic, ...]
    y: Span
    x: Span
    cfa: str | None

    @cached_property
    def mixture(self) -> Mixture:
        """The PSF as Gaussians."""
        return self.psf.mixture()

    @property
    def scale(self) -> float:
        """Arcsec per px."""
        return self.telescope.scale_arcsec_per_px

    @property
    def centre(self) -> tuple[float, float]:
        """The frame's centre (y, x) [px]."""
        return 0.5 * (self.y.start + self.y.stop - 1), 0.5 * (self.x.start + self.x.stop - 1)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands in which light is counted: the telescope's, or red, green, blue behind a colour filter array."""
        return (self.telescope.band,) if self.cfa is None else COLOUR_BANDS

    @cached_property
    def parity(self) -> Integers:
        """Position in `bands` of the pixel (y & 1, x & 1), at 2 (y & 1) + (x & 1)."""
        return cfa_index(self.cfa).reshape(4)

    @property
    def distortion(self) -> tuple[float, float]:
        """Sum of the optics' k1, k2."""
        pairs = [optic.distortion for optic in self.optics]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)

    def rates(self, magnitude: ArrayLike, colour: ArrayLike) -> Floats:
        """Photons per second of sources in each of `bands`, float64 (n, b), rounded to 2^-24."""
        lists = [self.telescope.photon_rate(magnitude, colour, name) for name in self.bands]
        return np.ascontiguousarray(rounded(np.stack(np.broadcast_arrays(*lists), axis=-1)))

    def pixels(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Floats, Floats]:
        """Pixel positions of points on the sky.

        Raises
        ------
        DataError : the scene has no wcs
        """
        if self.wcs is None:
            raise DataError("sources with ra and dec need Scene(wcs=Wcs(ra_deg=..., dec_deg=...))")
        return self.wcs.pixels(ra_deg, dec_deg, self.centre, self.scale)


@dataclass(frozen=True, eq=False)
class View:
    """One exposure.

    Parameters
    ----------
    frame : frame number
    start_s, exposure_s : from the start of frame 0 [s]
    fwhm_px : width of the PSF
    transparency : share of the sources' light that arrives
    pivot, offset_px, angle_deg : where the field stands at mid-exposure (see pointing.py)
    path_px, turn_deg : how it moves during the exposure
    centre, distortion : of the optics
    """

    frame: int
    start_s: float
    exposure_s: float
    fwhm_px: float
    transparency: float
    pivot: tuple[float, float]
    offset_px: tuple[float, float]
    angle_deg: float
    path_px: tuple[float, float]
    turn_deg: float
    centre: tuple[float, float]
    distortion: tuple[float, float]

    @property
    def middle_s(self) -> float:
        """Mid-exposure from the start of frame 0."""
        return self.start_s + 0.5 * self.exposure_s

    @cached_property
    def geometry(self) -> Floats:
        """float64 (15,): cosine, sine, pivot, offset, path, turn [rad], mid-time, exposure, centre, k1, k2."""
        sine, cosine = sine_cosine_of_turns(self.angle_deg / 360.0)
        turn = self.turn_deg * 0.017453292519943295
        return np.array([
            cosine, sine, *self.pivot, *self.offset_px, *self.path_px, turn, self.middle_s, self.exposure_s,
            *self.centre, *self.distortion,
        ])  # fmt: skip

    def reference_box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Bounds on the reference frame of what this exposure shows in a box (low_y, high_y, low_x, high_x)."""
        low_y, high_y, low_x, high_x = box
        k1, k2 = self.distortion
        if k1 or k2:
            far = max(np.hypot(y - self.centre[0], x - self.centre[1]) for y in box[:2] for x in box[2:])
            slack = 2.0 * far * (abs(k1) * far**2 + abs(k2) * far**4) + 1.0
            low_y, high_y, low_x, high_x = low_y - slack, high_y + slack, low_x - slack, high_x + slack
        cosine, sine = self.geometry[0], self.geometry[1]
        ys: list[float] = []
        xs: list[float] = []
        for y in (low_y, high_y):
            for x in (low_x, high_x):
                u, v = y - self.pivot[0] - self.offset_px[0], x - self.pivot[1] - self.offset_px[1]
                ys.append(self.pivot[0] + cosine * u - sine * v)
                xs.append(self.pivot[1] + cosine * v + sine * u)
        return min(ys) - 1.0, max(ys) + 1.0, min(xs) - 1.0, max(xs) + 1.0

    def path_bound_px(self, reach_px: float) -> float:
        """No star within reach_px of the frame's centre moves further than this during the exposure."""
        arm = np.hypot(self.centre[0] - self.pivot[0], self.centre[1] - self.pivot[1]) + reach_px
        return float(np.hypot(*self.path_px) + abs(self.geometry[8]) * arm)


def frame_diagonal(y: Span, x: Span) -> float:
    """Length of the frame's diagonal [px]."""
    return float(np.hypot(len(y), len(x)))
