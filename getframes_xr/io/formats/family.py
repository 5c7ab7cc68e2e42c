"""The family of file formats: a class says which endings are its own and gives a producer for such files.

A format registers itself by ``kind``; an ending claimed twice is refused. Two formats exist without this family: FITS,
which sessions are made of, and the Zarr store, which is a folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array
from getframes_xr.engine.producer import Producer

FORMATS: dict[str, type[FrameFormat]] = {}


class FrameFormat(ABC):
    """Parent of file formats; never instantiated.

    Class variables: ``kind``, its name; ``endings``, those of its files in lower case with the dot. A format that does
    not state ``frames`` and ``example`` is refused (TypeError).
    """

    kind: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for known in FORMATS.values():
            shared = set(known.endings) & set(cls.endings)
            if shared and known.__qualname__ != cls.__qualname__:
                raise TypeError(f"ending {', '.join(shared)} is claimed by {known.__qualname__} and {cls.__qualname__}")
        for stated in ("frames", "example"):  # abstract methods of a class that is never instantiated
            if stated not in vars(cls):
                raise TypeError(f"file format {cls.__qualname__} states no {stated}: give it `{stated}`")
        FORMATS[cls.kind] = cls

    @classmethod
    @abstractmethod
    def frames(cls, path: str) -> Producer:
        """The frames of one file, lazily.

        Raises
        ------
        DataError : the file cannot be used (it is named, with what is wrong)
        """

    @classmethod
    @abstractmethod
    def example(cls, folder: Path) -> tuple[Path, Array]:
        """Write a small valid file for the law tests; its path and the values (time, y, x) it holds."""


def format_of(paths: Sequence[str]) -> type[FrameFormat] | None:
    """The format that claims all of these files by their endings, None if none does.

    Raises
    ------
    DataError : several files of a format that keeps many frames in one file
    """
    for known in FORMATS.values():
        claimed = [path for path in paths if path.lower().endswith(known.endings)]
        if claimed and len(paths) > 1:
            raise DataError(f"{claimed[0]}: open the files of a {known.kind} recording one by one ({len(paths)} given)")
        if claimed:
            return known
    return None
