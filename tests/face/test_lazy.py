"""The lazy face: what users see of a producer, and the way back from an array to its producer."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import PLANES
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import ArrayFrames, Producer, Selected
from getframes_xr.face.block import Selection
from getframes_xr.face.foreign import DaskFrames
from getframes_xr.face.frames_in import as_producer, producer_of
from getframes_xr.face.lazy import compute, lazy, run
from getframes_xr.face.tables import Column, loaded, per_frame
from tests.strategies import tilings

SHAPE = (6, 20, 26)
VALUES = np.random.default_rng(4).integers(0, 60000, SHAPE).astype(np.uint16)


def frames_grid(**changes: Any) -> Grid:
    columns = {
        "frame": np.arange(10, 16),
        "start": np.datetime64("2026-01-01", "ns") + np.arange(6) * np.timedelta64(25, "s"),
        "exposure_s": np.full(6, 20.0),
    }
    return Grid(Span(100, 120), Span(-4, 22), columns, **changes)


def frames() -> ArrayFrames:
    return ArrayFrames(frames_grid(), {"adu": VALUES, "image": VALUES.astype(np.float32) * 2})


@dataclass(frozen=True, eq=False)
class Counted(ArrayFrames):
    """Writes one line to a file for every window it makes, whichever process or thread makes it."""

    log: Path = Path("log")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        with self.log.open("a") as lines:
            lines.write(f"{window.shape}\n")
        return super().make(window, planes, given)

    def calls(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@dataclass(frozen=True, eq=False)
class Minus(Producer):
    """Frames minus a product without time."""

    parent: Producer
    dark: Producer

    @property
    def grid(self) -> Grid:
        return self.parent.grid

    @property
    def planes(self) -> Any:
        return self.parent.planes

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        yield Ask(self.parent, window, planes, keep="frames")
        yield Ask(self.dark, Window(Span(0, 1), window.y, window.x), {"image"}, shared=True)

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        patch, dark = given.take(), given.take()["image"]
        for name in planes:
            patch[name] -= dark.astype(patch[name].dtype)
        return patch


def minus(tmp_path: Path, parent: Producer | None = None) -> tuple[Minus, Counted]:
    flat = Grid(Span(100, 120), Span(-4, 22))
    dark = Counted(flat, {"image": np.full(SHAPE[1:], 3, np.float32)}, log=tmp_path / "log")
    return Minus(parent or frames(), Held(dark)), dark


@given(tilings(SHAPE))
def test_values_do_not_depend_on_chunks(chunks: tuple[int, int, int]) -> None:
    shown = lazy(frames(), chunks=chunks).compute()
    assert shown.adu.values.tobytes() == VALUES.tobytes()
    assert (shown.image.values == VALUES * np.float32(2)).all()


def test_time_is_mid_exposure_and_place_is_absolute() -> None:
    shown = lazy(frames())
    assert shown.time.values[0] == np.datetime64("2026-01-01T00:00:10", "ns")
    assert shown.y.values[0] == 100 and shown.x.values[0] == -4 and list(shown.frame.values) == list(range(10, 16))


def test_all_planes_of_a_dataset_are_made_in_one_run(tmp_path: Path) -> None:
    counted = Counted(frames_grid(), {"adu": VALUES, "image": VALUES.astype("f4")}, log=tmp_path / "log")
    lazy(counted, chunks=(2, -1, -1)).compute()
    assert counted.calls() == 3


def test_a_held_product_is_made_once_per_run(tmp_path: Path) -> None:
    chain, dark = minus(tmp_path)
    shown = lazy(chain, chunks=(1, 5, -1)).compute()
    assert dark.calls() == 1
    assert (shown.adu.values == VALUES - 3).all()
    run(chain, [Window(Span(i, i + 1), chain.grid.y, chain.grid.x) for i in range(6)], {"image"}, total)
    assert dark.calls() == 2


def total(patch: Patch, window: Window) -> float:
    return float(patch["image"].sum(dtype=np.float64))


def test_run_hands_windows_to_the_sink_in_order(tmp_path: Path) -> None:
    chain, _ = minus(tmp_path)
    windows = [Window(Span(i, i + 1), chain.grid.y, chain.grid.x) for i in range(6)]
    expected = [float((VALUES[i] * 2.0 - 3).sum()) for i in range(6)]
    assert run(chain, windows, {"image"}, total) == expected
    foreign = as_producer(lazy(frames(), chunks=(2, 7, 9)).image * 1)
    assert run(Minus(foreign, chain.dark), windows, {"image"}, total) == expected


INDEXERS = st.sampled_from([slice(None), slice(3, 17), slice(2, None, 3), slice(None, None, -1), slice(15, 4, -2)])


@given(INDEXERS, INDEXERS, st.sampled_from([slice(None), [4, 1, 2], slice(None, None, -2), [3], 2]))
def test_lineage_and_plain_dask_give_the_same_bytes(rows: slice, columns: slice, times: Any) -> None:
    shown = lazy(frames(), chunks=(2, 7, 9)).isel(y=rows).isel(time=times, x=columns)
    plain = shown.compute()
    exact = compute(shown)
    assert exact.adu.values.tobytes() == plain.adu.values.tobytes()
    assert exact.image.dims == plain.image.dims
    xr.testing.assert_identical(exact, plain)


def test_a_selection_is_found_in_the_graph_and_produces_only_its_window() -> None:
    shown = lazy(frames(), chunks=(2, 7, 9)).isel(time=[4, 1], y=slice(2, 15)).isel(y=slice(1, None), x=slice(3, 9))
    found = producer_of(shown.adu)
    assert isinstance(found, Selected)
    assert found.grid.window == Window(Span(0, 2), Span(103, 115), Span(-1, 5))
    assert list(found.grid.column("frame")) == [14, 11]
    assert (found.produce(found.grid.window, {"adu"})["adu"] == shown.adu.values).all()
    again = pickle.loads(pickle.dumps(found))
    assert again == found and hash(again) == hash(found)


def test_arithmetic_persist_and_relabelling_end_the_lineage() -> None:
    shown = lazy(frames())
    assert producer_of(shown.adu + 1) is None
    assert producer_of(shown.adu.persist()) is None
    assert producer_of(shown.adu.assign_coords(y=shown.y + 1000)) is None
    assert producer_of(xr.DataArray(np.zeros((3, 4)), dims=("y", "x"))) is None


def test_foreign_arrays_give_the_bytes_of_the_lineage() -> None:
    doubled = lazy(frames(), chunks=(2, 7, 9)).adu * 2
    foreign = as_producer(doubled)
    assert isinstance(foreign, DaskFrames)
    again = lazy(foreign, chunks=(1, 20, 13))
    assert (again.adu.values == VALUES * 2).all()
    assert (again.isel(time=3, y=slice(4, 9)).adu.values == VALUES[3, 4:9] * 2).all()


def test_a_plain_array_counts_from_zero() -> None:
    producer = as_producer(xr.DataArray(VALUES, dims=("time", "y", "x")))
    assert producer.grid.window == Window(Span(0, 6), Span(0, 20), Span(0, 26)) and list(producer.planes) == ["adu"]
    assert list(as_producer(xr.DataArray(VALUES[0] * 1.0, dims=("y", "x"))).planes) == ["image"]


def test_a_repeated_frame_number_is_refused() -> None:
    twice = xr.concat([lazy(frames()).isel(time=[0, 1]), lazy(frames()).isel(time=[1])], dim="time")
    with pytest.raises(DataError, match="twice"):
        as_producer(twice)


def test_building_never_computes(refuses_to_compute: None, tmp_path: Path) -> None:
    chain, _ = minus(tmp_path)
    shown = lazy(chain).isel(time=slice(1, 4))
    as_producer(shown)
    lazy(as_producer(shown.image * 2))
    per_frame(frames(), {"adu"}, medians, {"median": Column("f8")})


def medians(patch: Patch) -> dict[str, Any]:
    return {"median": np.median(patch["adu"]), "first": patch["adu"][0, 0, :5]}


def test_a_table_has_one_row_per_frame_and_reads_each_frame_once(tmp_path: Path) -> None:
    counted = Counted(frames_grid(), {"adu": VALUES, "image": VALUES.astype("f4")}, log=tmp_path / "log")
    columns = {"median": Column("f8", "adu"), "first": Column("f4", "adu", {"source": 5})}
    table = per_frame(counted, {"adu"}, medians, columns)
    with pytest.raises(DataError, match=r"call .load\(\)"):
        loaded(table, "median")
    table = table.load()
    assert counted.calls() == 1
    assert np.allclose(table["median"], np.median(VALUES, axis=(1, 2)))
    assert (table["first"].values == VALUES[:, 0, :5]).all()
    assert list(loaded(table.isel(time=[3, 0, 5])).frame.values) == [10, 13, 15]


def test_opening_a_huge_observation_is_immediate_and_a_window_costs_a_window() -> None:
    @dataclass(frozen=True, eq=False)
    class Ones(Producer):
        grid: Grid

        @property
        def planes(self) -> Any:
            return {"image": PLANES["image"]}

        def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
            assert window.pixels <= 512 * 512, "more than the window was asked for"
            return Patch(window, {"image": np.ones(window.shape, np.float32)})

    grid = Grid(Span(0, 6000), Span(0, 4400), {"frame": np.arange(1000)})
    shown = lazy(Ones(grid)).isel(time=700, y=slice(1900, 2412), x=slice(40, 552))
    assert compute(shown).image.shape == (512, 512)


def test_two_schedulers_agree(tmp_path: Path) -> None:
    chain, _ = minus(tmp_path)
    shown = lazy(chain, chunks=(2, 7, 9))
    with dask.config.set(scheduler="synchronous"):
        one = shown.image.values
    with dask.config.set(scheduler="threads", num_workers=4):
        many = shown.image.values
    assert one.tobytes() == many.tobytes()


def test_a_selection_of_nothing_is_refused_or_empty() -> None:
    shown = lazy(frames()).isel(time=slice(0, 0))
    assert shown.adu.values.shape == (0, 20, 26)
    assert Selection.whole(frames()).contiguous


def test_a_corrected_or_dropped_coordinate_holds_downstream() -> None:
    shown = lazy(frames())
    assert as_producer(shown) is as_producer(shown) or as_producer(shown) == frames()
    corrected = shown.assign_coords(exposure_s=("time", np.full(6, 30.0)), gain_e_per_adu=("time", np.full(6, 1.5)))
    grid = as_producer(corrected.isel(time=slice(2, 5))).grid
    assert list(grid.column("exposure_s")) == [30.0] * 3 and list(grid.column("gain_e_per_adu")) == [1.5] * 3
    assert "start" not in (as_producer(shown.drop_vars("start")).grid.columns or {})
    assert (lazy(as_producer(corrected)).adu.values == VALUES).all()
    one = as_producer(shown.isel(time=3))
    assert list(one.grid.column("frame")) == [13] and list(one.grid.column("exposure_s")) == [20.0]
