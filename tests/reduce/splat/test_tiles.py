"""Tiles: coverage and parts against points mapped one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.window import Span
from getframes_xr.reduce.splat.tiles import add_coverage, parts_of
from tests.reduce.night import similarity

Y, X = Span(3, 43), Span(-7, 48)


def inverse_of(move):
    turn = np.linalg.inv(move[:, :2])
    return np.column_stack([turn, -turn @ move[:, 2]])


moves = st.builds(
    similarity, st.floats(-180, 180), st.floats(-60, 60), st.floats(-60, 60), st.just((23.0, 20.0))
)  # fmt: skip


@given(moves, st.integers(-40, 60), st.integers(-40, 60))
def test_coverage_counts_the_pixels_whose_centre_lies_in_the_frame(move, top, left):
    """Against the same inequality pixel by pixel, so any window counts alike."""
    inverse = inverse_of(move)
    out = np.zeros((25, 31), np.uint16)
    add_coverage(out, top, left, inverse, Y.start - 0.5, Y.stop - 0.5, X.start - 0.5, X.stop - 0.5)
    j, i = np.mgrid[top : top + 25, left : left + 31]
    y = (inverse[0, 0] * j + inverse[0, 2]) + inverse[0, 1] * i
    x = (inverse[1, 0] * j + inverse[1, 2]) + inverse[1, 1] * i
    inside = (y >= Y.start - 0.5) & (y < Y.stop - 0.5) & (x >= X.start - 0.5) & (x < X.stop - 0.5)
    np.testing.assert_array_equal(out, inside)


def test_coverage_of_an_unturned_frame_is_its_rectangle():
    out = np.zeros((60, 80), np.uint16)
    add_coverage(out, 0, -20, np.array([[1.0, 0, 0.25], [0, 1.0, -0.25]]), 2.5, 42.5, -7.5, 47.5)
    assert out.sum() == 40 * 55


@given(st.integers(-300, 300), st.integers(-300, 300), st.integers(2, 300), st.integers(2, 300))
def test_parts_hold_every_upper_left_pixel_once_and_lie_on_the_same_canvas_lines(top, left, height, width):
    rows, columns = Span(top, top + height), Span(left, left + width)
    seen = np.zeros((height, width), int)
    for part in parts_of(rows, columns, 64):
        assert tuple(part[:2]) == (top, left)
        seen[part[2] : part[3], part[4] : part[5]] += 1
        for origin, edge, last in ((top, part[3], height), (left, part[5], width)):
            assert (origin + edge) % 64 == 0 or edge == last - 1
    assert (seen[:-1, :-1] == 1).all()
    assert not seen[-1].any() and not seen[:, -1].any()
