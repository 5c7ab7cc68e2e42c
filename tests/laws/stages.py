"""A stage over small frames, and the laws that only stages have.

The frames are not neutral: their numbers are not their positions, and exposure, temperature and gain differ among them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from getframes_xr.core.vocabulary import COLUMNS, Plane
from getframes_xr.core.window import Grid, Span
from getframes_xr.detector.fixed_maps import MAPS
from getframes_xr.engine.producer import ArrayFrames, Producer
from getframes_xr.engine.stage import Scope, Stage
from getframes_xr.engine.staged import Staged
from tests.laws import kit

NUMBERS = np.array([12, 13, 15, 16, 21])
FRAMES, ROWS, COLUMNS_PX = len(NUMBERS), 17, 22
TOP, LEFT = 6, 10  # absolute origin: even, so a CFA stays what it is
KEYS = {"key": (3, 5), "fixed_key": (7, 9)}


def grid(shape: tuple[int, int, int] = (FRAMES, ROWS, COLUMNS_PX), cfa: str | None = "RGGB") -> Grid:
    columns: dict[str, Any] = {
        "frame": NUMBERS,
        "start": np.datetime64("2026-01-01", "ns") + NUMBERS * np.timedelta64(31, "s"),
        "exposure_s": np.array([20.0, 20.0, 15.0, 20.0, 30.0]),
        "group": np.array([0, 0, 1, 1, 1]),
        "temperature_c": np.array([1.5, -3.0, 1.5, 4.0, 20.0]),
    }
    for name in ("gain_e_per_adu", "transparency", "airmass"):
        columns.setdefault(name, 1.5 + 0.1 * np.arange(FRAMES))
    assert set(columns) <= set(COLUMNS)
    first = {name: column[: shape[0]] for name, column in columns.items()}
    return Grid(Span(TOP, TOP + shape[1]), Span(LEFT, LEFT + shape[2]), first, cfa=cfa)


def example_values(name: str, plane: Plane, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(sum(map(ord, name)))
    if plane.dtype.kind == "f":
        values = random.gamma(0.7, 4000.0, shape)
        values[..., 5, 7] = 90_000.0
        return values.astype(plane.dtype)
    if name == "flags":
        return np.zeros(shape, plane.dtype)
    return random.integers(0, 4000, shape).astype(plane.dtype)


def parent(stage: Stage, shape: tuple[int, int, int]) -> ArrayFrames:
    """What the stage reads, on frames of this shape."""
    arrays = {name: example_values(name, plane, shape) for name, plane in stage.example_planes().items()}
    return ArrayFrames(grid(shape), arrays)


def chain(stage: Stage, larger: int = 1) -> Staged:
    """The stage over small frames, ``larger`` times as high and wide."""
    return Staged(parent(stage, (FRAMES, ROWS * larger, COLUMNS_PX * larger)), (stage,), **KEYS)


def bytes_of(stage: Stage, larger: int = 6) -> bytes:
    """What the stage writes, on frames large enough for rare events."""
    patch = kit.whole(chain(stage, larger), stage.writes)
    return b"".join(patch[name].tobytes() for name in stage.writes)


def small_bytes_of(stage: Stage) -> bytes:
    return bytes_of(stage, 1)


# --- laws ----------------------------------------------------------------------------------------------------------


def frames_go_by_number(stage: Stage) -> None:
    """Where the stage has no memory, each frame keeps its bytes in whatever order frames are chosen."""
    if stage.scope is Scope.HISTORY:
        return

    def over(frames: Producer) -> Staged:
        return Staged(frames, (stage,), **KEYS)

    kit.frames_go_by_number(over, chain(stage, 6).parent, stage.writes)


def bytes_are_as_forecast(stage: Stage) -> None:
    """The forecast of a stage holds, and what it keeps for the process is what it says."""
    frames = Staged(parent(stage, (2, 256, 320)), (stage,), **KEYS)
    kit.bytes_are_as_forecast(frames, stage.writes)
    MAPS.clear()
    kit.whole(frames, stage.writes)
    held, told = MAPS.held_bytes, stage.cached_bytes(frames.grid)
    assert held <= told + 2**17, f"keeps {held} bytes of fixed maps, says {told}"  # lists of defects are not counted
    assert told <= 2 * held + 2**16, f"keeps {held} bytes of fixed maps, says {told}"


def planes_are_as_declared(stage: Stage) -> None:
    """What is written has the declared type and shape and no NaN; what is not written stays."""
    frames = chain(stage)
    patch = kit.whole(frames)
    for name in stage.writes:
        assert patch[name].dtype == frames.planes[name].dtype
        assert patch[name].shape == frames.grid.window.shape
        if patch[name].dtype.kind == "f":
            assert np.isfinite(patch[name]).all()
    for name in set(frames.parent.planes) - set(stage.writes):
        before = kit.whole(frames.parent, (name,))[name]
        assert patch[name].tobytes() == before.tobytes(), f"{name} is changed and not among what the stage writes"


def charge_is_conserved(stage: Stage) -> None:
    """Charge far from the frame's edge is moved, never made or lost: kept within the rounding of float32."""
    (name,) = (name for name in stage.writes if name != "flags")
    shape = (2, 5 * ROWS, 5 * COLUMNS_PX)
    values = np.zeros(shape, np.float32)
    inner = (slice(None), slice(2 * ROWS, 3 * ROWS), slice(2 * COLUMNS_PX, 3 * COLUMNS_PX))
    values[inner] = np.random.default_rng(6).gamma(0.7, 300.0, (2, ROWS, COLUMNS_PX))
    values[:, 40, 50] = 9000.0
    frames = Staged(ArrayFrames(grid(shape), {name: values}), (stage,), **KEYS)
    after = kit.whole(frames, (name,))[name]
    rounding = 2 * 9 * 2.0**-24  # two axes of nine float32 weights, the widest kernel of the examples
    for one, other in zip(values, after, strict=True):
        before, now = one.sum(dtype=np.float64), other.sum(dtype=np.float64)
        assert abs(now / before - 1) < rounding, f"{before} e- become {now}"


