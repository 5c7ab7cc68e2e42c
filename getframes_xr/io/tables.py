"""Small tables on disk: one ``.npz`` a Dataset, read back exactly, without any server or extra format.

Numbers keep their dtype; texts are stored as JSON; dims, coordinates and attributes stand beside them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, StoreError


def save_table(table: xr.Dataset, path: str | Path) -> Path:
    """Write a loaded table whole (temporary name, then rename).

    Raises
    ------
    DataError : the table is still lazy
    StoreError : the file cannot be written
    """
    path = Path(path)
    arrays: dict[str, Any] = {}
    facts: dict[str, Any] = {"attrs": table.attrs, "variables": {}}
    for name, variable in table.variables.items():
        if variable.chunks is not None:
            raise DataError(f"{name} is still lazy: call .load() on the table first")
        values = variable.values
        text = values.dtype.kind in "OUT"
        facts["variables"][str(name)] = {
            "dims": variable.dims,
            "attrs": variable.attrs,
            "coordinate": name in table.coords,
            "text": [str(item) for item in values.ravel()] if text else None,
            "shape": values.shape,
        }
        if not text:
            arrays[str(name)] = values
    arrays["__facts__"] = np.frombuffer(json.dumps(facts, default=_plain).encode(), np.uint8)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    return path


def open_table(path: str | Path) -> xr.Dataset:
    """Read a table back, loaded.

    Raises
    ------
    DataError : the file is not one of our tables
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = json.loads(bytes(stored["__facts__"]))
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a table of this package: {error}") from error
    variables: dict[str, xr.Variable] = {}
    coordinates: dict[str, xr.Variable] = {}
    for name, fact in facts["variables"].items():
        text = fact["text"]
        values = arrays[name] if text is None else np.array(text, dtype=object).reshape(fact["shape"])
        target = coordinates if fact["coordinate"] else variables
        target[name] = xr.Variable(tuple(fact["dims"]), values, fact["attrs"])
    return xr.Dataset(variables, coordinates, facts["attrs"])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else np.asarray(value).tolist()
