"""Charge-transfer inefficiency: at every transfer towards the register a small share of a packet stays behind.

    a packet N transfers away arrives k pixels late with the share  C(N + k - 1, k) (1 - e)^N e^k

the negative binomial law of N independent transfers (mean delay N e / (1 - e)); an even frame reads q (1 - e)
everywhere. ``parallel_cti`` runs along y, ``serial_cti`` along x; the register lies at the low or the high end, and
what arrives after the last pixel is lost (it would be seen in an overscan). Scope: the whole line.
Source: Janesick, Scientific CCDs (2001), ch. 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from getframes_xr.core.elementary import exp64, log64
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Window
from getframes_xr.engine.stage import Place, Scope, Stage

_NEGLIGIBLE = 1e-9  # shares below this are not carried on


@kernel
def arrivals(loss: float, n_pixels: int, most: int) -> Array:
    """Shares float64 (n_pixels, most) of the packet 1, 2, ... transfers away that arrive 0, 1, ... pixels late."""
    shares = np.zeros((n_pixels, most), np.float64)
    step = log64(1.0 - loss)
    for i in range(n_pixels):
        transfers = i + 1.0
        share = exp64(transfers * step)
        for k in range(most):
            shares[i, k] = share
            share = share * loss * (transfers + k) / (k + 1.0)
            if share < _NEGLIGIBLE and k > transfers * loss:
                break
    return shares


@kernel
def defer_rows(charge: Array, shares: Array, high: bool) -> None:
    """Let (y, x) charge arrive late along y, in place; the register lies before row 0, or after the last (``high``)."""
    n_y, n_x = charge.shape
    late = np.empty(n_x, np.float64)
    for back in range(n_y):
        i = n_y - 1 - back  # from the far end, so that what is read has not been written
        row = charge[n_y - 1 - i] if high else charge[i]
        for x in range(n_x):
            late[x] = 0.0
        for k in range(min(i + 1, shares.shape[1])):
            share = shares[i - k, k]
            if share == 0.0:
                continue
            source = charge[n_y - 1 - (i - k)] if high else charge[i - k]
            for x in range(n_x):
                late[x] += share * np.float64(source[x])
        for x in range(n_x):
            row[x] = np.float32(late[x])


@kernel
def defer_columns(charge: Array, shares: Array, high: bool) -> None:
    """Let (y, x) charge arrive late along x, in place."""
    n_y, n_x = charge.shape
    line = np.empty(n_x, np.float64)
    for y in range(n_y):
        row = charge[y]
        for i in range(n_x):
            line[i] = np.float64(row[n_x - 1 - i] if high else row[i])
        for i in range(n_x):
            late = 0.0
            for k in range(min(i + 1, shares.shape[1])):
                late += shares[i - k, k] * line[i - k]
            row[n_x - 1 - i if high else i] = np.float32(late)


class _TransferLoss(Stage):
    """What both directions share."""

    loss: Annotated[float, Field(ge=0, le=0.01)] = 1e-5
    register_end: Literal["low", "high"] = "low"
    reads: ClassVar = ("electrons",)
    writes: ClassVar = ("electrons",)
    scope: ClassVar = Scope.LINES
    conserves_charge: ClassVar = True

    def shares(self, n_pixels: int) -> Array:
        """Table of arrivals along a line, as wide as it must be."""
        mean = n_pixels * self.loss
        most = min(n_pixels, int(mean + 10.0 * np.sqrt(mean) + 12.0))
        table: Array = arrivals(self.loss, n_pixels, most)
        return table

    def peak_bytes(self, window: Window, planes: Mapping[str, Plane]) -> int:
        n = max(len(window.y), len(window.x))
        mean = n * self.loss
        return int(8 * n * (mean + 10.0 * mean**0.5 + 14.0)) + 2**14


class ParallelTransferLoss(_TransferLoss):
    """Share of charge left behind per transfer along the columns; zero is the identity."""

    kind: Literal["parallel_cti"] = "parallel_cti"
    after: ClassVar = "bad_columns"
    axis: ClassVar = "y"

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.loss > 0.0:
            shares = self.shares(len(place.grid.y))
            for at in range(len(patch["electrons"])):
                defer_rows(patch["electrons"][at], shares, self.register_end == "high")
        return patch

    @classmethod
    def examples(cls) -> tuple[ParallelTransferLoss, ...]:
        return cls(), cls(loss=0.0), cls(loss=0.005, register_end="high")


class SerialTransferLoss(_TransferLoss):
    """Share of charge left behind per transfer along the register; zero is the identity."""

    kind: Literal["serial_cti"] = "serial_cti"
    after: ClassVar = "parallel_cti"
    axis: ClassVar = "x"

    def apply(self, patch: Patch, place: Place) -> Patch:
        if self.loss > 0.0:
            shares = self.shares(len(place.grid.x))
            for at in range(len(patch["electrons"])):
                defer_columns(patch["electrons"][at], shares, self.register_end == "high")
        return patch

    @classmethod
    def examples(cls) -> tuple[SerialTransferLoss, ...]:
        return cls(), cls(loss=0.0), cls(loss=0.005, register_end="high")