def draws_belong_to_the_key(examples: Iterable[Stage]) -> None:
    """Another seed or camera has other numbers (of rare events only larger frames have some)."""
    for larger, stage in _from_small_to_large(examples):
        frames = chain(stage, larger)
        other = Staged(frames.parent, (stage,), key=(4, 5), fixed_key=(8, 9))
        if not kit.identical(kit.whole(frames, stage.writes), kit.whole(other, stage.writes)):
            return
    raise AssertionError(f"{type(stage).__name__} states a stream and does not depend on its key")


def two_of_a_kind_share_no_draws(examples: Iterable[Stage]) -> None:
    """The second stage of a kind in a chain draws other numbers than the first would draw in its place."""
    for larger, stage in _from_small_to_large(examples):
        once = chain(stage, larger)
        twice = Staged(once.parent, (stage, stage), **KEYS)
        the_first_again = Staged(once, (stage,), **KEYS)
        if not kit.identical(kit.whole(twice, stage.writes), kit.whole(the_first_again, stage.writes)):
            return
    raise AssertionError(f"two stages {type(stage).__name__} in one chain draw the same numbers")


def _from_small_to_large(examples: Iterable[Stage]) -> Iterable[tuple[int, Stage]]:
    members = tuple(examples)
    return ((larger, stage) for larger in (1, 6, 40) for stage in members)


def order_does_not_show(examples: Iterable[Stage]) -> None:
    kit.order_does_not_show([(stage, small_bytes_of) for stage in kit.with_other_options(list(examples))])


def every_option_works(examples: Collection[Stage], idle: Collection[str] = ()) -> None:
    kit.every_option_works(examples, bytes_of, idle, results=3)
