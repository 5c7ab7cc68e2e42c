"""Noise model: a sample is dropped where it is too far from the median for what the detector can do.

    keep |v - m| <= kappa sqrt(var_f (1 + 1.57 / n)),   m the median of the n samples
    var_f = (max(S, 0) + read_noise_e^2 + (response_scatter S)^2) / gain_e_per_adu^2     [adu^2; no gain^2 in electrons]
    S = signal of the median in electrons (for raw adu: above ``bias_adu``)

The scatter of the samples themselves plays no part, so one outlier among three is found, and many cannot hide each
other; 1.57 / n is the variance of the median. ``response_scatter`` allows for seeing and transparency near stars. The
noise of the result comes from the same model: sqrt(sum w^2 var_f) / sum w.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array
from getframes_xr.core.window import Grid
from getframes_xr.engine.collapse import Collapsed, Lanes, Samples, WholeTimeRule
from getframes_xr.engine.lanes import medians, spill


@kernel
def model_mean(
    samples: Array,
    missing: Array,
    weights: Array,
    gain: Array,
    read_noise: Array,
    bias: Array,
    scatter: float,
    kappa_low: float,
    kappa_high: float,
    median: Array,
    n_valid: Array,
    value: Array,
    noise: Array,
    count: Array,
    weight: Array,
) -> None:
    """Average the samples (n, pixels) that agree with the median under each frame's noise; frames in order."""
    n, pixels = samples.shape
    some_missing = missing.shape[1] > 0
    step = 512
    good = np.empty(step, np.bool_)
    for start in range(0, pixels, step):
        width = min(step, pixels - start)
        stop = start + width
        m, share, kept = median[start:stop], np.empty(width, np.float64), count[start:stop]
        total, squares, sums = np.zeros(width), np.zeros(width), np.zeros(width)
        for i in range(width):
            share[i] = 1.0 + 1.57 / np.float64(n_valid[start + i])
            kept[i] = 0
        for f in range(n):
            row, w, g, b, r = samples[f, start:stop], weights[f], gain[f], bias[f], read_noise[f] * read_noise[f]
            per_adu = 1.0 / (g * g)
            for i in range(width):
                signal = (m[i] - b) * g
                extra = scatter * signal
                shot = signal if signal > 0.0 else 0.0
                limit = (shot + r + extra * extra) * per_adu * share[i]  # variance; compared with d^2, no root needed
                d = np.float64(row[i]) - m[i]
                kappa = kappa_low if d < 0.0 else kappa_high
                good[i] = d * d <= kappa * kappa * limit
            if some_missing:
                gone = missing[f, start:stop]
                for i in range(width):
                    good[i] = good[i] & (not gone[i])
            for i in range(width):
                signal = (m[i] - b) * g
                shot = signal if signal > 0.0 else 0.0
                d = np.float64(row[i]) - m[i]
                total[i] += w * d if good[i] else 0.0
                squares[i] += w * w * (shot + r) * per_adu if good[i] else 0.0
            for i in range(width):
                sums[i] += w if good[i] else 0.0
                kept[i] += np.int32(1) if good[i] else np.int32(0)
        for i in range(width):
            weight[start + i] = sums[i]
            value[start + i] = m[i] + total[i] / sums[i] if kept[i] > 0 else np.nan
            noise[start + i] = np.sqrt(squares[i]) / sums[i] if kept[i] > 0 else np.nan


class NoiseModel(WholeTimeRule):
    """Drop samples that the detector's noise does not explain; works from 3 frames on."""

    kind: Literal["noise_model"] = "noise_model"
    kappa: Annotated[float, Field(ge=1.0, le=100.0)] = 4.5  # above the median
    kappa_low: Annotated[float, Field(ge=1.0, le=100.0)] | None = None  # below it; ``kappa`` if not given
    gain_e_per_adu: Annotated[float, Field(gt=0.0, le=1e4)] | None = None  # from the frames if not given
    read_noise_e: Annotated[float, Field(ge=0.0, le=1e4)] | None = None  # from the frames if not given
    bias_adu: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None  # raw adu; from the frames if not given
    response_scatter: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02

    def needs(self, grid: Grid, units: str) -> tuple[str, ...]:
        wanted = [name for name in ("read_noise_e",) if self.read_noise_e is None]
        if units != "electron" and self.gain_e_per_adu is None:
            wanted.append("gain_e_per_adu")
        return tuple(wanted)

    def choose(self, lanes: Lanes) -> None:
        lanes.about_medians()
        lanes.take_means()

    def _column(self, given: float | None, name: str, samples: Samples, otherwise: float) -> Array:
        n = samples.values.shape[0]
        if given is not None:
            return np.full(n, given)
        return np.asarray(samples.columns.get(name, np.full(n, otherwise)), np.float64)

    def collapse(self, samples: Samples) -> Collapsed:
        n, pixels = samples.values.shape
        electrons = samples.units == "electron"
        gain = np.ones(n) if electrons else self._column(self.gain_e_per_adu, "gain_e_per_adu", samples, 1.0)
        raw = samples.values.dtype == np.uint16 and not electrons
        bias = self._column(self.bias_adu, "bias_adu", samples, 0.0) if raw else np.zeros(n)
        read_noise = self._column(self.read_noise_e, "read_noise_e", samples, 0.0)
        weights = np.ones(n) if samples.weights is None else samples.weights
        median, out = np.empty(pixels), Collapsed.empty(pixels)
        for first, lanes in self.bunches(samples, out):
            medians(lanes.blocks, lanes.low, lanes.high, lanes.centre)
            spill(lanes.centre, first, median)
        model_mean(
            samples.values, samples.missing, weights, gain, read_noise, bias, self.response_scatter,
            self.kappa if self.kappa_low is None else self.kappa_low, self.kappa, median, out.coverage,
            out.value, out.noise, out.count, out.weight,
        )  # fmt: skip
        return out

    @classmethod
    def examples(cls) -> tuple[NoiseModel, ...]:
        return (cls(gain_e_per_adu=1.5, read_noise_e=3.0, bias_adu=100.0),)
