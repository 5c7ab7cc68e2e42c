"""Plans: what is forecast before anything runs, what a budget changes, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.errors import DataError, OptionError, PlanError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import PLANES, Plane
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.ask import Ask, Few, Given, every
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import ArrayFrames, Producer, Read, Selected
from getframes_xr.face.budget import (
    BASE_BYTES,
    GIB,
    MIB,
    Budget,
    budget,
    bytes_of_text,
    machine_bytes,
    memory,
    text_of_bytes,
)
from getframes_xr.face.forecast import SLACK, choose, leaf_asks, tiles_of
from getframes_xr.face.lazy import lazy
from getframes_xr.workflows.plan import _wrapped, plan
from tests.laws import producers as cases

pytestmark = pytest.mark.alone  # budgets of a whole process: not in one that has held much before


@dataclass(frozen=True, eq=False)
class Costly(Producer):
    """Frames of ones that claim to cost ``bytes_per_pixel``, and read ``halo`` pixels more than they are asked for."""

    grid: Grid
    bytes_per_pixel: int = 40
    fixed_bytes: int = 0

    @property
    def planes(self) -> Mapping[str, Plane]:
        return {"adu": PLANES["adu"]}

    def make(self, window: Window, planes: frozenset[str], given: Given) -> Patch:
        return Patch(window, {"adu": np.ones(self.grid.shape(window), np.uint16)}, self.grid.timed)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return self.fixed_bytes + self.bytes_per_pixel * window.pixels - self.bytes_of(window, planes)

    def reads(self, window: Window, planes: Collection[str]) -> Iterator[Read]:
        yield Read("costly", 0, 2 * window.pixels, 2 * window.pixels)


@dataclass(frozen=True, eq=False)
class Columns(Costly):
    """The same, needing whole columns of its parent (as blooming does)."""

    parent: Producer | None = None

    def inputs(self, window: Window, planes: frozenset[str], few: Few = every) -> Iterator[Ask]:
        assert self.parent is not None
        yield Ask(self.parent, Window(window.frames, self.grid.y, window.x), planes)

    def scratch_bytes(self, window: Window, planes: frozenset[str]) -> int:
        return self.bytes_per_pixel * window.with_rows(self.grid.y).pixels


def grid(n: int = 20, rows: int = 4096, columns: int = 4096) -> Grid:
    return Grid(Span(0, rows), Span(0, columns), {"frame": np.arange(n)})


def within(limit: int, threads: int = 2, **more: Any) -> Budget:
    return Budget(BASE_BYTES + limit, threads, **more)


def test_a_large_budget_gives_windows_of_at_most_4_megapixels() -> None:
    choice = choose(Costly(grid()), ("adu",), within=within(8 * GIB))
    assert choice.tile[0] * choice.tile[1] * choice.tile[2] <= 4 * 2**20
    assert choice.tile[2] == 4096 and choice.forecast.threads == 2


def test_a_smaller_budget_gives_smaller_windows_and_the_forecast_fits() -> None:
    sizes = []
    for limit in (1024, 256, 64, 32):
        choice = choose(Costly(grid()), ("adu",), within=within(limit * MIB))
        rows = choice.tile[1] * choice.tile[2]
        assert choice.forecast.peak <= BASE_BYTES + limit * MIB
        assert choice.forecast.above_base == SLACK + 2 * 40 * rows * choice.tile[0]
        sizes.append(rows)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]


def test_small_frames_are_grouped_along_time() -> None:
    assert choose(Costly(grid(500, 256, 256)), ("adu",), within=within(8 * GIB)).tile == (31, 256, 256)  # for 2 threads


def test_windows_are_cut_where_they_read_least_twice() -> None:
    """Whole columns cost the whole height, so windows become strips along y, not bands of rows."""
    chain = Columns(grid(), parent=Costly(grid()))
    choice = choose(chain, ("adu",), within=within(8 * GIB))
    assert choice.tile[1] == 4096 and choice.tile[2] < 4096 and choice.amplification == 1.0


def test_fewer_threads_are_taken_where_windows_cannot_shrink() -> None:
    producer = Costly(grid(), 1, fixed_bytes=100 * MIB)
    choice = choose(producer, ("adu",), within=within(200 * MIB, threads=4))
    assert choice.forecast.threads == 1 and choice.forecast.peak <= BASE_BYTES + 200 * MIB


def test_workers_cannot_be_told_to_use_fewer_threads() -> None:
    producer = Costly(grid(), 1, fixed_bytes=100 * MIB)
    cluster = within(200 * MIB, threads=4, fewest=4, where="each of 2 workers", processes=2)
    with pytest.raises(PlanError, match=r"each of 2 workers.*give the workers fewer threads per worker, or a limit of"):
        choose(producer, ("adu",), within=cluster)


def test_windows_that_become_shards_are_multiples_of_the_inner_chunk() -> None:
    shard = Window(Span(0, 1), Span(0, 4096), Span(0, 4096))
    for limit in (30, 60, 120, 400):
        tile = choose(Costly(grid()), ("adu",), shard, within=within(limit * MIB), quantum=512).tile
        assert tile[1] % 512 == 0 and tile[2] % 512 == 0


def test_a_budget_too_small_is_refused_with_budget_forecast_and_knob() -> None:
    producer = Costly(grid(), fixed_bytes=300 * MIB)
    with pytest.raises(PlanError) as refused, memory("512MiB"):
        plan(lazy(producer))
    text = str(refused.value)
    assert "the budget of this process is 512 MiB" in text and "Costly takes most" in text
    knob = text.split('memory="')[1].split('"')[0]
    with memory(knob):
        assert plan(lazy(producer)).forecast.peak <= bytes_of_text(knob)


def test_held_products_count_once_and_in_a_phase_of_their_own() -> None:
    image = Costly(Grid(Span(0, 4096), Span(0, 4096)), 30)

    @dataclass(frozen=True, eq=False)
    class Divided(Costly):
        flat: Producer | None = None

    frames = Divided(grid(), 4, flat=Held(image))
    choice = choose(frames, ("adu",), within=within(GIB, threads=3))
    assert choice.forecast.held == 2 * 4096 * 4096
    assert choice.forecast.held_phase == choice.forecast.held + 3 * 30 * 2048 * 2048
    with pytest.raises(PlanError, match="crop the frames before the masters are made"):
        choose(frames, ("adu",), within=within(60 * MIB))


def test_the_ground_is_found_through_selections() -> None:
    base = Costly(grid())
    part = Selected(base, np.array([3, 4, 9]), Span(100, 300), Span(0, 50))
    found = leaf_asks(part, part.grid.window, {"adu"})
    assert [(ask.window.frames, ask.window.y, ask.window.x, number) for ask, number in found] == [
        (Span(3, 5), Span(100, 300), Span(0, 50), 1.0),
        (Span(9, 10), Span(100, 300), Span(0, 50), 1.0),
    ]


def test_a_plan_counts_tasks_and_bytes() -> None:
    made = plan(lazy(Costly(grid(3, 1000, 1000))), memory="1GiB")
    windows = list(tiles_of(grid(3, 1000, 1000).window, made.chunks))
    assert made.tasks == len(windows) and sum(w.pixels for w in windows) == 3 * 10**6
    assert made.bytes_written == made.bytes_read == 6 * 10**6 and made.amplification == 1.0
    assert made.dominates == "Costly"


def test_a_printed_plan_fits_80_columns_and_names_everything(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = ArrayFrames(grid(6, 1024, 1024), {"adu": rng.integers(0, 9, (6, 1024, 1024)).astype(np.uint16)})
    path = gx.save_frames(lazy(frames), tmp_path / "a.zarr").path
    text = str(gx.plan(gx.stack(gx.open_frames(path)), memory="1GiB"))
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "windows",
        "tasks",
        "bytes read",
        "bytes made",
        "threads",
        "of 1 GiB forecast",
        "knob",
        "12 MiB (every",
    ):
        assert word in text, text


def test_planning_computes_nothing(refuses_to_compute: None) -> None:
    camera = gx.Camera.preset("generic_ccd")
    night = gx.Exposures(n=50, exposure_s=20.0)
    begin = time.perf_counter()
    made = gx.plan(gx.expose(camera, 5.0, night, seed=0), memory="1GiB")
    assert "50 frames of 512 x 512" in str(made)
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("selection", [{}, {"time": 2}, {"time": [4, 1]}, {"y": slice(5, 90), "x": slice(3, 50)}])
def test_computing_a_plan_gives_the_values_of_the_dataset(selection: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    frames = ArrayFrames(grid(6, 150, 170), {"adu": rng.integers(0, 60000, (6, 150, 170)).astype(np.uint16)})
    shown = lazy(frames).isel(selection).assign(table=("source", [1.0, 2.0]))
    for where in (memory("1GiB"), memory(max(BASE_BYTES, budget().base) + 17 * MIB)):
        with where:
            xr.testing.assert_identical(plan(shown).compute(), shown.compute())


def test_foreign_arrays_are_planned_and_computed_too() -> None:
    rng = np.random.default_rng(3)
    frames = ArrayFrames(grid(4, 90, 80), {"image": rng.normal(size=(4, 90, 80)).astype(np.float32)})
    doubled = (lazy(frames) * 2).assign_attrs(a=1)
    xr.testing.assert_equal(plan(doubled).compute(), doubled.compute())


def test_saving_a_plan_obeys_its_budget(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    frames = ArrayFrames(grid(2, 600, 700), {"adu": rng.integers(0, 9, (2, 600, 700)).astype(np.uint16)})
    made = plan(lazy(frames), memory="2GiB")
    with memory("10MiB"):  # the plan's own budget counts
        saved = made.save(tmp_path / "a.zarr", codec="archive")
    assert np.array_equal(gx.open_frames(saved.path)["adu"].values, frames.arrays["adu"])


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GiB", 2**30), ("1.5 GB", 1_500_000_000), ("512MiB", 512 * MIB), ("300 kb", 300_000), ("7", 7), (8, 8),
     ("2g", 2 * 10**9), ("1TiB", 2**40)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text: Any, size: int) -> None:
    assert bytes_of_text(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "0", 0, -5, "1 GiBi", "1ib", None, 1.5, True])
def test_other_sizes_are_refused(text: Any) -> None:
    with pytest.raises(OptionError, match="memory="):
        bytes_of_text(text)


def test_sizes_are_written_for_people() -> None:
    assert [text_of_bytes(v) for v in (5, 2048, 300 * MIB, 1.5 * GIB)] == ["5 B", "2 kiB", "300 MiB", "1.5 GiB"]


def test_without_a_word_the_budget_is_a_quarter_of_the_machine_at_most_1_gib() -> None:
    """In a fresh process: one that holds much already gets room for its work above that."""
    code = "from getframes_xr.face.budget import budget; print(budget().limit)"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(fresh.stdout) == min(machine_bytes() // 4, GIB)
    usual = budget().limit
    with memory("3GiB"):
        assert budget().limit == 3 * GIB and budget("2GiB").limit == 2 * GIB
        with memory(700 * MIB):
            assert budget().limit == 700 * MIB
    assert budget().limit == pytest.approx(usual, rel=0.05)


def test_threads_are_those_dask_would_use() -> None:
    for settings, threads in (
        ({"scheduler": "sync"}, 1),
        ({"num_workers": 3}, 3),
        ({"num_workers": None, "pool": 5}, 5),
    ):
        with dask.config.set({"scheduler": "threads", **settings}):
            assert budget().threads == threads


def test_what_is_no_frames_cannot_be_planned() -> None:
    with pytest.raises(DataError):
        plan(xr.Dataset({"table": ("source", [1.0])}))


def test_an_empty_selection_is_refused_in_one_line() -> None:
    frames = gx.lazy(cases.raw((3, 20, 30)))
    for empty in (frames.isel(y=slice(0, 0)), frames.isel(time=slice(0, 0))):
        with pytest.raises(DataError, match=r"nothing to plan: the selection is empty \(time \d, y \d+, x 30\)"):
            gx.plan(empty)


def test_the_lines_of_a_plan_are_wrapped_and_keep_the_knob() -> None:
    knob = "give the workers fewer threads per worker, or a limit of 1.67 GiB or more; " * 2
    lines = _wrapped("knob", knob).split("\n")
    assert all(len(line) <= 80 for line in lines) and len(lines) > 1
    assert " ".join(line[12:] for line in lines).split() == knob.split()
    assert lines[0].startswith("knob        give") and all(line.startswith(" " * 12 + "") for line in lines[1:])
    assert _wrapped("", "256 MiB before work begins") == " " * 12 + "256 MiB before work begins"
