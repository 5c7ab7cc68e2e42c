"""The scene: telescope, PSF, sources, pointing, optics and atmosphere; TOML in and out; its frames as a producer.

`SceneFrames` answers "produce this window" with the plane ``photons``: photons that reach each pixel during the
exposure, before any quantum efficiency. Behind a colour filter array each pixel gets the photons of its own colour.
Light from sources outside the frame is there; a window costs what its sources cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.fork_lock import ForkLock
from getframes_xr.core.kernel import kernel
from getframes_xr.core.options import Options
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import Producer
from getframes_xr.light.atmosphere import Seeing, Transparency
from getframes_xr.light.column import columns_beside
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.optics import AnyOptic
from getframes_xr.light.pointing import Pointing
from getframes_xr.light.psf import PSFS, Psf
from getframes_xr.light.sight import Sight, View
from getframes_xr.light.sources import AnySource, Light
from getframes_xr.light.telescope import Telescope
from getframes_xr.light.wcs import Wcs

AnyPsf = Annotated[SerializeAsAny[Psf], BeforeValidator(PSFS.build)]
FIRST_START = "first_start"  # attribute of the grid: start of frame 0, from which light curves and drift count
SEED = "scene_seed"  # attribute of the grid: seed of what the sky does from frame to frame


class Scene(Options):
    """What is in front of the detector.

    Raises
    ------
    OptionError : an option is unknown, missing or out of range
    """

    telescope: Telescope
    psf: AnyPsf
    sources: Annotated[tuple[AnySource, ...], Field(min_length=1)]
    pointing: Pointing = Pointing()
    optics: tuple[AnyOptic, ...] = ()
    seeing: Seeing | None = None
    transparency: Transparency | None = None
    wcs: Wcs | None = None

    def grid(
        self, shape: tuple[int, int] | tuple[Span, Span], exposures: Exposures, seed: int | str = 0,
        cfa: str | None = None,
    ) -> Grid:  # fmt: skip
        """The grid of a night: the detector's extent and the per-frame columns.

        Parameters
        ----------
        shape : rows and columns, or two spans of absolute pixels
        exposures : Exposures
        seed : int or str, of jitter, dither, seeing and transparency
        cfa : colour filter pattern of absolute pixel (0, 0), or None

        Returns
        -------
        Grid with the columns frame, start, exposure_s, pointing_dy_px, pointing_dx_px, rotation_deg, transparency,
        seeing_fwhm_arcsec (and wcs, where the scene has one and the pointing is not steady)

        Raises
        ------
        DataError : an unknown colour filter pattern
        """
        y, x = (side if isinstance(side, Span) else Span(0, int(side)) for side in shape)
        scale = self.telescope.scale_arcsec_per_px
        columns: dict[str, NDArray[Any]] = dict(exposures.columns)
        frame, start = columns["frame"], exposures.elapsed_s
        stop = start + exposures.exposure_s
        columns |= self.pointing.columns(frame, 0.5 * (start + stop), scale, seed)
        share, width = np.ones(len(frame)), np.full(len(frame), self.psf.fwhm_arcsec)
        if self.transparency is not None:
            share = self.transparency.share(frame, start, stop, seed)
        if self.seeing is not None:
            width = self.seeing.fwhm_arcsec(self.psf.fwhm_arcsec, frame, start, stop, seed)
        columns |= {"transparency": share, "seeing_fwhm_arcsec": width}
        wcs = None
        if self.wcs is not None:
            centre = 0.5 * (y.start + y.stop - 1), 0.5 * (x.start + x.stop - 1)
            if self.pointing.steady:
                wcs = self.wcs.cards(centre, scale)
            else:
                moved = zip(columns["pointing_dy_px"], columns["pointing_dx_px"], columns["rotation_deg"], strict=True)
                pivot = self._pivot(centre)
                texts = [self.wcs.cards(centre, scale, (dy, dx), angle, pivot) for dy, dx, angle in moved]
                columns["wcs"] = np.array(texts, dtype=object)
        return Grid(y, x, columns=columns, cfa=cfa, wcs=wcs, attrs={FIRST_START: exposures.start, SEED: seed})

    def frames(
        self, shape: tuple[int, int] | tuple[Span, Span], exposures: Exposures, seed: int | str = 0,
        cfa: str | None = None,
    ) -> SceneFrames:  # fmt: skip
        """The producer of this scene's light on a detector of the given shape; see `grid`."""
        return SceneFrames(self, self.grid(shape, exposures, seed, cfa))

    def truth_light_curve(self, exposures: Exposures, *, cfa: str | None = None) -> xr.DataArray:
        """Photons that each named source with a light curve sends into each exposure.

        The whole source, before vignetting and transparency, also when it stands off the frame; behind a colour filter
        array the sum of the three bands.

        Returns
        -------
        DataArray (time, source) [photon] with the coordinates ``name`` (source) and ``frame``, ``start`` (time)
        """
        span = Span(0, 1)
        sight = Sight(self.telescope, self.psf, self.wcs, self.optics, span, span, cfa)
        start = exposures.elapsed_s
        found = [item for source in self.sources for item in source.curves(sight)]
        stop = start + exposures.exposure_s
        rows = [rate * exposures.exposure_s * curve.mean(start, stop) for _, rate, curve in found]
        values = np.stack(rows, axis=1) if rows else np.empty((exposures.n, 0))
        columns = exposures.columns
        coords = {
            "name": ("source", np.array([name for name, _, _ in found], dtype=object)),
            "frame": ("time", columns["frame"]),
            "start": ("time", columns["start"]),
        }
        return xr.DataArray(values, coords, ("time", "source"), "truth_light_curve", {"units": "photon"})

    def to_toml(self, path: str | Path | None = None) -> str:
        """TOML text, also written to ``path``; columns of more than 100 rows lie in files beside it.

        Raises
        ------
        DataError : a long column, and no path
        """
        with columns_beside(path):
            return super().to_toml(path)

    @classmethod
    def from_toml(cls, source: str | Path) -> Self:
        """Read a scene from a TOML file or text; long columns are read from beside the file.

        Raises
        ------
        DataError, OptionError : the file cannot be read, or an option in it is not allowed
        """
        is_text = isinstance(source, str) and ("\n" in source or "=" in source)
        with columns_beside(None if is_text else source):
            return super().from_toml(source)

    def _pivot(self, centre: tuple[float, float]) -> tuple[float, float]:
        turning = self.pointing.field_rotation
        return centre if turning is None or turning.pivot_px is None else turning.pivot_px


