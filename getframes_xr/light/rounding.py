"""Coarse grids on which computed positions and tables land before a kernel sees them.

The last bit of ``10 ** x`` or ``tan x`` differs between machines; the kernels themselves do not. Rounding positions to
2^-16 px and tables to 2^-24 of their size makes such a difference vanish but for a value that lies within one last bit
of a rounding edge (about 1 in 10^8).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from getframes_xr.core.kernel import kernel

POSITION_STEPS = 65536.0  # per pixel


def rounded(values: ArrayLike, bits: int = 24) -> NDArray[np.float64]:
    """Keep ``bits`` binary digits of every value (exact arithmetic: any machine gives the same result)."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    scale = 2.0**bits
    result: NDArray[np.float64] = np.ldexp(np.round(mantissa * scale) / scale, exponent)
    return result


def rounded_position(values: ArrayLike) -> NDArray[np.float64]:
    """Round pixel positions to 2^-16 px."""
    result: NDArray[np.float64] = np.floor(np.asarray(values, np.float64) * POSITION_STEPS + 0.5) / POSITION_STEPS
    return result


@kernel(inline="always")
def on_position_grid(value: Any) -> Any:
    """Round one pixel position to 2^-16 px."""
    return np.floor(value * POSITION_STEPS + 0.5) / POSITION_STEPS
