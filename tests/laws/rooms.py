"""Import every module of a room, so that the registries hold all that the room offers."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def import_all(room: ModuleType) -> None:
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
