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
    "reduce.first_image": ("first_image",),
    "reduce.level": ("level",),
    "reduce.lines": ("find_lines",),
    "reduce.splat": ("splat",),
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


if TYPE_CHECKING:
    from getframes_xr.core.errors import DataError as DataError
