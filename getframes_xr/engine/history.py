"""State that runs along time, anchored so that every frame still belongs to its place.

The state at frame ``m * period`` starts from nothing at frame ``m * period - horizon``; the frames up to the next
anchor continue from it. Any frame can so be asked for alone, tasks stay independent, and the bytes do not depend on
which frames are asked for together. Frames are positions on the producer's own axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import Plane
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.stage import HistoryStage, Place


def history_of(stage: HistoryStage, window: Window) -> Iterator[tuple[int, range]]:
    """Of each anchor that a window touches: its frame, and the frames to step over."""
    asked, period = window.frames, stage.period
    for anchor in range(asked.start // period * period, asked.stop, period):
        yield anchor, range(max(0, anchor - stage.horizon), min(anchor + period, asked.stop))


def run_history(
    stage: HistoryStage,
    window: Window,
    wanted: Mapping[str, Plane],
    before: Callable[[Window], Patch],
    place: Callable[[Window], Place],
) -> Patch:
    """Step ``stage`` over the frames of ``window``, one frame in memory at a time.

    Parameters
    ----------
    window : the asked frames and pixels
    wanted : planes to return, with their dtypes
    before : makes the stage's input for a window of one frame
    place : the stage's place for a window of one frame
    """
    shape = window.shape
    out = Patch(window, {name: np.empty(shape, plane.dtype) for name, plane in wanted.items()})
    asked = window.frames
    for anchor, frames in history_of(stage, window):
        state = stage.start(shape[1:])
        for frame in frames:
            one = window.with_frames(Span(frame, frame + 1))
            patch = stage.step(before(one), state, place(one))
            if frame >= max(anchor, asked.start):
                for name in wanted:
                    out[name][frame - asked.start] = patch[name][0]
    return out
