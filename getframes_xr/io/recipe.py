"""The recipe of a store in words: every option of a chain of producers, so that two recipes can be compared.

The token decides whether a run may go on; the words say what differs ("read_noise.rms_e 3.0 -> 5.0"). Paths are the
names of fields, stages by their ``kind`` (``#2`` for a second one of a kind); arrays and long texts are digests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from getframes_xr.core.digest import code_version, digest
from getframes_xr.core.options import Options
from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import Producer

_LONGEST = 120
_MOST = 4


def describe(producer: Producer) -> dict[str, str]:
    """Every option of a chain, name -> text.

    Parameters
    ----------
    producer : its fields, stages and parents are walked
    """
    words: dict[str, str] = {}
    for name, text in _walk("", producer):
        free = name
        number = 2
        while free in words:
            free, number = f"{name}#{number}", number + 1
        words[free] = text
    words["code"] = code_version()
    return words


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two recipes: ``name old -> new``, what a person chose first, what follows from it last."""
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    ranks = {name: _rank(name, before.get(name, ""), after.get(name, "")) for name in changed}
    told = [name for name in changed if ranks[name] < _HIDDEN] or changed
    absent = "(absent)"
    return [
        f"{name.removeprefix('grid.')} {before.get(name, absent)} -> {after.get(name, absent)}"
        for name in sorted(told, key=lambda name: ranks[name])
    ]


_HIDDEN = 4


def _rank(name: str, before: str, after: str) -> int:
    if name in ("key", "fixed_key"):
        return _HIDDEN  # follow from seed and serial
    if name == "code":
        return 3
    if not name.startswith("grid."):
        return 0
    return 2 if " values from " in before + after else 1


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _walk(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Producer):
        for field in dataclasses.fields(value):
            inner = "" if field.name in ("parent", "parents", "stages") else field.name
            yield from _walk(_join(name, inner), getattr(value, field.name))
    elif isinstance(value, Grid):
        yield from _walk_grid(_join(name, "") if name.endswith("grid") else _join(name, "grid"), value)
    elif isinstance(value, Options):
        kind = str(getattr(value, "kind", "")) if "kind" in type(value).model_fields else ""
        yield _join(_join(name, kind), ""), type(value).__name__
        for option in type(value).model_fields:
            if option != "kind":
                yield from _walk(_join(_join(name, kind), option), getattr(value, option))
    elif isinstance(value, Span):
        yield name, f"{value.start}..{value.stop}"
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and not _arrays(value):
        for field in dataclasses.fields(value):
            yield from _walk(_join(name, field.name), getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _walk(_join(name, str(key)), value[key])
    elif isinstance(value, tuple | list) and any(isinstance(i, Producer | Options) for i in value):
        for item in value:
            yield from _walk(name, item)
    else:
        yield name, _text(value)


def _arrays(value: Any) -> bool:
    return any(isinstance(getattr(value, f.name), np.ndarray) for f in dataclasses.fields(value))


def _walk_grid(name: str, grid: Grid) -> Iterator[tuple[str, str]]:
    yield _join(name, "y"), f"{grid.y.start}..{grid.y.stop}"
    yield _join(name, "x"), f"{grid.x.start}..{grid.x.stop}"
    if grid.columns is not None:
        yield _join(name, "frames"), str(grid.n_frames)
        for column, values in grid.columns.items():
            alike = len(values) and all(item == values[0] for item in values[: 4 * _MOST])
            constant = bool(alike) and digest(values) == digest(np.full_like(values, values[0]))
            yield _join(name, column), _text(values[0]) if constant else _text(values)
    for option in ("bands", "cfa", "wcs"):
        if getattr(grid, option) is not None:
            yield _join(name, option), _text(getattr(grid, option))
    for key, value in sorted(grid.attrs.items()):
        yield _join(name, str(key)), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if isinstance(value, np.ndarray):
        if value.size <= _MOST:
            return f"[{', '.join(_text(item) for item in value.ravel())}]"
        return f"{len(value)} values from {_text(value.ravel()[0])} to {_text(value.ravel()[-1])} ({digest(value)[:8]})"
    if isinstance(value, tuple | list) and len(value) > 2 * _MOST:
        return f"{len(value)} items from {_text(value[0])} to {_text(value[-1])} ({digest(value)[:8]})"
    if isinstance(value, str | Path):
        text = str(value)
        return text if len(text) <= _LONGEST else f"{text[:40]}... ({digest(text)[:8]})"
    if value is None or isinstance(value, bool | int | float | np.datetime64 | np.timedelta64):
        return str(value)
    try:
        known = digest(value)[:8]
    except TypeError:
        return type(value).__name__
    text = str(value)
    return text if len(text) <= _LONGEST and " at 0x" not in text else f"{type(value).__name__} ({known})"
