"""The lazy face: a producer as an xarray Dataset on dask (``face.graph`` makes the layers), and windows of it loaded.

The way back, from what a user has to a producer, is ``face.frames_in``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import xarray as xr

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array
from getframes_xr.core.vocabulary import BAND, PLANES, TIME, X, Y
from getframes_xr.core.window import CHUNK_PIXELS
from getframes_xr.engine.held import kept_by
from getframes_xr.engine.producer import Producer
from getframes_xr.face.block import Selection
from getframes_xr.face.budget import active_client
from getframes_xr.face.coordinates import coordinates_of
from getframes_xr.face.foreign import foreign_below
from getframes_xr.face.graph import TILE, Chunks, arrays_of, chunks_of, pieces, run
from getframes_xr.face.kept import KEPT
from getframes_xr.face.lineage import shown_by


def lazy(
    producer: Producer, planes: Collection[str] | None = None, chunks: tuple[int, int, int] | None = None
) -> xr.Dataset:
    """A Dataset of a producer's planes; nothing is computed.

    Parameters
    ----------
    producer : any Producer
    planes : names of the planes to show, all by default
    chunks : (frames, rows, columns) per chunk, -1 for all; chosen by the engine if not given

    Raises
    ------
    DataError : the producer has no such plane
    """
    return _dataset(Selection.whole(producer), tuple(planes or producer.planes), chunks_of(producer, chunks))


def _dataset(chosen: Selection, planes: tuple[str, ...], chunks: Chunks) -> xr.Dataset:
    producer, grid = chosen.producer, chosen.producer.grid
    unknown = [name for name in planes if name not in producer.planes]
    if unknown:
        raise DataError(f"no plane {', '.join(unknown)} here; known: {', '.join(producer.planes)}")
    letters = {TIME: "t", BAND: "b", Y: "y", X: "x"}
    index = "".join(letters[dim] for dim in grid.dims)
    sizes = {"b": len(grid.bands)} if grid.bands else {}
    outputs = {name: (index, sizes, producer.planes[name].dtype) for name in planes}
    arrays = arrays_of(chosen, planes, chunks, outputs)
    variables = {name: (grid.dims, arrays[name], _attributes(name, producer.planes[name].units)) for name in planes}
    positions = chosen.positions if grid.timed else None
    return xr.Dataset(variables, coordinates_of(grid, positions, chosen.y, chosen.x), attrs=dict(grid.attrs))


def _attributes(name: str, units: str) -> dict[str, str]:
    known = PLANES.get(name)
    found = {"units": units} if units else {}
    return found | ({"long_name": known.description} if known is not None and known.description else {})


def compute(data: xr.Dataset) -> xr.Dataset:
    """Load exactly the window that ``data`` shows, whatever its chunks and labels; other variables load as usual.

    A window of one task's size is made right here, without a scheduler: it works in a forked process too.
    """
    groups: dict[str, tuple[Selection, list[str]]] = {}
    for name, variable in data.data_vars.variables.items():
        found = shown_by(variable)
        if found is not None and found[1] == name and not found[0].repeats:
            key = digest(found[0].producer, found[0].positions, found[0].y, found[0].x)
            groups.setdefault(key, (found[0], []))[1].append(found[1])
    made = {}
    for chosen, names in groups.values():
        for name, values in _values_of(chosen, tuple(names)).items():
            made[name] = values.reshape(data.variables[name].shape)
    rest = {str(name): variable._data for name, variable in data.data_vars.variables.items() if name not in made}
    loaded = data.copy(data={**rest, **made})
    return (
        loaded.compute() if any(v.chunks is not None or not v._in_memory for v in loaded.variables.values()) else loaded
    )


def _values_of(chosen: Selection, names: tuple[str, ...]) -> Mapping[str, Array]:
    grid = chosen.producer.grid
    lengths = (len(chosen.positions), len(chosen.y), len(chosen.x))
    bands = len(grid.bands or (1,))
    small = lengths[0] * lengths[1] * lengths[2] * bands <= CHUNK_PIXELS
    if small and active_client() is None and not foreign_below(chosen.producer):
        with kept_by(KEPT):
            return chosen.produce(names).planes
    sizes = (CHUNK_PIXELS // max(1, lengths[1] * lengths[2]), TILE, TILE)
    chunks = tuple(pieces(length, size) for length, size in zip(lengths, sizes, strict=True))
    loaded = _dataset(chosen, names, chunks if grid.timed else chunks[1:]).compute()
    return {name: loaded[name].values for name in names}


__all__ = ["compute", "lazy", "run"]
