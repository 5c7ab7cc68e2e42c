"""Stack frames that lie on one grid: reject outliers along time, average the rest, say how sure the result is.

    image = sum w v / sum w,   noise = sqrt(sum w^2 var(v)) / sum w      over the kept samples v

``coverage`` counts the good samples before rejection, ``count`` those kept, ``weight`` sums their weights. Rejection
by the samples' own scatter cannot work with few frames (N / sqrt(N - 1) > kappa), so the rule follows N unless given.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND
from getframes_xr.core.window import Grid
from getframes_xr.engine.collapse import RULES, Rule, Stacked
from getframes_xr.engine.producer import Producer, Selected
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.face.tables import by_frame
from getframes_xr.reduce.reject.noise_model import NoiseModel
from getframes_xr.reduce.reject.sigma_clip import SigmaClip
from getframes_xr.reduce.reject.winsor import Winsor

FEW_FRAMES = 10
Weights = xr.DataArray | xr.Dataset | Array | list[float]


def stack(frames: FramesLike, *, reject: Rule | None = None, weights: Weights | None = None) -> xr.Dataset:
    """Collapse frames along time; lazy.

    Parameters
    ----------
    frames : Dataset with ``image`` (or ``adu``) and perhaps ``flags``, or a DataArray, on one grid (see ``warp``);
        frames whose coordinate ``used`` or ``verified`` is False are left out, their number stands in the attrs
    reject : a rule of ``gx.reject``; by default SigmaClip(kappa=3.0) for more than 10 frames, below that NoiseModel
        where gain and read noise are known, else Winsor
    weights : (time,) or (time, band) numbers > 0 in the order of ``frames``; a DataArray or Dataset (its ``weight``)
        with the coordinate ``frame`` is matched by it; frames of weight 0 are left out

    Returns
    -------
    Dataset (band, y, x): ``image`` and ``noise`` (units of the frames), ``count``, ``coverage``, ``weight``, ``flags``

    Raises
    ------
    DataError : no frame is left, weights do not fit the frames, a repeated ``frame``
    OptionError : weights for a rule that takes none, a ``reject`` that is no rule
    """
    producer, plane, _ = frames_in(frames, "stack", timed=True)
    return lazy(stacked(producer, plane, reject, weights))


def stacked(producer: Producer, plane: str, reject: Rule | None = None, weights: Weights | None = None) -> Stacked:
    """The producer behind ``stack``.

    Raises
    ------
    DataError : no frame is left, or weights do not fit the frames
    OptionError : ``reject`` is no rule
    """
    if reject is not None and not isinstance(reject, Rule):
        rules = ", ".join(f"gx.reject.{RULES[kind].__name__}()" for kind in RULES)
        raise OptionError("reject", reject, f"a rule: {rules}")
    grid = producer.grid
    if not grid.timed:
        raise DataError("stack needs frames along time; these have none (a master or a stack already?)")
    keep = used_frames(grid)
    numbers = None if weights is None else weights_of(weights, grid)
    if numbers is not None:
        keep = keep & (numbers.reshape(len(keep), -1) > 0).all(axis=1)
    n_out = int((~keep).sum())
    if not keep.any():
        raise DataError(f"none of the {len(keep)} frames can be used; look at the verdicts of register")
    if n_out:
        positions = np.flatnonzero(keep)
        producer = Selected(producer, positions, grid.y, grid.x)
        numbers = None if numbers is None else numbers[positions]
    rule = reject or default_rule(producer.grid, producer.planes[plane].units)
    return Stacked(producer, rule, numbers, plane, {"frames_left_out": n_out, "rejection": type(rule).__name__})


def default_rule(grid: Grid, units: str) -> Rule:
    """SigmaClip for many frames, NoiseModel for few with a known noise, else Winsor."""
    if grid.n_frames > FEW_FRAMES:
        return SigmaClip(kappa=3.0)
    columns = grid.columns or {}
    model = NoiseModel()
    known = all(name in columns and bool(np.isfinite(columns[name]).all()) for name in model.needs(grid, units))
    sky_is_off = "levelled" in grid.attrs  # and with it the shot noise the model would need
    return model if known and not sky_is_off else Winsor()


def used_frames(grid: Grid) -> Array:
    """Which frames may be used, bool (time,): the column ``used``, else ``verified``, else all."""
    columns = grid.columns or {}
    for name in ("used", "verified"):
        if name in columns:
            return np.asarray(columns[name], np.bool_)
    return np.ones(grid.n_frames, np.bool_)


def weights_of(weights: Weights, grid: Grid) -> Array:
    """Weights as float64 (time,) or (time, band), in the order of the grid's frames.

    Raises
    ------
    DataError : no ``weight`` in the Dataset, a frame without a weight, the wrong length, NaN or a negative number
    """
    if isinstance(weights, xr.Dataset):
        if "weight" not in weights:
            raise DataError("this table has no 'weight'; make one with normalise(stars, moves)")
        weights = weights["weight"]
    if isinstance(weights, xr.DataArray):
        values = by_frame(weights, grid)
        if weights.ndim == 2 and grid.bands and BAND in weights.coords:
            known = [str(band) for band in weights[BAND].values]
            if set(grid.bands) <= set(known):
                values = values[:, [known.index(band) for band in grid.bands]]
    else:
        values = np.asarray(weights)
        if len(values) != grid.n_frames:
            raise DataError(f"{len(values)} weights for {grid.n_frames} frames")
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise DataError("weights must be numbers >= 0; a frame of weight 0 is left out")
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