@dataclass(frozen=True, eq=False)
class SceneFrames(Producer):
    """Light of a scene on the detector: plane ``photons``, float32 [photon per pixel and exposure].

    Raises
    ------
    DataError : the grid lacks a column that light needs; sources on the sky and no wcs
    OptionError : an exposure or a width in the grid is not usable
    """

    scene: Scene
    grid: Grid

    def label(self) -> str:
        return f"SceneFrames: {', '.join(type(source).__name__ for source in self.scene.sources)}"

    def __post_init__(self) -> None:
        for name in ("frame", "start", "exposure_s"):
            self.grid.column(name)
        if self.grid.bands:
            raise DataError("light falls on a detector without bands; give the colour filter array as grid.cfa")
        exposure = self.grid.column("exposure_s")
        if not ((exposure >= 0) & np.isfinite(exposure)).all():
            raise OptionError("exposure_s", exposure, "finite and >= 0")

    @cached_property
    def planes(self) -> Mapping[str, Plane]:
        return {"photons": PLANES["photons"]}

    @cached_property
    def sight(self) -> Sight:
        """The instrument and the frame."""
        scene, grid = self.scene, self.grid
        return Sight(scene.telescope, scene.psf, scene.wcs, scene.optics, grid.y, grid.x, grid.cfa)

    def view(self, position: int) -> View:
        """One exposure, by its position on the grid's time axis."""
        scene, sight = self.scene, self.sight
        exposure = float(self.grid.column("exposure_s")[position])
        frame = int(self.grid.column("frame")[position])
        turning = scene.pointing.field_rotation
        return View(
            frame=frame, start_s=float(self._elapsed[position]), exposure_s=exposure,
            fwhm_px=self._column("seeing_fwhm_arcsec", scene.psf.fwhm_arcsec, position) / sight.scale,
            transparency=self._column("transparency", 1.0, position),
            pivot=scene._pivot(sight.centre),
            offset_px=(self._column("pointing_dy_px", 0.0, position), self._column("pointing_dx_px", 0.0, position)),
            angle_deg=self._column("rotation_deg", 0.0, position),
            path_px=scene.pointing.path_px(frame, exposure, sight.scale),
            turn_deg=0.0 if turning is None else turning.rate_deg_per_s * exposure,
            centre=sight.centre, distortion=sight.distortion,
        )  # fmt: skip

    def _column(self, name: str, default: float, position: int) -> float:
        columns = self.grid.columns or {}
        return float(columns[name][position]) if name in columns else default

    @cached_property
    def _elapsed(self) -> NDArray[np.float64]:
        start = self.grid.column("start").astype("datetime64[ns]")
        first = np.datetime64(self.grid.attrs.get(FIRST_START, start.min() if len(start) else "2000-01-01"), "ns")
        result: NDArray[np.float64] = (start - first).astype(np.int64) / np.float64(1e9)
        return result

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        photons = np.empty(window.shape, np.float32)
        patch = Patch(window, {"photons": photons} if "photons" in planes else {})
        if not patch.planes:
            return patch
        lights = _lights(self)
        light = np.empty(window.shape[1:])
        for t, position in enumerate(range(window.frames.start, window.frames.stop)):
            light[:] = 0.0
            view = self.view(position)
            for source in lights:
                source.add(light, window, view)
            for optic in self.scene.optics:
                optic.dim(light, window, self.grid.y, self.grid.x)
            _to_float32(light, photons[t])
        return patch

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        one = window.with_frames(Span(window.frames.start, window.frames.start + 1))
        view = self.view(window.frames.start) if len(window.frames) else None
        scratch = 0 if view is None else sum(source.peak_bytes(one, view) for source in _lights(self))
        return 8 * one.pixels + scratch


_KEPT: OrderedDict[str, tuple[Light, ...]] = OrderedDict()
_KEPT_LOCK = ForkLock()
_KEPT_SCENES = 4


def _lights(frames: SceneFrames) -> tuple[Light, ...]:
    """The scene's sources as light, made once per process (a producer is unpickled anew for every task)."""
    token = frames.token()
    with _KEPT_LOCK:
        if token in _KEPT:
            _KEPT.move_to_end(token)
            return _KEPT[token]
        made = tuple(source.light(frames.sight, frames.grid.attrs.get(SEED, 0)) for source in frames.scene.sources)
        _KEPT[token] = made
        while len(_KEPT) > _KEPT_SCENES:
            _KEPT.popitem(last=False)
        return made


@kernel
def _to_float32(light: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = np.float32(light[i, j])
