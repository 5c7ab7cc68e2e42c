"""Observe: put a scene in front of a camera, or nothing, or an even light; lazy frames come out.

``observe`` makes lights of a scene; ``dark``, ``bias``, ``flat`` and ``expose`` need no scene. Noise is keyed by (seed,
serial of the camera, kind of frame): a dark and a light of one seed share nothing, while the camera's fixed pattern is
in all of them. An ``Experiment`` is the same in one TOML file, opened by ``load_experiment`` or
``xr.open_dataset(path, engine="getframes_xr")``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field
from xarray.backends import BackendEntrypoint
from xarray.core import indexing

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.options import Options, read_toml
from getframes_xr.core.vocabulary import TIME, X, Y
from getframes_xr.core.window import Grid
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.illumination import Illumination
from getframes_xr.detector.stages.quantum_efficiency import QuantumEfficiency
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.stage import STAGES
from getframes_xr.engine.staged import Staged
from getframes_xr.face.coordinates import coordinates_of
from getframes_xr.face.graph import chunks_of
from getframes_xr.face.lazy import lazy
from getframes_xr.io.fits_engine import ProducerArray
from getframes_xr.light.column import columns_beside
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.optics import Optic
from getframes_xr.light.scene import Scene

LIGHT_PLANES = ("adu", "truth_electrons", "flags")
DARK_PLANES = ("adu", "flags")


def observe(
    scene: Scene,
    camera: Camera,
    exposures: Exposures,
    *,
    seed: int | str,
    planes: Collection[str] | None = None,
    until: str | None = None,
    temperature_c: ArrayLike | None = None,
) -> xr.Dataset:
    """Observe a scene with a camera; nothing is computed.

    Parameters
    ----------
    scene : what is in front of the camera
    camera : what turns light into frames
    exposures : how many, how long, when
    seed : int or str, of all noise and of the pointing; the same seed gives the same bytes
    planes : out of ``photons`` .. ``adu``, ``truth_electrons``, ``flags``; these last three by default
    until : stop after the camera's stage of this kind
    temperature_c : of the sensor, one number or one per exposure; the camera's by default

    Returns
    -------
    Dataset (time, y, x) of the planes; where sources have a name and a light curve also ``truth_light_curve``
    (time, source) [photon]

    Raises
    ------
    OptionError : the camera has no stage ``until``; temperatures of another number than exposures
    DataError : a plane that this camera does not make
    """
    frames = lights(scene, camera, exposures, seed=seed, until=until, temperature_c=temperature_c)
    data = lazy(frames, _shown(frames, planes, LIGHT_PLANES, until))
    curves = scene.truth_light_curve(exposures, cfa=camera.cfa)
    if curves.sizes["source"]:
        data["truth_light_curve"] = curves.drop_vars(["frame", "start"])
    return data


def lights(
    scene: Scene,
    camera: Camera,
    exposures: Exposures,
    *,
    seed: int | str,
    until: str | None = None,
    temperature_c: ArrayLike | None = None,
) -> Staged:
    """The producer behind ``observe``: the camera's stages over the scene's light.

    Raises
    ------
    OptionError : as ``observe``
    """
    light = scene.frames(camera.shape, exposures, seed=seed, cfa=camera.cfa)
    grid = _dressed(light.grid, camera, "light", seed, temperature_c)
    return camera.over(replace(light, grid=grid), seed=seed, frame_kind="light", until=until)


def expose(
    camera: Camera,
    photons_per_s: ArrayLike,
    exposures: Exposures,
    *,
    seed: int | str,
    planes: Collection[str] | None = None,
    until: str | None = None,
    temperature_c: ArrayLike | None = None,
) -> xr.Dataset:
    """Expose a camera to the same light in every exposure.

    Parameters
    ----------
    camera : the camera
    photons_per_s : photons per pixel and second that arrive, one number or (y, x)
    exposures, seed, planes, until, temperature_c : as in ``observe``

    Raises
    ------
    DataError : a rate of another shape, negative or NaN
    OptionError : as ``observe``
    """
    rate = np.asarray(photons_per_s, np.float64)
    return _even(camera, rate, exposures, "expose", LIGHT_PLANES, (), seed, planes, until, temperature_c)


def dark(
    camera: Camera,
    exposures: Exposures,
    *,
    seed: int | str,
    planes: Collection[str] | None = None,
    until: str | None = None,
    temperature_c: ArrayLike | None = None,
) -> xr.Dataset:
    """Expose with the shutter closed; planes ``adu`` and ``flags`` by default, all else as in ``observe``.

    Raises
    ------
    OptionError, DataError : as ``observe``
    """
    rate = np.zeros(())
    return _even(camera, rate, exposures, "dark", DARK_PLANES, (), seed, planes, until, temperature_c)


def bias(
    camera: Camera,
    exposures: Exposures | int,
    *,
    seed: int | str,
    planes: Collection[str] | None = None,
    until: str | None = None,
    temperature_c: ArrayLike | None = None,
) -> xr.Dataset:
    """Read without exposing; ``exposures`` is their number, or ``Exposures`` of 0 s.

    Raises
    ------
    OptionError : exposures longer than 0 s; as ``observe``
    """
    nights = Exposures(n=exposures, exposure_s=0.0) if isinstance(exposures, int) else exposures
    if nights.exposure_s != 0.0:
        raise OptionError("bias exposures.exposure_s", nights.exposure_s, "0 s, or just the number of biases")
    rate = np.zeros(())
    return _even(camera, rate, nights, "bias", DARK_PLANES, (), seed, planes, until, temperature_c)


def flat(
    camera: Camera,
    exposures: Exposures,
    *,
    seed: int | str,
    level: float = 0.5,
    optics: Sequence[Optic] | Scene = (),
    planes: Collection[str] | None = None,
    until: str | None = None,
    temperature_c: ArrayLike | None = None,
) -> xr.Dataset:
    """Expose to an even light whose charge is ``level`` of what the camera can show.

    Parameters
    ----------
    camera, exposures, seed, planes, until, temperature_c : as in ``observe``
    level : share of the range between bias and saturation, in the middle of the frame and the most sensitive colour
    optics : that dim the light as they dim the sky (``[Vignetting(...)]``), or the scene whose optics they are

    Raises
    ------
    OptionError : a level outside 0..1, exposures of 0 s; as ``observe``
    """
    if not 0.0 < level < 1.0:
        raise OptionError("flat level", level, "> 0 and < 1")
    if exposures.exposure_s <= 0.0:
        raise OptionError("flat exposures.exposure_s", exposures.exposure_s, "> 0")
    known = camera.columns()
    if not {"saturation_adu", "gain_e_per_adu"} <= set(known):
        raise OptionError("flat camera", camera.name, "a camera with a gain and a full well or a converter")
    full_e = (known["saturation_adu"] - known["bias_adu"]) * known["gain_e_per_adu"]
    rate = np.asarray(level * full_e / (exposures.exposure_s * max(_efficiencies(camera), default=1.0)))
    seen = tuple(optics.optics if isinstance(optics, Scene) else optics)
    return _even(camera, rate, exposures, "flat", LIGHT_PLANES, seen, seed, planes, until, temperature_c)


def _efficiencies(camera: Camera) -> list[float]:
    bands = ("red", "green", "blue") if camera.cfa else (None,)
    stages = [stage for stage in camera.stages if isinstance(stage, QuantumEfficiency)]
    return [max(stage.of_band(band), 1e-6) for stage in stages for band in bands]


def _even(
    camera: Camera,
    rate: Any,
    exposures: Exposures,
    frame_kind: str,
    default: Collection[str],
    optics: tuple[Optic, ...],
    seed: int | str,
    planes: Collection[str] | None,
    until: str | None,
    temperature_c: ArrayLike | None,
) -> xr.Dataset:
    y, x = camera.spans
    grid = _dressed(Grid(y, x, exposures.columns, cfa=camera.cfa), camera, frame_kind, seed, temperature_c)
    frames = camera.over(Illumination(grid, rate, optics), seed=seed, frame_kind=frame_kind, until=until)
    return lazy(frames, _shown(frames, planes, default, until))


def _dressed(grid: Grid, camera: Camera, frame_kind: str, seed: int | str, temperature_c: ArrayLike | None) -> Grid:
    """The grid with what is known of the camera: per-frame columns and attributes."""
    n = grid.n_frames
    temperature = np.asarray(camera.temperature_c if temperature_c is None else temperature_c, np.float64)
    if temperature.ndim > 1 or (temperature.ndim == 1 and len(temperature) != n):
        raise OptionError("temperature_c", temperature.shape, f"one number, or one for each of {n} exposures")
    if not (np.isfinite(temperature).all() and (temperature >= -273.15).all()):
        raise OptionError("temperature_c", temperature, ">= -273.15, not NaN")
    facts = {name: np.full(n, value) for name, value in camera.columns().items()}
    columns = {**(grid.columns or {}), "temperature_c": np.broadcast_to(temperature, (n,)).copy(), **facts}
    attrs = {**grid.attrs, "camera": camera.name, "serial": camera.serial, "frame_kind": frame_kind, "seed": str(seed)}
    return grid.replace(columns=columns, attrs=attrs)


def _shown(
    frames: Producer, planes: Collection[str] | None, default: Collection[str], until: str | None
) -> tuple[str, ...]:
    if planes is not None:
        return tuple(planes)
    if until is None:
        return tuple(default)
    order = ("adu", "electrons", "expected_electrons", "photons")
    last = next(name for name in order if name in frames.planes)
    return tuple(dict.fromkeys((last, *(name for name in default if name in frames.planes))))


def camera_from(values: Any) -> Any:
    """A camera from a mapping (a TOML table); anything else is handed back.

    With ``preset`` the rest of the table says what is different: ``without`` (kinds of stages), ``replace`` (options by
    kind), ``add`` (further stages, each at its usual place) and options of the camera itself (``shape``, ``serial``,
    ``temperature_c`` ...). Without ``preset`` the table is the camera.

    Raises
    ------
    OptionError : a preset, stage or option that does not exist
    """
    if not isinstance(values, Mapping):
        return values
    rest = dict(values)
    if "preset" not in rest:
        return Camera(**rest)
    camera = Camera.preset(str(rest.pop("preset")))
    without, changes, add = (
        rest.pop(name, default) for name, default in (("without", ()), ("replace", {}), ("add", ()))
    )
    camera = camera.replace(**rest).without(*([without] if isinstance(without, str) else without))
    for kind, options in changes.items():
        if not isinstance(options, Mapping):
            raise OptionError(f"camera.replace.{kind}", options, "a table of options, [camera.replace.read_noise]")
        camera = camera.replace(kind, **options)
    for stage in add:
        camera = camera.with_stage(STAGES.build(stage))
    return camera


class Experiment(Options):
    """A scene, a camera, exposures and a seed: all that decides the frames, in one TOML file.

    Parameters
    ----------
    scene, exposures : as ``Scene`` and ``Exposures``
    camera : a table as for ``camera_from``
    seed : int or str
    temperature_c : of the sensor, one number or one per exposure; the camera's by default
    darks, biases, flats : how many calibration frames go with the lights, at their temperature (its median); darks have
        the lights' exposure, flats 1 s
    flat_level : as ``level`` of ``flat``

    Raises
    ------
    OptionError : an option is unknown, missing or out of range
    """

    scene: Scene
    camera: Annotated[Camera, BeforeValidator(camera_from)]
    exposures: Exposures
    seed: int | str = 0
    temperature_c: float | tuple[float, ...] | None = None
    darks: Annotated[int, Field(ge=0, le=100_000)] = 0
    biases: Annotated[int, Field(ge=0, le=100_000)] = 0
    flats: Annotated[int, Field(ge=0, le=100_000)] = 0
    flat_level: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def observe(self, planes: Collection[str] | None = None, until: str | None = None) -> xr.Dataset:
        """The lights, lazily (see ``observe``).

        Raises
        ------
        OptionError, DataError : as ``observe``
        """
        options: dict[str, Any] = {"planes": planes, "until": until, "temperature_c": self.temperature_c}
        return observe(self.scene, self.camera, self.exposures, seed=self.seed, **options)

    def frames(self) -> dict[str, xr.Dataset]:
        """The lights and the calibration frames that go with them, lazily, by kind (``lights``, ``darks`` ...)."""
        made = {"lights": self.observe()}
        start = self.exposures.start
        known = self.temperature_c
        options: dict[str, Any] = {
            "seed": self.seed,
            "temperature_c": float(np.median(known)) if isinstance(known, tuple) else known,
        }
        if self.darks:
            closed = Exposures(n=self.darks, exposure_s=self.exposures.exposure_s, start=start)
            made["darks"] = dark(self.camera, closed, **options)
        if self.biases:
            made["biases"] = bias(self.camera, Exposures(n=self.biases, exposure_s=0.0, start=start), **options)
        if self.flats:
            even = Exposures(n=self.flats, exposure_s=1.0, start=start)
            made["flats"] = flat(self.camera, even, level=self.flat_level, optics=self.scene, **options)
        return made

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
        """Read an experiment from a TOML file or text; long columns are read from beside the file.

        Raises
        ------
        DataError, OptionError : the file cannot be read, or an option in it is not allowed
        """
        is_text = isinstance(source, str) and ("\n" in source or "=" in source)
        with columns_beside(None if is_text else source):
            return super().from_toml(source)


def load_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Read an experiment from a TOML file.

    Raises
    ------
    DataError : the file cannot be read or is not TOML
    OptionError : an option is unknown, missing or out of range (it is named, with what is allowed)
    """
    return Experiment.from_toml(Path(path))


