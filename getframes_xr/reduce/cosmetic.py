"""The cosmetic map: hot and dead pixels found in the raw frames themselves, without darks.

A hot pixel is in every frame, a star only while it stands there. Of 16 frames spread over the session each pixel
keeps its lower quartile (rank floor((n - 1) / 4)); d is the quartile minus the median of the 24 other pixels of its
colour in the 5 x 5 lattice around it, s = 1.4826 MAD(d) of the whole frame, at least 0.3 electrons. A pixel is
flagged when

    |d| > 8 s   and   |d| > 3.5 max(second largest d of its 8 neighbours of any colour, 2 s)

for a star lights its neighbours, a hot pixel does not: hot where d > 0, dead where d < 0. Near the frame's edge the
lattice and the neighbours are those that exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import OptionError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch, frozen
from getframes_xr.core.vocabulary import PLANES, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.reduction import Batch, Reduction
from getframes_xr.face.frames_in import RAW, FramesLike, frames_in
from getframes_xr.face.lazy import lazy

N_FRAMES = 16
MOST_FRAMES = 255
SIGMAS = 8.0
RATIO = 3.5
FLOOR_SIGMAS = 2.0
LEAST_NOISE_E = 0.3
LATTICE = 2  # steps to each side: 5 x 5
SAMPLE_STEP = 7  # every 7th row and column (odd: all colours) gives the MAD
STRIP_ROWS = 128


@kernel
def insert_lowest(held: Array, frame: Array) -> None:
    """Insert one more value per pixel into its sorted list of the lowest ones.

    Parameters
    ----------
    held : float32 (rank, row, column), increasing along rank, written
    frame : (row, column)
    """
    ranks = held.shape[0]
    for row in range(frame.shape[0]):
        for rank in range(ranks):
            lowest = held[rank, row]
            if rank == 0:
                rest = frame[row].astype(np.float32)
            for column in range(frame.shape[1]):
                low = min(lowest[column], rest[column])
                rest[column] = max(lowest[column], rest[column])
                lowest[column] = low


@kernel(inline="always")
def _excess(values: Array, row: Any, column: Any, step: Any, around: Array) -> Any:
    """Give d: the value minus the median of the others of its colour in the 5 x 5 lattice; `around` is scratch."""
    n = 0
    for dj in range(-LATTICE, LATTICE + 1):
        j = row + dj * step
        if j < 0 or j >= values.shape[0]:
            continue
        for di in range(-LATTICE, LATTICE + 1):
            i = column + di * step
            if (dj == 0 and di == 0) or i < 0 or i >= values.shape[1]:
                continue
            value = values[j, i]
            k = n
            while k > 0 and around[k - 1] > value:
                around[k] = around[k - 1]
                k -= 1
            around[k] = value
            n += 1
    if n == 0:
        return np.float32(0.0)
    middle = around[n // 2]
    if n % 2 == 0:
        middle = np.float32(0.5) * (middle + around[n // 2 - 1])
    return values[row, column] - middle


@kernel
def sampled_excess(values: Array, step: int, first_row: int, first_column: int, every: int, out: Array) -> None:
    """Give d on a coarse lattice of pixels; values, out : float32 (row, column)."""
    around = np.empty(25, np.float32)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[j, i] = _excess(values, first_row + j * every, first_column + i * every, step, around)


@kernel
def flag_defects(
    values: Array, step: int, noise: np.float32, top: int, left: int, flags: Array, hot: int, dead: int
) -> None:
    """Set the flags of hot and dead pixels.

    The lattice is looked at only where a pixel stands out from its four nearest of the same colour by half the limit.

    Parameters
    ----------
    values : float32 (row, column), the quartile, wider than the flags where the frame goes on
    step : int, distance of pixels of one colour: 2 for a colour filter array
    noise : float32, s
    top, left : int, place of flags[0, 0] in `values`
    flags : uint16 (row, column), written
    """
    rows, columns = values.shape
    limit = np.float32(SIGMAS) * noise
    floor = np.float32(FLOOR_SIGMAS) * noise
    around = np.empty(25, np.float32)
    for row in range(flags.shape[0]):
        j = row + top
        for column in range(flags.shape[1]):
            i = column + left
            flags[row, column] = 0
            value = values[j, i]
            above, below = 0, 0
            for side in range(4):
                nj = j + (step if side == 0 else -step if side == 1 else 0)
                ni = i + (step if side == 2 else -step if side == 3 else 0)
                if 0 <= nj < rows and 0 <= ni < columns:
                    difference = value - values[nj, ni]
                    above += 1 if difference > np.float32(0.5) * limit else 0
                    below += 1 if difference < np.float32(-0.5) * limit else 0
            if above < 2 and below < 2:
                continue
            excess = _excess(values, j, i, step, around)
            if not abs(excess) > limit:
                continue
            largest, second = np.float32(-np.inf), np.float32(-np.inf)
            for nj in range(max(0, j - 1), min(rows, j + 2)):
                for ni in range(max(0, i - 1), min(columns, i + 2)):
                    if nj == j and ni == i:
                        continue
                    other = _excess(values, nj, ni, step, around)
                    if other > largest:
                        second = largest
                        largest = other
                    elif other > second:
                        second = other
            if abs(excess) > np.float32(RATIO) * max(second, floor):
                flags[row, column] = hot if excess > 0 else dead


@dataclass
class Lowest:
    """The lowest values of every pixel so far, (rank, y, x), sorted."""

    values: Array


@dataclass(frozen=True, eq=False)
class LowerQuartile(Reduction):
    """Rank floor((n - 1) / 4) of n frames spread evenly over the session: plane ``quartile``, without time.

    Parameters
    ----------
    parent : raw frames with time
    plane : name of the plane, "adu" or "image"
    n : int, frames to take (all if there are fewer)
    """

    parent: Producer
    plane: str
    n: int

    @cached_property
    def grid(self) -> Grid:
        return self.parent.grid.replace(columns=None, attrs={})

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"quartile": Plane(np.dtype(np.float32), self.parent.planes[self.plane].units)}

    @cached_property
    def positions(self) -> Array:
        """Positions of the frames on the parent's axis, evenly spaced by frame number."""
        order = np.argsort(self.parent.grid.column("frame"), kind="stable")
        last = len(order) - 1
        return order[[round(k * last / max(1, self.n - 1)) for k in range(self.n)]] if last >= self.n else order

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, STRIP_ROWS, -1

    def _ranks(self) -> int:
        return (len(self.positions) - 1) // 4 + 1

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        for rank, at in enumerate(few(self.positions.tolist())):
            yield Batch(rank, [Ask(self.parent, tile.with_frames(Span(at, at + 1)), (self.plane,))])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> Lowest:
        return Lowest(np.full((self._ranks(), len(tile.y), len(tile.x)), np.float32(np.inf)))

    def add(self, state: Lowest, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        insert_lowest(state.values, np.ascontiguousarray(patches[0][self.plane][0]))

    def finish(self, state: Lowest, out: Patch) -> None:
        out["quartile"][...] = state.values[-1]

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return self._ranks() * 4 * len(window.y) * len(window.x) + 8 * len(window.x)


@dataclass
class Sampled:
    """Excesses of the sampled pixels so far, one vector a strip."""

    parts: list[Array]


@dataclass(frozen=True, eq=False)
class ExcessNoise(Reduction):
    """1.4826 MAD of d over the frame, from every 7th row and column, in strips: plane ``noise``, one pixel.

    Parameters
    ----------
    quartile : Producer of ``quartile`` (Held)
    least_noise : float, lower bound [units of the quartile]
    """

    quartile: Producer
    least_noise: float

    @cached_property
    def grid(self) -> Grid:
        return Grid(Span(0, 1), Span(0, 1))

    @property
    def planes(self) -> Mapping[str, Plane]:
        return {"noise": self.quartile.planes["quartile"]}

    def _sampled(self, rows: Span) -> tuple[range, range]:
        """Rows and columns of a strip that are looked at."""
        x = self.quartile.grid.x
        first, left = (-(-span.start // SAMPLE_STEP) * SAMPLE_STEP for span in (rows, x))
        return range(first, rows.stop, SAMPLE_STEP), range(left, x.stop, SAMPLE_STEP)

    def batches(self, tile: Window, planes: frozenset[str], few: Few = every) -> Iterator[Batch]:
        grid = self.quartile.grid
        step = lattice_step(grid)
        for rank, rows in enumerate(few(list(grid.y.pieces(STRIP_ROWS)))):
            if all(map(len, self._sampled(rows))):
                wide = Window(Span(0, 1), rows, grid.x).grow(LATTICE * step).clip(grid.window)
                yield Batch(rank, [Ask(self.quartile, wide, ("quartile",), shared=True, about=rows)])

    def start(self, tile: Window, planes: frozenset[str], kept: Mapping[str, Patch], spent: Any = None) -> Sampled:
        return Sampled([])

    def add(self, state: Sampled, asks: Sequence[Ask], patches: Sequence[Patch]) -> None:
        wide, (rows, columns) = asks[0].window, self._sampled(asks[0].about)
        out = np.empty((len(rows), len(columns)), np.float32)
        top, left = rows.start - wide.y.start, columns.start - wide.x.start
        values = frozen(patches[0]["quartile"])
        sampled_excess(values, lattice_step(self.quartile.grid), top, left, SAMPLE_STEP, out)
        state.parts.append(out.ravel())

    def finish(self, state: Sampled, out: Patch) -> None:
        noise = np.float32(self.least_noise)
        if state.parts:
            excess = np.concatenate(state.parts)
            noise = max(np.float32(1.4826) * np.median(np.abs(excess - np.median(excess))), noise)
        out["noise"][...] = noise

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        grid = self.quartile.grid
        return 16 * (len(grid.y) // SAMPLE_STEP + 1) * (len(grid.x) // SAMPLE_STEP + 1)


def lattice_step(grid: Grid) -> int:
    """Distance of pixels of one colour."""
    return 1 if grid.cfa is None else 2


@dataclass(frozen=True, eq=False)
class CosmeticMap(Producer):
    """Hot and dead pixels of a quartile image: plane ``flags``, without time.

    Parameters
    ----------
    quartile : Producer of ``quartile`` (Held)
    noise : Producer of its ``noise`` (Held)
    """

    quartile: Producer
    noise: Producer

    @property
    def grid(self) -> Grid:
        return self.quartile.grid

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"flags": PLANES["flags"]}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return 1, -1, -1

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.noise, self.noise.grid.window, ("noise",), keep="noise", shared=True)
        for rows in few(list(window.y.pieces(STRIP_ROWS))):
            wide = window.with_rows(rows).grow(LATTICE * lattice_step(self.grid) + 1).clip(self.grid.window)
            yield Ask(self.quartile, wide, ("quartile",), shared=True, about=rows)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        noise = given.take()["noise"][0, 0]
        flags = np.empty((len(window.y), len(window.x)), np.uint16)
        for ask, patch in given:
            top, left = ask.about.start - ask.window.y.start, window.x.start - ask.window.x.start
            flag_defects(
                frozen(patch["quartile"]), lattice_step(self.grid), noise, top, left,
                flags[ask.about.slice_in(window.y)], int(Flag.HOT), int(Flag.DEAD),
            )  # fmt: skip
        return Patch(window, {"flags": flags}, timed=False)


def cosmetic(lights: FramesLike, n: int = N_FRAMES) -> xr.Dataset:
    """The map of hot and dead pixels, from the raw frames of a session, lazily.

    Parameters
    ----------
    lights : raw frames (time, y, x), plane ``adu`` (or ``image``); darks serve as well
    n : frames to look at, spread evenly over the session; all if there are fewer

    Returns
    -------
    Dataset (y, x) with ``flags`` (uint16): hot, dead

    Raises
    ------
    OptionError : n is not 1..255
    DataError : the frames have bands, or neither plane
    """
    if not 1 <= n <= MOST_FRAMES:
        raise OptionError("n", n, f">= 1 and <= {MOST_FRAMES}")
    return lazy(cosmetic_of(lights, n))


def cosmetic_of(lights: FramesLike, n: int = N_FRAMES) -> CosmeticMap:
    """The producer of ``cosmetic``.

    Raises
    ------
    DataError : the frames have bands or no time axis, or neither plane
    """
    frames, plane, _ = frames_in(lights, "cosmetic", RAW, timed=True, mosaic=True, flags=False)
    return cosmetic_map(Held(LowerQuartile(frames, plane, n)), _least_noise(frames, plane))


def cosmetic_map(quartile: Producer, least_noise: float) -> CosmeticMap:
    """The map of a quartile image, with the noise of its excesses (at least ``least_noise``)."""
    return CosmeticMap(quartile, Held(ExcessNoise(quartile, least_noise)))


def _least_noise(frames: Producer, plane: str) -> float:
    """0.3 electrons in the units of the plane (0.3 ADU where the gain is not known)."""
    if frames.planes[plane].units == "electron" or "gain_e_per_adu" not in (frames.grid.columns or {}):
        return LEAST_NOISE_E
    gain = np.asarray(frames.grid.column("gain_e_per_adu"), np.float64)
    gain = gain[np.isfinite(gain) & (gain > 0)]
    return LEAST_NOISE_E / float(np.median(gain)) if gain.size else LEAST_NOISE_E
