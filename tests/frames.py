"""Small frames in memory for the tests of engine and reduce."""

from __future__ import annotations

import numpy as np

from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import ArrayFrames


def held_frames(values, flags=None, *, y0=0, x0=0, units="adu", plane="image", cfa=None, bands=None, **columns):
    """Frames (time, [band,] y, x) as a producer; ``columns`` by name, ``frame`` 0..n-1 unless given."""
    values = np.asarray(values)
    columns = {"frame": np.arange(len(values))} | {name: np.asarray(column) for name, column in columns.items()}
    grid = Grid(Span(y0, y0 + values.shape[-2]), Span(x0, x0 + values.shape[-1]), columns, bands=bands, cfa=cfa)
    arrays = {plane: values} if flags is None else {plane: values, "flags": np.asarray(flags, np.uint16)}
    return ArrayFrames(grid, arrays, {plane: units})
