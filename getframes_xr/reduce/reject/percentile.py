"""Percentile: average what lies between two percentiles of each pixel's samples (a trimmed mean).

    drop floor(low_percent / 100 * n) lowest and floor(high_percent / 100 * n) highest of n samples

The noise follows Tukey & McLaughlin (1963), see ``min_max``: the tails cut off do not make the result look too sure.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from getframes_xr.engine.collapse import Lanes, WholeTimeRule
from getframes_xr.reduce.reject.min_max import trimmed_means


class Percentile(WholeTimeRule):
    """Average between the percentiles ``low_percent`` and 100 - ``high_percent``."""

    kind: Literal["percentile"] = "percentile"
    low_percent: Annotated[float, Field(ge=0.0, lt=50.0)] = 10.0
    high_percent: Annotated[float, Field(ge=0.0, lt=50.0)] = 10.0

    def choose(self, lanes: Lanes) -> None:
        trimmed_means(lanes, (self.low_percent / 100.0, self.high_percent / 100.0), (0, 0))

    @classmethod
    def examples(cls) -> tuple[Percentile, ...]:
        return cls(), cls(low_percent=0.0, high_percent=25.0)
