"""Laws of file formats, walked over the registry: a new format is tested as soon as its file exists."""

from __future__ import annotations

import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import getframes_xr as gx
from getframes_xr.core.errors import DataError
from getframes_xr.io.formats import FORMATS, FrameFormat
from tests.strategies import windows

KINDS = sorted(FORMATS)


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type[FrameFormat], Path, np.ndarray]:
    path, values = FORMATS[request.param].example(tmp_path)
    return FORMATS[request.param], path, values


def test_open_frames_gives_the_values_of_the_file_in_its_type(case, refuses_to_compute) -> None:
    kind, path, values = case
    data = gx.open_frames(path)
    assert path.name.lower().endswith(kind.endings)
    plane = data["adu" if values.dtype.kind in "iu" else "image"]
    assert plane.dtype == values.dtype
    assert plane.dims == ("time", "y", "x")
    producer = gx.as_producer(data)
    np.testing.assert_array_equal(producer.produce(producer.grid.window, [plane.name])[plane.name], values)


@given(data=st.data())
def test_a_window_is_the_crop_of_the_file(case, data: st.DataObject) -> None:
    kind, path, values = case
    producer = kind.frames(str(path))
    (name,) = producer.planes
    window = data.draw(windows(producer.grid.window))
    box = tuple(slice(span.start, span.stop) for span in (window.frames, window.y, window.x))
    assert producer.produce(window, [name])[name].tobytes() == np.ascontiguousarray(values[box]).tobytes()


def test_a_producer_of_files_pickles_and_knows_when_its_file_changes(case) -> None:
    kind, path, _ = case
    producer = kind.frames(str(path))
    assert pickle.loads(pickle.dumps(producer)) == producer
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert kind.frames(str(path)).token() != producer.token()


def test_forecast_bytes_hold_for_files(case) -> None:
    kind, path, _ = case
    producer = kind.frames(str(path))
    planes = tuple(producer.planes)
    producer.produce(producer.grid.window, planes)
    tracemalloc.start()
    producer.produce(producer.grid.window, planes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= producer.peak_bytes(producer.grid.window, planes) + 2**15


def test_a_damaged_file_is_refused_by_name(case, tmp_path: Path) -> None:
    kind, path, _ = case
    for damage in (b"", b"this is a letter", path.read_bytes()[: path.stat().st_size // 3]):
        bad = tmp_path / f"bad{kind.endings[0]}"
        bad.write_bytes(damage)
        with pytest.raises(DataError, match=f"bad\\{kind.endings[0]}"):
            gx.open_frames(bad)


def test_several_recordings_are_refused_with_what_to_do(case, tmp_path: Path) -> None:
    _, path, _ = case
    other = path.with_name("other" + path.suffix)
    shutil.copy(path, other)
    with pytest.raises(DataError, match="one by one"):
        gx.open_frames([path, other])


def test_an_ending_cannot_be_claimed_twice() -> None:
    taken = next(iter(FORMATS.values())).endings
    with pytest.raises(TypeError, match="is claimed by"):
        type("Impostor", (FrameFormat,), {"kind": "impostor", "endings": taken})
    assert "impostor" not in FORMATS


def test_ser_says_colours_times_and_camera(tmp_path: Path) -> None:
    path, _ = FORMATS["SER"].example(tmp_path)
    data = gx.open_frames(path)
    assert str(data["cfa_pattern"].item()) == "GRBG"
    assert data.attrs["camera"] == "a camera"
    steps = np.diff(data["start"].values) / np.timedelta64(1, "ms")
    np.testing.assert_array_equal(steps, 40.0)
    assert str(data["start"].values[0]).startswith("2023-11-14T22:13:20")
