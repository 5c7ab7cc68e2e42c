"""Stages of a camera: one effect a file; every module of this folder is read, so a new one is one new file.

Each states in ``after`` behind which other it stands; ``detector/order`` makes the usual chain of that.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
