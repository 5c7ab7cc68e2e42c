"""How thermally made charge grows with temperature: it doubles every few degrees.

    rate(T) = rate(T0) * 2 ** ((T - T0) / step)

Between -40 and +40 C a step of 5.5 to 7 C follows the band-gap law T^1.5 exp(-Eg / 2kT) of silicon within a factor of
two; far from the reference temperature the two differ (5.6 times over 100 K), so a camera states its rate near the
temperature at which it works. Source: Janesick, Scientific Charge-Coupled Devices (2001), ch. 7; Widenhorn et al.,
Proc. SPIE 4669, 193 (2002).
"""

from __future__ import annotations

import numpy as np

from getframes_xr.core.elementary import exp64
from getframes_xr.core.patch import Array

_LN2 = 0.6931471805599453


def growth(temperature_c: Array, reference_temperature_c: float, doubling_temperature_c: float) -> Array:
    """Factor on the rate at the reference temperature.

    Parameters
    ----------
    temperature_c : float (time,) [deg C]
    reference_temperature_c, doubling_temperature_c : [deg C]

    Returns
    -------
    float64 (time,)
    """
    turns = (np.asarray(temperature_c, np.float64) - reference_temperature_c) / doubling_temperature_c
    return np.array([exp64(_LN2 * float(turn)) for turn in turns], np.float64)
