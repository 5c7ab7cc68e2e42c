"""Twins of the stacking kernels: written from the formulas, in float64, one pixel at a time, without sorting tricks."""

from __future__ import annotations

import math

import numpy as np


def sigma_clip(values, kappa, maxiters, kappa_low=None):
    """What is kept of one pixel's samples (NaN left out), by the definition."""
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    for _ in range(maxiters):
        if not len(kept):
            break
        centre, deviation = np.median(kept), np.std(kept)
        good = (kept >= centre - (kappa_low or kappa) * deviation) & (kept <= centre + kappa * deviation)
        if good.all():
            break
        kept = kept[good]
    return kept


def winsor(values, kappa, maxiters):
    """What winsorised clipping keeps: Huber's deviation by fixed point, started at the interquartile range."""
    kept = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
    for _ in range(maxiters):
        n = len(kept)
        if n < 3:
            break
        middle, quarter = np.median(kept), n // 4
        deviation = (kept[n - 1 - quarter] - kept[quarter]) / 1.349 or kept[-1] - kept[0]
        for _ in range(20):
            pulled = np.clip(kept, middle - 1.5 * deviation, middle + 1.5 * deviation)
            before, deviation = deviation, 1.134 * np.std(pulled, ddof=1)
            if abs(deviation - before) <= 0.0005 * before:
                break
        good = np.abs(kept - middle) <= kappa * deviation
        if good.all():
            break
        kept = kept[good]
    return kept


def trimmed(values, low, high):
    """The samples between the ``low`` lowest and the ``high`` highest, and Tukey and McLaughlin's squared error."""
    ordered = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
    if low + high >= len(ordered):
        low = high = 0
    kept = ordered[low : len(ordered) - high]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    h = len(kept)
    error2 = np.sum((winsorised - winsorised.mean()) ** 2) / (h * (h - 1)) if h > 1 else math.nan
    return kept, error2


def noise_model(values, gain, read_noise, bias, kappa, scatter):
    """Mask of the samples that agree with the median, and the variance of each in the units of the samples."""
    values = np.asarray(values, np.float64)
    median, n = np.nanmedian(values), np.count_nonzero(np.isfinite(values))
    electrons = (median - bias) * gain
    shot = np.maximum(electrons, 0.0) + read_noise**2
    limit = np.sqrt((shot + (scatter * electrons) ** 2) / gain**2 * (1 + 1.57 / n))
    with np.errstate(invalid="ignore"):
        return np.abs(values - median) <= kappa * limit, shot / gain**2


def weighted(values, weights):
    """Weighted mean of samples and its error, whatever the weights mean."""
    mean = np.sum(weights * values) / np.sum(weights)
    spread = np.sum(weights**2 * (values - mean) ** 2)
    rest = np.sum(weights) ** 2 - np.sum(weights**2)
    return mean, math.sqrt(spread / rest) if len(values) > 1 else math.nan


def keys_cubic(d):
    """Catmull-Rom kernel (Keys 1981, a = -1/2) at the distance d."""
    d = abs(d)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def lanczos3(d):
    return float(np.sinc(d) * np.sinc(d / 3)) if abs(d) < 3 else 0.0


def triangle(d):
    return max(0.0, 1 - abs(d))


def interpolate(image, y, x, shape):
    """Interpolated value at (y, x) by the kernel's definition, taps normalised to 1; NaN where a tap is outside."""
    kernel, reach = {"bilinear": (triangle, 1), "bicubic": (keys_cubic, 2), "lanczos3": (lanczos3, 3)}[shape]
    top, left = math.floor(y) - reach + 1, math.floor(x) - reach + 1
    taps = range(2 * reach)
    if top < 0 or left < 0 or top + 2 * reach > image.shape[0] or left + 2 * reach > image.shape[1]:
        return math.nan
    wy = np.array([kernel(y - top - k) for k in taps])
    wx = np.array([kernel(x - left - k) for k in taps])
    box = image[top : top + 2 * reach, left : left + 2 * reach].astype(np.float64)
    return float(wy @ box @ wx / (wy.sum() * wx.sum()))
