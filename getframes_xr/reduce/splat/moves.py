"""Moves: what the deposit must know of every used frame, read once from the table that ``normalise`` gives.

Per frame: the transform frame -> reference, transparency t, sky plane S, variance V of a raw pixel and weight w per
band. A sample e becomes v = (e - S) / t with the variance V' = V / t^2 plus the shot noise of its own signal r: r /
(t g), with g the gain where the frames count in ADU and 1 where they count electrons. Where the gain is not known
it follows from the frames themselves: over frames and bands V = level / g + constant (the photon transfer curve);
where the level hardly changes, the largest 1 / g that the frames allow, V / level, is taken (rejection bears +-20
%).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.cfa import cfa_index
from getframes_xr.core.errors import DataError, RegistrationError
from getframes_xr.core.mapping import Affine
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND, COLOUR_BANDS, TIME
from getframes_xr.core.window import Grid
from getframes_xr.face.tables import loaded

PER_FRAME = (
    "positions", "frames", "transforms", "transparency", "sky", "variances", "weights", "per_signal", "fwhm_px"
)  # fmt: skip
NEEDED = ("transform", "transparency", "sky", "variance", "weight", "used")
LEAST_LEVEL_RANGE = 0.15  # (max - min) / mean of the sky level that a slope of the transfer curve needs


@dataclass(frozen=True, eq=False)
class Moves:
    """The used frames, by increasing frame number; all arrays read-only, float64 unless said.

    Parameters
    ----------
    positions : int64 (frame), place on the time axis of the clean frames
    frames : int64 (frame), frame numbers
    transforms : (frame, 2, 3), [y, x] of the frame -> reference grid
    transparency : (frame)
    sky : (frame, band, 3), level at `centre`, slope along y, slope along x [units of the frames]
    variances : (frame, band), V' = V / t^2
    weights : (frame, band)
    centre : (y, x), where the sky level holds [px]
    per_signal : (frame), variance of v per unit of signal
    fwhm_px : (frame), NaN where not known
    bands : names; ("mono",) without a colour filter array
    cfa : pattern for absolute pixel (0, 0), or None
    n_left_out : frames that are not used
    """

    positions: Array
    frames: Array
    transforms: Array
    transparency: Array
    sky: Array
    variances: Array
    weights: Array
    centre: Array
    per_signal: Array
    fwhm_px: Array
    bands: tuple[str, ...]
    cfa: str | None
    n_left_out: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def map(self) -> Affine:
        """Frame -> reference grid."""
        return Affine(self.transforms)

    @property
    def inverses(self) -> Array:
        """Reference grid -> frame, (frame, 2, 3)."""
        return self.map.inverse.terms

    @cached_property
    def phases(self) -> Array:
        """Rows of (y offset, x offset, band), int64; one row for mono frames."""
        if self.cfa is None:
            return np.zeros((1, 3), np.int64)
        return np.array([(y, x, band) for (y, x), band in np.ndenumerate(cfa_index(self.cfa))], np.int64)

    @property
    def step(self) -> int:
        """Period of the colour filter array."""
        return 1 if self.cfa is None else 2

    @cached_property
    def raw_per_sample(self) -> Array:
        """Raw pixels per sample of a band, float32 (band): 4, 2, 4 or 1."""
        n = np.bincount(self.phases[:, 2], minlength=len(self.bands))
        return (len(self.phases) / n).astype(np.float32)

    @cached_property
    def weights32(self) -> Array:
        return self.weights.astype(np.float32)

    @cached_property
    def variances32(self) -> Array:
        return self.variances.astype(np.float32)

    @cached_property
    def typical_variance(self) -> Array:
        """Median of V' over the frames, float32 (band)."""
        return np.median(self.variances, axis=0).astype(np.float32)

    def select(self, members: Array) -> Moves:
        """Some of the used frames, in their order; the others count as left out."""
        own = {name: getattr(self, name)[members] for name in PER_FRAME}
        return dataclasses.replace(self, n_left_out=self.n_left_out + len(self) - len(members), **own)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def read_moves(moves: xr.Dataset, grid: Grid, units: str) -> Moves:
    """Read the table of moves for some clean frames.

    Parameters
    ----------
    moves : loaded Dataset of ``normalise(stars, register(stars))``
    grid : of the clean frames; matched by ``frame``
    units : of the clean frames, "electron" or "adu"

    Raises
    ------
    DataError : a variable is missing or lazy, bands or units do not fit, values are not finite
    RegistrationError : none of these frames is used
    """
    missing = [name for name in NEEDED if name not in moves]
    if missing:
        raise DataError(f"moves lack {', '.join(missing)}; use normalise(stars, register(stars))")
    table = loaded(moves, *NEEDED)
    known = str(table.attrs.get("units", units))
    if known != units:
        raise DataError(f"moves are in {known}, the frames in {units}; measure and stack the same calibrated frames")
    bands = COLOUR_BANDS if grid.cfa is not None else ("mono",)
    table = _with_bands(table, bands)
    numbers = table["frame"].values.astype(np.int64)
    own = grid.column("frame")
    place = {int(number): k for k, number in enumerate(own)}
    used = np.array([bool(u) and int(n) in place for n, u in zip(numbers, table["used"].values, strict=True)], bool)
    if not used.any():
        raise RegistrationError(f"none of these {len(own)} frames is used; see the verdicts in moves")
    table = table.isel({TIME: np.flatnonzero(used)})
    t = _numbers(table, "transparency", (TIME,))
    variance = _numbers(table, "variance", (TIME, BAND))
    sky = _numbers(table, "sky", (TIME, BAND, "plane_term"))
    if (t <= 0).any() or (variance <= 0).any():
        raise DataError("transparency and variance in moves must be > 0 for every used frame")
    return Moves(
        positions=np.array([place[int(number)] for number in numbers[used]], np.int64),
        frames=numbers[used],
        transforms=_numbers(table, "transform", (TIME, "axis", "term")),
        transparency=t,
        sky=sky,
        variances=variance / (t**2)[:, None],
        weights=_numbers(table, "weight", (TIME, BAND)),
        centre=_centre(table, grid),
        per_signal=_per_signal(grid, units, np.flatnonzero(used), numbers, place, sky[..., 0], variance) / t,
        fwhm_px=_optional(table, "fwhm_px", len(t)),
        bands=bands,
        cfa=grid.cfa,
        n_left_out=len(own) - int(used.sum()),
    )


