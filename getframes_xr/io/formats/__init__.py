"""File formats besides FITS and Zarr, one file each; a module put into this folder is found by itself.

``open_frames`` asks here for files whose ending a format claims; a format gives a producer, so windows are read from
disk when they are asked for, like those of FITS files.
"""

from importlib import import_module
from pkgutil import iter_modules

from getframes_xr.io.formats.family import FORMATS, FrameFormat, format_of

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["FORMATS", "FrameFormat", "format_of"]
