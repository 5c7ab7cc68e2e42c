"""A camera: a name, a serial number, a shape, and an ordered tuple of stages, first light, last the file.

The order of the stages is the order of the physics, and it is the user's: a stage that is off is not in the tuple. The
chain is checked when the camera is made: every plane a stage reads must have been made before it. The serial number
names this piece of silicon: two cameras of one model have different fixed patterns because their serials differ.
Facts that several stages need (the full well, the pitch of the pixels) must agree among them; ``replace`` changes them
everywhere at once.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from getframes_xr.core.draws import key_of
from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Options
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import Span
from getframes_xr.detector.order import usual_order
from getframes_xr.detector.stages.adc import Converter
from getframes_xr.detector.stages.bias import Bias
from getframes_xr.detector.stages.blooming import Blooming
from getframes_xr.detector.stages.full_well import FullWell
from getframes_xr.detector.stages.gain import Gain
from getframes_xr.detector.stages.multiplication import Multiplication
from getframes_xr.detector.stages.nonlinearity import Nonlinearity
from getframes_xr.detector.stages.read_noise import ReadNoise
from getframes_xr.detector.stages.reset_noise import ResetNoise
from getframes_xr.detector.stages.row_noise import RowNoise
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.stage import STAGES, Stage
from getframes_xr.engine.staged import Staged

_SHARED = ("full_well_e", "pixel_um")  # facts of the sensor that several stages state
_COLUMNS = {"frame", "start", "exposure_s", "temperature_c"}  # per-frame columns every observation has
_UNITS = (
    ("_e_per_s", "e-/s"), ("_e_per_um", "e-/um"), ("_per_cm2_s", "/cm2/s"), ("e_per_adu", "e-/adu"),
    ("_adu", "adu"), ("_px", "px"), ("_um", "um"), ("_c", "C"), ("_s", "s"), ("_e", "e-"),
)  # fmt: skip


_NEUTRAL: tuple[object, ...] = (None, 0, (), (1, 1))  # defaults that do nothing are not printed


def _built(stages: Any) -> Any:
    if isinstance(stages, str | dict) or not hasattr(stages, "__iter__"):
        return stages
    return tuple(STAGES.build(stage) for stage in stages)


class Camera(Options):
    """What turns light into a frame.

    Parameters
    ----------
    name : of the model
    serial : of this piece; fixed patterns and noise belong to it
    shape : (rows, columns)
    pixel_um : pitch of the pixels
    cfa : colour filter pattern of absolute pixel (0, 0), None for a camera without colours
    temperature_c : of the sensor, where an observation states none
    stages : in the order in which they act

    Raises
    ------
    OptionError : an option is unknown or out of range, the stages do not fit together or contradict each other
    """

    name: Annotated[str, Field(min_length=1)]
    serial: Annotated[str, Field(min_length=1)] = "1"
    shape: tuple[Annotated[int, Field(ge=1, le=2**20)], Annotated[int, Field(ge=1, le=2**20)]]
    pixel_um: Annotated[float, Field(gt=0, le=1000)] = 5.0
    cfa: Literal["RGGB", "BGGR", "GRBG", "GBRG"] | None = None
    temperature_c: Annotated[float, Field(ge=-273.15, le=150)] = 20.0
    stages: Annotated[tuple[SerializeAsAny[Stage], ...], BeforeValidator(_built)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        planes: dict[str, Plane] = {"photons": PLANES["photons"], "flags": PLANES["flags"]}
        for stage in self.stages:
            missing = [name for name in stage.reads if name not in planes]
            if missing:
                allowed = f"an order in which {', '.join(missing)} is made before {_kind(stage)!r} reads it"
                raise OptionError("Camera.stages", _kind(stage), allowed)
            unknown = set(stage.needs) - _COLUMNS
            if unknown:
                raise OptionError("Camera.stages", _kind(stage), f"stages that need no {', '.join(sorted(unknown))}")
            planes |= stage.planes_out(planes)
            if getattr(stage, "pixel_um", self.pixel_um) != self.pixel_um:
                stated = f"{_kind(stage)}.pixel_um"
                raise OptionError(stated, getattr(stage, "pixel_um"), f"the camera's pixel_um = {self.pixel_um}")  # noqa: B009
        wells = {_kind(s): s.full_well_e for s in self.stages if hasattr(s, "full_well_e")}
        if len(set(wells.values())) > 1:
            raise OptionError("Camera.stages", wells, "stages that state one and the same full_well_e")
        return self

    @classmethod
    def preset(cls, name: str) -> Camera:
        """A camera that comes with the package (``Camera.presets()`` lists them).

        Raises
        ------
        OptionError : there is no such preset
        """
        if name not in cls.presets():
            raise OptionError("Camera.preset", name, ", ".join(cls.presets()))
        text = files("getframes_xr.detector").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
        return cls.from_toml(text)

    @staticmethod
    def presets() -> tuple[str, ...]:
        """Names of the presets."""
        folder = files("getframes_xr.detector").joinpath("presets")
        return tuple(
            sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
        )

    def stage(self, kind: str) -> Stage:
        """The stage of one kind.

        Raises
        ------
        OptionError : this camera has none, or several
        """
        return self.stages[self._at(kind)]

    def has(self, kind: str) -> bool:
        """Whether a stage of this kind is in the camera."""
        return any(_kind(stage) == kind for stage in self.stages)

    def _at(self, kind: str) -> int:
        found = [at for at, stage in enumerate(self.stages) if _kind(stage) == kind]
        if len(found) != 1:
            known = ", ".join(_kind(stage) for stage in self.stages)
            several = f"one stage (there are {len(found)} of them)" if found else known
            raise OptionError(f"stage of camera {self.name!r}", kind, several)
        return found[0]

    def replace(self, kind: str | None = None, /, **changes: Any) -> Self:
        """A copy with options changed: of the stage ``kind``, or of the camera itself where none is named.

        ``full_well_e`` and ``pixel_um`` are facts of the sensor: a change reaches every stage that states them.

        Raises
        ------
        OptionError : the camera has no such stage, the option is unknown or outside its range
        """
        stages = list(self.stages if kind is not None else _built(changes.pop("stages", self.stages)))
        shared = {name: changes[name] for name in _SHARED if name in changes}
        if kind is not None:
            at = self._at(kind)
            stages[at] = stages[at].replace(**changes)
            changes = {}
        reached = {name for stage in stages for name in shared if name in type(stage).model_fields}
        for at, stage in enumerate(stages):
            here = {name: value for name, value in shared.items() if name in type(stage).model_fields}
            stages[at] = stage.replace(**here) if here else stage
        own = {name: value for name, value in (changes | shared).items() if name == "pixel_um" or name not in reached}
        return super().replace(**own, stages=tuple(stages))

    def without(self, *kinds: str) -> Self:
        """A copy without the stages of these kinds.

        Raises
        ------
        OptionError : the camera has no such stage
        """
        for kind in kinds:
            if not self.has(kind):
                raise OptionError(f"stage of camera {self.name!r}", kind, ", ".join(map(_kind, self.stages)))
        return super().replace(stages=tuple(stage for stage in self.stages if _kind(stage) not in kinds))

    def with_stage(self, stage: Stage, *, before: str | None = None) -> Self:
        """A copy with one more stage: before the stage of kind ``before``, else at its place in the usual order.

        Raises
        ------
        OptionError : there is no stage ``before``, or the chain does not fit together
        """
        if before is not None:
            at = self._at(before)
        else:
            ranks = {kind: rank for rank, kind in enumerate(usual_order())}
            later = (i for i, other in enumerate(self.stages) if ranks[_kind(other)] > ranks[_kind(stage)])
            at = next(later, len(self.stages))
        return super().replace(stages=(*self.stages[:at], stage, *self.stages[at:]))

    def chain(self, until: str | None = None) -> tuple[Stage, ...]:
        """The stages up to and including the one of kind ``until``; all of them by default.

        Raises
        ------
        OptionError : the camera has no such stage
        """
        return self.stages if until is None else self.stages[: self._at(until) + 1]

    def over(self, light: Producer, *, seed: int | str, frame_kind: str, until: str | None = None) -> Staged:
        """The frames this camera makes of light.

        Parameters
        ----------
        light : producer of the plane ``photons`` on this camera's pixels
        seed : of the noise
        frame_kind : light, dark, bias, flat ...; frames of different kinds share no noise
        until : stop after the stage of this kind

        Raises
        ------
        OptionError : the light has another shape than the camera, or there is no stage ``until``
        """
        shape = (len(light.grid.y), len(light.grid.x))
        if shape != self.shape:
            raise OptionError("light's shape", shape, f"the camera's {self.shape}")
        key = key_of(seed, self.serial, frame_kind)
        return Staged(light, self.chain(until), key=key, fixed_key=key_of(self.serial, "fixed"))

    @property
    def spans(self) -> tuple[Span, Span]:
        """Rows and columns as absolute spans."""
        return Span(0, self.shape[0]), Span(0, self.shape[1])

    @property
    def saturation_e(self) -> float:
        """Charge of the full well; infinite where no stage limits it."""
        return min((s.full_well_e for s in self.stages if isinstance(s, FullWell | Blooming)), default=float("inf"))

    def columns(self) -> dict[str, float]:
        """What a reduction needs to know of every frame, in units of the file (after multiplication, shift and all).

        Returns
        -------
        ``gain_e_per_adu``, ``read_noise_e``, ``bias_adu``, ``saturation_adu`` (the lowest number at which a pixel may
        have been full: 5 sigma of read noise below the well, or the top of the converter), as far as the stages say
        """
        found: dict[str, float] = {}
        per_e = float(np.prod([s.gain for s in self.stages if isinstance(s, Multiplication)]))
        shift = next((s.store_shift for s in self.stages if isinstance(s, Converter)), 0)
        noise = [s.rms_e for s in self.stages if isinstance(s, ReadNoise | ResetNoise | RowNoise)]
        read_noise_e = float(np.sqrt(np.sum(np.square(noise))))
        gains = [s.e_per_adu for s in self.stages if isinstance(s, Gain)]
        offset = float(sum(s.offset_adu for s in self.stages if isinstance(s, Bias))) * 2**shift
        found["read_noise_e"] = read_noise_e / per_e
        found["bias_adu"] = offset
        if gains:
            found["gain_e_per_adu"] = gains[0] / 2**shift / per_e
            converter = next((s for s in self.stages if isinstance(s, Converter)), None)
            bend = 1.0 + sum(sum(s.coefficients) for s in self.stages if isinstance(s, Nonlinearity))
            full = max(0.0, self.saturation_e * per_e * bend - 5 * read_noise_e) / gains[0] * 2**shift + offset
            top = float("inf") if converter is None else float(converter.largest_adu)
            if min(full, top) < float("inf"):
                found["saturation_adu"] = float(np.floor(min(full, top)))
        return found

    def __str__(self) -> str:
        colour = f", {self.cfa}" if self.cfa else ""
        head = (
            f"{self.name} (serial {self.serial}): {self.shape[0]} x {self.shape[1]} px of {self.pixel_um:g} um{colour}"
        )
        lines = [f"{head}, {self.temperature_c:g} C"]
        width = max((len(_kind(stage)) for stage in self.stages), default=0)
        for number, stage in enumerate(self.stages, 1):
            lines.append(f"{number:3d}  {_kind(stage):<{width}}  {_described(stage)}".rstrip())
        return "\n".join(lines)


def _kind(stage: Stage) -> str:
    return str(type(stage).model_fields["kind"].default)


def _described(stage: Stage) -> str:
    words = []
    for name, field in type(stage).model_fields.items():
        value = getattr(stage, name)
        if name == "kind" or (value == field.default and value in _NEUTRAL):
            continue
        suffix, unit = next(((s, u) for s, u in _UNITS if name.endswith(s)), ("", ""))
        label = (name.removesuffix(suffix) if unit and name != suffix else name).replace("_", " ").strip()
        label = "" if name == suffix else label
        text = " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else _number(value)
        words.append(" ".join(part for part in (label, text, unit) if part))
    return ", ".join(words)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
