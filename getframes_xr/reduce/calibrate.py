"""Calibration: from what the file says to what the light did, in one pass over the pixels.

    image = (adu - pedestal) / response * gain_e_per_adu
    pedestal = dark                                where the dark is as long as the light (it holds the bias)
             = bias + (dark - bias) t_light / t_dark    else: the dark current is scaled, the bias is not
             = bias, or bias_adu                   where no dark is given
    response = (flat - its bias) / level           level: its mean, per colour under a colour filter array

Bad pixels are flagged, never filled in: saturated (at or above saturation_adu), hot and dead from the cosmetic map,
dead and low_response from the flat, no_data where a master has none. Masters are evaluated once per run. Units become
electron where every frame knows its gain. Source of the equation: Howell, Handbook of CCD Astronomy (2006), ch. 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.cfa import cfa_index
from getframes_xr.core.errors import DataError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch, frozen
from getframes_xr.core.vocabulary import PLANES, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.engine.reduction import Batch, Reduction
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy

EQUAL_EXPOSURE = 1e-3  # relative; shutters differ by less, and 0.1 % of a dark is below its noise
DEAD_RESPONSE = 0.05
LOW_RESPONSE = 0.5
_STRIP_ROWS = 256
_NO_DATA, _SATURATED = np.uint16(Flag.NO_DATA), np.uint16(Flag.SATURATED)
_DEAD, _LOW = np.uint16(Flag.DEAD), np.uint16(Flag.LOW_RESPONSE)


@kernel
def calibrate_frame(
    samples: Array, native: Array, dark: Array, bias: Array, flat: Array, level: Array, cosmetic: Array,
    ratio: float, dark_holds_bias: bool, pedestal: float, gain: float, saturation: float, y: int, x: int,
    image: Array, flags: Array,
) -> None:  # fmt: skip
    """Fill image (float32) and flags (uint16) of one frame, row by row in cache; arrays without rows are not there.

    ``image`` may be ``samples``. ``level`` (2, 2) is the mean of the flat by parity of the absolute row and column;
    ``y, x`` the absolute place of the first pixel; ``saturation`` NaN where it is not known.
    """
    rows, columns = image.shape
    for r in range(rows):
        source, out, marks = samples[r], image[r], flags[r]
        for i in range(columns):
            marks[i] = _SATURATED if np.float64(source[i]) >= saturation else np.uint16(0)
        if native.shape[0]:
            known = native[r]
            for i in range(columns):
                marks[i] |= known[i]
        if cosmetic.shape[0]:
            known = cosmetic[r]
            for i in range(columns):
                marks[i] |= known[i]
        base = np.float32(pedestal)
        if dark.shape[0] and ratio == 1.0 and dark_holds_bias:
            d = dark[r]
            for i in range(columns):
                out[i] = np.float32(source[i]) - d[i]
        elif dark.shape[0] and bias.shape[0]:
            share, d, b = np.float32(ratio), dark[r], bias[r]
            inner = np.float32(1.0) if dark_holds_bias else np.float32(0.0)
            for i in range(columns):
                out[i] = np.float32(source[i]) - (b[i] + (d[i] - inner * b[i]) * share)
        elif dark.shape[0]:
            share, d = np.float32(ratio), dark[r]
            inner = base if dark_holds_bias else np.float32(0.0)
            for i in range(columns):
                out[i] = np.float32(source[i]) - (base + (d[i] - inner) * share)
        elif bias.shape[0]:
            b = bias[r]
            for i in range(columns):
                out[i] = np.float32(source[i]) - b[i]
        else:
            for i in range(columns):
                out[i] = np.float32(source[i]) - base
        if flat.shape[0]:
            even, odd = level[(y + r) & 1, x & 1], level[(y + r) & 1, (x + 1) & 1]
            f = flat[r]
            for i in range(columns):
                response = f[i] / (even if (i & 1) == 0 else odd)
                good = response > np.float32(DEAD_RESPONSE)
                mark = np.uint16(0) if response >= np.float32(LOW_RESPONSE) else _LOW
                marks[i] |= mark if good else _DEAD
                out[i] = out[i] / (response if good else np.float32(np.nan))
        amount = np.float32(gain)
        for i in range(columns):
            out[i] = out[i] * amount
        for i in range(columns):
            marks[i] |= _NO_DATA if out[i] != out[i] else np.uint16(0)


@dataclass(frozen=True, eq=False)
class FlatField(Producer):
    """A master flat without its pedestal: a bias frame, or one number."""

    flat: Producer
    bias: Producer | None = None
    pedestal_adu: float = 0.0

    @property
    def grid(self) -> Grid:
        return self.flat.grid

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": self.flat.planes["image"]}

    @property
    def takes_over(self) -> str:
        return "flat"

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.flat, window, planes, keep="flat")
        if self.bias is not None:
            yield Ask(self.bias, window, planes, shared=True)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        patch = given.take().at(window)
        if self.bias is not None:
            patch["image"] -= given.take()["image"]
        elif self.pedestal_adu:
            patch["image"] -= np.float32(self.pedestal_adu)
        return patch


@dataclass
class ParityMeans:
    """Sums and numbers of good pixels by parity of row and column."""

    total: Array
    number: Array


@dataclass(frozen=True, eq=False)
class FlatLevel(Reduction):
    """The mean of a flat by parity of row and column, a (2, 2) image; four times the same where there is no CFA.

    Raises
    ------
    DataError : (on ``produce``) the flat has no positive mean in some colour
    """

    flat: Producer
    cfa: str | None = None

    @cached_property
    def grid(self) -> Grid:
        return Grid(Span(0, 2), Span(0, 2))

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": self.flat.planes["image"]}

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        grid = self.flat.grid
        for rank, rows in enumerate(few(list(grid.y.pieces(_STRIP_ROWS)))):
            yield Batch(rank, [Ask(self.flat, Window(Span(0, 1), rows, grid.x), ("image",), shared=True)])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> ParityMeans:
        return ParityMeans(np.zeros((2, 2)), np.zeros((2, 2)))

    def add(self, state: ParityMeans, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        values, strip = patches[0]["image"], asks[0].window
        for dy in range(2):
            for dx in range(2):
                part = values[(dy - strip.y.start) % 2 :: 2, (dx - strip.x.start) % 2 :: 2]
                good = np.isfinite(part)
                state.total[dy, dx] += np.sum(np.where(good, part, 0.0), dtype=np.float64)
                state.number[dy, dx] += np.count_nonzero(good)

    def finish(self, state: ParityMeans, out: Patch) -> None:
        bands = cfa_index(self.cfa or self.flat.grid.cfa)
        level = np.empty((2, 2))
        for band in np.unique(bands):
            chosen = bands == band
            level[chosen] = state.total[chosen].sum() / max(1.0, state.number[chosen].sum())
        if not (level > 0).all():
            raise DataError(f"the flat has the mean level {level.min():.3g} after its bias is taken off; is it a flat?")
        out["image"][...] = level[out.window.y.slice_in(self.grid.y), out.window.x.slice_in(self.grid.x)]

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return 6 * min(len(self.flat.grid.y), _STRIP_ROWS) * len(self.flat.grid.x)


@dataclass(frozen=True, eq=False)
class Calibrated(Producer):
    """``parent`` with masters taken off; all masters are timeless and cover the parent's pixels (see ``calibrate``)."""

    parent: Producer
    plane: str
    dark: Producer | None = None
    bias: Producer | None = None
    flat: Producer | None = None
    level: Producer | None = None
    cosmetic: Producer | None = None
    dark_exposure_s: float | None = None
    dark_holds_bias: bool = True
    pedestal: bool = True  # take bias_adu off where there is no bias and no dark

    @cached_property
    def grid(self) -> Grid:
        parts = [n for n in ("bias", "dark", "flat", "cosmetic") if getattr(self, n) is not None]
        return self.parent.grid.replace(
            attrs=dict(self.parent.grid.attrs) | {"calibrated": ", ".join(parts) or "bias_adu"}
        )

    @cached_property
    def _gain(self) -> Array | None:
        """Electrons per ADU of each frame; None where some frame does not know it or the frames are in electrons."""
        columns = self.parent.grid.columns or {}
        gain = columns.get("gain_e_per_adu")
        if gain is None or self.parent.planes[self.plane].units == "electron":
            return None
        values = np.asarray(gain, np.float64)
        return values if bool((np.isfinite(values) & (values > 0)).all()) else None

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        before = self.parent.planes[self.plane].units
        units = "electron" if self._gain is not None or before == "electron" else "adu"
        return {"image": Plane(PLANES["image"].dtype, units), "flags": PLANES["flags"]}

    @cached_property
    def _ratio(self) -> Array:
        """Exposure of each frame over that of the dark; 1 where they are equal or not known."""
        n = self.parent.grid.n_frames
        exposure = (self.parent.grid.columns or {}).get("exposure_s")
        if self.dark is None or self.dark_exposure_s is None or exposure is None:
            return np.ones(n)
        ratio = np.asarray(exposure, np.float64) / self.dark_exposure_s
        return np.where(np.abs(ratio - 1.0) <= EQUAL_EXPOSURE, 1.0, ratio)

    def _column(self, name: str, otherwise: float) -> Array:
        column = (self.parent.grid.columns or {}).get(name)
        return np.full(self.parent.grid.n_frames, otherwise) if column is None else np.asarray(column, np.float64)

    @cached_property
    def _pedestals(self) -> Array:
        return np.nan_to_num(self._column("bias_adu", 0.0)) if self.pedestal else np.zeros(self.parent.grid.n_frames)

    @property
    def gathers(self) -> bool:
        return True

    @property
    def takes_over(self) -> str | None:
        return "frames" if self.parent.planes[self.plane].dtype == np.float32 else None

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        still = window.with_frames(Span(0, 1))
        yield Ask(self.parent, window, with_flags(self.parent, self.plane), keep="frames")
        for name in ("dark", "bias", "flat"):
            master = getattr(self, name)
            if master is not None:
                yield Ask(master, still, ("image",), keep=name, shared=True)
        if self.cosmetic is not None:
            yield Ask(self.cosmetic, still, ("flags",), keep="cosmetic", shared=True)
        if self.level is not None:
            yield Ask(self.level, self.level.grid.window, ("image",), keep="level", shared=True)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        for _ in given:  # all are kept
            pass
        masters = {
            role: frozen(next(iter(patch.planes.values()))) for role, patch in given.kept.items() if role != "frames"
        }
        none = frozen(np.empty((0, 0), np.float32))
        dark, bias, flat = (masters.get(name, none) for name in ("dark", "bias", "flat"))
        level = masters.get("level", frozen(np.ones((2, 2), np.float32)))
        cosmetic = masters.get("cosmetic", frozen(np.empty((0, 0), np.uint16)))
        patch = given.kept["frames"]
        samples = patch[self.plane]
        native = patch["flags"] if "flags" in patch else np.empty((len(window.frames), 0, 0), np.uint16)
        image = samples if samples.dtype == np.float32 else np.empty(samples.shape, np.float32)
        flags = native if native.shape == image.shape else np.empty(image.shape, np.uint16)
        gain = np.ones(self.parent.grid.n_frames) if self._gain is None else self._gain
        saturation = self._column("saturation_adu", np.nan)
        spare = np.empty(image.shape[1:], np.uint16) if flags is native else None
        for i, frame in enumerate(range(window.frames.start, window.frames.stop)):
            marks = flags[i] if spare is None else spare
            calibrate_frame(
                samples[i], native[i], dark, bias, flat, level, cosmetic, self._ratio[frame], self.dark_holds_bias,
                self._pedestals[frame], gain[frame], saturation[frame], window.y.start, window.x.start, image[i], marks,
            )  # fmt: skip
            if spare is not None:
                flags[i] = spare
        return Patch(window, {name: {"image": image, "flags": flags}[name] for name in sorted(planes)})

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        plane = window.pixels // max(1, len(window.frames))
        made = {"image", "flags"} - planes  # both are made, whatever is wanted
        return self.bytes_of(window, made) + (2 * plane if "flags" in self.parent.planes else 0) + 2**16

    def select(self, positions: Array) -> Producer:
        return dataclasses.replace(self, parent=self.parent.select(positions))


