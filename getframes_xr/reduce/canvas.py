"""The canvas: the integer grid that moved frames are laid on, by warp and by splat alike.

The reference grid continued to the union of all used frames, rounded outwards + 1 px (``union``), or the frames' own
grid (``reference``), or that of a given image.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import xarray as xr

from getframes_xr.core.errors import OptionError
from getframes_xr.core.mapping import Affine
from getframes_xr.core.patch import Array
from getframes_xr.core.window import Grid, Span
from getframes_xr.face.frames_in import FramesLike, as_producer

Canvas = Literal["union", "reference"]


def canvas_spans(
    canvas: Canvas | FramesLike, transforms: Array, y: Span, x: Span
) -> tuple[Span, Span]:  # fmt: skip
    """Rows and columns of the canvas on the reference grid.

    Parameters
    ----------
    canvas : "union" of all frames, rounded outwards + 1 px (a deposited sample may be widened by one), "reference" (the
        frames' own spans), or an image whose y and x are taken
    transforms : float64 (frame, 2, 3), frame -> reference; NaN = the frame is not used
    y, x : Span of the frames

    Raises
    ------
    OptionError : another word for the canvas
    """
    if not isinstance(canvas, str):
        other = as_producer(canvas).grid
        return other.y, other.x
    if canvas == "reference":
        return y, x
    if canvas != "union":
        raise OptionError("canvas", canvas, ", ".join(get_args(Canvas)) + ", or an image whose y and x are taken")
    moves = Affine(transforms)
    boxes = moves.box(y, x)[moves.known]
    rows = Span(math.floor(boxes[:, 0].min()) - 1, math.ceil(boxes[:, 1].max()) + 2)
    return rows, Span(math.floor(boxes[:, 2].min()) - 1, math.ceil(boxes[:, 3].max()) + 2)


def reference_wcs(moves: xr.Dataset, grid: Grid) -> str | None:
    """WCS of the reference grid: the frames' own, or that of the reference frame where they differ."""
    columns = grid.columns or {}
    if "wcs" not in columns:
        return grid.wcs
    reference = moves.attrs.get("reference_frame")
    at = np.flatnonzero(columns["frame"] == reference) if reference is not None else np.empty(0, np.int64)
    return str(columns["wcs"][at[0]]) or None if len(at) else None
