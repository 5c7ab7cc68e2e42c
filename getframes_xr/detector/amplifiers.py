"""Which amplifier reads a pixel: the sensor cut into rows x columns of blocks, as equal as possible.

Boundaries are ``round(i * n / count)`` of the whole sensor, so a window knows its amplifiers without the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from getframes_xr.core.draws import Draws, stream_word
from getframes_xr.core.patch import Array
from getframes_xr.core.window import Span
from getframes_xr.engine.stage import Place, Stage


def amplifier_spans(whole: Span, count: int) -> tuple[Span, ...]:
    """Cut a span into ``count`` runs as equal as possible."""
    cuts = [whole.start + (2 * i * len(whole) + count) // (2 * count) for i in range(count + 1)]
    return tuple(Span(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True))


def amplifier_blocks(place: Place, layout: tuple[int, int]) -> Iterator[tuple[int, slice, slice]]:
    """Walk the amplifiers a window touches: number (row by row), rows and columns as slices of the window."""
    window = place.window
    for row, y in enumerate(amplifier_spans(place.grid.y, layout[0])):
        for column, x in enumerate(amplifier_spans(place.grid.x, layout[1])):
            here_y, here_x = y.clip(window.y), x.clip(window.x)
            if len(here_y) and len(here_x):
                yield row * layout[1] + column, here_y.slice_in(window.y), here_x.slice_in(window.x)


def amplifier_numbers(place: Place, stage: Stage, layout: tuple[int, int]) -> Array:
    """Give one fixed normal deviate of the camera per amplifier, float32 (amplifiers,)."""
    word = stream_word(stage.stream_number, place.number)
    draws = Draws(place.fixed_key, np.zeros(1, np.int64), Span(0, 0), Span(0, 0), word)
    numbers: Array = draws.per_frame(layout[0] * layout[1])[0]
    return numbers