def calibrate(
    lights: FramesLike,
    *,
    dark: FramesLike | None = None,
    bias: FramesLike | None = None,
    flat: FramesLike | None = None,
    cosmetic: FramesLike | None = None,
) -> xr.Dataset:
    """Take bias, dark and flat off raw frames and flag bad pixels; lazy, masters are evaluated once per run.

    Parameters
    ----------
    lights : raw frames with ``adu`` (or ``image``), perhaps ``flags``; the coordinates ``exposure_s, gain_e_per_adu,
        bias_adu, saturation_adu`` are used where they are there
    dark : master dark (see ``master``) that still holds its bias; another exposure than the lights' needs a bias
    bias : master bias; without it and without a dark, ``bias_adu`` is taken off where it is known
    flat : master flat; its bias is taken off with ``bias``, else its own ``bias_adu``
    cosmetic : map with the plane ``flags`` (see ``cosmetic``)

    Returns
    -------
    Dataset (time, y, x) of ``image`` [electron where every frame knows its gain, else adu] and ``flags``

    Raises
    ------
    DataError : a master with time, one that does not cover the lights, a dark of another exposure without any bias, a
        flat that holds an unknown pedestal, frames that are calibrated already
    """
    parent, plane, _ = frames_in(lights, "calibrate", mosaic=True)
    return lazy(calibrated(parent, plane, dark=dark, bias=bias, flat=flat, cosmetic=cosmetic))


