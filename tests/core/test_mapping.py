"""Mappings between grids, against points mapped one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.mapping import Affine, apply
from getframes_xr.core.window import Span

Y, X = Span(3, 43), Span(-7, 48)


def move(degrees, dy, dx, stretch):
    """Turned about (20, 23), stretched along y, sheared a little, shifted."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s], [s, c]]) @ np.array([[stretch, 0.02], [0.0, 1.0]])
    return np.column_stack([turn, np.array([20.0, 23.0]) - turn @ [20.0, 23.0] + (dy, dx)])


moves = st.builds(move, st.floats(-180, 180), st.floats(-60, 60), st.floats(-60, 60), st.floats(0.4, 2.5))
numbers = st.integers(-40, 60)


def pixels(y, x):
    return np.stack([v.ravel() for v in np.meshgrid(y.indices(), x.indices(), indexing="ij")], 1).astype(float)


@given(st.lists(moves, min_size=1, max_size=3))
def test_there_and_back_is_where_it_was(terms):
    there = Affine(np.stack(terms))
    points = pixels(Span(0, 5), Span(-3, 4))
    for k in range(len(there)):
        np.testing.assert_allclose(apply(there.inverse.terms[k], apply(terms[k], points)), points, atol=1e-9)
        np.testing.assert_allclose(there.inverse.after(there).terms[k], np.eye(2, 3), atol=1e-9)
        assert np.isclose(there.area[k] * there.inverse.area[k], 1.0, rtol=1e-12)


@given(moves, moves)
def test_one_map_after_another_moves_points_twice(outer, inner):
    points = pixels(Span(-2, 2), Span(5, 9))
    both = Affine(outer[None]).after(Affine(inner[None])).terms[0]
    np.testing.assert_allclose(apply(both, points), apply(outer, apply(inner, points)), atol=1e-9)


@given(moves)
def test_the_area_is_that_of_a_mapped_pixel(terms):
    """Shoelace formula over the mapped corners."""
    y, x = apply(terms, np.array([[0.0, 0], [0, 1], [1, 1], [1, 0]])).T
    shoelace = 0.5 * abs(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1)))
    assert np.isclose(Affine(terms[None]).area[0], shoelace, rtol=1e-9)


@given(moves, moves)
def test_the_box_is_the_least_that_holds_every_mapped_pixel(one, other):
    boxes = Affine(np.stack([one, other])).box(Y, X)
    for terms, box in zip((one, other), boxes, strict=True):
        at = apply(terms, pixels(Y, X))
        expected = [at[:, 0].min(), at[:, 0].max(), at[:, 1].min(), at[:, 1].max()]
        np.testing.assert_allclose(box, expected, atol=1e-9)


@given(moves, numbers, numbers, st.integers(1, 30))
def test_a_window_sees_every_pixel_that_reaches_it(terms, top, left, size):
    """A pixel reaches the window where it lands less than a pixel outside."""
    rows, columns = Span(top, top + size), Span(left, left + size)
    own = pixels(Y, X)
    y, x = apply(terms, own).T
    reaches = own[(y > top - 1) & (y < top + size) & (x > left - 1) & (x < left + size)].astype(int)
    margin = 2 + int(np.ceil(2 / 0.4))  # a pixel of the window is up to 2.5 of the frame's
    ((low_y, high_y, low_x, high_x),) = Affine(terms[None]).inverse.under(rows, columns, Y, X, margin).tolist()
    seen_y, seen_x = Span(low_y, high_y), Span(low_x, high_x)
    assert seen_y in Y and seen_x in X
    assert all(int(a) in seen_y and int(b) in seen_x for a, b in reaches)


@given(moves, numbers, numbers)
def test_a_footprint_is_its_box_and_the_margin_and_no_more(terms, top, left):
    rows, columns = Span(top, top + 7), Span(left, left + 9)
    far = Span(-1000, 1000)
    low_y, high_y, low_x, high_x = Affine(terms[None]).under(rows, columns, far, far, 3)[0]
    box = Affine(terms[None]).box(rows, columns)[0]
    for low, high, least, most in ((low_y, high_y, box[0], box[1]), (low_x, high_x, box[2], box[3])):
        assert least - 4 - 1e-9 <= low <= least - 3 and most + 3 <= high - 1 <= most + 4 + 1e-9


def test_what_misses_the_frame_or_has_no_map_is_nothing():
    away = np.array([[1.0, 0, 0], [0, 1, 500.0]])
    none = np.full((2, 3), np.nan)
    ends = np.array([[1.0, 0, 0], [0, 1, 0]])
    maps = Affine(np.stack([away, none, ends]))
    window = (Span(5, 9), Span(0, 4))
    assert maps.under(*window, Y, X, 1).tolist() == [[0] * 4, [0] * 4, [4, 10, -1, 5]]
    assert maps.known.tolist() == [True, False, True] and maps.shifts.tolist() == [True, False, True]
    assert not maps.under(Span(5, 5), Span(0, 4), Y, X, 1).any()