def _with_bands(table: xr.Dataset, bands: tuple[str, ...]) -> xr.Dataset:
    if BAND not in table.dims:
        return table.expand_dims({BAND: list(bands[:1])})
    named = [str(name) for name in table[BAND].values] if BAND in table.coords else list(bands)
    if sorted(named) != sorted(bands):
        raise DataError(f"moves have the bands {', '.join(named)}, the frames {', '.join(bands)}")
    return table.isel({BAND: [named.index(name) for name in bands]})


def _numbers(table: xr.Dataset, name: str, dims: tuple[str, ...]) -> Array:
    if set(table[name].dims) != set(dims):
        raise DataError(f"moves: {name} has the dims {table[name].dims}, expected {dims}")
    values = np.ascontiguousarray(table[name].transpose(*dims).values, np.float64)
    if not np.isfinite(values).all():
        bad = table["frame"].values[~np.isfinite(values.reshape(len(values), -1)).all(axis=1)]
        raise DataError(f"moves: {name} is not finite for the used frames {', '.join(map(str, bad[:5]))}")
    return values


def _optional(table: xr.Dataset, name: str, length: int) -> Array:
    if name not in table:
        return np.full(length, np.nan)
    return np.asarray(table[name].values, np.float64)


def _centre(table: xr.Dataset, grid: Grid) -> Array:
    """Where the sky level holds: the centre of the frames that were measured, else of these frames."""
    known = table.attrs.get("centre_px")
    if known is not None:
        return np.asarray(known, np.float64)
    return np.array([(grid.y.start + grid.y.stop - 1) / 2, (grid.x.start + grid.x.stop - 1) / 2])


def _per_signal(
    grid: Grid, units: str, rows: Array, numbers: Array, place: dict[int, int], level: Array, variance: Array
) -> Array:
    """1 / gain per used frame: 1 in electrons, from the cards in ADU, else from the transfer curve."""
    if units == "electron":
        return np.ones(len(rows))
    if grid.columns is not None and "gain_e_per_adu" in grid.columns:
        gain = np.array([grid.column("gain_e_per_adu")[place[int(numbers[row])]] for row in rows], np.float64)
        if np.isfinite(gain).all() and (gain > 0).all():
            return 1.0 / gain
    return np.full(len(rows), inverse_gain(level.ravel(), variance.ravel()))


def inverse_gain(level: Array, variance: Array) -> float:
    """Slope of variance against level (1 / gain) of sky backgrounds [adu].

    Parameters
    ----------
    level, variance : float64 (n), of frames and bands [adu, adu^2]

    Returns
    -------
    float >= 0, 1 / gain; the upper bound variance / level where the level hardly changes or the slope is not physical
    """
    good = np.isfinite(level) & np.isfinite(variance) & (level > 0)
    if not good.any():
        return 0.0
    level, variance = level[good], variance[good]
    bound = float(np.median(variance / level))
    if len(level) >= 3 and np.ptp(level) > LEAST_LEVEL_RANGE * level.mean():
        slope = float(np.polyfit(level, variance, 1)[0])
        if 0 < slope <= bound:
            return slope
    return bound
