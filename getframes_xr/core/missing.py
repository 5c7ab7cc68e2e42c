"""Missing samples: NaN in float planes, with the reason in the flags."""

from __future__ import annotations

import numpy as np

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import Flag

_NAN = np.float32(np.nan)
_NO_DATA = np.uint16(Flag.NO_DATA)


@kernel
def blank(values: Array, flags: Array, bad: int) -> None:
    """Make float32 values (n,) NaN where a flag of ``bad`` is set, in place."""
    for i in range(values.shape[0]):
        values[i] = _NAN if (flags[i] & bad) != 0 else values[i]


@kernel
def mark_no_data(image: Array, flags: Array, bad: int) -> None:
    """Flag NaN of an image (y, x) that no flag of ``bad`` explains as no_data, in place."""
    for y in range(image.shape[0]):
        row, marks = image[y], flags[y]
        for x in range(image.shape[1]):
            unknown = (row[x] != row[x]) & ((marks[x] & bad) == 0)
            marks[x] = marks[x] | _NO_DATA if unknown else marks[x]
