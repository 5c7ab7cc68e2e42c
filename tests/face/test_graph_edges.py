"""The graph of a session grows with the number of frames, not with its square: a task gets the blocks it asks for."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from getframes_xr.core.window import Grid, Span
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.splat.lines import find_lines
from tests.laws.producers import moves_table


def edges(n: int) -> tuple[int, int]:
    """Edges and tasks of the line search over n frames of 256 x 256, in which a task holds a few frames."""
    size = (n, 256, 256)
    grid = Grid(Span(4, 260), Span(-6, 250), {"frame": 10 + np.arange(n)})
    nothing = np.broadcast_to(np.float32(0), size)
    frames = lazy(ArrayFrames(grid, {"image": nothing}, {"image": "electron"}))
    still = np.broadcast_to(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (n, 2, 3))
    moves = moves_table(size).assign(transform=(("time", "axis", "term"), still), transparency=("time", np.ones(n)))
    first = xr.Dataset(
        {
            "image": (("y", "x"), np.zeros((258, 258), np.float32)),
            "count": (("y", "x"), np.ones((258, 258), np.uint16)),
        },
        {"y": np.arange(3, 261), "x": np.arange(-7, 251)},
    )
    found = find_lines(frames, moves, first)
    below = found.__dask_graph__().get_all_dependencies()
    return sum(map(len, below.values())), len(below)


@pytest.mark.slow
def test_edges_and_tasks_are_linear_in_the_number_of_frames() -> None:
    (few_edges, few_tasks), (many_edges, many_tasks) = edges(1000), edges(3000)
    assert many_edges <= 3.1 * few_edges and many_tasks <= 3.1 * few_tasks
    assert many_edges <= 10 * 3000
