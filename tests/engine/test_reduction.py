"""Reductions in blocks of ranks: folded states give the bytes of one pass, and keep their tokens when frames join."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.collapse import Stacked
from getframes_xr.engine.producer import ArrayFrames, Producer
from getframes_xr.engine.reduction import BLOCK_RANKS, Folded, Partial, folded
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.calibrate import Calibrated
from getframes_xr.reduce.splat.splat import Splatted, splat

N, ROWS, COLUMNS = BLOCK_RANKS + 44, 14, 18
RNG = np.random.default_rng(7)
VALUES = RNG.poisson(400.0, (N, ROWS, COLUMNS)).astype(np.uint16)
FLAGS = (RNG.random((N, ROWS, COLUMNS)) < 0.02).astype(np.uint16) * np.uint16(gx.Flag.HOT)
NUMBERS = RNG.permutation(N) * 3 + 11  # frame numbers are no positions


def frames(n: int = N) -> ArrayFrames:
    """Calibrated frames in an order of their own, the first ``n`` by frame number."""
    early = np.flatnonzero(np.argsort(np.argsort(NUMBERS)) < n)
    columns = {"frame": NUMBERS[early], "gain_e_per_adu": 1.0 + 0.001 * NUMBERS[early]}
    grid = Grid(Span(3, 3 + ROWS), Span(-5, COLUMNS - 5), columns)
    arrays = {"image": VALUES[early].astype(np.float32), "flags": FLAGS[early]}
    return ArrayFrames(grid, arrays, {"image": "electron"})


def moves(n: int = N) -> xr.Dataset:
    """Shifts and turns of every frame, fixed per frame number."""
    number = np.sort(NUMBERS)[:n]
    turn = 0.0003 * number
    transform = np.empty((n, 2, 3))
    transform[:, 0], transform[:, 1] = (
        np.stack([np.cos(turn), -np.sin(turn), 0.01 * number], 1),
        np.stack([np.sin(turn), np.cos(turn), -0.007 * number], 1),
    )
    sky = np.stack([300.0 + 0.05 * number, 0.0 * number, 0.0 * number], -1)
    return xr.Dataset(
        {
            "transform": (("time", "axis", "term"), transform),
            "transparency": ("time", 1.0 - 0.0005 * number),
            "sky": (("time", "band", "plane_term"), sky[:, None]),
            "variance": (("time", "band"), (400.0 + 0.1 * number)[:, None]),
            "weight": (("time", "band"), (1.0 / (400.0 + number))[:, None]),
            "used": ("time", number % 7 != 0),
        },
        {"frame": ("time", number), "band": ["mono"]},
        {"units": "electron", "centre_px": [10.0, 4.0]},
    )  # fmt: skip


def whole(producer: Producer) -> Patch:
    return producer.produce(producer.grid.window, producer.planes)


def mean(n: int = N) -> Stacked:
    return Stacked(frames(n), gx.reject.Mean(), 1.0 + 0.01 * frames(n).grid.column("frame"))


def deposited(n: int = N, first: xr.Dataset | None = None) -> Splatted:
    made = as_producer(splat(lazy(frames(n)), moves(n), first=first, canvas="reference"))
    assert isinstance(made, Splatted)
    return made


@pytest.mark.parametrize("make", [mean, deposited])
def test_folded_states_are_the_whole_byte_for_byte(make) -> None:
    reduction = make()
    assert reduction.n_ranks > BLOCK_RANKS
    one, other = whole(reduction), whole(folded(reduction))
    for name in reduction.planes:
        assert one[name].tobytes() == other[name].tobytes(), name
    part = Window(Span(0, 1), Span(6, 9), Span(2, 8))
    kept = folded(reduction).produce(part, reduction.planes)
    assert all(kept[name].tobytes() == one.view(part)[name].tobytes() for name in kept)


def test_a_mean_in_blocks_is_the_mean_in_one_pass() -> None:
    """Against numpy in float64: moving sums to another origin costs rounding alone."""
    stack, columns = mean(), frames().grid.column("frame")
    weights = (1.0 + 0.01 * columns)[:, None, None] * (FLAGS[np.argsort(np.argsort(NUMBERS)) < N] == 0)
    values = VALUES.astype(np.float64)
    expected = (weights * values).sum(axis=0) / weights.sum(axis=0)
    spread = (weights**2 * (values - expected) ** 2).sum(axis=0)
    noise = np.sqrt(spread / (weights.sum(axis=0) ** 2 - (weights**2).sum(axis=0)))
    made = whole(stack)
    np.testing.assert_allclose(made["image"], expected, rtol=2e-7)
    np.testing.assert_allclose(made["noise"], noise, rtol=1e-6)
    np.testing.assert_array_equal(made["count"], (weights > 0).sum(axis=0))


@pytest.mark.parametrize("make", [mean, deposited])
def test_a_state_keeps_its_token_when_another_frame_arrives(make) -> None:
    ranks = Span(0, BLOCK_RANKS)
    first = lazy(as_producer(gx.first_image(lazy(frames()), moves()))).load() if make is deposited else None
    options = {} if first is None else {"first": first}
    before, after = (Partial(make(n, **options).over(ranks)) for n in (N - 1, N))
    assert before.token() == after.token()
    assert Partial(make(N, **options).over(Span(0, BLOCK_RANKS - 1))).token() != after.token()


def test_states_of_other_frames_first_images_or_moves_are_refused() -> None:
    stack = deposited()
    parts = folded(stack).parts
    other = dataclasses.replace(stack.moves, transparency=stack.moves.transparency * 1.001)
    for changed in (
        dataclasses.replace(stack, moves=other),
        dataclasses.replace(stack, kappa=5.0),
        dataclasses.replace(stack, first=None),
    ):
        with pytest.raises(DataError, match="state 0 is not of these frames"):
            Folded(changed, parts)
    with pytest.raises(DataError, match="state 0"):
        Folded(stack, parts[::-1])


def test_a_median_does_not_fold() -> None:
    assert not Stacked(frames(), gx.reject.Median()).folds


def test_a_selection_is_pushed_to_the_leaf() -> None:
    """Whatever makes each frame by itself passes the choice on, with its own per-frame numbers; same bytes."""
    chosen = np.array([7, 3, 200, 41])
    raw = ArrayFrames(
        frames().grid.replace(columns={**frames().grid.columns, "bias_adu": 100.0 + np.arange(N) % 9}),
        {"adu": VALUES},
        {"adu": "adu"},
    )
    clean = as_producer(gx.calibrate(lazy(raw)))
    table = moves().assign(verified=("time", np.ones(N, bool)))
    for producer in (
        clean,
        as_producer(gx.level(lazy(clean), table)),
        as_producer(gx.warp(lazy(clean), table)),
        as_producer(gx.binned(lazy(clean), 2)),
        as_producer(lazy(clean).assign_coords(gain_e_per_adu=("time", 2.0 + np.arange(N)))[["image"]]),
    ):
        assert isinstance(clean, Calibrated)
        part = producer.select(chosen)
        leaf = list(part.walk())[-1]
        assert type(part) is type(producer) and leaf.grid.n_frames == len(chosen)
        assert (part.grid.column("frame") == producer.grid.column("frame")[chosen]).all()
        made, expected = whole(part), whole(producer)
        for name in producer.planes:
            assert made[name].tobytes() == np.ascontiguousarray(expected[name][chosen]).tobytes(), name
