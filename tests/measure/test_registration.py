"""Registration from tables: right transforms, and verdicts that a false match cannot get."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import DataError
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.matching import fit_similarity
from getframes_xr.measure.pattern import consensus, mutual_pairs, triangles, vote
from getframes_xr.measure.registration import register
from getframes_xr.measure.stars import find_stars
from tests.frames import held_frames
from tests.measure.star_tables import SHAPE, apply, compose, errors_of, invert, move_of, sky_of, star_table


def night(n=12, turn_deg=20.0, seed=31):
    rng = np.random.default_rng(seed)
    moves = [move_of(a, (30 * a / max(turn_deg, 1), -12 * a / max(turn_deg, 1)) + rng.normal(0, 0.9, 2))
             for a in np.linspace(0, turn_deg, n)]  # fmt: skip
    return rng, moves


def test_triangles_vote_for_the_right_pairs_only() -> None:
    rng = np.random.default_rng(30)
    y, x = rng.uniform(0, 600, (2, 25))
    turned = apply(move_of(73.0, (11.0, -40.0)), np.stack([y, x], 1))
    order = rng.permutation(25)
    one, other = triangles(y, x), triangles(*turned[order].T.copy())
    votes = vote(np.ascontiguousarray(one[0][:, 0]), *one, *other, 25, 25, 1.0, 0.0)
    first, second = mutual_pairs(votes)
    assert len(first) >= 20 and np.array_equal(order[second], first)
    inliers, a, b, ty, tx = consensus(y[first], x[first], *turned[order][second].T.copy(), 0.99, 1.01, 40.0)
    back = invert(move_of(73.0, (11.0, -40.0)))
    assert inliers == len(first)
    assert np.allclose([[a, b, ty], [-b, a, tx]], back, atol=1e-6)


def test_a_mirrored_field_gets_no_votes() -> None:
    rng = np.random.default_rng(29)
    y, x = rng.uniform(0, 600, (2, 25))
    one, other = triangles(y, x), triangles(600 - y, x)
    votes = vote(np.ascontiguousarray(one[0][:, 0]), *one, *other, 25, 25, 1.0, 0.0)
    assert votes.max() < 25  # a right pair of 25 stars has most of 276


def test_weighted_least_squares_is_that_of_numpy() -> None:
    rng = np.random.default_rng(32)
    y, x = rng.uniform(0, 500, (2, 40))
    target = apply(move_of(31.0, (3.0, 4.0), 1.002), np.stack([y, x], 1)) + rng.normal(0, 0.3, (40, 2))
    w = rng.uniform(0.1, 5, 40)
    used, a, b, ty, tx = fit_similarity(
        y, x, np.arange(40), 40, *target.T.copy(), w, np.zeros(40), np.inf
    )  # fmt: skip
    rows = np.concatenate(
        [np.stack([y, x, np.ones(40), np.zeros(40)], 1), np.stack([x, -y, np.zeros(40), np.ones(40)], 1)]
    )
    root = np.sqrt(np.concatenate([w, w]))
    expected = np.linalg.lstsq(rows * root[:, None], np.concatenate(target.T) * root, rcond=None)[0]
    assert used == 40
    assert np.allclose([a, b, ty, tx], expected, atol=1e-9)


@pytest.mark.parametrize("turn_deg", [0.0, 32.0, 180.0])
def test_any_rotation_is_recovered_to_the_noise_of_the_stars(turn_deg: float) -> None:
    rng, moves = night(12, turn_deg)
    table = star_table(rng, moves, sky_of(rng))
    found = register(table)
    assert found["verified"].all() and (found["reason"] == "used").all()
    # about 120 stars of SNR 5..: the strongest 30 have < 0.05 px each, so a frame's corner is good to 0.02 px
    assert max(errors_of(found, moves).values()) < 0.03
    reference = found.attrs["reference_frame"]
    assert 4 <= reference <= 7  # of the middle third
    assert np.array_equal(found["transform"].values[reference], np.eye(2, 3))
    relative = compose(invert(moves[0]), np.eye(2, 3))
    truth = compose(moves[reference], relative)
    angle = np.rad2deg(np.arctan2(truth[0, 1], truth[0, 0]))
    assert abs((found["rotation_deg"].values[0] - angle + 180) % 360 - 180) < 0.01


@pytest.mark.parametrize("scale", [0.9986, 1.008, 1.31])
def test_another_telescope_of_another_scale_comes_home_too(scale: float) -> None:
    rng = np.random.default_rng(33)
    moves = [move_of(2.0 * k) for k in range(4)] + [move_of(69.4, (20.0, -15.0), scale)]
    found = register(star_table(rng, moves, sky_of(rng)))
    assert found["verified"].all()
    assert max(errors_of(found, moves).values()) < 0.05
    ratio = found["scale"].values[4] / found["scale"].values[0]
    assert abs(ratio * scale - 1) < 2e-4


def test_the_mean_catalogue_beats_the_reference_frame_alone() -> None:
    rng, moves = night(40, 10.0)
    table = star_table(rng, moves, sky_of(rng))
    mean = np.median(list(errors_of(register(table), moves).values()))
    pairs = []
    for f in range(0, 40, 4):
        two = table.isel(time=sorted({f, 20}))
        if two.sizes["time"] == 2:
            found = register(two, reference=20)
            pairs += list(errors_of(found, [moves[int(k)] for k in two["frame"].values]).values())
    # between two frames: sqrt(2) times a frame's own error with the mean; alone, the common grid takes half of it
    assert np.sqrt(2) * mean < 2 * np.median(pairs)


def test_few_stars_are_enough_and_too_few_are_said_to_be() -> None:
    rng, moves = night(8, 6.0)
    sky = sky_of(rng, 60)
    found = register(star_table(rng, moves, sky))
    assert found["verified"].all() and max(errors_of(found, moves).values()) < 0.15
    places, flux = sky
    inside = np.flatnonzero(((places > 100) & (places < np.array(SHAPE) - 100)).all(1))[:4]
    poor = register(star_table(rng, moves, (places[inside], flux[inside] + 5000)))
    assert not poor["verified"].any()
    assert set(poor["reason"].values) <= {"no_match", "too_few_stars", "too_few_seen", "no_other_frame"}


def test_frames_of_nothing_but_noise_are_reported_and_the_rest_is_not_hurt() -> None:
    rng, moves = night(12, 8.0)
    sky = sky_of(rng)
    table = star_table(rng, moves, sky)
    for f in (3, 8):
        for name in ("y", "x"):
            k = np.isfinite(table[name].values[f])
            table[name].values[f, k] = rng.uniform(10, SHAPE[name == "x"] - 10, k.sum())
    found = register(table)
    assert np.array_equal(np.flatnonzero(~found["verified"].values), [3, 8])
    assert np.isnan(found["transform"].values[[3, 8]]).all()
    assert set(found["reason"].values[[3, 8]]) <= {"no_match", "too_few_seen"}
    assert max(errors_of(found, moves).values()) < 0.03


def static_pattern(rng, n, flux=(1500.0, 60000.0)):
    return rng.uniform(20, np.array(SHAPE) - 20, (n, 2)), np.exp(rng.uniform(*np.log(flux), n))


@pytest.mark.parametrize("n_static", [30, 150])
def test_the_sensors_own_pattern_never_wins_over_moving_stars(n_static: int) -> None:
    rng = np.random.default_rng(35)
    moves = [move_of(0.0, (2.5 * k, -6.0 * k)) for k in range(12)]
    table = star_table(rng, moves, sky_of(rng, 150), extra=static_pattern(rng, n_static))
    found = register(table)
    assert found.attrs["static_detections"] >= 10 * n_static
    errors = errors_of(found, moves)
    assert len(errors) >= 10 and max(errors.values()) < 0.1  # every verified frame follows the sky


def test_stars_at_rest_are_stars() -> None:
    rng = np.random.default_rng(36)
    moves = [move_of(0.0, rng.normal(0, 0.1, 2)) for _ in range(6)]
    found = register(star_table(rng, moves, sky_of(rng)))
    assert found["verified"].all() and found.attrs["static_detections"] == 0
    assert max(errors_of(found, moves).values()) < 0.03


def test_a_slow_rotation_leaves_no_star_out() -> None:
    rng = np.random.default_rng(37)
    moves = [move_of(0.055 * k, (0.2 * k, 0.4 * k)) for k in range(4)]
    found = register(star_table(rng, moves, sky_of(rng)))
    assert found.attrs["static_detections"] == 0 and found["verified"].all()


def test_shear_of_the_atmosphere_turns_the_model_affine() -> None:
    rng = np.random.default_rng(38)
    shears = [np.array([[1.0, 4e-4 * k, 0], [-2e-4 * k, 1 + 3e-4 * k, 0]]) for k in range(6)]
    moves = [compose(shear, move_of(1.0 * k, (3.0 * k, 2.0))) for k, shear in enumerate(shears)]
    found = register(star_table(rng, moves, sky_of(rng)))
    assert found.attrs["model"] == "affine" and found["verified"].all()
    reference = found.attrs["reference_frame"]
    corners = np.array([[0, 0], [0, SHAPE[1]], [SHAPE[0], 0], list(SHAPE)], float)
    for f, move in enumerate(moves):
        truth = apply(moves[reference], apply(invert(move), corners))
        assert np.abs(apply(found["transform"].values[f], corners) - truth).max() < 0.1
    straight = register(star_table(rng, [move_of(1.0 * k) for k in range(6)], sky_of(rng)))
    assert straight.attrs["model"] == "similarity"


def test_a_trailed_frame_is_named_for_its_shape() -> None:
    rng, moves = night(8, 4.0)
    table = star_table(rng, moves, sky_of(rng))
    table["moment_plus"].values[5] = 0.7
    table["elongation"].values[5] = 0.6
    found = register(table)
    assert not found["verified"].values[5] and found["reason"].values[5] == "elongated"


def test_a_single_frame_is_its_own_reference() -> None:
    rng, moves = night(1, 0.0)
    found = register(star_table(rng, moves, sky_of(rng)))
    assert found["verified"].all() and np.array_equal(found["transform"].values[0], np.eye(2, 3))


def test_the_result_is_the_same_bytes_in_any_order_of_the_table() -> None:
    rng, moves = night(9, 15.0)
    table = star_table(rng, moves, sky_of(rng))
    one, other = register(table), register(table.isel(time=rng.permutation(9)))
    for name in one.data_vars:
        if one[name].dtype != object:
            assert one[name].values.tobytes() == other[name].values.tobytes(), name


def test_the_reference_can_be_chosen_and_a_wrong_one_is_refused() -> None:
    rng, moves = night(6, 5.0)
    table = star_table(rng, moves, sky_of(rng))
    assert register(table, reference=1).attrs["reference_frame"] == 1
    with pytest.raises(DataError, match="there is no frame 77; known: 0 .. 5"):
        register(table, reference=77)


def test_a_lazy_table_is_refused_with_what_to_do() -> None:
    frames = held_frames(np.zeros((2, 64, 64), np.float32), exposure_s=np.ones(2))
    with pytest.raises(DataError, match="load"):
        register(find_stars(lazy(frames)))
