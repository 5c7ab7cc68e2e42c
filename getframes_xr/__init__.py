"""getframes-xr: frames, simulated, measured, reduced, stacked, at any size, with one engine on Dask and xarray.

This is the front door: it names what users reach for and loads a room only when one of its names is used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from getframes_xr.app.when_xarray_loads import register as _register_accessor

_register_accessor()  # ``.gx`` on Datasets, once xarray is loaded; does not load it
_ROOMS = {
    "core.errors": ("DataError", "GetframesError", "OptionError", "PlanError", "RegistrationError", "StoreError"),
    "core.verdict": ("Reason",),
    "core.vocabulary": ("Flag",),
    "face.frames_in": ("as_producer", "producer_of"),
    "face.lazy": ("lazy",),
    "workflows.plan": ("memory", "plan"),
    "workflows.cluster": ("client",),
    "light.scene": ("Scene",),
    "light.exposures": ("Exposures",),
    "light.telescope": ("Telescope",),
    "light.sources": ("Sky", "StarField", "Stars"),
    "light.wcs": ("Wcs",),
    "light.light_curve": ("LightCurve",),
    "light.pointing": ("Pointing",),
    "detector.camera": ("Camera",),
    "workflows.observe": ("Experiment", "bias", "dark", "expose", "flat", "load_experiment", "observe"),
    "io.frames": ("open_frames",),
    "io.session": ("open_session",),
    "io.store": ("save_frames", "verify"),
    "io.image": ("open_image", "save_fits_frames", "save_image"),
    "io.pictures": ("save_png", "save_tiff"),
    "measure.stars": ("find_stars",),
    "measure.registration": ("register",),
    "measure.phase": ("phase_shifts",),
    "measure.score": ("score",),
    "measure.leave_out": ("leave_out",),
    "measure.photometry": ("aperture_photometry",),
    "measure.light_curve": ("light_curve",),
    "reduce.master": ("master",),
    "reduce.calibrate": ("calibrate",),
    "reduce.cosmetic": ("cosmetic",),
    "reduce.debayer": ("debayer",),
    "reduce.binned": ("binned",),
    "reduce.concat": ("concat",),
    "reduce.warp": ("warp",),
    "reduce.normalise": ("normalise",),
    "reduce.splat.first_image": ("first_image",),
    "reduce.level": ("level",),
    "reduce.splat.lines": ("find_lines",),
    "reduce.splat.splat": ("splat",),
    "reduce.stack": ("stack",),
    "workflows.session": ("ReduceOptions", "reduce_session"),
    "workflows.validate": ("validate",),
}
# Families behind a noun: gx.psf.Moffat, gx.sources.Galaxy, gx.reject.SigmaClip ...
_FAMILIES = {
    "atmosphere": "light.atmosphere",
    "optics": "light.optics",
    "pointing": "light.pointing",
    "psf": "light.psf",
    "reject": "reduce.reject",
    "sources": "light.sources",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted([*_HOME, *_FAMILIES])


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _FAMILIES:
            value: Any = importlib.import_module(f"{__name__}.{_FAMILIES[name]}")
        elif name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        elif name == "__version__":
            from importlib.metadata import version

            value = version("getframes-xr")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:  # what type checkers and editors see; at run time names are loaded when they are used
    from getframes_xr.core.errors import DataError as DataError
    from getframes_xr.core.errors import GetframesError as GetframesError
    from getframes_xr.core.errors import OptionError as OptionError
    from getframes_xr.core.errors import PlanError as PlanError
    from getframes_xr.core.errors import RegistrationError as RegistrationError
    from getframes_xr.core.errors import StoreError as StoreError
    from getframes_xr.core.verdict import Reason as Reason
    from getframes_xr.core.vocabulary import Flag as Flag
    from getframes_xr.detector.camera import Camera as Camera
    from getframes_xr.face.frames_in import as_producer as as_producer
    from getframes_xr.face.frames_in import producer_of as producer_of
    from getframes_xr.face.lazy import lazy as lazy
    from getframes_xr.io.frames import open_frames as open_frames
    from getframes_xr.io.image import open_image as open_image
    from getframes_xr.io.image import save_fits_frames as save_fits_frames
    from getframes_xr.io.image import save_image as save_image
    from getframes_xr.io.pictures import save_png as save_png
    from getframes_xr.io.pictures import save_tiff as save_tiff
    from getframes_xr.io.session import open_session as open_session
    from getframes_xr.io.store import save_frames as save_frames
    from getframes_xr.io.store import verify as verify
    from getframes_xr.light import atmosphere as atmosphere
    from getframes_xr.light import optics as optics
    from getframes_xr.light import pointing as pointing
    from getframes_xr.light import psf as psf
    from getframes_xr.light import sources as sources
    from getframes_xr.light.exposures import Exposures as Exposures
    from getframes_xr.light.light_curve import LightCurve as LightCurve
    from getframes_xr.light.pointing import Pointing as Pointing
    from getframes_xr.light.scene import Scene as Scene
    from getframes_xr.light.sources import Sky as Sky
    from getframes_xr.light.sources import StarField as StarField
    from getframes_xr.light.sources import Stars as Stars
    from getframes_xr.light.telescope import Telescope as Telescope
    from getframes_xr.light.wcs import Wcs as Wcs
    from getframes_xr.measure.leave_out import leave_out as leave_out
    from getframes_xr.measure.light_curve import light_curve as light_curve
    from getframes_xr.measure.phase import phase_shifts as phase_shifts
    from getframes_xr.measure.photometry import aperture_photometry as aperture_photometry
    from getframes_xr.measure.registration import register as register
    from getframes_xr.measure.score import score as score
    from getframes_xr.measure.stars import find_stars as find_stars
    from getframes_xr.reduce import reject as reject
    from getframes_xr.reduce.binned import binned as binned
    from getframes_xr.reduce.calibrate import calibrate as calibrate
    from getframes_xr.reduce.concat import concat as concat
    from getframes_xr.reduce.cosmetic import cosmetic as cosmetic
    from getframes_xr.reduce.debayer import debayer as debayer
    from getframes_xr.reduce.level import level as level
    from getframes_xr.reduce.master import master as master
    from getframes_xr.reduce.normalise import normalise as normalise
    from getframes_xr.reduce.splat.first_image import first_image as first_image
    from getframes_xr.reduce.splat.lines import find_lines as find_lines
    from getframes_xr.reduce.splat.splat import splat as splat
    from getframes_xr.reduce.stack import stack as stack
    from getframes_xr.reduce.warp import warp as warp
    from getframes_xr.workflows.cluster import client as client
    from getframes_xr.workflows.observe import Experiment as Experiment
    from getframes_xr.workflows.observe import bias as bias
    from getframes_xr.workflows.observe import dark as dark
    from getframes_xr.workflows.observe import expose as expose
    from getframes_xr.workflows.observe import flat as flat
    from getframes_xr.workflows.observe import load_experiment as load_experiment
    from getframes_xr.workflows.observe import observe as observe
    from getframes_xr.workflows.plan import memory as memory
    from getframes_xr.workflows.plan import plan as plan
    from getframes_xr.workflows.session import ReduceOptions as ReduceOptions
    from getframes_xr.workflows.session import reduce_session as reduce_session
    from getframes_xr.workflows.validate import validate as validate

    __version__: str
