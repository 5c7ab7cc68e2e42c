"""A producer shows itself as a chain a person can read: source, steps, grid, one short line each."""

from __future__ import annotations

from pathlib import Path

import pytest

import getframes_xr as gx
from getframes_xr.engine.producer import LINE, Producer
from tests.laws import producers as cases

SIZE = (4, 30, 36)


@pytest.mark.parametrize("name", cases.CASES)
def test_every_producer_has_a_short_chain(name: str, tmp_path: Path) -> None:
    producer = cases.CASES[name](tmp_path, SIZE)
    lines = repr(producer).split("\n")
    assert 2 <= len(lines) <= 16
    assert all(0 < len(line) <= LINE for line in lines), repr(producer)
    kind = type(producer).__name__
    assert lines[-2].split(":")[0] == kind or (kind == "Held" and lines[-2].endswith(" (held)")), repr(producer)
    assert f"{len(producer.grid.y)} x {len(producer.grid.x)} px" in lines[-1]
    assert "<" not in repr(producer) and "array(" not in repr(producer)


def test_no_producer_falls_back_to_the_wall_of_its_fields() -> None:
    assert all(cls.__repr__ is Producer.__repr__ for cls in cases.subclasses(Producer))


def test_the_chain_of_a_stack_reads_from_its_source_down() -> None:
    raw = gx.lazy(cases.raw((6, 30, 36)))
    dark = gx.lazy(cases.still((6, 30, 36), 100.0, attrs={"exposure_s": 20.0}))
    made = gx.stack(gx.warp(gx.calibrate(raw, dark=dark), cases.moves_table((6, 30, 36))))
    lines = repr(gx.as_producer(made)).split("\n")
    assert [line.split(":")[0] for line in lines[:-1]] == ["ArrayFrames", "Calibrated", "Warped", "Selected", "Stacked"]
    assert "dark ArrayFrames (held)" in lines[1] and "bicubic" in lines[2] and "5 of 6 frames" in lines[3]
    assert lines[-1].startswith("30 x 36 px from (4, -6): image")


def test_gx_says_by_what_frames_are_made() -> None:
    shown = gx.calibrate(gx.lazy(cases.raw(SIZE)))
    for text in (repr(shown.gx), shown.gx._repr_html_()):
        assert "made by" in text and text.index("ArrayFrames") < text.index("Calibrated")
    assert "made by" not in repr((shown + 1).gx)
