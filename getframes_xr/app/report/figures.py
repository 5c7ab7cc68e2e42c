"""Charts and pictures of a report, as data URIs: thin lines, few colours, units on every axis.

Used frames are filled dots, frames left out are hollow ones in red. Charts are drawn near the size at which they are
read (about 500 px wide), so their words stay readable on a telephone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.dates as mdates
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

INK, MUTED, GRID, LINE, LEFT_OUT = "#1d2733", "#667380", "#e7ebef", "#2f6db3", "#c4472f"
BANDS = {"red": "#c4472f", "green": "#3b8a57", "blue": "#2f6db3"}
OTHERS = (LINE, "#c98a1b", "#7a56a8", "#3b8a57")
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b9c2cb",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "getframes-xr",
}
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Picture:
    """One image of the page: its data URI, the words for those who cannot see it, its caption."""

    uri: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of all charts over the session: the clock within one night, else the frame's number."""

    values: Array
    label: str
    is_time: bool


def time_axis(times: Sequence[str | None], numbers: Sequence[int]) -> Axis:
    """UTC where the session is one night (up to 20 h), else the frame's number."""
    try:
        moments = np.array([t or "NaT" for t in times], dtype="datetime64[ms]")
    except (TypeError, ValueError):
        moments = np.full(len(times), np.datetime64("NaT"), dtype="datetime64[ms]")
    known = moments[~np.isnat(moments)]
    if len(known) == len(moments) > 1 and known.max() - known.min() <= np.timedelta64(20, "h"):
        return Axis(moments, f"time (UTC), night of {str(known.min())[:10]}", True)
    return Axis(np.asarray(numbers), "frame", False)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    return _uri("image/svg+xml", buffer.getvalue())


def _figure(height_in: float = 2.35, width_in: float = 5.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def _dress(axes: Any, axis: Axis, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_xlabel(axis.label)
    axes.margins(x=0.02, y=0.12)
    axes.ticklabel_format(axis="y", useOffset=False) if axes.get_yscale() == "linear" else None
    if axis.is_time:
        locator = mdates.AutoDateLocator(minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))


def _robust_limits(axes: Any, values: Array) -> int:
    """Keep a few wild values from flattening a chart; returns how many lie outside of it."""
    finite = values[np.isfinite(values)]
    if len(finite) < 8:
        return 0
    low, middle, high = np.percentile(finite, [5, 50, 95])
    spread = max(high - low, 1e-9 * abs(middle), 1e-12)
    bottom, top = low - 2.5 * spread, high + 2.5 * spread
    outside = int(((finite < bottom) | (finite > top)).sum())
    if outside:
        inside = finite[(finite >= bottom) & (finite <= top)]
        margin = 0.12 * max(float(np.ptp(inside)), spread)
        axes.set_ylim(inside.min() - margin, inside.max() + margin)
    return outside


def _outside(count: int) -> str:
    words = "value lies" if count == 1 else "values lie"
    return f"{count} {words} outside the chart." if count else ""


def series(axis: Axis, columns: Mapping[str, Array], used: Array, label: str, alt: str) -> Picture | None:
    """One or more quantities over the session; None where nothing is known.

    Parameters
    ----------
    columns : name of each line (shown when there are several) and its values, NaN where unknown
    used : bool per frame
    label : of the vertical axis, with its unit
    """
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if not columns:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        rest = iter(OTHERS)
        for name, values in columns.items():
            colour = BANDS.get(name) or next(rest, INK)
            kept = np.where(used, values, np.nan)
            axes.plot(axis.values, kept, "-", color=colour, lw=0.8, alpha=0.35)
            axes.plot(
                axis.values,
                kept,
                "o",
                color=colour,
                ms=2.8 if len(used) > 40 else 4.2,
                mew=0,
                label=name if len(columns) > 1 else None,
            )
            left_out = np.where(used, np.nan, values)
            axes.plot(axis.values, left_out, "o", mfc="none", mec=LEFT_OUT, ms=4.2, mew=1.0)
        if any(np.isfinite(values[~used]).any() for values in columns.values()):
            axes.plot([], [], "o", mfc="none", mec=LEFT_OUT, ms=4.2, mew=1.0, label="not used")
        _dress(axes, axis, label)
        if label.startswith("stars"):
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        outside = _robust_limits(axes, np.concatenate(list(columns.values())))
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1, ncols=4, handletextpad=0.2)
        return Picture(_svg(figure), alt, _outside(outside))


def light_curve(axis: Axis, flux: Array, flux_err: Array | None, alt: str) -> Picture | None:
    """Relative flux with error bars, divided by its median."""
    median = float(np.nanmedian(flux)) if np.isfinite(flux).any() else float("nan")
    if not np.isfinite(median) or median == 0:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(2.9, 6.4)
        errors = None if flux_err is None else flux_err / abs(median)
        axes.errorbar(
            axis.values, flux / median, errors, fmt="o", ms=3, mew=0, color=LINE, ecolor="#b7cbe2", elinewidth=0.9
        )
        _dress(axes, axis, "relative flux")
        outside = _robust_limits(axes, flux / median)
        return Picture(_svg(figure), alt, _outside(outside))


def coverage_map(
    coverage: Array, origin: tuple[int, int], extent_px: tuple[int, int], alt: str, upwards: bool = False
) -> Picture:
    """Frames per pixel of the canvas, dark blue where many.

    Parameters
    ----------
    coverage : (y, x) [frames], may be thinned out
    origin : (y, x) of the canvas's first pixel
    extent_px : (rows, columns) of the whole canvas
    upwards : row 0 at the bottom, as the picture of the stack is turned where its WCS asks for it
    """
    rows, columns = extent_px
    height = min(5.5, max(2.2, 5.0 * rows / max(columns, 1)))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(6.0, height), layout="constrained")
        axes = figure.add_subplot()
        low, high = origin
        edges = (low - 0.5, low + rows - 0.5)
        image = axes.imshow(
            np.ma.masked_less_equal(coverage, 0),
            origin="lower" if upwards else "upper",
            cmap="YlGnBu",
            vmin=0,
            vmax=max(1, int(np.nanmax(coverage, initial=0))),
            extent=(high - 0.5, high + columns - 0.5, *(edges if upwards else edges[::-1])),
            interpolation="nearest",
        )
        axes.set_xlabel("x (px)")
        axes.set_ylabel("y (px)")
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
        bar.set_label("frames")
        bar.outline.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160)
    return Picture(_uri("image/png", buffer.getvalue()), alt)


def photograph(path: Path, alt: str, widest_px: int = 1600) -> Picture | None:
    """A picture on disk, made small enough to be sent; None where it cannot be read."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if opened.mode.startswith(("I", "L")) else "RGB")
            image.thumbnail((widest_px, widest_px), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=90, optimize=True)
    except OSError:
        return None
    return Picture(_uri("image/jpeg", buffer.getvalue()), alt)
