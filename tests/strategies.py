"""Hypothesis strategies for geometry: windows inside windows, tilings of a cube."""

from __future__ import annotations

from hypothesis import strategies as st

from getframes_xr.core.window import Span, Window


@st.composite
def spans(draw: st.DrawFn, outer: Span) -> Span:
    """A non-empty span inside ``outer``."""
    start = draw(st.integers(outer.start, outer.stop - 1))
    return Span(start, draw(st.integers(start + 1, outer.stop)))


@st.composite
def windows(draw: st.DrawFn, outer: Window) -> Window:
    """A non-empty window inside ``outer``."""
    return Window(draw(spans(outer.frames)), draw(spans(outer.y)), draw(spans(outer.x)))


@st.composite
def pairs(draw: st.DrawFn, outer: Window) -> tuple[Window, Window]:
    """A window, and a window inside it."""
    large = draw(windows(outer))
    return large, draw(windows(large))


@st.composite
def tilings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk lengths along each axis."""
    return tuple(draw(st.integers(1, length)) for length in shape)
