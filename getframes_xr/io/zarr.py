"""Frames in a Zarr v3 store as a producer: what lies in the store's root, and windows read from its shards.

The root attributes hold the recipe (token and words) and the layout of each plane; coordinates lie beside the planes as
ordinary arrays, so any xarray or zarr reader opens the store. Ours reads the same shards with one ``pread`` per inner
chunk (no event loop, no thread pool, no memory beyond one chunk).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import StoreError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import BAND, TIME, Plane, X, Y
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import Producer, Read, Selected
from getframes_xr.face.lazy import lazy
from getframes_xr.io.journal import Index, Journal
from getframes_xr.io.shards import Layout, read_box

ROOT: Final = "getframes_xr"  # the root attribute that holds all this, as JSON text
FORMAT: Final = 1


@dataclass(frozen=True)
class StoreRoot:
    """What the root attributes of a store say."""

    recipe: str
    words: Mapping[str, str]
    layouts: Mapping[str, Layout]
    units: Mapping[str, str]
    columns: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> str:
        return next(iter(self.layouts))

    @property
    def shards(self) -> Index:
        """Shards along each axis but ``band``."""
        layout = self.layouts[self.first]
        return without_band(layout.shards, layout)

    def journal(self, store: Path) -> Journal:
        return Journal(store / self.first)

    def to_json(self) -> str:
        known = {name: dataclasses.asdict(layout) for name, layout in self.layouts.items()}
        content = {
            "format": FORMAT,
            "recipe": self.recipe,
            "words": dict(self.words),
            "layouts": known,
            "units": dict(self.units),
            "columns": list(self.columns),
            "attrs": dict(self.attrs),
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> StoreRoot:
        known = json.loads(text)
        if known["format"] != FORMAT:
            raise ValueError(f"format {known['format']}, this release reads {FORMAT}")
        layouts: dict[str, Layout] = {}
        for name, values in known["layouts"].items():
            fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
            layouts[name] = Layout(**fields)
        return cls(known["recipe"], known["words"], layouts, known["units"], tuple(known["columns"]), known["attrs"])


def without_band(index: Index, layout: Layout) -> Index:
    """An index without its place along ``band`` (all bands lie in one shard)."""
    return (index[0], *index[2:]) if len(layout.shape) == 4 else index


def with_band(index: Index, layout: Layout, timed: bool) -> Index:
    """The index of a plane's shard from that of the store's: ``band`` put back."""
    if len(layout.shape) == len(index):
        return index
    return (index[0], 0, *index[1:]) if timed else (0, *index)


def is_store(path: str | Path) -> bool:
    """True where ``path`` is a folder that ``save_frames`` made."""
    try:
        return ROOT in json.loads((Path(path) / "zarr.json").read_text()).get("attributes", {})
    except (OSError, ValueError, AttributeError):
        return False


def read_root(path: Path) -> StoreRoot:
    """What the root attributes of a store say.

    Raises
    ------
    StoreError : there is no store, it is not one of ours, or its root cannot be read
    """
    try:
        attributes = json.loads((path / "zarr.json").read_text()).get("attributes", {})
    except FileNotFoundError:
        raise StoreError(f"{path} is no Zarr v3 store (it has no zarr.json)") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path / 'zarr.json'}: {error}") from error
    if ROOT not in attributes:
        raise StoreError(f"{path} was not written by save_frames; open it with xr.open_zarr and pass the Dataset on")
    try:
        return StoreRoot.from_json(attributes[ROOT])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the root of {path} cannot be read: {error}") from error


class ByteCounter:
    """Bytes that this process read from stores."""

    def __init__(self) -> None:
        self.total = 0


COUNTER: Final = ByteCounter()


@dataclass(frozen=True, eq=False)
class ZarrFrames(Producer):
    """The planes of a store; ``state`` is the digest of its journal, so other values make another token."""

    path: str
    grid: Grid
    planes: Mapping[str, Plane]
    layouts: Mapping[str, Layout]
    state: str
    unfinished: bool = False

    def label(self) -> str:
        return f"ZarrFrames: {os.path.basename(self.path)}{', unfinished' if self.unfinished else ''}"

    def token(self) -> str:
        return self._token

    @property
    def _token(self) -> str:
        return digest("ZarrFrames", self.state, self.grid, dict(self.planes), self.unfinished)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        outer = self.grid.window
        y, x = window.y.slice_in(outer.y), window.x.slice_in(outer.x)
        time = (slice(window.frames.start, window.frames.stop),) if self.grid.timed else ()
        band = (slice(0, len(self.grid.bands)),) if self.grid.bands else ()
        patch = Patch(window, {}, self.grid.timed)
        for name in sorted(planes):
            folder = Path(self.path) / name
            patch[name], count = read_box(self.layouts[name], folder, (*time, *band, y, x), self.unfinished)
            COUNTER.total += count
        return patch

    @property
    def preferred_chunks(self) -> tuple[int, int, int] | None:
        layout = next(iter(self.layouts.values()))
        frames = layout.shard[0] if self.grid.timed else 1
        return frames, min(2048, layout.shard[-2]), min(2048, layout.shard[-1])

    def reads(self, window: Window, planes: Collection[str]) -> Iterator[Read]:
        """Inner chunks of shards; where they begin stands in the index of each shard."""
        outer = self.grid.window
        y, x = window.y.shift(-outer.y.start), window.x.shift(-outer.x.start)
        box = ((window.frames,) if self.grid.timed else ()) + (y, x)
        for name in planes:
            layout = self.layouts[name]
            itemsize, bands = np.dtype(layout.dtype).itemsize, len(self.grid.bands or (1,))
            own = [at for at in range(len(layout.chunk)) if not (self.grid.bands and at == len(layout.chunk) - 3)]
            chunks, shards = [layout.chunk[at] for at in own], [layout.shard[at] for at in own]
            for place in itertools.product(
                *(range(s.start // n, -(-s.stop // n)) for s, n in zip(box, shards, strict=True))
            ):
                inside = [s.clip(Span(k * n, (k + 1) * n)) for s, k, n in zip(box, place, shards, strict=True)]
                lengths = [(-(-s.stop // n) - s.start // n) * n for s, n in zip(inside, chunks, strict=True)]
                index = place if not self.grid.bands else (*place[:-2], 0, *place[-2:])
                values = int(np.prod(lengths)) * bands * itemsize
                yield Read(str(layout.path(Path(self.path) / name, index)), None, values, values)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        chunk = max((int(np.prod(self.layouts[n].chunk)) * self.planes[n].dtype.itemsize for n in planes), default=0)
        return 3 * chunk


def _text_column(values: Array) -> Array:
    if values.dtype.kind not in "OUT":
        return values
    texts = np.empty(len(values), object)
    texts[:] = [str(value) for value in values]
    return texts


def _read_plain(path: Path, planes: Collection[str]) -> xr.Dataset:
    """Coordinates and tables of a store, loaded; not its planes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with xr.open_zarr(path, chunks=None, consolidated=True, drop_variables=list(planes)) as found:
                loaded: xr.Dataset = found.load()
                return loaded
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"cannot read the coordinates of {path}: {error}") from error


