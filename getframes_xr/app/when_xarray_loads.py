"""Register ``.gx`` as soon as xarray is there, without loading xarray (0.4 s) for those who do not use it.

If xarray is loaded already, the accessor is registered now. Otherwise a finder waits for its import, steps aside, and
registers the accessor right after xarray's own module has run.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ACCESSOR = "getframes_xr.app.accessor"


class WaitForXarray(MetaPathFinder):
    """Finds xarray once, by the other finders, and adds one line to the end of its execution."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "xarray":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("xarray")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                importlib.import_module(ACCESSOR)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]  # the hook
        return spec


def register() -> None:
    """Have ``.gx`` on every Dataset and DataArray from the moment xarray is loaded."""
    if "xarray" in sys.modules:
        importlib.import_module(ACCESSOR)
    elif not any(isinstance(finder, WaitForXarray) for finder in sys.meta_path):
        sys.meta_path.insert(0, WaitForXarray())
