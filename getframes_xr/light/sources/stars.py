"""Stars: a catalogue in pixels or on the sky, with magnitudes, colours, names, light curves and motion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer, model_validator

from getframes_xr.core.errors import OptionError
from getframes_xr.light.column import Column
from getframes_xr.light.light_curve import AnyLightCurve, LightCurve
from getframes_xr.light.rounding import rounded_position
from getframes_xr.light.sight import Sight
from getframes_xr.light.sources.catalogue import CatalogueLight
from getframes_xr.light.sources.family import Source

Floats = NDArray[np.float64]


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _pairs(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


def _mapping(pairs: tuple[tuple[str, LightCurve], ...]) -> dict[str, Any]:
    return {name: curve.to_dict() for name, curve in pairs}


Curves = Annotated[
    tuple[tuple[str, AnyLightCurve], ...],
    BeforeValidator(_pairs),
    PlainSerializer(_mapping, return_type=dict[str, Any]),
]


class Stars(Source):
    """Point sources.

    Positions are pixels of the reference frame (``y``, ``x``, centres at integers; outside the frame is allowed) or
    degrees (``ra_deg``, ``dec_deg``, ICRS; the scene then needs a wcs). ``magnitude`` is in the telescope's band,
    ``colour`` is B - V. ``light_curve`` maps names to light curves. Motion is in arcsec/s on the detector's axes,
    counted from the start of frame 0.

    Raises
    ------
    OptionError : columns of unequal length, a value that is not finite, both or neither kind of position, a light
        curve of a name that is not there
    """

    kind: Literal["stars"] = "stars"
    y: Column | None = None
    x: Column | None = None
    ra_deg: Column | None = None
    dec_deg: Column | None = None
    magnitude: Column
    colour: Column | None = None
    name: Annotated[tuple[str, ...], BeforeValidator(_names)] | None = None
    light_curve: Curves = ()
    motion_y_arcsec_per_s: Column | None = None
    motion_x_arcsec_per_s: Column | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        by_pixel = self.y is not None and self.x is not None and self.ra_deg is None and self.dec_deg is None
        by_sky = self.ra_deg is not None and self.dec_deg is not None and self.y is None and self.x is None
        if not by_pixel and not by_sky:
            raise OptionError("Stars.y", self.y, "either y and x, or ra_deg and dec_deg")
        for field in ("y", "x", "ra_deg", "dec_deg", "magnitude", "colour", *_MOTION):
            column = getattr(self, field)
            if column is None:
                continue
            if len(column) != len(self.magnitude):
                raise OptionError(f"Stars.{field}", column, f"{len(self.magnitude)} rows, as many as magnitude has")
            if not np.isfinite(column.values).all():
                row = int(np.flatnonzero(~np.isfinite(column.values))[0])
                raise OptionError(f"Stars.{field}", float(column.values[row]), f"finite numbers (row {row})")
        if self.name is not None and len(self.name) != len(self.magnitude):
            raise OptionError("Stars.name", self.name, f"{len(self.magnitude)} names, as many as magnitude has")
        if self.name is not None and len(set(self.name)) != len(self.name):
            raise OptionError("Stars.name", self.name, "names that differ from each other")
        for name, _ in self.light_curve:
            if name not in (self.name or ()):
                raise OptionError("Stars.light_curve", name, f"names out of {', '.join(self.name or ('(none)',))}")
        if (self.motion_y_arcsec_per_s is None) != (self.motion_x_arcsec_per_s is None):
            raise OptionError("Stars.motion_y_arcsec_per_s", self.motion_y_arcsec_per_s, "both motions or neither")
        return self

    def _colours(self) -> Floats:
        return np.full(len(self.magnitude), 0.65) if self.colour is None else self.colour.values

    def _rows(self) -> tuple[tuple[int, LightCurve], ...]:
        row_of = {name: row for row, name in enumerate(self.name or ())}
        return tuple(sorted(((row_of[name], curve) for name, curve in self.light_curve), key=lambda pair: pair[0]))

    def light(self, sight: Sight, seed: int | str) -> CatalogueLight:
        if self.y is not None and self.x is not None:
            y, x = rounded_position(self.y.values), rounded_position(self.x.values)
        else:
            y, x = sight.pixels(np.asarray(self.ra_deg), np.asarray(self.dec_deg))
        motion = np.empty((0, 2))
        if self.motion_y_arcsec_per_s is not None and self.motion_x_arcsec_per_s is not None:
            pairs = (self.motion_y_arcsec_per_s.values, self.motion_x_arcsec_per_s.values)
            motion = np.ascontiguousarray(np.stack(pairs, axis=1) / sight.scale)
        rates = sight.rates(self.magnitude.values, self._colours())
        return CatalogueLight(sight, y, x, rates, motion, self._rows())

    def curves(self, sight: Sight) -> tuple[tuple[str, float, LightCurve], ...]:
        rates = sight.rates(self.magnitude.values, self._colours()).sum(axis=1)
        return tuple(((self.name or ())[row], float(rates[row]), curve) for row, curve in self._rows())

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Two named stars, one with a dip; a star that moves."""
        named = cls(
            y=[20.3, 41], x=[30, 12.7], magnitude=[11, 10.5], name=["target", "comparison"],
            light_curve={"target": LightCurve.box(depth=0.01, start_s=10, stop_s=40)},
        )  # fmt: skip
        moving = cls(y=[5.0], x=[7.0], magnitude=[9.0], motion_y_arcsec_per_s=[0.5], motion_x_arcsec_per_s=[0.2])
        return named, moving


_MOTION = ("motion_y_arcsec_per_s", "motion_x_arcsec_per_s")
