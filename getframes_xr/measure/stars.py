"""Stars of one frame: found on a binned, matched-filtered sum of all colours, centred and shaped on raw pixels.

    detection    cells of b x b raw px minus the block background, 3 x 3 binomial, local maxima > 5 sigma
    centroid     x += 2 <g I dx> / <g I>,  g Gaussian of sigma 1.8 s,  <= 12 rounds
    width        sigma^2 = 1 / (1/m - 1/(4 s)^2) - c,   m = second moment under a Gaussian of sigma 4 s
    flux         circle of 1.9 FWHM (of a window that grows with the star), minus the clipped ring r+3 .. r+9

The scale s = b / 2 is 1 for FWHM up to 7 px and doubles until it fits, so defocused stars are found as well. Under a
colour filter array pixels pass [1 2 1] x [1 2 1] / 16 on the fly, which is the luminance R/4 + G/2 + B/4 at every
pixel (c = 1/2; mono c = 0). Flagged pixels are replaced BEFORE any smoothing, and so are single pixels that stand
alone (> 8 sigma and > 3.5 times their second brightest neighbour): hot pixels are never stars. Runs of elongated
detections along one line are a trail and are left out. Source: the recipe's scan; Stetson 1987, PASP 99, 191.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import OptionError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import BAD, OVERFULL, UNUSABLE
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.tables import Column, per_frame
from getframes_xr.measure.background import BLOCK_PX, Lattice, background, lattice_of, smooth_levels
from getframes_xr.measure.centroid import measure_positions, moments_at, ring_fluxes
from getframes_xr.measure.detection import (
    detection_image,
    difference_sigma,
    drop_twins,
    local_maxima,
    repair,
    trail_members,
)

Array = np.ndarray[Any, Any]

REPLACED = UNUSABLE & ~OVERFULL
FWHM_PER_SIGMA = 2.3548200450309493
_MOST_FLUXES = 400  # apertures are summed for the brightest only


@dataclass(frozen=True)
class Scan:
    """What one read of one frame gives: stars (brightest first), levels, width; see ``scan_frame``."""

    y: Array
    x: Array
    snr: Array
    amplitude: Array
    flux: Array
    flux_err: Array
    sigma_px: Array
    moment_plus: Array
    moment_cross: Array
    saturated: Array
    round: Array
    fwhm_px: float
    elongation: float
    saturated_share: float
    scale: float
    levels: Array
    variance: Array


def elongation_of(plus: Array, cross: Array) -> float:
    """1 - b/a of the median moment vector: only elongation that stars have in common counts."""
    good = np.isfinite(plus) & np.isfinite(cross)
    if not good.any():
        return float("nan")
    e = min(float(np.hypot(np.median(plus[good]), np.median(cross[good]))), 0.999)
    return 1.0 - float(np.sqrt((1.0 - e) / (1.0 + e)))


def scan_frame(
    image: Array,
    flags: Array,
    lattice: Lattice,
    *,
    origin: tuple[int, int] = (0, 0),
    electron: bool = True,
    threshold_sigma: float = 5.0,
    most: int = 2500,
) -> Scan:
    """Find and measure the stars of one frame.

    Parameters
    ----------
    image : float32 (y, x), electron or adu; NaN = no data
    flags : uint16 (y, x), bits of core.vocabulary.Flag
    lattice : Lattice of the frame's bands
    origin : absolute (y, x) of the first pixel
    electron : whether the unit is the electron (adds the light's own noise to flux errors)
    threshold_sigma : detection limit in sigma of the filtered image
    most : longest list

    Returns
    -------
    Scan : positions absolute [px], saturated stars first (by their light), then by amplitude
    """
    y0, x0 = origin
    levels, variance = background(image, flags, lattice, origin, BAD)
    smooth = smooth_levels(levels)
    used = np.nan_to_num(variance)
    clean = repair(image, flags, REPLACED, smooth, used, y0, x0, lattice.index)
    found = _detect(clean, flags, smooth, used, lattice, origin, 1.0, threshold_sigma, most)
    scale, brightest, fwhm = 1.0, *_width(found)
    while fwhm > 7.0 * scale and scale < 4.0:
        wider = _detect(clean, flags, smooth, used, lattice, origin, 2.0 * scale, threshold_sigma, most)
        if not _gain(found, wider) > 1.1:  # wide moments of faint light, not wide stars
            break
        found, scale = wider, 2.0 * scale
        brightest, fwhm = _width(found)
    n = min(len(found["y"]), _MOST_FLUXES)
    flux, error = np.full(len(found["y"]), np.nan), np.full(len(found["y"]), np.nan)
    usable = brightest[:60]
    width = similar_width(clean, smooth, lattice, origin, found["y"][usable], found["x"][usable], fwhm)
    radius = 1.9 * min(max(width if np.isfinite(width) else 3.0, 2.0), 6.0 * scale)
    ring_fluxes(
        clean, smooth, used, y0, x0, lattice.index, electron, found["y"][:n], found["x"][:n], radius,
        flux[:n], error[:n],
    )  # fmt: skip
    return Scan(
        y=found["y"] + y0, x=found["x"] + x0, snr=found["snr"], amplitude=found["amplitude"],
        flux=flux, flux_err=error, sigma_px=found["sigma"], moment_plus=found["plus"], moment_cross=found["cross"],
        saturated=found["saturated"] > 0, round=found["round"], fwhm_px=fwhm,
        elongation=elongation_of(found["plus"][brightest], found["cross"][brightest]),
        saturated_share=float(np.count_nonzero(flags & OVERFULL)) / flags.size,
        scale=scale, levels=levels, variance=variance,
    )  # fmt: skip


def _width(found: dict[str, Array]) -> tuple[Array, float]:
    """The up to 120 brightest unsaturated detections of SNR > 25 (at least 10 if there are) and their median FWHM."""
    usable = np.flatnonzero((found["saturated"] == 0) & np.isfinite(found["sigma"]))
    strong = usable[found["snr"][usable] > 25.0][:120]
    brightest = strong if len(strong) >= 10 else usable[:10]
    if not len(brightest):
        return brightest, float("nan")
    return brightest, FWHM_PER_SIGMA * float(np.median(found["sigma"][brightest]))


def similar_width(
    clean: Array, levels: Array, lattice: Lattice, origin: tuple[int, int], y: Array, x: Array, fwhm: float
) -> float:
    """FWHM in a window that grows with the star (sigma 0.9 FWHM), from the fixed window's value on.

    Under a fixed window the reading of a star with wings falls behind its true width (1.34 to 1.23 times the FWHM of a
    Moffat star from 2.6 to 4.4 px); here the ratio stays, so a circle of so many FWHM holds a constant share of light.
    """
    if not np.isfinite(fwhm) or not len(y):
        return fwhm
    moment = np.empty(len(y))
    width = fwhm
    for _ in range(3):
        window = 0.9 * max(width, 1.5)
        moments_at(clean, levels, *origin, lattice.index, y, x, window, moment)
        good = moment[(moment > 0) & (moment < 0.97 * window**2)]
        if not len(good):
            return fwhm
        sigma2 = 1.0 / (1.0 / np.median(good) - 1.0 / window**2) - 1.0 / 12 - (0.5 if lattice.n_bands > 1 else 0.0)
        width = FWHM_PER_SIGMA * float(np.sqrt(max(sigma2, 0.25)))
    return width


def _gain(found: dict[str, Array], wider: dict[str, Array]) -> float:
    """Growth of the 30 best detections at the wider scale, in units of the pixels' own noise: wide stars gain.

    The noise is that of the pixels and not that of the filtered image, which faint stars raise at wide scales.
    """
    before, after = (np.sort(each["pixel_snr"])[::-1][:30] for each in (found, wider))
    n = min(len(before), len(after))
    return float(np.median(after[:n]) / np.median(before[:n])) if n else 0.0


def _detect(
    clean: Array, flags: Array, levels: Array, variance: Array, lattice: Lattice, origin: tuple[int, int],
    scale: float, threshold_sigma: float, most: int,
) -> dict[str, Array]:  # fmt: skip
    """Detections at one scale, ranked: arrays y, x (from the first pixel), snr, amplitude, sigma, plus, cross, ..."""
    cell = int(2 * scale)
    pixels = lattice.share * (cell * cell / 4.0)
    filtered = detection_image(clean, np.tensordot(pixels, levels, 1)[None], cell)
    pixel_sigma = 0.375 * float(np.sqrt(pixels @ variance))
    sigma = max(pixel_sigma, difference_sigma(filtered, 4, 4))
    row, column, value = local_maxima(filtered, threshold_sigma * sigma, 20 * most)
    order = np.argsort(-value, kind="stable")[:most]
    start_y, start_x = cell * row[order] + 0.5 * (cell - 1), cell * column[order] + 0.5 * (cell - 1)
    shape = np.empty((len(order), 8))
    y0, x0 = origin
    measure_positions(
        clean, flags, OVERFULL, levels, y0, x0, lattice.index, start_y, start_x, scale, shape
    )  # fmt: skip
    star = np.isfinite(shape[:, 0])
    shape, value = shape[star], value[order][star]
    snr = value / sigma if sigma > 0 else np.full(len(value), np.inf)
    saturated = shape[:, 7]
    light = np.where(saturated > 0, np.nan_to_num(shape[:, 4]) * value, 0.0)
    rank = np.lexsort((-value, -light, -saturated))
    shape, value, snr = shape[rank], value[rank], snr[rank]
    keep = drop_twins(shape[:, 0], shape[:, 1], np.argsort(shape[:, 0], kind="stable"), 2.5 * scale)
    narrow = np.sqrt(shape[:, 2] ** 2 + shape[:, 3] ** 2)
    limit = 0.2 + 2.0 / snr
    keep &= ~trail_members(shape[:, 0], shape[:, 1], shape[:, 2], shape[:, 3], (narrow > limit) & keep, scale)
    shape, value, snr, narrow, limit = shape[keep], value[keep], snr[keep], narrow[keep], limit[keep]
    window = (4.0 * scale) ** 2
    moment = np.where((shape[:, 4] > 0) & (shape[:, 4] < 0.97 * window), shape[:, 4], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma2 = 1.0 / (1.0 / moment - 1.0 / window) - (0.5 if lattice.n_bands > 1 else 0.0)
    return {
        "y": shape[:, 0].copy(), "x": shape[:, 1].copy(), "snr": snr, "amplitude": value,
        "sigma": np.sqrt(np.maximum(sigma2, 0.0)), "plus": shape[:, 5], "cross": shape[:, 6],
        "saturated": shape[:, 7], "round": narrow < limit,
        "pixel_snr": value / pixel_sigma if pixel_sigma > 0 else snr,
    }  # fmt: skip


@dataclass(frozen=True)
class FindStars:
    """The function of one frame behind ``find_stars``: a patch of ``image`` (or ``adu``) and ``flags`` to one row."""

    plane: str
    cfa: str | None
    electron: bool
    threshold_sigma: float
    n_sources: int

    def __call__(self, patch: Patch) -> dict[str, Any]:
        image = patch[self.plane][0]
        if image.ndim == 3:  # debayered frames: one luminance
            image = image.mean(0, dtype=np.float32)
        image = np.ascontiguousarray(image, np.float32)
        flags = np.zeros(image.shape, np.uint16)
        if "flags" in patch:
            given = patch["flags"][0]
            flags = np.ascontiguousarray(np.bitwise_or.reduce(given, 0) if given.ndim == 3 else given, np.uint16)
        scan = scan_frame(
            image, flags, lattice_of(self.cfa), origin=(patch.window.y.start, patch.window.x.start),
            electron=self.electron, threshold_sigma=self.threshold_sigma, most=self.n_sources,
        )  # fmt: skip
        row: dict[str, Any] = {
            "n_stars": len(scan.y), "fwhm_px": scan.fwhm_px, "elongation": scan.elongation,
            "saturated_share": scan.saturated_share, "detection_scale": scan.scale, "variance": scan.variance,
            "background": _middle(scan.levels), "sky": scan.levels,
        }  # fmt: skip
        for name, values in {
            "y": scan.y, "x": scan.x, "snr": scan.snr, "amplitude": scan.amplitude, "flux": scan.flux,
            "flux_err": scan.flux_err, "star_fwhm_px": FWHM_PER_SIGMA * scan.sigma_px, "moment_plus": scan.moment_plus,
            "moment_cross": scan.moment_cross, "saturated": scan.saturated, "round": scan.round,
        }.items():  # fmt: skip
            padded = np.full(self.n_sources, False if values.dtype == np.bool_ else np.nan, values.dtype)
            padded[: len(values)] = values
            row[name] = padded
        return row


def _middle(levels: Array) -> Array:
    """Median of each band's block levels; NaN where a band has none."""
    return np.array([np.median(band[np.isfinite(band)]) if np.isfinite(band).any() else np.nan for band in levels])


def find_stars(clean: FramesLike, *, threshold_sigma: float = 5.0, n_sources: int | None = None) -> xr.Dataset:
    """Find and measure the stars of every frame, lazily; each frame is read once.

    Parameters
    ----------
    clean : frames with the plane ``image`` (or ``adu``) and, if there is one, ``flags``; colour filter frames too
    threshold_sigma : detection limit in sigma of the matched-filtered image, >= 3
    n_sources : rows per frame; default one per 400 px, between 100 and 2500. The brightest are kept

    Returns
    -------
    Dataset of tables, NaN-padded, saturated stars first, then by amplitude
        (time, source) : y, x [px, absolute, pixel centres at integers], snr, amplitude, flux and flux_err [units of
        the frames; aperture of 1.9 FWHM, the 400 brightest], star_fwhm_px, moment_plus, moment_cross, saturated, round
        (time) : n_stars, fwhm_px, elongation, saturated_share, detection_scale
        (time, band) : background, variance [units^2 of one raw pixel]
        (time, band, block_y, block_x) : sky, clipped level of each 32 x 32 px block

    Raises
    ------
    OptionError : threshold_sigma or n_sources is out of range
    DataError : the frames have no time axis, or neither ``image`` nor ``adu``
    """
    if not threshold_sigma >= 3.0:
        raise OptionError("find_stars.threshold_sigma", threshold_sigma, ">= 3")
    if n_sources is not None and not 10 <= n_sources <= 100_000:
        raise OptionError("find_stars.n_sources", n_sources, "10 .. 100000")
    frames = frames_in(clean, "find_stars", timed=True)
    producer, plane = frames.producer, frames.plane
    grid = producer.grid
    shape = (len(grid.y), len(grid.x))
    most = n_sources if n_sources is not None else min(2500, max(100, shape[0] * shape[1] // 400))
    cfa = None if grid.bands else grid.cfa
    bands = lattice_of(cfa).bands
    units = producer.planes[plane].units or "adu"
    blocks = {"block_y": -(-shape[0] // BLOCK_PX), "block_x": -(-shape[1] // BLOCK_PX)}
    star, band = {"source": most}, {"band": len(bands)}
    single, double, truth = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
    columns = {
        "y": Column(double, "pixel", star), "x": Column(double, "pixel", star), "snr": Column(single, "", star),
        "amplitude": Column(single, units, star), "flux": Column(single, units, star),
        "flux_err": Column(single, units, star), "star_fwhm_px": Column(single, "pixel", star),
        "moment_plus": Column(single, "", star), "moment_cross": Column(single, "", star),
        "saturated": Column(truth, "", star), "round": Column(truth, "", star),
        "n_stars": Column(np.dtype(np.int64)), "fwhm_px": Column(double, "pixel"), "elongation": Column(double),
        "saturated_share": Column(double), "detection_scale": Column(double),
        "background": Column(double, units, band), "variance": Column(double, f"{units}2", band),
        "sky": Column(single, units, band | blocks),
    }  # fmt: skip
    function = FindStars(plane, cfa, units == "electron", float(threshold_sigma), most)
    table = per_frame(producer, frames.planes, function, columns).assign_coords(band=list(bands))
    return table.assign_attrs(
        block_px=BLOCK_PX, frame_shape=list(shape), frame_origin=[grid.y.start, grid.x.start],
        cfa_pattern=cfa or "", units=units,
    )  # fmt: skip
