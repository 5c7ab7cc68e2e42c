"""Exposures: how many, how long, how often, from when; the per-frame columns of time.

``start`` is UTC, the moment the shutter of frame 0 opens; frame n opens ``n * cadence_s`` later. The default start is
fixed (2000-01-01), never now, so that two runs of one script are equal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Options


def _utc_text(value: Any) -> str:
    try:
        if isinstance(value, datetime):
            if value.tzinfo is not None:
                value = value.astimezone(UTC).replace(tzinfo=None)
            return str(np.datetime64(value, "us"))
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return str(np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us"))
        text = str(np.datetime64(value))
        if text == "NaT":
            raise ValueError
        return text
    except (TypeError, ValueError):
        raise OptionError("Exposures.start", value, "a UTC time such as 2026-03-01T02:00:00") from None


class Exposures(Options):
    """``n`` exposures of equal length at equal spacing."""

    n: Annotated[int, Field(ge=1, le=100_000_000)]
    exposure_s: Annotated[float, Field(ge=0, le=1e6)]
    cadence_s: Annotated[float, Field(gt=0, le=1e8)] | None = None  # start to start; None: exposure_s + 1 s
    start: Annotated[str, BeforeValidator(_utc_text)] = "2000-01-01T00:00:00"

    @model_validator(mode="after")
    def _in_turn(self) -> Self:
        if self.cadence_s is not None and self.cadence_s < self.exposure_s:
            raise OptionError("Exposures.cadence_s", self.cadence_s, f">= exposure_s = {self.exposure_s}")
        return self

    @property
    def spacing_s(self) -> float:
        """Start to start."""
        return self.exposure_s + 1.0 if self.cadence_s is None else self.cadence_s

    @property
    def elapsed_s(self) -> NDArray[np.float64]:
        """Start of each exposure from the start of frame 0, float64 (n,)."""
        return np.arange(self.n).astype(np.float64) * np.float64(self.spacing_s)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Per-frame columns ``frame``, ``start``, ``exposure_s``."""
        offset = np.round(self.elapsed_s * 1e9).astype("timedelta64[ns]")
        return {
            "frame": np.arange(self.n, dtype=np.int64),
            "start": np.datetime64(self.start).astype("datetime64[ns]") + offset,
            "exposure_s": np.full(self.n, self.exposure_s),
        }
