"""Every error the package raises on purpose.

    GetframesError
    +-- OptionError        an option has a value that is not allowed (also a ValueError)
    +-- DataError          a file, an array or a table cannot be used as it is (also a ValueError)
    +-- PlanError          the work does not fit the budget; nothing was started
    +-- RegistrationError  frames cannot be brought onto each other
    +-- StoreError         a store on disk is locked, unfinished or of another recipe
    +-- Cancelled          the user has stopped the work

Each message says what to do next. All arguments are kept in ``args``, so an error crosses process borders whole. Any
error of a task, of this package or not, carries its ``place`` (see ``engine.whereabouts``): who failed at which
frame, rows, columns and file.
"""

from __future__ import annotations


class GetframesError(Exception):
    """Parent of all errors raised on purpose; catch this one to catch them all."""


class OptionError(GetframesError, ValueError):
    """Raise when an option's value is outside what is allowed; names option, value and allowed range."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(option, value, allowed)
        self.option, self.value, self.allowed = option, value, allowed

    def __str__(self) -> str:
        return f"{self.option}={self.value!r} is not allowed; allowed: {self.allowed}"


class DataError(GetframesError, ValueError):
    """Raise when data given by the user cannot be used; names the file (or array) and the card at fault."""


class PlanError(GetframesError, RuntimeError):
    """Raise before work starts when the forecast exceeds the budget; names budget, forecast and the knob."""


class RegistrationError(GetframesError, RuntimeError):
    """Raise when no frame (or too few) can be verified against the reference."""


class StoreError(GetframesError, RuntimeError):
    """Raise when a store on disk is in use, unfinished, or holds the result of another recipe."""


class Cancelled(GetframesError, RuntimeError):
    """Raise where work goes no further because the user has stopped it."""
