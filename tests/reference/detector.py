"""Detector effects once more: from their formulas, in float64, pixel by pixel in plain Python or scipy."""

from __future__ import annotations

import numpy as np
from scipy import signal


def blooming(charge, well):
    """One column after the other: half of the excess runs towards larger y, half towards smaller y."""
    out = np.minimum(charge, well).astype(float)
    for x in range(charge.shape[1]):
        for order in (range(charge.shape[0]), reversed(range(charge.shape[0]))):
            running = 0.0
            for y in order:
                running += max(float(charge[y, x]) - well, 0.0) / 2
                taken = min(running, well - out[y, x])
                out[y, x] += taken
                running -= taken
    return out


def coupling(charge, share):
    """Convolution with the cross-shaped kernel, nothing outside."""
    kernel = np.array([[0, share, 0], [share, 1 - 4 * share, share], [0, share, 0]])
    return signal.convolve2d(charge.astype(float), kernel, mode="same")


def converted(values, bits, shift):
    """Round half to even, clip, shift."""
    return np.clip(np.rint(np.asarray(values, float)), 0, 2**bits - 1).astype(np.int64) << shift


def ghosts(charge, well, capture, release_time_s, start_s, exposure_s):
    """Mean release into each exposure of one pixel whose collected charge per exposure is given."""
    traps, released = np.zeros(len(capture)), []
    for at, collected in enumerate(charge):
        if at:
            gap = start_s[at] - start_s[at - 1] - exposure_s[at - 1]
            traps = traps * np.exp(-gap / np.asarray(release_time_s))
        freed = traps * -np.expm1(-exposure_s[at] / np.asarray(release_time_s))
        traps = traps - freed
        released.append(freed.sum())
        traps = traps + np.asarray(capture) * min(collected + freed.sum(), well)
    return np.array(released)
