"""Options: frozen, keyword-only, validated at birth, with units in their names; TOML in and out.

A bad value fails on the user's line with one ``OptionError`` that names the option, the value and what is allowed,
not in a worker an hour later. Family members (stages, PSFs, rejection rules) register themselves by ``kind``.
"""

from __future__ import annotations

import tomllib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError, GetframesError, OptionError

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}


class Options(BaseModel):
    """Parent of everything a user configures.

    Raises
    ------
    OptionError : an option is unknown, missing, of the wrong type or outside its range
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=False, allow_inf_nan=False
    )

    def __init__(self, **values: Any) -> None:
        problem: GetframesError | None = None
        try:
            super().__init__(**values)
        except ValidationError as error:
            problem = _first_option_error(type(self), error)
        if problem is not None:  # raised here it does not hold the error that holds it: such a ring cannot travel
            problem.__context__ = None
            raise problem

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some options changed, validated again.

        Raises
        ------
        OptionError : a changed option is unknown or outside its range
        """
        return type(self)(**({name: getattr(self, name) for name in type(self).model_fields} | changes))

    def digest(self) -> str:
        """Content digest of the options (equal options, equal digest, on any machine)."""
        return digest(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and digest(self) == digest(other)

    def __hash__(self) -> int:
        return hash(digest(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping of the options that TOML can hold (``None`` left out).

        Raises
        ------
        DataError : an option cannot be written (a long column without a file to go to)
        """
        try:
            return self.model_dump(mode="json", exclude_none=True)
        except PydanticSerializationError as error:  # hides what a field's own serializer raised
            raise (error.__cause__ if isinstance(error.__cause__, GetframesError) else error) from None

    def to_toml(self, path: str | Path | None = None) -> str:
        """TOML text of the options; also written to ``path`` if given."""
        import tomli_w

        text = tomli_w.dumps(self.to_dict())
        if path is not None:
            Path(path).write_text(text)
        return text

    @classmethod
    def from_toml(cls, source: str | Path) -> Self:
        """Read options from a TOML file, or from TOML text (a string that holds a line break or ``=``).

        Raises
        ------
        DataError : the file cannot be read or is not TOML
        OptionError : an option is unknown or outside its range
        """
        return cls(**read_toml(source))


def read_toml(source: str | Path) -> dict[str, Any]:
    """Parse a TOML file or text.

    Raises
    ------
    DataError : the file cannot be read or is not TOML (file, line and column are named)
    """
    is_text = isinstance(source, str) and ("\n" in source or "=" in source)
    try:
        text = str(source) if is_text else Path(source).read_text()
        return tomllib.loads(text)
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{'TOML text' if is_text else source} is not TOML: {error}") from error


class Registry(Mapping[str, type]):
    """Classes of one family by ``kind``; a kind used twice is refused, an unknown one lists the known."""

    def __init__(self, family: str) -> None:
        self.family = family
        self._members: dict[str, type] = {}

    def add(self, cls: Any) -> Any:
        kind = cls.model_fields["kind"].default
        known = self._members.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{self.family} kind {kind!r} is used by {known.__qualname__} and {cls.__qualname__}")
        self._members[kind] = cls
        return cls

    def __getitem__(self, kind: str) -> type:
        if kind not in self._members:
            raise OptionError(f"{self.family} kind", kind, ", ".join(sorted(self._members)))
        return self._members[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in self._members

    def __iter__(self) -> Any:
        return iter(sorted(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def build(self, values: Any) -> Any:
        """Make a member from a mapping with ``kind`` (from TOML); members pass through unchanged."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        return self[str(values.get("kind", ""))](**values)


class Family(Options):
    """Options of a family whose members register by ``kind``: subclass with ``registry = Registry(...)``.

    A member that does not state its own ``examples`` is refused (TypeError): the laws would have nothing to test.
    """

    registry: ClassVar[Registry]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "kind" in cls.model_fields:
            if "examples" not in vars(cls):
                raise TypeError(f"{cls.registry.family} {cls.__qualname__} states no examples: give it `examples`")
            cls.registry.add(cls)

    @classmethod
    @abstractmethod
    def examples(cls) -> tuple[Self, ...]:
        """Valid instances, walked by the law tests, the benchmarks and the reference."""


def _first_option_error(cls: type[BaseModel], error: ValidationError) -> GetframesError:
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]  # a typo also leaves a gap
    detail = (unknown or details)[0]
    inner = detail.get("ctx", {}).get("error")
    if isinstance(inner, GetframesError):
        return inner
    place = ".".join(str(part) for part in (cls.__name__, *detail["loc"]))
    value = detail.get("input")
    if detail["type"] == "extra_forbidden":
        return OptionError(place, value, "this option does not exist; known: " + ", ".join(cls.model_fields))
    if detail["type"] == "missing":
        return OptionError(place, None, "a value must be given")
    return OptionError(place, value, _allowed(cls, detail))


def _allowed(cls: type[BaseModel], detail: Any) -> str:
    field = cls.model_fields.get(str(detail["loc"][0])) if detail["loc"] else None
    bounds: dict[str, Any] = {}
    for constraint in field.metadata if field is not None else ():
        for name in _BOUNDS:
            if hasattr(constraint, name):
                bounds[name] = getattr(constraint, name)
    text = " and ".join(f"{_BOUNDS[name]} {bound}" for name, bound in bounds.items())
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if detail["type"] in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return text or message
    return f"{message} ({text})" if text else message
