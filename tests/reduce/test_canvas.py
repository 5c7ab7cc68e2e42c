"""Canvas: unions against points mapped one by one; warp and splat on the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.errors import OptionError
from getframes_xr.core.window import Span
from getframes_xr.reduce.canvas import canvas_spans
from getframes_xr.reduce.splat.splat import splat
from getframes_xr.reduce.warp import warp
from tests.reduce.night import night, similarity

Y, X = Span(3, 43), Span(-7, 48)


moves = st.builds(
    similarity, st.floats(-180, 180), st.floats(-60, 60), st.floats(-60, 60), st.just((23.0, 20.0))
)  # fmt: skip


@given(st.lists(moves, min_size=1, max_size=4))
def test_every_pixel_of_every_frame_lands_a_pixel_inside_the_union(transforms):
    rows, columns = canvas_spans("union", np.stack(transforms), Y, X)
    y, x = (v.ravel() for v in np.meshgrid(Y.indices(), X.indices(), indexing="ij"))
    for move in transforms:
        at_y, at_x = move @ np.stack([y, x, np.ones(len(y))])
        assert at_y.min() >= rows.start + 1 and at_y.max() <= rows.stop - 2
        assert at_x.min() >= columns.start + 1 and at_x.max() <= columns.stop - 2


def test_the_union_of_one_unmoved_frame_is_one_pixel_wider():
    assert canvas_spans("union", np.array([[[1.0, 0, 0], [0, 1, 0]]]), Y, X) == (Y.grow(1), X.grow(1))


def test_the_reference_canvas_is_the_frame_itself_and_other_words_are_refused():
    transforms = np.stack([similarity(10, 3, 3, (20, 20))])
    assert canvas_spans("reference", transforms, Y, X) == (Y, X)
    with pytest.raises(OptionError, match="union, reference"):
        canvas_spans("largest", transforms, Y, X)


@pytest.mark.parametrize("canvas", ["union", "reference", "image"])
def test_warp_and_splat_lie_on_the_same_pixels(canvas):
    made = night(4, (40, 52), None, turn_deg=12.0, y0=-3, x0=8)
    moves = made.moves.assign(verified=made.moves["used"])
    shape = made.clean["image"].isel(time=0, y=slice(4, 30), x=slice(1, 9)) if canvas == "image" else canvas
    stacked, deposited = warp(made.clean, moves, canvas=shape), splat(made.clean, moves, canvas=shape)
    for axis in ("y", "x"):
        np.testing.assert_array_equal(stacked[axis].values, deposited[axis].values)
    seen = np.isfinite(stacked["image"].values).any(axis=0)
    assert (deposited["coverage"].values[seen] > 0).all() and seen.sum() > 200
