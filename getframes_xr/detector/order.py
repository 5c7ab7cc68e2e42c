"""The usual order of a camera's stages, made of what each one says in ``after``: the kind it stands directly behind.

Several stages may stand behind one: that with the fewest stages behind itself comes first, then by kind. So one more
effect goes in between two that touched, without a line in the files of either.
"""

from __future__ import annotations

from getframes_xr.core.errors import OptionError
from getframes_xr.engine.stage import STAGES, Stage


def usual_order() -> tuple[str, ...]:
    """Kinds of all registered stages in the order of the physics; a camera may differ.

    Raises
    ------
    OptionError : a stage names one that is not registered, or stages stand behind each other in a ring
    """
    behind: dict[str | None, list[str]] = {}
    for kind in STAGES:
        behind.setdefault(_stage(kind).after, []).append(kind)

    def from_here(kind: str) -> tuple[str, ...]:
        branches = sorted(map(from_here, behind.get(kind, [])), key=len)  # of equal length: by kind
        return (kind, *(follower for branch in branches for follower in branch))

    order = tuple(kind for first in behind.get(None, []) for kind in from_here(first))
    for kind in STAGES:
        after = _stage(kind).after
        if kind not in order and after not in STAGES:
            raise OptionError(f"{_stage(kind).__name__}.after", after, ", ".join(STAGES))
    for kind in STAGES:
        if kind not in order:
            allowed = "a stage that does not stand behind this one itself"
            raise OptionError(f"{_stage(kind).__name__}.after", _stage(kind).after, allowed)
    return order


def _stage(kind: str) -> type[Stage]:
    cls: type[Stage] = STAGES[kind]
    return cls
