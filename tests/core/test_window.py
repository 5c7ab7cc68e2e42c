"""Geometry: spans, windows and grids against sets of integers, the plainest model there is."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.cfa import CFA_PATTERNS, cfa_band
from getframes_xr.core.errors import DataError
from getframes_xr.core.window import Grid, Span, Window

EDGE = 12
some_spans = st.builds(Span, st.integers(-EDGE, EDGE), st.integers(-EDGE, EDGE))  # some are empty, some "negative"
full_spans = some_spans.filter(lambda span: len(span) > 0)
some_windows = st.builds(Window, full_spans, full_spans, full_spans)


def members(span: Span) -> set[int]:
    return set(range(span.start, span.stop))


def places(window: Window) -> set[tuple[int, int, int]]:
    return {(t, y, x) for t in members(window.frames) for y in members(window.y) for x in members(window.x)}


@given(some_spans)
def test_a_span_is_its_integers(span: Span) -> None:
    assert len(span) == len(members(span))
    assert span.indices().tolist() == sorted(members(span)) and span.indices().dtype == np.int64
    for i in range(-EDGE - 1, EDGE + 2):
        assert (i in span) == (i in members(span)) == (np.int64(i) in span)
    assert 0.5 not in Span(0, 2) and "0" not in span


@given(some_spans, some_spans)
def test_to_hold_a_span_is_to_hold_its_integers(one: Span, other: Span) -> None:
    assert (other in one) == (members(other) <= members(one))


@given(full_spans, some_spans)
def test_a_clip_is_what_both_hold_and_stays_inside(one: Span, other: Span) -> None:
    clipped = other.clip(one)
    assert members(clipped) == members(one) & members(other)
    assert len(clipped) == max(0, clipped.stop - clipped.start) == clipped.stop - clipped.start
    assert one.start <= clipped.start <= clipped.stop <= one.stop  # an empty one still cuts an array: slice_in is legal


@given(full_spans, full_spans)
def test_a_hull_is_the_least_run_that_holds_both(one: Span, other: Span) -> None:
    both = members(one) | members(other)
    assert one.hull(other) == Span(min(both), max(both) + 1) == other.hull(one)


@given(full_spans, st.integers(0, 5), st.integers(0, 5))
def test_growing_adds_that_many_on_each_side(span: Span, before: int, after: int) -> None:
    assert span.grow(before, after) == Span(span.start - before, span.stop + after)
    assert span.grow(before) == span.grow(before, before) and span.grow(before, after).grow(-before, -after) == span


@given(full_spans, st.integers(-9, 9))
def test_a_shift_moves_every_integer(span: Span, by: int) -> None:
    assert members(span.shift(by)) == {i + by for i in members(span)}


@given(some_spans, st.integers(1, 7))
def test_pieces_are_the_span_in_order_each_as_long_as_allowed(span: Span, length: int) -> None:
    pieces = list(span.pieces(length))
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == sorted(members(span))
    assert all(len(piece) == length for piece in pieces[:-1]) and all(1 <= len(piece) <= length for piece in pieces)


@given(full_spans, st.data())
def test_a_slice_in_an_outer_array_cuts_the_span_s_own_values(outer: Span, data: st.DataObject) -> None:
    start = data.draw(st.integers(outer.start, outer.stop))
    inner = Span(start, data.draw(st.integers(start, outer.stop)))
    assert outer.indices()[inner.slice_in(outer)].tolist() == inner.indices().tolist()


@given(some_windows, some_windows)
def test_windows_are_boxes_of_places(one: Window, other: Window) -> None:
    frames, y, x = one.shape
    assert len(places(one)) == one.pixels == frames * y * x
    assert (frames, y, x) == (len(one.frames), len(one.y), len(one.x))
    assert (other in one) == (places(other) <= places(one))
    assert places(one.clip(other)) == places(one) & places(other)
    assert one in one.hull(other) and other in one.hull(other)
    assert one.hull(other).shape == tuple(len(getattr(one, a).hull(getattr(other, a))) for a in ("frames", "y", "x"))


def test_windows_grow_along_rows_and_columns_never_along_frames() -> None:
    window = Window(Span(1, 3), Span(10, 14), Span(20, 26))
    assert window.grow(2, 5) == Window(Span(1, 3), Span(8, 16), Span(15, 31))
    assert window.grow(3) == Window(Span(1, 3), Span(7, 17), Span(17, 29))
    assert window.with_frames(Span(7, 8)) == Window(Span(7, 8), Span(10, 14), Span(20, 26))
    assert window.with_rows(Span(7, 8)) == Window(Span(1, 3), Span(7, 8), Span(20, 26))


# --- grids -----------------------------------------------------------------------------------------------------------

FRAMES = np.array([7, 3, 12, 9])


def grid(**changes: Any) -> Grid:
    columns = {"frame": FRAMES, "gain_e_per_adu": [1.0, 1.5, 2.0, 2.5], "file": ["a", "b", "c", "d"]}
    stated: dict[str, Any] = {"columns": columns, "attrs": {"camera": "one"}, "wcs": "CRPIX1 = 3"}
    return Grid(Span(-2, 3), Span(4, 11), **(stated | changes))


def test_a_grid_says_its_shape_with_time_and_bands_where_it_has_them() -> None:
    part = Window(Span(1, 3), Span(-1, 3), Span(5, 10))
    for columns, bands, dims, shape in (
        ({"frame": FRAMES}, None, ("time", "y", "x"), (2, 4, 5)),
        ({"frame": FRAMES}, ("red", "blue", "x"), ("time", "band", "y", "x"), (2, 3, 4, 5)),
        (None, None, ("y", "x"), (4, 5)),
        (None, ("red", "blue", "x"), ("band", "y", "x"), (3, 4, 5)),
    ):
        made = grid(columns=columns, bands=bands)
        assert made.dims == dims and made.shape(part) == shape and made.timed == (columns is not None)
        assert made.n_frames == (4 if columns else 1)
        assert made.window == Window(Span(0, 4 if columns else 1), Span(-2, 3), Span(4, 11))


@given(st.lists(st.integers(0, 3), unique=True, max_size=4))
def test_a_selection_takes_every_column_along_in_the_order_asked_for(positions: list[int]) -> None:
    chosen = grid().select(np.array(positions, int))
    assert chosen.columns is not None and chosen.columns.keys() == grid().columns.keys()
    for name, values in chosen.columns.items():
        assert values.tolist() == [grid().column(name)[at] for at in positions], name
    assert (chosen.y, chosen.x, chosen.wcs, chosen.attrs) == (grid().y, grid().x, grid().wcs, grid().attrs)
    with pytest.raises(DataError, match="no frames to select"):
        grid(columns=None).select(np.array([0]))


def test_columns_are_copies_that_nobody_can_write_to() -> None:
    mine = np.array([1.0, 2.0, 3.0, 4.0])
    made = grid(columns={"frame": FRAMES, "sky_level": mine})
    mine[0] = 99
    assert made.column("sky_level")[0] == 1.0
    for name in ("frame", "sky_level"):
        with pytest.raises(ValueError, match="read-only"):
            made.column(name)[0] = 5
    assert made.column("frame").dtype == np.int64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": {"frame": [1, 2, 1]}}, "'frame' holds a number twice"),
        ({"columns": {"frame": [1, 2], "file": ["a"]}}, "differ in length.*'frame': 2.*'file': 1"),
        ({"columns": {"file": ["a"]}}, "needs the column 'frame'"),
        ({"cfa": "RGBG"}, "'RGBG' is not one of RGGB, BGGR, GRBG, GBRG"),
    ],
)
def test_what_no_grid_can_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        grid(**change)


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DataError, match="no 'airmass'; known: frame, gain_e_per_adu, file"):
        grid().column("airmass")
    with pytest.raises(DataError, match="no 'frame'"):
        grid(columns=None).column("frame")


@given(some_windows)
def test_a_window_that_leaves_the_grid_is_refused_and_no_other(window: Window) -> None:
    inside = places(window) <= places(grid().window)
    if inside:
        grid().check(window)
    else:
        with pytest.raises(DataError, match="leaves the grid"):
            grid().check(window)


def test_equal_grids_are_equal_in_all_ways_and_anything_else_makes_another_token() -> None:
    one = grid()
    again = pickle.loads(pickle.dumps(one))
    assert again == one and hash(again) == hash(one) and again.token() == one.token()
    columns = dict(one.columns or {})
    others = [
        grid(columns=columns | {"gain_e_per_adu": [1.0, 1.5, 2.0, 2.6]}),
        grid(columns=columns | {"frame": [3, 7, 12, 9]}),
        grid(columns=columns | {"airmass": [1, 1, 1, 1]}),
        grid(columns={name: values for name, values in columns.items() if name != "file"}),
        grid(columns=None),
        grid(bands=("red",)),
        grid(cfa="RGGB"),
        grid(cfa="BGGR"),
        grid(wcs="CRPIX1 = 4"),
        grid(attrs={"camera": "two"}),
        one.replace(y=Span(-2, 4)),
        one.replace(y=Span(-3, 3)),
        one.replace(x=Span(4, 12)),
        one.replace(x=Span(5, 11)),
        one.replace(y=one.x, x=one.y),
        one.select(np.array([1, 0, 2, 3])),
    ]
    tokens = {one.token(), *(other.token() for other in others)}
    assert len(tokens) == 1 + len(others) and one not in others and one != "a grid"


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@given(y=st.integers(-9, 9), x=st.integers(-9, 9))
def test_a_colour_filter_repeats_every_second_pixel_also_below_zero(pattern: str, y: int, x: int) -> None:
    rows = (pattern[:2], pattern[2:])
    expected = {"R": "red", "G": "green", "B": "blue"}[rows[y % 2][x % 2]]
    assert cfa_band(pattern, y, x) == expected
