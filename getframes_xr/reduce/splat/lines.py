"""Lines: trails of satellites and aeroplanes, found in what a frame has more than the first image.

A faint trail hides from every rule that looks at one pixel, yet summed along its line it stands far above the
noise. Residuals v - P of quiet pixels are summed in 8 x 8 px bins; what all frames share at one place of the sky, or
of the detector, is no trail and is taken out; the clipped significance of the bins is summed along all lines (432
angles, Radon), 1 and 2 bins wide, minus the bins at +-2..4 beside. Above Z = 7 the line is refined on 2 x 2 px bins
(centroids in pieces, straight fit) and masked across the frame with the half width

    1 + s sqrt(2 ln(max(5, 3 A) / 0.3)) px,   s = 1.155 FWHM / 2.355,   A the peak in tenths of a raw pixel's noise,

where the profile has fallen far below the noise of a stack; then the next line, at most 4 per frame. Lines are
written x cos(angle) + y sin(angle) = offset in absolute pixels of the frame. A line that stands at one place of the
detector in many frames is the detector's, no trail (``without_static``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch, frozen
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import ArrayFrames, Producer
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.face.tables import loaded
from getframes_xr.reduce.splat.first_image import read_first
from getframes_xr.reduce.splat.line_fit import FINE_PX, N_ANGLES, refine, strongest_line
from getframes_xr.reduce.splat.moves import Moves, read_moves
from getframes_xr.reduce.splat.residual_bins import ResidualBins, frames_per_task
from getframes_xr.reduce.splat.shared_bins import CommonBins, DetectorBins, look_up, without_plane

COARSE_PX = 8
MOST_LINES = 4
LEAST_Z = 7.0
LEAST_SHARE = 8  # a coarse bin counts when 1 / 8 of its pixels are quiet
CLIP_Z = 2.0  # of a bin
USUAL_FWHM_PX = 4.5
SAME_DEG, SAME_PX = 3.0, 24.0
FEWEST_STATIC, STATIC_SHARE = 3, 0.05
NEEDED = ("angle_deg", "offset_px", "half_width_px")  # to leave a line out of its frame
BINS = ("sum", "samples")
COLUMNS = (*NEEDED, "z", "amplitude")


@kernel
def mark_line(
    flags: Array, y_start: int, x_start: int, cosine: float, sine: float, offset: float, half_width: float, bit: int
) -> None:
    """Set a flag within `half_width` px of a line; flags : uint16 (y, x), written, begin at (y_start, x_start)."""
    for row in range(flags.shape[0]):
        base = (row + y_start) * sine - offset
        for column in range(flags.shape[1]):
            if abs(base + (column + x_start) * cosine) <= half_width:
                flags[row, column] |= np.uint16(bit)


@dataclass(frozen=True)
class Line:
    """One line of a frame: x cos(angle) + y sin(angle) = offset in absolute pixels."""

    angle_rad: float
    offset_px: float
    half_width_px: float
    z: float
    amplitude: float


def half_width_px(peak_sigma: float, fwhm_px: float) -> tuple[float, float]:
    """Half width of the mask and the amplitude it is made for.

    Parameters
    ----------
    peak_sigma : peak of the (clipped) profile in standard deviations of a raw pixel
    fwhm_px : of the stars of the frame

    Returns
    -------
    half width [px], amplitude [standard deviations]: ten times the peak where the clip has cut it (above 1.5)
    """
    tenths = 10.0 * max(peak_sigma, 0.0)
    amplitude = tenths * 10.0 if tenths > 15.0 else tenths
    spread_px = 1.1 * 1.05 * fwhm_px / 2.355
    return 1.0 + spread_px * math.sqrt(2.0 * math.log(max(5.0, 3.0 * amplitude) / 0.3)), amplitude / 10.0


@dataclass(frozen=True, eq=False)
class FrameLines(Producer):
    """The lines of every used frame: plane ``line``, rows along y, ``COLUMNS`` along x; NaN where there is none.

    Parameters
    ----------
    coarse : bins of 8 px of all frames (Held)
    common : what they share at one place of the sky (Held)
    detector : what they share at one place of the detector (Held)
    sky : float64 (frame), sky that the detector's slope belongs to
    fine : bins of 2 px, made for the frames that show a line
    moves : Moves of the used frames
    """

    coarse: Producer
    common: Producer
    detector: Producer
    fine: Producer
    moves: Moves
    sky: Array

    @cached_property
    def grid(self) -> Grid:
        return Grid(Span(0, MOST_LINES), Span(0, len(COLUMNS)), self.coarse.grid.columns)

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"line": Plane(np.dtype(np.float64), "")}

    @property
    def preferred_chunks(self) -> tuple[int, int, int]:
        return frames_per_task(self.fine.grid, 1, FINE_PX), -1, -1

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.common, self.common.grid.window, ("mean",), keep="common", shared=True)
        yield Ask(self.detector, self.detector.grid.window, ("level", "slope"), keep="detector", shared=True)
        for number in few(range(window.frames.start, window.frames.stop)):
            frame = Span(number, number + 1)
            yield Ask(self.coarse, self.coarse.grid.window.with_frames(frame), BINS, keep="coarse", shared=True)
            yield Ask(self.fine, self.fine.grid.window.with_frames(frame), BINS, maybe=True, about=number)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        whole = window.frames
        out = np.full((len(whole), MOST_LINES, len(COLUMNS)), np.nan)
        for ask, patch in given:
            if not ask.maybe:
                continue
            for row, line in enumerate(self._lines(ask.about, given.kept, patch)):
                # one way to write a line: 0 <= angle < 180
                half_turns = math.floor(line.angle_rad / math.pi)
                angle = line.angle_rad - half_turns * math.pi
                offset = -line.offset_px if half_turns % 2 else line.offset_px
                number = ask.about - whole.start
                out[number, row] = math.degrees(angle), offset, line.half_width_px, line.z, line.amplitude
        every_line = Window(whole, self.grid.y, self.grid.x)
        return Patch(every_line, {"line": out}).crop(window)

    def _lines(self, number: int, kept: Mapping[str, Patch], fine_bins: Patch) -> list[Line]:
        """Search one frame: strongest line, refine, mask, again; the fine bins are fetched where a line is found."""
        coarse, common, own = kept["coarse"], kept["common"], kept["detector"]
        samples, place = coarse["samples"][0], coarse.window
        means, plane = without_plane(coarse["sum"][0], samples)
        background = np.empty_like(means)
        look_up(
            frozen(common["mean"]), self.moves.transforms[number], COARSE_PX, place.y.start, place.x.start,
            common.window.y.start, common.window.x.start, background,
        )  # fmt: skip
        background += own["level"] + np.float32(self.sky[number]) * own["slope"]
        valid = (samples >= COARSE_PX * COARSE_PX // LEAST_SHARE).astype(np.uint8)
        if valid.sum() < 100:
            return []
        z = (means - background) * np.sqrt(samples, dtype=np.float32)
        good = z[valid > 0]
        scatter = 1.4826 * np.median(np.abs(good - np.median(good)))
        if not scatter > 0:
            return []
        significance = np.clip(z / scatter, -CLIP_Z, CLIP_Z).astype(np.float32)
        found: list[Line] = []
        fine: tuple[Array, Array] | None = None
        while len(found) < MOST_LINES:
            largest, angle, offset = strongest_line(significance, valid)
            if largest <= LEAST_Z:
                break
            if fine is None:
                fine = self._fine(fine_bins.get(), plane + background)
            line = self._refined(number, fine, angle, offset, largest)
            found.append(line)
            _erase(valid, COARSE_PX, place.y.start, place.x.start, line, COARSE_PX * 0.75)
            _erase(fine[1], FINE_PX, self.fine.grid.y.start, self.fine.grid.x.start, line, FINE_PX * 0.75)
        return found

    def _fine(self, patch: Patch, background: Array) -> tuple[Array, Array]:
        """Fine bins of one frame, the background of the coarse ones taken off."""
        one = patch.window
        counts = patch["samples"][0].astype(np.float32)
        ratio = COARSE_PX // FINE_PX
        coarse = self.coarse.grid.window
        rows = (one.y.indices() // ratio - coarse.y.start)[:, None]
        columns = (one.x.indices() // ratio - coarse.x.start)[None, :]
        return patch["sum"][0] - counts * background[rows, columns], counts

    def _refined(self, number: int, fine: tuple[Array, Array], angle: float, offset_bins: float, z: float) -> Line:
        """Refine a line given in coarse bins; offsets become absolute pixels."""
        coarse, own = self.coarse.grid, self.fine.grid
        half = 0.5 * (COARSE_PX - 1)
        first_y = coarse.y.start * COARSE_PX + half - own.y.start * FINE_PX
        first_x = coarse.x.start * COARSE_PX + half - own.x.start * FINE_PX
        guess = offset_bins * COARSE_PX + first_x * math.cos(angle) + first_y * math.sin(angle)
        angle, offset, peak = refine(*fine, angle, guess)
        offset += own.x.start * FINE_PX * math.cos(angle) + own.y.start * FINE_PX * math.sin(angle)
        sigma = math.sqrt(float(np.median(self.moves.variances[number])))
        fwhm = self.moves.fwhm_px[number]
        fwhm = float(np.clip(fwhm, 2.0, 10.0)) if np.isfinite(fwhm) else USUAL_FWHM_PX
        width, amplitude = half_width_px(peak / sigma, fwhm)
        return Line(angle, offset, width, z, amplitude)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        one, fine = self.coarse.grid.window.with_frames(Span(0, 1)), self.fine.grid.window.with_frames(Span(0, 1))
        reach = 2 * (int(math.hypot(len(one.y), len(one.x))) + 6)
        return N_ANGLES * reach * (8 + 8) + 128 * one.pixels + 16 * fine.pixels


def _erase(counts: Array, bin_px: int, bin_y: int, bin_x: int, line: Line, margin_px: float) -> None:
    """Leave out the bins that a line's mask touches."""
    half = 0.5 * (bin_px - 1)
    y = ((np.arange(counts.shape[0]) + bin_y) * bin_px + half)[:, None]
    x = ((np.arange(counts.shape[1]) + bin_x) * bin_px + half)[None, :]
    across = x * math.cos(line.angle_rad) + y * math.sin(line.angle_rad) - line.offset_px
    counts[np.abs(across) <= line.half_width_px + margin_px] = 0


