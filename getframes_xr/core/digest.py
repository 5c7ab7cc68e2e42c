"""One digest for every value that decides a result: options, arrays, producers, the code itself.

``digest(value)`` is a blake2b over an unambiguous encoding: each value is written as type tag, length, content, so
``("a", "bc")`` and ``("ab", "c")`` differ. The code's own digest is part of every token unless the package is an
installed release, so that development never resumes with the results of yesterday's code.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path(__file__).resolve().parent.parent


@cache
def code_version() -> str:
    """Version of the package; beside a source tree also the digest of its Python and TOML files."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("getframes-xr")
    except PackageNotFoundError:
        release = "source"
    if not (PACKAGE.parent / "pyproject.toml").exists() and release != "source":
        return release
    state = hashlib.blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in {".py", ".toml"}:
            state.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{release}+{state.hexdigest()}"


def digest(*values: object, size: int = 16) -> str:
    """Hex digest of any nest of numbers, texts, arrays, mappings, options, dataclasses and producers."""
    state = hashlib.blake2b(digest_size=size)
    for value in values:
        _feed(state, value)
    return state.hexdigest()


def _feed(state: Any, value: object) -> None:
    tag, content = _encode(value)
    state.update(tag.encode() + struct.pack("<q", len(content)) + content)


def _nested(values: Any) -> bytes:
    inner = hashlib.blake2b(digest_size=32)
    for value in values:
        _feed(inner, value)
    return inner.digest()


def _encode(value: object) -> tuple[str, bytes]:
    token = getattr(value, "token", None)
    if callable(token):
        return "token", str(token()).encode()
    if value is None or isinstance(value, bool | np.bool_):
        return "constant", repr(None if value is None else bool(value)).encode()
    if isinstance(value, int | np.integer) and not isinstance(value, np.timedelta64):
        return "int", str(int(value)).encode()
    if isinstance(value, float | np.floating):
        return "float", float(value).hex().encode()
    if isinstance(value, str):
        return "str", value.encode()
    if isinstance(value, bytes):
        return "bytes", value
    if isinstance(value, enum.Enum):
        return "enum", f"{type(value).__qualname__}.{value.name}".encode()
    if isinstance(value, Path):
        return "path", str(value).encode()
    if isinstance(value, datetime.datetime | np.datetime64 | np.timedelta64 | np.dtype | type):
        return type(value).__name__, str(value).encode()
    if isinstance(value, np.ndarray):
        return "array", _encode_array(value)
    if isinstance(value, Mapping):
        return "mapping", _nested(item for key in sorted(value, key=str) for item in (key, value[key]))
    if isinstance(value, set | frozenset):
        return "set", _nested(sorted(value, key=str))
    if isinstance(value, tuple | list):
        return "sequence", _nested(value)
    if dataclasses.is_dataclass(value):
        fields = [getattr(value, f.name) for f in dataclasses.fields(value)]
        return type(value).__qualname__, _nested(fields)
    fields_of_model = getattr(type(value), "model_fields", None)
    if fields_of_model is not None:
        return type(value).__qualname__, _nested(getattr(value, name) for name in fields_of_model)
    raise TypeError(f"no digest for {type(value).__qualname__}")


def _encode_array(value: np.ndarray[Any, Any]) -> bytes:
    if value.dtype.kind in "OUT":
        return _nested([str(value.shape), *(str(item) for item in value.ravel())])
    return f"{value.dtype.str}{value.shape}".encode() + hashlib.blake2b(value.tobytes()).digest()