class ExperimentEngine(BackendEntrypoint):
    """Entry point of ``engine="getframes_xr"``: the TOML file of an experiment."""

    description = "simulated frames of an experiment (TOML), made window by window"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "planes", "until")
    supports_groups = False

    def open_dataset(  # type: ignore[override]  # an engine adds options of its own
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        planes: Sequence[str] | None = None,
        until: str | None = None,
    ) -> xr.Dataset:
        """Open the lights of an experiment as lazy variables (``chunks={}`` gives dask arrays).

        Raises
        ------
        DataError, OptionError : as ``load_experiment`` and ``observe``
        """
        plan = load_experiment(filename_or_obj)
        temperature = plan.temperature_c
        options: dict[str, Any] = {"seed": plan.seed, "until": until, "temperature_c": temperature}
        frames = lights(plan.scene, plan.camera, plan.exposures, **options)
        names = _shown(frames, planes, LIGHT_PLANES, until)
        unknown = [name for name in names if name not in frames.planes]
        if unknown:
            raise DataError(f"no plane {', '.join(unknown)} here; known: {', '.join(frames.planes)}")
        sizes = dict(zip((TIME, Y, X), (parts[0] for parts in chunks_of(frames)), strict=True))
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        variables = {
            name: xr.Variable(
                frames.grid.dims,
                indexing.LazilyIndexedArray(ProducerArray(frames, name)),
                {"units": frames.planes[name].units},
                {"preferred_chunks": sizes},
            )
            for name in names
            if name not in dropped
        }
        return xr.Dataset(variables, coordinates_of(frames.grid), attrs=dict(frames.grid.attrs))

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        if not isinstance(filename_or_obj, str | os.PathLike) or not str(filename_or_obj).endswith(".toml"):
            return False
        try:
            return {"scene", "camera", "exposures"} <= set(read_toml(Path(filename_or_obj)))
        except DataError:
            return False