def find_lines(clean: FramesLike, moves: xr.Dataset, first: xr.Dataset | None = None) -> xr.Dataset:
    """Lines (trails) of every used frame, lazily.

    Parameters
    ----------
    clean : calibrated frames (time, y, x), planes ``image`` and ``flags``
    moves : loaded table of ``normalise(stars, register(stars))``
    first : Dataset of ``first_image(clean, moves)``; made on the way if not given

    Returns
    -------
    Dataset (time, line), one row per used frame, at most 4 lines each, NaN where there is none: ``angle_deg`` and
    ``offset_px`` (x cos(angle) + y sin(angle) = offset, absolute pixels of the frame), ``half_width_px`` of the mask,
    ``z``, ``amplitude`` (standard deviations of a raw pixel)

    Raises
    ------
    DataError : frames, moves and first image cannot be used together
    RegistrationError : none of the frames is used
    """
    frames = frames_in(clean, "find_lines", ("image",), timed=True, mosaic=True).producer
    table = read_moves(moves, frames.grid, frames.planes["image"].units or "adu")
    picture = read_first(first, frames, table)
    held = picture if isinstance(picture, Held | ArrayFrames) else Held(picture)  # read many times
    coarse = Held(ResidualBins(frames, held, table, COARSE_PX))
    common = Held(CommonBins(coarse, table, COARSE_PX))
    detector = DetectorBins(coarse, common, table, COARSE_PX)
    fine = ResidualBins(frames, held, table, FINE_PX)
    found = FrameLines(coarse, common, Held(detector), fine, table, detector.sky)
    rows = lazy(found)["line"].rename(y="line").drop_vars(["line"], errors="ignore")
    units = ("deg", "pixel", "pixel", "", "")
    columns = {name: rows.isel(x=k, drop=True).assign_attrs(units=units[k]) for k, name in enumerate(COLUMNS)}
    y, x = frames.grid.y, frames.grid.x
    centre = [0.5 * (y.start + y.stop - 1), 0.5 * (x.start + x.stop - 1)]
    return xr.Dataset(columns, attrs={"frame_centre": centre})