def calibrated(
    parent: Producer,
    plane: str,
    *,
    dark: FramesLike | None,
    bias: FramesLike | None,
    flat: FramesLike | None,
    cosmetic: FramesLike | None,
) -> Calibrated:
    """The producer behind ``calibrate``.

    Raises
    ------
    DataError : see ``calibrate``
    """
    grid = parent.grid
    if "calibrated" in grid.attrs and (dark is not None or bias is not None or flat is not None):
        raise DataError(f"these frames are calibrated already ({grid.attrs['calibrated']}); give the raw ones")
    dark_master, bias_master = _master_of(dark, "dark", grid), _master_of(bias, "bias", grid)
    flat_master = _master_of(flat, "flat", grid)
    holds_bias = dark_master is None or "calibrated" not in dark_master.grid.attrs
    known_pedestal = "bias_adu" in (grid.columns or {}) and bool(np.isfinite(grid.column("bias_adu")).all())
    flat_held = level = None
    if flat_master is not None:
        flat_held = Held(_without_pedestal(flat_master, bias_master))
        level = Held(FlatLevel(flat_held, grid.cfa))
    found = Calibrated(
        parent,
        plane,
        None if dark_master is None else Held(dark_master),
        None if bias_master is None else Held(bias_master),
        flat_held,
        level,
        None if cosmetic is None else Held(_master_of(cosmetic, "cosmetic", grid, "flags")),  # type: ignore[arg-type]
        None if dark_master is None else _exposure_of_dark(dark_master),
        holds_bias,
        known_pedestal and "calibrated" not in grid.attrs,
    )
    scaled = dark_master is not None and bool((found._ratio != 1.0).any())
    if scaled and bias_master is None and not known_pedestal and holds_bias:
        lengths = np.unique(grid.column("exposure_s"))
        shown = ", ".join(f"{t:g}" for t in lengths[:4])
        raise DataError(
            f"the dark was exposed {found.dark_exposure_s:g} s, the lights {shown} s; "
            "give bias= so that the dark current is scaled without the bias, or darks as long as the lights"
        )
    return found


