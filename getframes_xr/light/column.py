"""Columns: the numbers of a catalogue, of any length, held once and never changed.

A column is made from any sequence: an own read-only float64 copy, compared and hashed by its digest, read-only again
when unpickled, never checked element by element. In TOML it is a list up to 100 rows; a longer one lies beside the
TOML file as ``<name>_columns/<digest>.npy`` and the TOML holds that path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError, OptionError

INLINE_ROWS = 100
_TOML: ContextVar[Path | None] = ContextVar("toml", default=None)


@contextmanager
def columns_beside(toml: str | Path | None) -> Iterator[None]:
    """Within this block long columns are written to, and read from, the folder beside a TOML file."""
    mark = _TOML.set(None if toml is None else Path(toml))
    try:
        yield
    finally:
        _TOML.reset(mark)


class Column:
    """Read-only float64 numbers (n,).

    Raises
    ------
    OptionError : the values are not numbers on as many axes as there should be
    DataError : a path in TOML cannot be read, or a long column has no file to go to
    """

    axes: ClassVar[int] = 1

    def __init__(self, values: Any) -> None:
        if isinstance(values, Column):
            array = values.values
        elif isinstance(values, str | Path):
            array = _read(Path(values))
        else:
            try:
                array = np.array(values, dtype=np.float64, ndmin=self.axes)
            except (TypeError, ValueError) as error:
                raise OptionError(type(self).__name__, values, "numbers, or the path of a .npy file") from error
        if array.ndim != self.axes:
            raise OptionError(type(self).__name__, f"an array shaped {array.shape}", f"{self.axes} axes")
        array = array if not array.flags.writeable else np.ascontiguousarray(array)
        array.setflags(write=False)
        self.values: NDArray[np.float64] = array

    @cached_property
    def _token(self) -> str:
        return digest(self.values)

    def token(self) -> str:
        """Digest of the numbers."""
        return self._token

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=True) if copy or dtype is not None else self.values

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.token() == other.token()

    def __hash__(self) -> int:
        return hash(self.token())

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:g}" for value in self.values.ravel()[:3])
        return f"{type(self).__name__}({shown}{', ...' if self.values.size > 3 else ''}; shape {self.values.shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.values,)

    def to_toml(self) -> list[Any] | str:
        """A list, or the path of the file that holds a long column.

        Raises
        ------
        DataError : the column is long and there is no TOML file it could lie beside
        """
        if self.values.size <= INLINE_ROWS:
            inline: list[Any] = self.values.tolist()
            return inline
        toml = _TOML.get()
        if toml is None:
            raise DataError(f"a column of {self.values.size} numbers needs a file beside the TOML: give to_toml a path")
        path = toml.parent / f"{toml.stem}_columns" / f"{self.token()}.npy"
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, self.values)
            except OSError as error:
                raise DataError(f"cannot write {path}: {error.strerror}") from error
        return path.relative_to(toml.parent).as_posix()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(lambda column: column.to_toml())
        )


class Raster(Column):
    """Read-only float64 numbers (y, x): a picture; kept like a column."""

    axes: ClassVar[int] = 2


def _read(path: Path) -> NDArray[np.float64]:
    toml = _TOML.get()
    if not path.is_absolute() and toml is not None:
        path = toml.parent / path
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the column {path}: {error}") from error
