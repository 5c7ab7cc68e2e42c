"""Laws of file formats, walked over the registry: a new format is tested as soon as its file exists."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Array
from getframes_xr.engine.producer import Producer
from getframes_xr.io.formats import FORMATS, FrameFormat
from tests.laws import kit

KINDS = sorted(FORMATS)
Case = tuple[type[FrameFormat], Path, Array]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    path, values = FORMATS[request.param].example(tmp_path)
    return FORMATS[request.param], path, values


@pytest.fixture
def frames(case: Case) -> Producer:
    return case[0].frames(str(case[1]))


def test_open_frames_gives_the_values_of_the_file_in_its_type(case: Case, refuses_to_compute: None) -> None:
    kind, path, values = case
    data = gx.open_frames(path)
    assert path.name.lower().endswith(kind.endings)
    plane = data["adu" if values.dtype.kind in "iu" else "image"]
    assert plane.dtype == values.dtype
    assert plane.dims == ("time", "y", "x")
    producer = gx.as_producer(data)
    np.testing.assert_array_equal(producer.produce(producer.grid.window, [plane.name])[plane.name], values)


def test_a_file_gives_its_values(case: Case) -> None:
    kit.file_gives_its_values(*case)


def test_a_window_is_the_crop_of_any_window_around_it(frames: Producer) -> None:
    kit.windows_agree(frames, tries=25)


def test_what_was_asked_before_does_not_show(frames: Producer) -> None:
    kit.asked_again_agrees(frames)


def test_any_number_of_threads_gives_the_same_bytes(frames: Producer) -> None:
    kit.threads_agree(frames)


def test_a_producer_of_files_pickles(frames: Producer) -> None:
    assert pickle.loads(pickle.dumps(frames)) == frames


def test_a_file_that_changes_is_another(case: Case) -> None:
    kit.file_that_changes_is_another(case[0], case[1])


def test_bytes_are_as_forecast(frames: Producer) -> None:
    kit.bytes_are_as_forecast(frames, slack=2**15)


def test_a_damaged_file_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    kind, path, _ = case
    for damage in (b"", b"this is a letter", path.read_bytes()[: path.stat().st_size // 3]):
        bad = tmp_path / f"bad{kind.endings[0]}"
        bad.write_bytes(damage)
        with pytest.raises(DataError, match=f"bad\\{kind.endings[0]}"):
            gx.open_frames(bad)


def test_several_recordings_are_refused_with_what_to_do(case: Case, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("stated", ["frames", "example"])
def test_a_format_that_leaves_something_out_is_refused(stated: str) -> None:
    parts = {"kind": "partial", "endings": (".partial",), "frames": None, "example": None}
    del parts[stated]
    with pytest.raises(TypeError, match=f"Partial states no {stated}"):
        type("Partial", (FrameFormat,), parts)
    assert "partial" not in FORMATS


def test_ser_says_colours_times_and_camera(tmp_path: Path) -> None:
    path, _ = FORMATS["SER"].example(tmp_path)
    data = gx.open_frames(path)
    assert str(data["cfa_pattern"].item()) == "GRBG"
    assert data.attrs["camera"] == "a camera"
    steps = np.diff(data["start"].values) / np.timedelta64(1, "ms")
    np.testing.assert_array_equal(steps, 40.0)
    assert str(data["start"].values[0]).startswith("2023-11-14T22:13:20")
