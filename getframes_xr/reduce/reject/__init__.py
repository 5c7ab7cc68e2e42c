"""Rejection rules, one a file; ``gx.reject.SigmaClip(kappa=3.0)`` and its sisters register themselves by ``kind``.

A module put into this folder is found by itself: adding a rule is adding one file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from getframes_xr.engine.collapse import RULES, Rule

if TYPE_CHECKING:  # what type checkers and editors see
    from getframes_xr.reduce.reject.mean import Mean as Mean
    from getframes_xr.reduce.reject.median import Median as Median
    from getframes_xr.reduce.reject.min_max import MinMax as MinMax
    from getframes_xr.reduce.reject.noise_model import NoiseModel as NoiseModel
    from getframes_xr.reduce.reject.percentile import Percentile as Percentile
    from getframes_xr.reduce.reject.sigma_clip import SigmaClip as SigmaClip
    from getframes_xr.reduce.reject.winsor import Winsor as Winsor

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

_BY_NAME: dict[str, type[Rule]] = {RULES[kind].__name__: RULES[kind] for kind in RULES}

__all__ = ["RULES", "Rule"]  # and every rule by its own name


if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[Rule]:
        try:
            return _BY_NAME[name]
        except KeyError:
            raise AttributeError(f"no rejection rule {name!r}; known: {', '.join(sorted(_BY_NAME))}") from None


def __dir__() -> list[str]:
    return sorted([*__all__, *_BY_NAME])
