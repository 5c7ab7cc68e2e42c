"""A score for every frame: what it is worth among those that are used.

    score = (t / FWHM)^2 / V        relative to the median of the used frames

This is the inverse variance of a faint star's flux: light t against the background variance V of a raw pixel inside a
star's area ~ FWHM^2. Two frames of score 1 are worth one of score 2. Before ``normalise`` the transparency is unknown
and taken as 1. A score leaves no frame out: one that is out before has score 0; one whose width or background could not
be measured has none (NaN), is used all the same, and is the first to go where only the best are kept. Source: King
1983, PASP 95, 163 (effective area of a star).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.verdict import Verdicts
from getframes_xr.face.tables import loaded
from getframes_xr.measure.registration import SIMULATED


def score(stars: xr.Dataset, moves: xr.Dataset | None = None) -> xr.Dataset:
    """Score the frames of a session.

    Parameters
    ----------
    stars : loaded table of ``find_stars``
    moves : loaded table of ``register`` or ``normalise`` for the same frames; without it every frame counts as used

    Returns
    -------
    Dataset (time) : score (median of the used frames = 1; 0 for frames that are out, NaN for used ones that could not
        be measured), used, reason and verdict as in ``moves``, n_stars, fwhm_px, elongation, transparency, background
        (mean of the bands), noise (sigma of a raw pixel), saturated_share; (time, number) reason_numbers

    Raises
    ------
    DataError : a table is lazy, or the two hold different frames
    """
    stars = loaded(stars, "fwhm_px", "elongation", "n_stars", "background", "variance", "saturated_share")
    n = stars.sizes["time"]
    verdicts, transparency, measured = Verdicts.of(n), np.ones(n), stars
    if moves is not None:
        moves = loaded(moves, "verified", "reason", "fwhm_px", "elongation")
        if not np.array_equal(stars["frame"].values, moves["frame"].values):
            raise DataError("stars and moves hold different frames; register this table of stars")
        verdicts = Verdicts.read(moves)
        transparency = moves["transparency"].values if "transparency" in moves else transparency
        measured = moves
    width, variance = measured["fwhm_px"].values, stars["variance"].mean("band").values
    with np.errstate(invalid="ignore", divide="ignore"):
        merit = (transparency / width) ** 2 / variance
    used = verdicts.used
    known = used & np.isfinite(merit) & (merit > 0)
    middle = np.median(merit[known]) if known.any() else 1.0
    time = ("time",)
    coordinates = {
        name: value.variable
        for name, value in stars.coords.items()
        if set(value.dims) <= {"time"} and name not in SIMULATED
    }
    table = xr.Dataset(
        {
            "score": (time, np.where(known, merit / middle, np.where(used, np.nan, 0.0))),
            "n_stars": (time, stars["n_stars"].values),
            "fwhm_px": (time, width, {"units": "pixel"}), "elongation": (time, measured["elongation"].values),
            "transparency": (time, transparency), "background": (time, stars["background"].mean("band").values),
            "noise": (time, np.sqrt(variance)), "saturated_share": (time, stars["saturated_share"].values),
        },
        coordinates,
    )  # fmt: skip
    return verdicts.write(table)
