"""Rejection rules, one a file; ``gx.reject.SigmaClip(kappa=3.0)`` and its sisters register themselves by ``kind``.

A module put into this folder is found by itself: adding a rule is adding one file.
"""

from __future__ import annotations

import importlib
import pkgutil

from getframes_xr.engine.collapse import RULES, Rule

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

_BY_NAME: dict[str, type[Rule]] = {RULES[kind].__name__: RULES[kind] for kind in RULES}

__all__ = ["RULES", "Rule"]  # and every rule by its own name


def __getattr__(name: str) -> type[Rule]:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise AttributeError(f"no rejection rule {name!r}; known: {', '.join(sorted(_BY_NAME))}") from None


def __dir__() -> list[str]:
    return sorted([*__all__, *_BY_NAME])
