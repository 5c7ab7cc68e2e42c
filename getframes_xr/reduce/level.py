"""Level: frames brought to one transparency and no sky, so that a stack compares like with like.

    v = (e - S_f(y, x)) / t_f         S_f a plane per colour, t_f the transparency, both of ``normalise``

A moon that rises or a cloud that passes otherwise widens the scatter along time, and clipping rejects good frames. Done
on the pixels as they were measured: after ``calibrate``, before ``debayer`` and ``warp``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from getframes_xr.core.cfa import cfa_index
from getframes_xr.core.errors import DataError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAND, COLOUR_BANDS, PLANES, Flag, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.producer import Producer, with_flags
from getframes_xr.face.frames_in import FramesLike, frames_in
from getframes_xr.face.lazy import lazy
from getframes_xr.face.tables import by_frame


@kernel
def level_plane(
    image: Array, sky: Array, bands: Array, rate: float, y: float, x: float, parity_y: int, parity_x: int
) -> None:
    """Take sky (band, 3) off an image (y, x) and multiply by ``rate``, in place.

    ``y, x``: the first pixel relative to where the sky level holds; ``bands`` (2, 2): band of each parity of row and
    column, ``parity_y, parity_x`` those of the first pixel.
    """
    for r in range(image.shape[0]):
        row = image[r]
        for half in range(2):
            band = bands[(r + parity_y) & 1, (half + parity_x) & 1]
            base = sky[band, 0] + sky[band, 1] * (y + r)
            slope = sky[band, 2]
            for i in range(half, image.shape[1], 2):
                row[i] = np.float32((np.float64(row[i]) - (base + slope * (x + i))) * rate)


@dataclass(frozen=True, eq=False)
class Levelled(Producer):
    """``parent`` without its sky planes, at transparency 1.

    Parameters
    ----------
    parent : frames with the plane ``plane``, mono, of a colour filter array, or of bands on the measured pixels
    sky : float64 (time, band, 3), level at ``centre``, slope along y, slope along x
    transparency : float64 (time,); NaN = the frame is not used
    """

    parent: Producer
    sky: Array
    transparency: Array
    centre: tuple[float, float]
    used: Array
    plane: str = "image"

    @cached_property
    def grid(self) -> Grid:
        columns = dict(self.parent.grid.columns or {}) | {"used": self.used}
        return self.parent.grid.replace(columns=columns, attrs=dict(self.parent.grid.attrs) | {"levelled": True})

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"image": Plane(PLANES["image"].dtype, self.parent.planes[self.plane].units), "flags": PLANES["flags"]}

    @property
    def gathers(self) -> bool:
        return True

    @property
    def takes_over(self) -> str | None:
        return "frames" if self.parent.planes[self.plane].dtype == np.float32 else None

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, with_flags(self.parent, self.plane), keep="frames")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        patch = given.take()
        image = patch[self.plane].astype(np.float32, copy=False)
        flags = patch["flags"] if "flags" in patch else np.zeros(image.shape, np.uint16)
        y, x = window.y.start - self.centre[0], window.x.start - self.centre[1]
        bands = cfa_index(self.parent.grid.cfa)
        for i, frame in enumerate(range(window.frames.start, window.frames.stop)):
            if not self.used[frame]:
                image[i], flags[i] = np.nan, flags[i] | np.uint16(Flag.NO_DATA)
                continue
            sky, rate = self.sky[frame], 1.0 / self.transparency[frame]
            for at in np.ndindex(image.shape[1:-2]):
                own = sky[at[0] : at[0] + 1] if at else sky
                level_plane(image[i][at], own, bands, rate, y, x, window.y.start & 1, window.x.start & 1)
        made: dict[str, Array] = {"image": image, "flags": flags}
        return Patch(window, {name: made[name] for name in sorted(planes)})

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        fresh = 0 if "flags" in self.parent.planes or "flags" in planes else self.bytes_of(window, ("flags",))
        one = window.with_frames(Span(0, 1))  # the marks of a frame that is not used
        return fresh + self.bytes_of(one, ("flags",)) + 2**16

    def select(self, positions: Array) -> Producer:
        own = {name: getattr(self, name)[positions] for name in ("sky", "transparency", "used")}
        return dataclasses.replace(self, parent=self.parent.select(positions), **own)


def level(frames: FramesLike, moves: xr.Dataset) -> xr.Dataset:
    """Take the sky off calibrated frames and bring them to one transparency; lazy.

    Parameters
    ----------
    frames : calibrated frames on the pixels that were measured (mono, raw colour, or bilinear bands)
    moves : loaded table of ``normalise``: ``transparency``, ``sky``, ``used``; joined by ``frame``

    Returns
    -------
    Dataset of ``image`` and ``flags``; frames that are not used are all no_data and carry ``used`` = False

    Raises
    ------
    DataError : no such table, a lazy one, or one without a row for a frame; bands that it does not know
    """
    missing = [name for name in ("transparency", "sky", "used") if name not in moves]
    if missing:
        raise DataError(f"moves hold no {', '.join(missing)}; make them with normalise(stars, moves)")
    producer, plane, _ = frames_in(frames, "level", timed=True)
    grid = producer.grid
    wanted = COLOUR_BANDS if grid.cfa is not None else (grid.bands or ("mono",))
    known = [str(band) for band in moves[BAND].values] if BAND in moves.coords else ["mono"]
    if not set(wanted) <= set(known):
        raise DataError(f"moves know the sky of {', '.join(known)}, the frames hold {', '.join(wanted)}")
    sky = by_frame(moves["sky"].transpose("time", BAND, "plane_term"), grid)[:, [known.index(band) for band in wanted]]
    transparency = np.asarray(by_frame(moves["transparency"], grid), np.float64)
    used = np.asarray(by_frame(moves["used"], grid), np.bool_) & np.isfinite(transparency) & (transparency > 0)
    centre = moves.attrs.get("centre_px") or [
        0.5 * (grid.y.start + grid.y.stop - 1),
        0.5 * (grid.x.start + grid.x.stop - 1),
    ]
    place = (float(centre[0]), float(centre[1]))
    return lazy(Levelled(producer, np.asarray(sky, np.float64), transparency, place, np.asarray(used), plane))
