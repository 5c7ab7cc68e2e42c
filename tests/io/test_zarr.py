"""Stores of frames: what was saved comes back, in any reader, and a store says what is wrong with it."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import getframes_xr as gx
from getframes_xr.core.errors import DataError, OptionError, PlanError, StoreError
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.detector.stages.blooming import Blooming
from getframes_xr.detector.stages.persistence import Persistence
from getframes_xr.engine.ask import Given
from getframes_xr.engine.producer import ArrayFrames, Producer
from getframes_xr.face.budget import memory
from getframes_xr.face.frames_in import as_producer, producer_of
from getframes_xr.face.lazy import lazy
from getframes_xr.io import store as store_module
from getframes_xr.io.shards import Layout, ShardWriter, read_box, shard_shape
from getframes_xr.io.store import Progress, save_frames, verify
from getframes_xr.io.zarr import ZarrFrames, is_store, open_store
from tests.strategies import windows

N, ROWS, COLUMNS = 5, 700, 530


def grid(n: int = N, rows: int = ROWS, columns: int = COLUMNS, **changes: Any) -> Grid:
    per_frame = {
        "frame": np.arange(10, 10 + n),
        "start": np.datetime64("2026-01-01T00:00:00.123456789", "ns") + np.arange(n) * np.timedelta64(25, "s"),
        "exposure_s": np.full(n, 20.0),
        "file": np.array([f"Licht_{i}_\u00e9\u4e2d.fits" for i in range(n)], object),
    }
    return Grid(Span(100, 100 + rows), Span(-4, columns - 4), per_frame, **changes)


def frames(where: Grid | None = None, seed: int = 1) -> ArrayFrames:
    where = where or grid(cfa="RGGB", wcs="CRVAL1=10.5", attrs={"camera": "probe", "cooled": True})
    rng = np.random.default_rng(seed)
    adu = rng.integers(0, 65536, where.shape(where.window)).astype(np.uint16)
    image = adu.astype(np.float32) / 7
    image[..., :3, :] = np.nan
    return ArrayFrames(where, {"adu": adu, "image": image}, {"adu": "adu", "image": "electron"})


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", ResourceWarning)
        yield


@pytest.mark.parametrize("codec", ["fast", "archive"])
@pytest.mark.parametrize("bands", [None, ("red", "green", "blue")])
def test_what_was_saved_comes_back_with_its_place_and_time(
    tmp_path: Path, codec: Any, bands: tuple[str, ...] | None
) -> None:
    source = frames(grid(bands=bands, wcs="CRVAL1=10.5", attrs={"camera": "probe"}))
    shown = lazy(source)
    saved = save_frames(shown, tmp_path / "night.zarr", codec=codec)
    assert saved.shards == saved.made == N
    back = open_store(saved.path)
    xr.testing.assert_identical(back.load(), shown.load())
    assert back["adu"].dtype == np.uint16 and back["start"].dtype == np.dtype("datetime64[ns]")


def test_any_xarray_or_zarr_reader_opens_a_store_without_a_warning(tmp_path: Path) -> None:
    source = frames()
    path = save_frames(lazy(source), tmp_path / "night.zarr").path
    plain = xr.open_dataset(path, engine="zarr", chunks={})
    assert set(plain.data_vars) == {"adu", "image"}
    assert np.array_equal(plain["adu"].values, source.arrays["adu"])
    assert np.array_equal(plain["image"].values, source.arrays["image"], equal_nan=True)
    assert [str(text) for text in plain["file"].values] == list(source.grid.columns["file"])  # type: ignore[index]
    assert str(plain["cfa_pattern"].values) == "RGGB" and plain["image"].attrs["units"] == "electron"
    assert plain.attrs["camera"] == "probe" and np.array_equal(plain["y"], np.arange(100, 100 + ROWS))
    group = zarr.open_group(path, mode="r")
    assert group.metadata.consolidated_metadata is not None
    assert np.array_equal(group["adu"][:], source.arrays["adu"])
    assert sorted(group) == sorted([*plain.variables])


def test_a_shard_holds_whole_frames_in_chunks_of_512(tmp_path: Path) -> None:
    path = save_frames(lazy(frames()), tmp_path / "night.zarr").path
    adu = zarr.open_array(path / "adu", mode="r")
    assert adu.chunks == (1, 512, 512) and adu.shards == (1, 1024, 1024)
    files = sorted(str(p.relative_to(path / "adu" / "c")) for p in (path / "adu" / "c").rglob("*") if p.is_file())
    assert files == [f"{i}/0/0" for i in range(N)]


@pytest.mark.parametrize(
    ("n", "rows", "columns", "period", "expected"),
    [
        (300, 1024, 1024, 1, (1, 1024, 1024)),  # 1 Mpx: a frame a shard
        (1000, 6248, 4176, 1, (1, 6248, 4176)),
        (300, 512, 512, 1, (16, 512, 512)),  # grouped up to 4 Mpx
        (1000, 64, 64, 1, (32, 64, 64)),  # at most 32
        (1000, 512, 512, 12, (24, 512, 512)),  # whole anchor groups
        (100, 2048, 2048, 8, (8, 2048, 2048)),
        (100, 4096, 4096, 8, (8, 2048, 2048)),  # groups over 32 Mpx are cut
    ],
)
def test_shards_group_small_frames_and_whole_anchor_groups(
    n: int, rows: int, columns: int, period: int, expected: tuple[int, int, int]
) -> None:
    assert shard_shape(grid(n, rows, columns), period) == expected


def test_images_are_cut_into_bands_of_rows(tmp_path: Path) -> None:
    where = Grid(Span(-3, 2497), Span(5, 2105), bands=("red", "green"))
    values = np.random.default_rng(3).normal(size=where.shape(where.window)).astype(np.float32)
    count = np.zeros(values.shape, np.uint16)
    image = lazy(ArrayFrames(where, {"image": values, "count": count}))
    saved = save_frames(image, tmp_path / "stack.zarr")
    assert saved.shards == 5 and zarr.open_array(saved.path / "image").shards == (2, 512, 2560)
    xr.testing.assert_identical(open_store(saved.path).load(), image.load())
    assert (saved.path / "count" / "c" / "0" / "4" / "0").exists()  # all zero, and yet there


STORES: dict[str, tuple[ArrayFrames, xr.Dataset]] = {}


@given(data=st.data())
def test_a_window_of_a_store_is_that_window_of_the_frames(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    if "small" not in STORES:
        source = frames(grid(n=40, rows=40, columns=600, bands=("red", "green")))
        path = save_frames(lazy(source), tmp_path_factory.mktemp("windows") / "night.zarr").path
        STORES["small"] = (source, open_store(path))
    source, back = STORES["small"]
    window = data.draw(windows(source.grid.window))
    producer = producer_of(back["adu"])
    assert producer is not None
    found = producer.produce(window, {"adu", "image"})
    expected = source.produce(window, {"adu", "image"})
    for name in ("adu", "image"):
        assert found[name].tobytes() == expected[name].tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f8", ">u2", ">f4", "?"])
def test_shards_keep_values_of_any_dtype_in_any_order_of_writing(tmp_path: Path, dtype: str) -> None:
    where = Grid(Span(0, 1100), Span(0, 600), {"frame": np.arange(2)})
    values = np.random.default_rng(5).integers(0, 2 if dtype == "?" else 200, (2, 1100, 600)).astype(dtype)
    layout = Layout.of(where, values.dtype, (2, 1100, 600), "fast")
    digests = []
    for number, order in enumerate(([0, 512, 1024], [1024, 0, 512])):
        with ShardWriter(layout, tmp_path / str(number), (0, 0, 0)) as writer:
            for row in order:
                for t in (1, 0):
                    writer.put((t, row, 0), values[t : t + 1, row : row + 512])
            digests.append(writer.finish()[0])
    assert digests[0] == digests[1]
    found, count = read_box(layout, tmp_path / "1", (slice(0, 2), slice(500, 1100), slice(3, 600)))
    assert np.array_equal(found, values[:, 500:, 3:]) and count > 0
    assert not list(tmp_path.rglob("*.partial"))


def test_the_digests_do_not_depend_on_codec_or_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = lazy(frames())
    one = save_frames(shown, tmp_path / "one.zarr").path
    whole = store_module._choice

    def small_windows(*arguments: Any) -> Any:
        return replace(whole(*arguments), tile=(1, 512, 512))

    monkeypatch.setattr(store_module, "_choice", small_windows)
    two = save_frames(shown, tmp_path / "two.zarr", codec="archive").path
    marks = [sorted((p.name, json.loads(p.read_text())["digests"]) for p in (s / "adu/.gx/done").iterdir())
             for s in (one, two)]  # fmt: skip
    assert marks[0] == marks[1]


def test_tables_and_further_coordinates_are_saved_beside_the_planes(tmp_path: Path) -> None:
    shown = lazy(frames())
    shown["truth_light_curve"] = (("time", "source"), np.arange(2.0 * N).reshape(N, 2), {"units": "photon"})
    shown = shown.assign_coords(name=("source", np.array(["target", "b"], object)), phase=("time", np.arange(N) / N))
    shown.attrs["observer"] = "n. n."
    back = open_store(save_frames(shown, tmp_path / "night.zarr").path)
    assert list(back["name"].values) == ["target", "b"]
    xr.testing.assert_identical(back["truth_light_curve"].drop_vars("name").load(),
                                shown["truth_light_curve"].drop_vars("name").load())  # fmt: skip
    assert np.array_equal(back["phase"], shown["phase"]) and back.attrs == shown.attrs
    assert set(xr.open_dataset(tmp_path / "night.zarr", engine="zarr").data_vars) == set(shown.data_vars)


def test_plain_arrays_and_foreign_dask_arrays_can_be_saved(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=(3, 20, 30)).astype(np.float32)
    array = xr.DataArray(values, dims=("time", "y", "x"))
    back = open_store(save_frames(array, tmp_path / "plain.zarr").path)
    assert np.array_equal(back["image"], values) and list(back["frame"].values) == [0, 1, 2]
    doubled = 2 * lazy(frames())["image"]
    back = open_store(save_frames(doubled.to_dataset(name="image"), tmp_path / "dask.zarr").path)
    assert np.array_equal(back["image"].values, doubled.values, equal_nan=True)


def test_selections_keep_their_frames_and_pixels(tmp_path: Path) -> None:
    shown = lazy(frames()).isel(time=[4, 0, 1], y=slice(200, 650), x=slice(7, 500))
    back = open_store(save_frames(shown, tmp_path / "part.zarr").path)
    xr.testing.assert_identical(back.load(), shown.load())
    one = lazy(frames()).isel(time=2)
    assert np.array_equal(open_store(save_frames(one, tmp_path / "one.zarr").path)["adu"].values[0], one["adu"].values)


def test_opening_is_lazy_small_to_pickle_and_has_a_token_of_its_values(
    tmp_path: Path, refuses_to_compute: None
) -> None:
    with dask.config.set(scheduler="sync"):
        first = save_frames(lazy(frames()), tmp_path / "a.zarr").path
        same = save_frames(lazy(frames()), tmp_path / "b.zarr").path
        other = save_frames(lazy(frames(seed=2)), tmp_path / "c.zarr").path
    producers = [producer_of(open_store(path)["adu"]) for path in (first, same, other)]
    assert all(isinstance(item, ZarrFrames) for item in producers)
    assert producers[0] == producers[1] != producers[2]
    assert len(pickle.dumps(producers[0])) < 6000
    assert pickle.loads(pickle.dumps(producers[0])) == producers[0]


def test_saving_a_finished_store_again_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "night.zarr"
    save_frames(lazy(frames()), path)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and p.name != "lock"}
    assert save_frames(lazy(frames()), path).made == 0
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and p.name != "lock"} == before


def test_progress_says_how_far_a_run_is(tmp_path: Path) -> None:
    seen: list[Progress] = []
    save_frames(lazy(frames()), tmp_path / "night.zarr", progress=seen.append)
    last = seen[-1]
    assert (last.shards, last.shards_total, last.frames, last.frames_total) == (N, N, N, N)
    assert last.bytes_done == last.bytes_total == N * ROWS * COLUMNS * 6


def test_another_recipe_is_refused_with_the_difference_named(tmp_path: Path) -> None:
    path = tmp_path / "night.zarr"
    save_frames(lazy(frames()), path)
    with pytest.raises(StoreError, match=r"another recipe: codec fast -> archive\. .*overwrite=True"):
        save_frames(lazy(frames()), path, codec="archive")
    with pytest.raises(StoreError, match=r"planes adu image -> adu"):
        save_frames(lazy(frames(), ("adu",)), path)
    with pytest.raises(StoreError, match=r"arrays\.adu 5 values .* -> 5 values"):
        save_frames(lazy(frames(seed=2)), path)
    with pytest.raises(StoreError, match=r"frames 5 -> 4"):
        save_frames(lazy(frames(grid(n=4))), path)
    saved = save_frames(lazy(frames(seed=2)), path, overwrite=True)
    assert saved.made == N and np.array_equal(open_store(path)["adu"], frames(seed=2).arrays["adu"])
    assert [p.name for p in tmp_path.iterdir()] == ["night.zarr"]


def test_an_unfinished_store_says_so_and_shows_its_finished_frames_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "night.zarr"

    made: list[Any] = []

    def stops(self: Any, producer: Producer, window: Any, given: Given) -> int:
        made.append(window)
        if len(made) == 4:
            raise RuntimeError("the power goes off")
        return int(whole(self, producer, window, given))

    whole = store_module.WriteShards.take
    monkeypatch.setattr(store_module.WriteShards, "take", stops)
    with dask.config.set(scheduler="sync"), pytest.raises(RuntimeError, match="power"):
        save_frames(lazy(frames()), path)
    with pytest.raises(StoreError, match=r"unfinished: \d of 5 frames; run the same save_frames again .*partial=True"):
        open_store(path)
    part = open_store(path, partial=True)
    expected = lazy(frames()).sel(time=part["time"])
    assert part.sizes["time"] == 3
    xr.testing.assert_identical(part.load(), expected.load())
    monkeypatch.undo()
    saved = save_frames(lazy(frames()), path)
    assert saved.made == N - part.sizes["time"]
    xr.testing.assert_identical(open_store(path).load(), lazy(frames()).load())


def test_a_missing_or_cut_file_is_made_again_in_spite_of_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "night.zarr"
    save_frames(lazy(frames()), path)
    (path / "image" / "c" / "1" / "0" / "0").unlink()
    os.truncate(path / "adu" / "c" / "3" / "0" / "0", 1000)
    (path / "adu" / ".gx" / "finished").unlink()
    assert save_frames(lazy(frames()), path).made == 2
    assert verify(path) == []


def test_verify_names_shards_with_other_values_than_were_written(tmp_path: Path) -> None:
    path = tmp_path / "night.zarr"
    save_frames(lazy(frames()), path)
    assert verify(path) == []
    target = path / "adu" / "c" / "2" / "0" / "0"
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 255
    target.write_bytes(content)
    (path / "image" / "c" / "0" / "0" / "0").unlink()
    zarr.open_array(path / "adu", mode="r+")[4, 5, 6] = 1
    bad = verify(path)
    assert [line.split(":")[0] for line in bad] == ["image/c/0/0/0", "adu/c/2/0/0", "adu/c/4/0/0"]
    assert "missing" in bad[0] and "other values" in bad[2]
    with pytest.raises(StoreError, match="missing"):
        open_store(path)["image"].isel(time=0).load()


def test_a_cut_or_scrambled_index_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = save_frames(lazy(frames()), tmp_path / "night.zarr").path
    target = path / "adu" / "c" / "0" / "0" / "0"
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"adu/c/0/0/0 is damaged"):
        open_store(path)["adu"].isel(time=0).load()


def test_paths_that_are_no_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no zarr.json"):
        open_store(tmp_path / "nothing.zarr")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="is no store of frames"):
            save_frames(lazy(frames()), tmp_path / "full", overwrite=overwrite)
    (tmp_path / "file.zarr").write_text("mine")
    with pytest.raises(StoreError, match="is no store of frames"):
        save_frames(lazy(frames()), tmp_path / "file.zarr")
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(StoreError, match="not written by save_frames"):
        open_store(tmp_path / "foreign.zarr")
    assert not is_store(tmp_path / "foreign.zarr")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_frames_are_not_saved_onto_their_own_source(tmp_path: Path) -> None:
    path = save_frames(lazy(frames()), tmp_path / "night.zarr").path
    with pytest.raises(StoreError, match="is an input of these frames"):
        save_frames(open_store(path).isel(time=slice(0, 2)), path, overwrite=True)


def test_bad_arguments_have_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="codec='best'"):
        save_frames(lazy(frames()), tmp_path / "a.zarr", codec="best")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="save_frames needs planes with the dims y and x"):
        save_frames(xr.Dataset({"table": ("time", [1.0])}), tmp_path / "a.zarr")
    with pytest.raises(DataError, match="nothing to save"):
        save_frames(lazy(frames()).isel(time=slice(0, 0)), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_budget_too_small_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"budget .* 200 MiB.*forecast .*memory="), memory("200MiB"):
        save_frames(lazy(frames()), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_one_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write to .*file/deeper/night\.zarr"):
        save_frames(lazy(frames()), tmp_path / "file" / "deeper" / "night.zarr")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(StoreError, match="Permission denied"):
            save_frames(lazy(frames()), tmp_path / "locked" / "night.zarr")


def test_as_producer_reads_a_store_by_lineage(tmp_path: Path) -> None:
    path = save_frames(lazy(frames()), tmp_path / "night.zarr").path
    part = open_store(path).isel(time=slice(1, 3), x=slice(10, 90))
    assert isinstance(next(iter(as_producer(part).walk())).parents[0], ZarrFrames)


@dataclass(frozen=True, eq=False)
class Counted(ArrayFrames):
    """Writes a line to a file for every window that is made."""

    log: Path = Path("log")

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        with self.log.open("a") as lines:
            lines.write(f"{window}\n")
        return super().make(window, planes, given)


@pytest.mark.parametrize("worth_keeping", [0, 2**40])
def test_a_costly_master_is_made_once_however_often_a_run_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth_keeping: int
) -> None:
    monkeypatch.setattr(store_module, "WORTH_KEEPING", worth_keeping)
    rng = np.random.default_rng(6)
    where = grid(n=6, rows=60, columns=50)
    dark_values = {"adu": rng.integers(90, 110, (6, 60, 50)).astype(np.uint16)}
    darks = lazy(Counted(where, dark_values, {"adu": "adu"}, tmp_path / "log"))
    clean = gx.calibrate(lazy(frames(), ("adu",)).isel(y=slice(0, 60), x=slice(0, 50)), dark=gx.master(darks))
    expected = clean.compute()
    (tmp_path / "log").unlink()
    path, made, written = tmp_path / "clean.zarr", [], []
    whole = store_module.WriteShards.take

    def stops(self: Any, producer: Producer, window: Any, given: Given) -> int:
        if path.name in self.store and ".gx" not in self.store:
            made.append(window)
            if len(made) == 3:
                raise RuntimeError("the power goes off")
        written.append(self.store)
        return int(whole(self, producer, window, given))

    monkeypatch.setattr(store_module.WriteShards, "take", stops)
    with dask.config.set(scheduler="sync"), pytest.raises(RuntimeError, match="power"):
        save_frames(clean, path)
    once = (tmp_path / "log").read_text()
    save_frames(clean, path)
    xr.testing.assert_equal(open_store(path).load(), expected)
    assert verify(path) == [] and not (path / "image" / ".gx" / "held").exists()
    kept = worth_keeping == 0
    assert any(".gx/held/" in store for store in written) == kept
    assert ((tmp_path / "log").read_text() == once) == kept


def test_chains_with_history_and_whole_lines_are_stored_in_whole_anchor_groups(tmp_path: Path) -> None:
    remembering = Persistence(
        full_well_e=3000.0, capture=(0.05,), release_time_s=(60.0,), horizon_frames=3, period_frames=4
    )
    camera = gx.Camera.preset("generic_ccd").replace(shape=(600, 530), serial="p").without("full_well")
    camera = camera.with_stage(remembering).with_stage(Blooming(full_well_e=3000.0))
    shown = gx.expose(camera, 140.0, gx.Exposures(n=10, exposure_s=20.0, cadence_s=25.0), seed=5)
    saved = save_frames(shown, tmp_path / "night.zarr")
    assert zarr.open_array(saved.path / "adu").shards == (4, 1024, 1024) and saved.shards == 3
    xr.testing.assert_identical(open_store(saved.path).load(), shown.load())


def test_a_worker_that_dies_again_and_again_is_a_plan_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.scheduler import KilledWorker

    def dies(*_: Any) -> None:
        raise KilledWorker("task", None, 3)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "run", dies)
    with pytest.raises(PlanError, match="Give the workers a higher memory limit"):
        save_frames(lazy(frames()), tmp_path / "night.zarr")
