"""Light curves: how bright a source is in time, averaged over each exposure (never sampled at one instant).

Times are seconds from the start of the first exposure (frame 0). The mean over an exposure is exact: a box by overlap,
a table by the integral of its straight lines, a sinusoid by its antiderivative.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Family, Registry
from getframes_xr.light.column import Column

LIGHT_CURVES = Registry("light curve")
Floats = NDArray[np.float64]


class LightCurve(Family):
    """Parent of light curves: factors on a source's light."""

    registry: ClassVar[Registry] = LIGHT_CURVES

    @abstractmethod
    def mean(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        """Mean factor over intervals; the value itself where they have no length.

        Parameters
        ----------
        start_s, stop_s : float (n,) [s], from the start of frame 0
        """

    @property
    @abstractmethod
    def peak(self) -> float:
        """No factor is larger than this."""

    @staticmethod
    def box(depth: float, start_s: float, stop_s: float, baseline: float = 1.0) -> Box:
        """A dip of relative ``depth`` between two moments (a flare where it is negative)."""
        return Box(depth=depth, start_s=start_s, stop_s=stop_s, baseline=baseline)

    @staticmethod
    def table(time_s: ArrayLike, factor: ArrayLike) -> Table:
        """Straight lines between given points, constant before the first and after the last."""
        return Table(time_s=Column(time_s), factor=Column(factor))

    @staticmethod
    def transit(depth: float, mid_s: float, duration_s: float, ingress_s: float) -> Table:
        """A trapezoid: ``duration_s`` from first to fourth contact, ``ingress_s`` from first to second.

        Raises
        ------
        OptionError : the ingress takes more than half of the duration
        """
        if not 0 < ingress_s <= 0.5 * duration_s:
            raise OptionError("transit.ingress_s", ingress_s, f"0 < ingress_s <= duration_s / 2 = {0.5 * duration_s}")
        half = 0.5 * duration_s
        times = [mid_s - half, mid_s - half + ingress_s, mid_s + half - ingress_s, mid_s + half]
        if ingress_s == half:
            return LightCurve.table([times[0], mid_s, times[3]], [1.0, 1.0 - depth, 1.0])
        return LightCurve.table(times, [1.0, 1.0 - depth, 1.0 - depth, 1.0])

    @staticmethod
    def sinusoid(amplitude: float, period_s: float, phase: float = 0.0) -> Sinusoid:
        """``1 + amplitude sin(2 pi (t / period_s + phase))``, phase in turns."""
        return Sinusoid(amplitude=amplitude, period_s=period_s, phase=phase)


class Box(LightCurve):
    """Factor ``baseline``, but ``baseline * (1 - depth)`` from ``start_s`` to ``stop_s``."""

    kind: Literal["box"] = "box"
    depth: Annotated[float, Field(ge=-1e6, le=1)]
    start_s: float
    stop_s: float
    baseline: Annotated[float, Field(ge=0, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.start_s < self.stop_s:
            raise OptionError("Box.stop_s", self.stop_s, f"later than start_s={self.start_s}")
        return self

    def mean(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        start, stop = np.asarray(start_s, np.float64), np.asarray(stop_s, np.float64)
        overlap = np.clip(np.minimum(stop, self.stop_s) - np.maximum(start, self.start_s), 0.0, None)
        inside = (start >= self.start_s) & (start < self.stop_s)
        length = stop - start
        share = np.where(length > 0, overlap / np.where(length > 0, length, 1.0), inside)
        result: Floats = self.baseline * (1.0 - self.depth * share)
        return result

    @property
    def peak(self) -> float:
        return self.baseline * max(1.0, 1.0 - self.depth)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A dip of 1 %."""
        return (cls(depth=0.01, start_s=2000, stop_s=4000),)


class Table(LightCurve):
    """Straight lines between points; times increase, factors are not negative."""

    kind: Literal["table"] = "table"
    time_s: Column
    factor: Column

    @model_validator(mode="after")
    def _usable(self) -> Self:
        time, factor = self.time_s.values, self.factor.values
        if len(time) != len(factor) or len(time) == 0:
            raise OptionError("Table.factor", f"{len(factor)} values", f"as many as time_s: {len(time)}, and >= 1")
        if not np.isfinite(time).all() or not (np.diff(time) > 0).all():
            raise OptionError("Table.time_s", self.time_s, "finite and increasing")
        if not np.isfinite(factor).all() or (factor < 0).any():
            raise OptionError("Table.factor", self.factor, "finite and >= 0")
        return self

    def mean(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        start, stop = np.asarray(start_s, np.float64), np.asarray(stop_s, np.float64)
        length = stop - start
        instant = np.interp(start, self.time_s.values, self.factor.values)
        safe = np.where(length > 0, length, 1.0)
        result: Floats = np.where(length > 0, (self._integral(stop) - self._integral(start)) / safe, instant)
        return result

    def _integral(self, moment: Floats) -> Floats:
        time, factor = self.time_s.values, self.factor.values
        steps = np.diff(time) * 0.5 * (factor[1:] + factor[:-1])
        total = np.concatenate([[0.0], np.cumsum(steps)])
        i = np.clip(np.searchsorted(time, moment, side="right") - 1, 0, len(time) - 1)
        value = np.interp(moment, time, factor)
        start_value = np.where(moment < time[0], factor[0], factor[i])
        result: Floats = total[i] + (moment - time[i]) * 0.5 * (start_value + value)
        return result

    @property
    def peak(self) -> float:
        return float(self.factor.values.max())

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A flare."""
        return (cls(time_s=Column([0, 100, 110, 400]), factor=Column([1, 1, 3, 1])),)


class Sinusoid(LightCurve):
    """``1 + amplitude sin(2 pi (t / period_s + phase))``, phase in turns."""

    kind: Literal["sinusoid"] = "sinusoid"
    amplitude: Annotated[float, Field(ge=0, le=1)]
    period_s: Annotated[float, Field(gt=0)]
    phase: float = 0.0

    def mean(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        start, stop = np.asarray(start_s, np.float64), np.asarray(stop_s, np.float64)
        middle, half = 0.5 * (start + stop), 0.5 * (stop - start)
        turns = middle / self.period_s + self.phase
        result: Floats = 1.0 + self.amplitude * np.sin(2 * np.pi * turns) * np.sinc(2.0 * half / self.period_s)
        return result

    @property
    def peak(self) -> float:
        return 1.0 + self.amplitude

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A variable of 10 minutes."""
        return (cls(amplitude=0.2, period_s=600.0),)


AnyLightCurve = Annotated[SerializeAsAny[LightCurve], BeforeValidator(LIGHT_CURVES.build)]
