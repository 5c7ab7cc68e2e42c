"""Save frames to a Zarr v3 store, shard by shard, so that a killed run goes on where it was.

One task makes one shard of every plane and nothing else: it asks the producer for the shard piece by piece, encodes,
renames the files into place and then leaves its mark in the journal. A store is created whole (metadata, coordinates,
consolidated) in a folder beside its place and renamed. A second run lists the journal before it plans, refuses another
recipe by naming what differs, and refuses a store that is in use by naming who uses it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import DataError, OptionError, PlanError, StoreError
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Given, Sink
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import Producer
from getframes_xr.face.budget import limited_threads, text_of_bytes
from getframes_xr.face.forecast import Choice, asked_pixels, choose
from getframes_xr.face.foreign import foreign_below
from getframes_xr.face.frames_in import FramesLike, as_producer, dataset_in, planes_of, tables_of
from getframes_xr.face.lazy import lazy, run
from getframes_xr.io.creation import create_store, refused, root_of
from getframes_xr.io.journal import Index, Journal, Mark, sweep
from getframes_xr.io.recipe import differences
from getframes_xr.io.shards import BLOSC, INNER, Codec, Layout, ShardWriter, digest_on_disk
from getframes_xr.io.zarr import StoreRoot, ZarrFrames, is_store, open_store, read_root, with_band

WORTH_KEEPING = 64 * 2**20
_POLL_S = 0.5
_MOST_NAMED = 6


@dataclass(frozen=True)
class Progress:
    """How far a run is: finished shards, frames and bytes (before compression), seconds since it began."""

    shards: int
    shards_total: int
    frames: float
    frames_total: int
    bytes_done: int
    bytes_total: int
    seconds: float


@dataclass(frozen=True)
class Saved:
    """What ``save_frames`` did: the store, its shards, those made by this run, and bytes on disk they take."""

    path: Path
    shards: int
    made: int
    bytes_written: int


@dataclass(frozen=True)
class WriteShards(Sink):
    """The only task that writes: one shard of every plane, piece by piece, then the mark."""

    store: str
    layouts: Mapping[str, Layout]
    tile: tuple[int, int, int]

    def token(self) -> str:
        return digest("WriteShards", self.store, dict(self.layouts), list(self.tile))

    def inputs(self, producer: Producer, window: Window) -> Iterator[Ask]:
        for piece in self._pieces(window):
            yield Ask(producer, piece, tuple(self.layouts))

    def take(self, producer: Producer, window: Window, given: Given) -> int:
        grid, store = producer.grid, Path(self.store)
        first = next(iter(self.layouts))
        index = self._index(grid, window)
        journal = Journal(store / first)
        if journal.has(index):  # made by a worker that died before it could say so
            return sum(journal.mark(index).sizes.values())
        try:
            with ExitStack() as stack:
                writers = {
                    name: stack.enter_context(ShardWriter(layout, store / name, with_band(index, layout, grid.timed)))
                    for name, layout in self.layouts.items()
                }
                for ask, patch in given:
                    start = self._start(grid, ask.window)
                    for name in list(patch):
                        writers[name].put(start, patch.planes.pop(name))
                results = {name: writer.finish() for name, writer in writers.items()}
            mark = Mark({n: d for n, (d, _) in results.items()}, {n: size for n, (_, size) in results.items()})
            journal.add(index, mark)
        except OSError as error:
            raise refused(store, error) from error
        return sum(size for _, size in results.values())

    def _index(self, grid: Grid, window: Window) -> Index:
        layout = next(iter(self.layouts.values()))
        rows, columns = layout.shard[-2:]
        place = ((window.y.start - grid.y.start) // rows, (window.x.start - grid.x.start) // columns)
        return (window.frames.start // layout.shard[0], *place) if grid.timed else place

    def _pieces(self, window: Window) -> Iterator[Window]:
        frames, rows, columns = self.tile
        for time_span in window.frames.pieces(frames):
            for y in window.y.pieces(rows):
                for x in window.x.pieces(columns):
                    yield Window(time_span, y, x)

    @staticmethod
    def _start(grid: Grid, piece: Window) -> Index:
        place = (piece.y.start - grid.y.start, piece.x.start - grid.x.start)
        band = (0,) if grid.bands else ()
        return (piece.frames.start, *band, *place) if grid.timed else (*band, *place)


def save_frames(
    frames: FramesLike,
    path: str | Path,
    *,
    codec: Codec = "fast",
    progress: Callable[[Progress], None] | None = None,
    overwrite: bool = False,
) -> Saved:
    """Write frames (or an image) to a Zarr v3 store; run again after a crash, it goes on where it was.

    Parameters
    ----------
    frames : Dataset of planes, a DataArray or a node of a session, lazy or not; all planes are written, and the
        coordinates and tables
    path : folder of the store, ``*.zarr``
    codec : ``"fast"`` (lz4, bitshuffle) for scratch and training sets, ``"archive"`` (zstd, shuffle) for keeping
    progress : called about twice a second, and at the end, with a ``Progress``
    overwrite : replace a store of another recipe instead of refusing it (never one that is in use)

    Returns
    -------
    Saved

    Raises
    ------
    StoreError : the store is in use, holds another recipe, or the disk refuses (full, not writable)
    DataError : there are no frames to save
    PlanError : the work does not fit the memory budget
    OptionError : an unknown codec
    """
    if codec not in BLOSC:
        raise OptionError("codec", codec, " or ".join(repr(name) for name in BLOSC))
    shown = dataset_in(frames, "save_frames")
    planes = planes_of(shown)
    producer = as_producer(frames, planes)
    if 0 in producer.grid.shape(producer.grid.window):
        raise DataError(f"there is nothing to save: the shape is {producer.grid.shape(producer.grid.window)}")
    store = Path(path).absolute()
    _check_input(producer, store, overwrite)
    root = root_of(producer, planes, codec)
    fits = _choice(producer, root)
    if overwrite:
        _make_room(store, root)
    if not is_store(store):
        create_store(store, root, producer.grid, tables_of(shown))
    journal = read_root(store).journal(store)
    with journal.locked(store):
        _same_recipe(store, read_root(store), root)
        try:
            sweep(store, root.layouts)
            todo = _open_shards(store, root, journal)
            made = _write(store, root, with_held_kept(journal, producer), todo, fits, progress) if todo else 0
            shutil.rmtree(journal.held, ignore_errors=True)
            sweep(store, root.layouts)  # of workers that were killed on the way
            if not journal.finished:
                journal.finish()
        except OSError as error:
            if error.errno is None:  # a lost connection to a scheduler is an OSError too
                raise
            raise refused(store, error) from error
    return Saved(store, int(np.prod(root.shards)), len(todo), made)


def with_held_kept(journal: Journal, producer: Producer) -> Producer:
    """The same producer with costly Held products made now and kept in the store, for a run that has to go on.

    A Held that reads ``WORTH_KEEPING`` pixels or more (a master of many frames) lies in ``.gx/held`` by token until the
    store is finished; others are quicker made again.
    """
    if isinstance(producer, Held):
        parent = producer.parent
        if foreign_below(parent) or asked_pixels(parent, parent.grid.window, parent.planes) < WORTH_KEEPING:
            return producer
        kept = save_frames(lazy(parent), journal.held / f"{producer.token()}.zarr").path
        return Held(as_producer(open_store(kept), tuple(parent.planes)))
    above = [with_held_kept(journal, parent) for parent in producer.parents]
    changed = any(new is not old for new, old in zip(above, producer.parents, strict=True))
    return producer.with_parents(*above) if changed else producer


def verify(path: str | Path) -> list[str]:
    """Read a store anew and compare every finished shard with the digest in its mark.

    Returns
    -------
    One line per bad shard (missing, damaged, or other values than were written), none for a sound store

    Raises
    ------
    StoreError : there is no such store
    """
    store = Path(path).absolute()
    root = read_root(store)
    journal = root.journal(store)
    timed = bool(root.columns)
    bad: list[str] = []
    for index in sorted(journal.indices()):
        try:
            mark = journal.mark(index)
        except StoreError as error:
            bad.append(str(error))
            continue
        for name, layout in root.layouts.items():
            place = with_band(index, layout, timed)
            where = layout.path(Path(name), place)
            try:
                if digest_on_disk(layout, store / name, place) != mark.digests.get(name):
                    bad.append(f"{where}: other values than were written")
            except StoreError as error:
                bad.append(f"{where}: {error}")
    return bad


def _check_input(producer: Producer, store: Path, overwrite: bool) -> None:
    if not store.parent.is_dir():
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(store, error) from error
    inputs = {item.path for item in producer.walk() if isinstance(item, ZarrFrames)}
    if any(Path(item).resolve() == store.resolve() for item in inputs):
        raise StoreError(f"{store} is an input of these frames; save them to another path")
    if store.exists() and not is_store(store) and (not store.is_dir() or any(store.iterdir())):
        raise StoreError(f"{store} exists and is no store of frames; choose another path or remove it")


def _same_recipe(store: Path, there: StoreRoot, here: StoreRoot) -> None:
    if there.recipe == here.recipe:
        return
    changed = differences(there.words, here.words) or ["the recipe's token"]
    more = f"; and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    raise StoreError(
        f"{store} holds another recipe: {'; '.join(changed[:_MOST_NAMED])}{more}. "
        "Save to another path, or pass overwrite=True to replace it"
    )


def _make_room(store: Path, root: StoreRoot) -> None:
    """Remove a store of another recipe, unless it is in use."""
    if not is_store(store):
        return
    there = read_root(store)
    if there.recipe == root.recipe:
        return
    with there.journal(store).locked(store):
        old = store.with_name(f".{store.name}.{uuid.uuid4().hex}.old")
        try:
            os.rename(store, old)
        except OSError as error:
            raise refused(store, error) from error
    shutil.rmtree(old, ignore_errors=True)


def _open_shards(store: Path, root: StoreRoot, journal: Journal) -> list[Index]:
    """The shards still to be made; a mark whose files are gone or cut (power loss) is taken back."""
    every = list(np.ndindex(*root.shards))
    if journal.finished:
        done = journal.indices()
        if len(done) == len(every):
            return []
    done = set()
    timed = bool(root.columns)
    for index in journal.indices():
        try:
            sizes = journal.mark(index).sizes
        except StoreError:
            sizes = {}
        places = {n: layout.path(store / n, with_band(index, layout, timed)) for n, layout in root.layouts.items()}
        if all(places[n].exists() and places[n].stat().st_size == sizes.get(n) for n in places):
            done.add(index)
        else:
            journal.forget(index)
    return [index for index in every if index not in done]


def _window(root: StoreRoot, grid: Grid, index: Index) -> Window:
    """The window of a shard, clipped to the grid."""
    shard = root.layouts[root.first].shard
    frames = Span(index[0] * shard[0], (index[0] + 1) * shard[0]) if grid.timed else Span(0, 1)
    rows, columns = shard[-2:]
    j, i = index[-2:]
    y = Span(grid.y.start + j * rows, grid.y.start + (j + 1) * rows)
    x = Span(grid.x.start + i * columns, grid.x.start + (i + 1) * columns)
    return Window(frames, y, x).clip(grid.window)


def _write(
    store: Path,
    root: StoreRoot,
    producer: Producer,
    todo: list[Index],
    fits: Choice,
    progress: Callable[[Progress], None] | None,
) -> int:
    windows = [_window(root, producer.grid, index) for index in todo]
    sink: Any = WriteShards(str(store), root.layouts, fits.tile)
    with _reporting(store, root, producer, progress), limited_threads(fits.forecast.threads):
        try:
            return sum(run(producer, windows, tuple(root.layouts), sink))
        except Exception as error:
            if type(error).__name__ != "KilledWorker":
                raise
            peak = text_of_bytes(fits.forecast.peak)
            raise PlanError(
                f"a worker died several times on one task of {store}; the forecast was {peak}. Give the workers a "
                "higher memory limit; what is finished stays, the same save_frames goes on"
            ) from error


def _choice(producer: Producer, root: StoreRoot) -> Choice:
    """How a shard is cut into the windows of a task, and how many tasks run at a time."""
    largest = _window(root, producer.grid, (0,) * len(root.shards))
    return choose(producer, tuple(root.layouts), largest, quantum=INNER, scratch=_scratch(root))


def _scratch(root: StoreRoot) -> int:
    """Bytes that encoding one inner chunk takes: a padded copy, its shuffled and its encoded form."""
    return max(3 * int(np.prod(layout.chunk)) * np.dtype(layout.dtype).itemsize for layout in root.layouts.values())


@contextmanager
def _reporting(
    store: Path, root: StoreRoot, producer: Producer, progress: Callable[[Progress], None] | None
) -> Iterator[None]:
    """Call ``progress`` from a thread that looks at the journal: the same here and with workers elsewhere."""
    if progress is None:
        yield
        return
    call = progress
    journal, grid, begin, end = root.journal(store), producer.grid, time.monotonic(), threading.Event()
    total = int(np.prod(root.shards))
    size = producer.bytes_of(grid.window, tuple(root.layouts))

    def report() -> None:
        done = len(journal.indices())
        share = done / total
        seconds = time.monotonic() - begin
        call(Progress(done, total, share * grid.n_frames, grid.n_frames, int(share * size), size, seconds))

    def watch() -> None:
        while not end.wait(_POLL_S):
            report()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        report()


__all__ = ["Progress", "Saved", "WriteShards", "save_frames", "verify"]
