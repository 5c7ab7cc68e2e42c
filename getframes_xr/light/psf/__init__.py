"""Point spread functions: one file each; every module of this folder is read, so a new one is one new file."""

from importlib import import_module
from pkgutil import iter_modules

from getframes_xr.light.psf.family import PSFS, Mixture, Psf
from getframes_xr.light.psf.gaussian import Gaussian
from getframes_xr.light.psf.moffat import Moffat

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["PSFS", "Gaussian", "Mixture", "Moffat", "Psf"]