def _master_of(data: FramesLike | None, name: str, grid: Grid, plane: str = "image") -> Producer | None:
    """The producer of a master that covers the frames."""
    if data is None:
        return None
    producer = frames_in(data, f"{name}=", (plane,), flags=False).producer
    if producer.grid.timed:
        raise DataError(f"{name} has a time axis; make one image of it first: {name}=gx.master({name}_frames)")
    if producer.planes[plane].dtype != PLANES[plane].dtype:
        raise DataError(f"{name}: the plane {plane!r} is {producer.planes[plane].dtype}, wanted {PLANES[plane].dtype}")
    if grid.y not in producer.grid.y or grid.x not in producer.grid.x:
        wanted = f"rows {grid.y.start}..{grid.y.stop - 1}, columns {grid.x.start}..{grid.x.stop - 1}"
        own = producer.grid
        has = f"rows {own.y.start}..{own.y.stop - 1}, columns {own.x.start}..{own.x.stop - 1}"
        raise DataError(f"{name} covers {has}, the frames need {wanted}; is it of the same camera and binning?")
    return producer


def _exposure_of_dark(dark: Producer) -> float | None:
    attrs = dark.grid.attrs
    if "exposure_s" in attrs:
        exposure = float(attrs["exposure_s"])
        if exposure <= 0:
            raise DataError("the dark was exposed 0 s: it is a bias; give it as bias=")
        return exposure
    if "total_exposure_s" in attrs:
        raise DataError("the dark was made of frames of different exposures; make a master of equal ones")
    return None


def _without_pedestal(flat: Producer, bias: Producer | None) -> FlatField:
    units, attrs = flat.planes["image"].units, flat.grid.attrs
    if "calibrated" in attrs or units != "adu":
        return FlatField(flat)
    if bias is not None:
        grid = flat.grid
        if grid.y in bias.grid.y and grid.x in bias.grid.x:
            return FlatField(flat, bias)
        raise DataError("bias does not cover the whole flat; make both of whole frames")
    if "bias_adu" in attrs:
        return FlatField(flat, None, float(attrs["bias_adu"]))
    raise DataError(
        "the flat still holds its bias, and none is known: give bias=, or flat=gx.master(gx.calibrate(flats, bias=...))"
    )