def open_store(path: str | Path, *, partial: bool = False) -> xr.Dataset:
    """Frames of a store, lazily; the journal says whether it is whole.

    Parameters
    ----------
    path : folder made by ``save_frames``
    partial : of an unfinished store, show the finished frames (of an image, the finished tiles: the rest is NaN or 0)

    Returns
    -------
    Dataset of the planes, coordinates and tables that were saved; nothing of the planes is read

    Raises
    ------
    StoreError : there is no such store, it cannot be read, or it is unfinished and ``partial`` is False
    """
    store = Path(path).absolute()
    root = read_root(store)
    journal = root.journal(store)
    done = None if journal.finished else journal.indices()
    total = int(np.prod(root.shards))
    unfinished = done is not None and len(done) < total
    plain = _read_plain(store, root.layouts)
    grid = _grid(plain, root)
    positions = _finished_frames(root, grid, done) if unfinished and done is not None else None
    if unfinished and not partial:
        done_count, what = (0 if done is None else len(done)), "tiles"
        if positions is not None:
            done_count, total, what = len(positions), grid.n_frames, "frames"
        raise StoreError(
            f"{store} is unfinished: {done_count} of {total} {what}; run the same save_frames again to go on, "
            "or open it with partial=True"
        )
    planes = {name: Plane(np.dtype(lay.dtype), root.units.get(name, "")) for name, lay in root.layouts.items()}
    producer: Producer = ZarrFrames(str(store), grid, planes, root.layouts, journal.state(), unfinished)
    if positions is not None:
        producer = Selected(producer, positions, grid.y, grid.x)
        plain = plain.isel({TIME: positions})
    return _with_plain(lazy(producer), plain)


def _grid(plain: xr.Dataset, root: StoreRoot) -> Grid:
    def text(name: str) -> str | None:
        return str(plain.coords[name].values[()]) if name in plain.coords else None

    columns = {name: _text_column(plain.coords[name].values) for name in root.columns} if root.columns else None
    rows, columns_x = plain.coords[Y].values, plain.coords[X].values
    return Grid(
        y=Span(int(rows[0]), int(rows[-1]) + 1),
        x=Span(int(columns_x[0]), int(columns_x[-1]) + 1),
        columns=columns,
        bands=tuple(str(b) for b in plain.coords[BAND].values) if BAND in plain.coords else None,
        cfa=text("cfa_pattern"),
        wcs=text("wcs") if "wcs" in plain.coords and plain.coords["wcs"].ndim == 0 else None,
        attrs=dict(root.attrs),
    )


def _finished_frames(root: StoreRoot, grid: Grid, done: Collection[Index]) -> Array | None:
    """Positions of the frames whose shards are all done; None for a product without time."""
    if not grid.timed:
        return None
    per_group = int(np.prod(root.shards[1:]))
    counts: dict[int, int] = {}
    for index in done:
        counts[index[0]] = counts.get(index[0], 0) + 1
    frames = root.layouts[root.first].shard[0]
    whole = [group for group in sorted(counts) if counts[group] == per_group]
    runs = [np.arange(g * frames, min((g + 1) * frames, grid.n_frames)) for g in whole]
    return np.concatenate(runs).astype(np.int64) if runs else np.zeros(0, np.int64)


def _with_plain(frames: xr.Dataset, plain: xr.Dataset) -> xr.Dataset:
    """Frames with the further coordinates and tables of the store."""
    further = {str(name): c for name, c in plain.coords.items() if name not in frames.coords}
    frames = frames.assign_coords({n: c.variable for n, c in further.items()})
    frames = frames.assign({str(name): plain[name].variable for name in plain.data_vars})
    return frames.assign_attrs({name: value for name, value in plain.attrs.items() if name != ROOT})