def without_static(lines: xr.Dataset) -> xr.Dataset:
    """The table without lines that stand at one place of the detector in several frames; loaded.

    Parameters
    ----------
    lines : loaded table of ``find_lines``

    Returns
    -------
    The same table, NaN where a line has company (within 3 deg, 24 px at the frame's centre) in at least 3 frames and
    5 % of all

    Raises
    ------
    DataError : the table is lazy or lacks a column
    """
    table = loaded(lines, *NEEDED)
    angle, offset = np.deg2rad(table["angle_deg"].values), table["offset_px"].values
    y, x = table.attrs.get("frame_centre", (0.0, 0.0))
    offset = offset - (x * np.cos(angle) + y * np.sin(angle))
    frame = np.broadcast_to(np.arange(len(angle))[:, None], angle.shape)
    known = np.isfinite(angle)
    a, o, f = angle[known], offset[known], frame[known]
    n_frames = np.zeros(len(a), np.int64)
    for at in range(len(a)):  # one line against all: nothing as large as lines x lines
        turned = np.remainder(a[at] - a + 0.5 * np.pi, np.pi) - 0.5 * np.pi
        flipped = np.cos(a[at] - a) < 0  # one line, written with the opposite normal
        beside = np.where(flipped, o[at] + o, o[at] - o)
        n_frames[at] = len(np.unique(f[(np.abs(turned) < np.deg2rad(SAME_DEG)) & (np.abs(beside) < SAME_PX)]))
    static = np.zeros(angle.shape, bool)
    static[known] = n_frames >= max(FEWEST_STATIC, STATIC_SHARE * len(angle))
    return table.assign({name: table[name].where(~static) for name in COLUMNS if name in table})


def read_lines(lines: xr.Dataset | None) -> Array:
    """Rows (frame, cos, sin, offset, half width) of a table of ``find_lines``, float64 (line, 5).

    Raises
    ------
    DataError : the table is lazy or lacks a column
    """
    if lines is None:
        return np.empty((0, 5))
    table = without_static(lines)
    frames = np.broadcast_to(table["frame"].values[:, None], table["angle_deg"].shape)
    turns = [math.radians(angle) for angle in table["angle_deg"].values.ravel()]
    rows = np.stack(
        [
            frames.ravel().astype(np.float64),
            np.array([math.cos(turn) for turn in turns]),
            np.array([math.sin(turn) for turn in turns]),
            table["offset_px"].values.ravel(),
            table["half_width_px"].values.ravel(),
        ],
        axis=1,
    )
    return np.ascontiguousarray(rows[np.isfinite(rows).all(axis=1)])
