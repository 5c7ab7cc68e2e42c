"""``leave_out``: frames that a person does not want, with a reason in the table like those the package finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.verdict import Reason, Verdicts
from getframes_xr.core.vocabulary import TIME
from getframes_xr.face.tables import loaded


def leave_out(moves: xr.Dataset, frames: xr.DataArray | np.ndarray[Any, Any] | Sequence[int]) -> xr.Dataset:
    """Leave frames out by hand; those that are out already keep their reason.

    Parameters
    ----------
    moves : loaded table of ``register`` or ``normalise``
    frames : which: bool along time, such as ``moves["fwhm_px"] > 4``, or the frames' numbers (``frame``)

    Returns
    -------
    Dataset : the moves; for these frames ``used`` is False, ``reason`` "by_hand", ``weight`` (where there is one) 0

    Raises
    ------
    DataError : the table is lazy or holds no reasons, the mask is of another length, or a number is not in the table
    """
    mask = np.asarray(frames)
    if mask.dtype == np.bool_ and mask.shape != (moves.sizes[TIME],):
        raise DataError(f"leave_out: a mask of the shape {mask.shape} for {moves.sizes[TIME]} frames")
    if mask.dtype != np.bool_:
        strangers = sorted({str(number) for number in mask.ravel() if number not in moves["frame"].values})
        if strangers:
            raise DataError(f"leave_out: there is no frame {', '.join(strangers)} in this table")
        mask = np.isin(moves["frame"].values, mask)
    moves = loaded(moves.assign(left_out=(TIME, mask)), "reason")  # sorted by frame, and the mask with it
    out = moves["left_out"].values
    return Verdicts.read(moves).leave_out(out, Reason.BY_HAND).write(moves.drop_vars("left_out"))
