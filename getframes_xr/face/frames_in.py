"""The door: whatever frames a user has -> their producer, the plane to work on, and whether flags go with it.

A Dataset, a DataArray and a node of a session (DataTree) are frames. Of a Dataset, the variables with the dims ``y``
and ``x`` are planes and all others tables. A DataArray is the plane it is named for; without such a name, integers are
``adu`` and floats ``image``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import PLANES, X, Y, plane_by_dtype
from getframes_xr.engine.producer import ArrayFrames, Producer
from getframes_xr.face.coordinates import grid_of
from getframes_xr.face.graph import dask_frames
from getframes_xr.face.lineage import selection_of
from getframes_xr.face.shown import as_shown

FramesLike = xr.Dataset | xr.DataArray | xr.DataTree
SAMPLES = ("image", "adu", "electrons")  # what can be measured and reduced, the first that is there
RAW = ("adu", "image")
FEW_NAMES = 8


class Frames(NamedTuple):
    """What a reduction works on: the producer, the name of its plane of samples, whether it has ``flags``."""

    producer: Producer
    plane: str
    flags: bool

    @property
    def planes(self) -> tuple[str, ...]:
        """The plane, and ``flags`` where they are."""
        return (self.plane, "flags") if self.flags else (self.plane,)


def frames_in(
    data: FramesLike,
    who: str,
    wanted: Sequence[str] = SAMPLES,
    *,
    timed: bool = False,
    mosaic: bool = False,
    flags: bool = True,
) -> Frames:
    """The producer, plane and flags of what a user gives as frames; its other planes are left out.

    Parameters
    ----------
    data : Dataset, DataArray, or a node of a session
    who : the function that needs them, for the message
    wanted : the planes that will do, the first that is there is taken
    timed : there must be frames along time
    mosaic : there must not be a dim ``band``
    flags : take ``flags`` along where they are there

    Raises
    ------
    DataError : it is no such thing, it has none of the planes, or time or bands are not as they must be
    """
    found = dataset_in(data, who, wanted)
    planes = planes_of(found)
    plane = next((name for name in wanted if name in planes), None)
    if plane is None:
        asked = " or ".join(repr(name) for name in wanted)
        advice = "; calibrate raw frames first: gx.calibrate(...)" if "adu" in planes else ""
        raise DataError(f"{who} needs the plane {asked}, there is no such plane here; known: {_names(found)}{advice}")
    with_flags = flags and plane != "flags" and "flags" in planes
    producer = _producer(found, (plane, "flags") if with_flags else (plane,), _facts(data, found))
    if timed and not producer.grid.timed:
        raise DataError(f"{who} needs frames along time; this is a single image (a master or a stack already?)")
    if mosaic and producer.grid.bands is not None:
        raise DataError(f"{who} works on raw mosaics and mono frames (time, y, x); these have bands already")
    return Frames(producer, plane, with_flags)


def checked(data: Any, who: str) -> xr.Dataset | xr.DataArray:
    """What a user gives as frames, a node of a session as its Dataset.

    Raises
    ------
    DataError : it is no xarray object; says what it is and how to make frames of it
    """
    if isinstance(data, xr.Dataset | xr.DataArray):
        return data
    if isinstance(data, xr.DataTree):
        if not data.data_vars and data.children:
            first = next(iter(data.children))
            raise DataError(
                f"{who} needs one node of a session, not all of it ({', '.join(data.children)}); "
                f"give session[{first!r}]"
            )
        return data.to_dataset()
    what, advice = f"a {type(data).__name__}", "see gx.open_frames"
    if isinstance(data, str | os.PathLike):
        what, advice = f"the path {os.fspath(data)!r}", f"open it first: gx.open_frames({os.fspath(data)!r})"
    elif hasattr(data, "shape") and hasattr(data, "dtype"):
        what = f"a plain array of shape {tuple(data.shape)}"
        advice = "name its dims: xarray.DataArray(values, dims=('time', 'y', 'x'))"
    elif isinstance(data, list | tuple):
        what, advice = f"a {type(data).__name__} of {len(data)}", "join them first: gx.concat([...])"
    raise DataError(f"{who} needs frames (a Dataset, a DataArray or a node of a session), not {what}; {advice}")


def dataset_in(data: FramesLike, who: str, wanted: Sequence[str] = ()) -> xr.Dataset:
    """What a user gives as frames, as a Dataset with at least one plane; its tables stay in it.

    Raises
    ------
    DataError : it is no xarray object, or nothing in it has the dims ``y`` and ``x``
    """
    found = checked(data, who)
    if isinstance(found, xr.DataArray):
        found = found.to_dataset(name=plane_name(found, wanted))
    if not planes_of(found):
        held = [f"{name} ({', '.join(map(str, item.dims))})" for name, item in found.data_vars.items()][:FEW_NAMES]
        raise DataError(
            f"{who} needs planes with the dims y and x, here is {', '.join(held) or 'no variable at all'}; "
            "rename the dims, or give the frames instead of a table"
        )
    return found


def planes_of(data: xr.Dataset) -> list[str]:
    """Names of the variables that are planes; the others are tables."""
    return [str(name) for name, variable in data.data_vars.variables.items() if {Y, X} <= set(variable.dims)]


def tables_of(data: xr.Dataset) -> xr.Dataset:
    """The variables that are no planes, with their coordinates."""
    return data.drop_vars(planes_of(data))


def plane_name(array: xr.DataArray, wanted: Sequence[str] = ()) -> str:
    """The plane that a DataArray is: its own name where that is a plane of its kind, else by its dtype."""
    by_dtype = plane_by_dtype(array.dtype)
    alike = [n for n in wanted or PLANES if n in PLANES and plane_by_dtype(PLANES[n].dtype) == by_dtype]
    if array.name in alike:
        return str(array.name)
    return by_dtype if by_dtype in alike or not alike else alike[0]


def _names(data: xr.Dataset) -> str:
    return ", ".join(map(str, data.data_vars)) or "nothing"


def as_producer(data: FramesLike, planes: Collection[str] | None = None) -> Producer:
    """A producer for any array or Dataset: by lineage where it is ours, else over its blocks or values.

    Parameters
    ----------
    data : Dataset, DataArray or node of a session; of a Dataset all variables with the dims ``y`` and ``x`` are planes
    planes : the planes that are needed, all by default; the producer has these and no others

    Raises
    ------
    DataError : a plane is missing, planes differ in shape, dims or coordinates are not those of frames
    """
    shown = dataset_in(data, "as_producer", tuple(planes or ()))
    names = [str(name) for name in (planes or planes_of(shown))]
    missing = [name for name in names if name not in planes_of(shown)]
    if missing:
        raise DataError(f"no plane {', '.join(missing)} here; known: {_names(shown)}")
    return _producer(shown, names, _facts(data, shown))


def _facts(given: FramesLike, shown: xr.Dataset) -> dict[str, Any] | None:
    """The attrs that go with the frames: those of a Dataset; an array carries none of the facts of its Dataset."""
    return None if isinstance(given, xr.DataArray) else {str(name): value for name, value in shown.attrs.items()}


def _producer(data: xr.Dataset, names: Sequence[str], facts: dict[str, Any] | None) -> Producer:
    found = _by_lineage(data, names)
    if found is not None:
        return as_shown(found, data, names, facts)
    sample = data[list(names)]
    grid = grid_of(sample)
    for name in names:
        if set(sample[name].dims) != set(grid.dims):
            raise DataError(f"plane {name} has the dims {sample[name].dims}, others {grid.dims}; take those alike")
    arrays = {name: sample[name].transpose(*grid.dims) for name in names}
    units = {name: str(values.attrs.get("units", "")) for name, values in arrays.items()}
    if any(values.chunks is not None for values in arrays.values()):
        return dask_frames(grid, {name: values.data for name, values in arrays.items()}, units)
    return ArrayFrames(grid, {name: np.asarray(values.values) for name, values in arrays.items()}, units)


def _by_lineage(data: xr.Dataset, names: Collection[str], *, renamed: bool = False) -> Producer | None:
    """The one producer that all these planes are (the same part of), by what their graphs do and their labels say."""
    producers = []
    for name in names:
        found = selection_of(data[name])
        if found is None or not found[0].contiguous or not (renamed or found[1] == name):
            return None
        producers.append(found[0].as_producer())
    return producers[0] if len({producer.token() for producer in producers}) == 1 else None


def producer_of(data: FramesLike) -> Producer | None:
    """The producer behind frames, narrowed to what they show; None after arithmetic, relabelling or for foreign arrays.

    Raises
    ------
    DataError : these are no frames
    """
    found = dataset_in(data, "producer_of")
    return _by_lineage(found, planes_of(found), renamed=True)
