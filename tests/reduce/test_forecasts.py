"""The forecast of memory holds for every producer of the room: real <= forecast <= 2 x real + 16 MiB."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.collapse import Stacked
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.frames_in import as_producer
from getframes_xr.reduce import reject
from getframes_xr.reduce.binned import Binned
from getframes_xr.reduce.calibrate import Calibrated
from getframes_xr.reduce.concat import Concatenated
from getframes_xr.reduce.debayer import Debayered
from getframes_xr.reduce.warp import Warped
from tests.frames import held_frames
from tests.reduce.test_warp import turn

N, NY, NX = 24, 600, 700


def frames(dtype=np.uint16, flags=True, cfa=None, n=N):
    values = np.broadcast_to(np.full((1, NY, NX), 500, dtype), (n, NY, NX))
    marks = np.broadcast_to(np.eye(NY, NX, dtype=np.uint16)[None] * 8, (n, NY, NX))
    return held_frames(values, marks if flags else None, cfa=cfa)


def master():
    return ArrayFrames(Grid(Span(0, NY), Span(0, NX)), {"image": np.ones((NY, NX), np.float32)})


MOVES = np.stack([turn(angle, 3, -2) for angle in np.linspace(-3, 3, N)])
CASES = {
    "stack u16": lambda: Stacked(frames(), reject.SigmaClip(kappa=3.0)),
    "stack u16 without flags": lambda: Stacked(frames(flags=False), reject.Median()),
    "stack f32": lambda: Stacked(frames(np.float32), reject.SigmaClip(kappa=3.0), np.linspace(1, 2, N)),
    "mean": lambda: Stacked(frames(np.float32), reject.Mean()),
    "warp": lambda: Warped(frames(np.float32), MOVES, Span(0, NY), Span(0, NX)),
    "warp and stack": lambda: Stacked(Warped(frames(), MOVES, Span(0, NY), Span(0, NX)), reject.Winsor()),
    "calibrate": lambda: Calibrated(frames(), "image", dark=master(), bias=master(), flat=master()),
    "superpixel": lambda: Debayered(frames(cfa="RGGB", n=6), "superpixel"),
    "bilinear": lambda: Debayered(frames(cfa="RGGB", n=6), "bilinear"),
    "bins": lambda: Binned(frames(np.float32, n=6), 2),
    "concat": lambda: Concatenated((frames(n=4), frames(n=4))),
}


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("share", [1.0, 0.4], ids=["whole", "part"])
def test_the_forecast_of_memory_holds(name, share):
    made = CASES[name]()
    grid = made.grid
    window = Window(grid.window.frames, Span(0, int(len(grid.y) * share)), Span(0, int(len(grid.x) * share)))
    small = Window(Span(0, 1), Span(0, 8), Span(0, 8))
    made.produce(small, made.planes)  # compile first
    tracemalloc.start()
    try:
        patch = made.produce(window, made.planes)
        real = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    forecast = made.peak_bytes(window, made.planes)
    assert patch.nbytes <= real <= forecast <= 2 * real + 16 * 2**20, (
        f"real {real / 2**20:.1f}, {forecast / 2**20:.1f} MiB"
    )


def test_a_chain_of_users_calls_is_forecast_as_one_producer():
    from getframes_xr.face.lazy import lazy
    from getframes_xr.reduce.stack import stack

    chain = as_producer(stack(lazy(frames(flags=False))))
    assert isinstance(chain, Stacked) and isinstance(chain.parent, ArrayFrames)
