"""Warp: resampling by its definition, explicit validity, windows and canvases."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.producer import Selected
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce import reject
from getframes_xr.reduce.interpolation import lanczos_table, shift_weights
from getframes_xr.reduce.stack import stack
from getframes_xr.reduce.warp import Warped, warp
from tests.frames import held_frames
from tests.reference import stacking
from tests.strategies import windows

KINDS = ["bilinear", "bicubic", "lanczos3"]


def turn(degrees, dy=0.0, dx=0.0, scale=1.0):
    """Move (2, 3): rotation about (0, 0), scale, shift."""
    c, s = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, dy], [s, c, dx]])


def shift(dy, dx):
    return np.array([[1.0, 0, dy], [0, 1.0, dx]])


MOVES = np.stack([turn(3.0, 2.2, -1.7), shift(0.25, -2.5), shift(0, 0), turn(-40, 15, 5, 1.1), shift(3, -4)])


def frames(n=5, ny=31, nx=40, flagged=False, **more):
    rng = np.random.default_rng(4)
    values = rng.normal(100, 10, (n, ny, nx)).astype(np.float32)
    flags = np.where(rng.random(values.shape) < 0.01, int(Flag.HOT), 0) if flagged else None
    return held_frames(values, flags, y0=-2, x0=5, units="electron", **more)


def table(transforms, verified=None, frame=None, **attrs):
    n = len(transforms)
    data = {"transform": (("time", "axis", "term"), np.asarray(transforms, float))}
    if verified is not None:
        data["verified"] = ("time", np.asarray(verified))
    return xr.Dataset(data, {"frame": ("time", np.arange(n) if frame is None else frame)}, attrs=attrs)


@pytest.mark.parametrize("kind", KINDS)
def test_each_pixel_is_the_sum_of_its_taps(kind):
    """Against the kernels' formulas in float64; the Lanczos table has 1024 steps: slope 1.4 / px x 1/2048 px x 10 e."""
    parent = frames()
    made = Warped(parent, MOVES, Span(-6, 33), Span(0, 50), kind)
    image = made.produce(made.grid.window, ("image",))["image"]
    tolerance = 0.05 if kind == "lanczos3" else 2e-4
    for frame, move in enumerate(MOVES):
        source = parent.arrays["image"][frame]
        inverse = np.linalg.inv(move[:, :2])
        area = abs(np.linalg.det(inverse))
        for y in range(-6, 33, 3):
            for x in range(0, 50, 4):
                at = inverse @ (np.array([y, x]) - move[:, 2]) - (-2, 5)
                if np.abs(at - np.round(at)).min() < 1e-9:
                    continue  # on a pixel's row or column: taps of weight 0, see below
                expected = stacking.interpolate(source, *at, kind) * area
                got = image[frame, y + 6, x]
                assert got == pytest.approx(expected, abs=tolerance, nan_ok=True), (frame, y, x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_move_by_whole_pixels_moves_the_bytes(kind):
    parent = frames(2, flagged=True)
    made = Warped(parent, np.stack([shift(0, 0), shift(3, -4)]), parent.grid.y, parent.grid.x, kind)
    patch = made.produce(made.grid.window, made.planes)
    good = parent.arrays["flags"] == 0
    values = np.where(good, parent.arrays["image"], np.float32(np.nan))
    np.testing.assert_array_equal(patch["image"][0], values[0])
    np.testing.assert_array_equal(patch["image"][1, 3:, :-4], values[1, :-3, 4:])
    assert np.isnan(patch["image"][1, :3]).all() and np.isnan(patch["image"][1, :, -4:]).all()
    assert (patch["flags"][1, :3] == Flag.NO_DATA).all()
    np.testing.assert_array_equal(patch["flags"][0], parent.arrays["flags"][0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flagged", [False, True])
@given(data=st.data())
def test_a_window_of_warped_frames_is_warped_alone(kind, flagged, data):
    made = Warped(frames(flagged=flagged), MOVES, Span(-6, 33), Span(0, 50), kind)
    window = data.draw(windows(made.grid.window))
    part, whole = made.produce(window, made.planes), made.produce(made.grid.window, made.planes).view(window)
    for name in made.planes:
        assert part[name].tobytes() == np.ascontiguousarray(whole[name]).tobytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_warp_of_a_crop_is_missing_only_where_the_crop_ends(kind):
    """The frame's edge counts, never the window's: a crop of the source changes nothing inside it."""
    parent = frames()
    box = Selected(parent, None, Span(0, 20), Span(10, 35))
    whole = Warped(parent, MOVES, Span(0, 30), Span(0, 50), kind)
    part = Warped(box, MOVES, Span(0, 30), Span(0, 50), kind)
    window = whole.grid.window
    one, two = (p.produce(window, ("image",))["image"] for p in (whole, part))
    inside = np.isfinite(two)
    assert inside.any() and one[inside].tobytes() == two[inside].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_stays_constant_and_light_is_kept_under_a_change_of_scale(kind):
    ones = held_frames(np.ones((2, 60, 60), np.float32), units="electron")
    made = Warped(ones, np.stack([turn(7, 5, -3), turn(0.5, 1, 1, 2.0)]), Span(0, 60), Span(0, 60), kind)
    image = made.produce(made.grid.window, ("image",))["image"]
    np.testing.assert_allclose(image[0][np.isfinite(image[0])], 1, rtol=3e-7)
    np.testing.assert_allclose(image[1][np.isfinite(image[1])], 0.25, rtol=3e-7)


@pytest.mark.parametrize("kind, moment", [("bicubic", 2e-3), ("lanczos3", 2e-3), ("bilinear", 2e-3)])
def test_a_star_lands_where_its_move_says(kind, moment):
    """A Gaussian of sigma 2 px: its centroid follows the move to 2 mpx, its flux to 1e-3."""
    y, x = np.mgrid[0:64, 0:64].astype(np.float64)
    star = np.exp(-((y - 30.3) ** 2 + (x - 28.6) ** 2) / 8) * 1000
    move = turn(11.0, 6.0, -4.0)
    made = Warped(held_frames(star[None].astype(np.float32)), move[None], Span(0, 64), Span(0, 64), kind)
    image = np.nan_to_num(made.produce(made.grid.window, ("image",))["image"][0].astype(np.float64))
    at = move[:, :2] @ (30.3, 28.6) + move[:, 2]
    total = image.sum()
    assert total == pytest.approx(star.sum(), rel=1e-3)
    assert (image * y).sum() / total == pytest.approx(at[0], abs=moment)
    assert (image * x).sum() / total == pytest.approx(at[1], abs=moment)


def test_flagged_and_missing_samples_leave_holes_that_say_why():
    values = np.ones((1, 40, 40), np.float32)
    flags = np.zeros((1, 40, 40), np.uint16)
    flags[0, 20, 20], flags[0, 10, 10] = int(Flag.COSMIC), int(Flag.PERSISTENCE)
    values[0, 30, 30] = np.nan
    made = Warped(held_frames(values, flags), turn(2.0, 0.3, 0.4)[None], Span(0, 40), Span(0, 40), "bicubic")
    patch = made.produce(made.grid.window, made.planes)
    image, marks = patch["image"][0], patch["flags"][0]
    cosmic, persistent = (marks & Flag.COSMIC) != 0, (marks & Flag.PERSISTENCE) != 0
    assert 9 <= cosmic.sum() <= 16 and np.isnan(image[cosmic]).all()
    assert 9 <= persistent.sum() <= 16 and np.isfinite(image[persistent]).all()
    assert ((marks & Flag.NO_DATA) != 0).sum() > 9 and (np.isnan(image) == ((marks & 5) != 0)).all()


def test_a_saturated_star_keeps_its_light_and_is_flagged():
    values = np.full((1, 40, 40), 7, np.float32)
    flags = np.zeros((1, 40, 40), np.uint16)
    flags[0, 20, 20] = int(Flag.SATURATED)
    made = Warped(held_frames(values, flags), turn(2.0, 0.3, 0.4)[None], Span(0, 40), Span(0, 40), "bicubic")
    patch = made.produce(made.grid.window, made.planes)
    full = (patch["flags"][0] & Flag.SATURATED) != 0
    assert 9 <= full.sum() <= 16 and np.isfinite(patch["image"][0][full]).all()


def test_frames_that_miss_the_window_are_not_asked():
    class Counting(Selected):
        def make(self, window, planes, given):
            asked.append(window)
            return super().make(window, planes, given)

    asked: list[Window] = []
    parent = frames()
    made = Warped(Counting(parent, None, parent.grid.y, parent.grid.x), MOVES, Span(-200, 200), Span(-200, 200))
    far = made.produce(Window(Span(0, 5), Span(150, 160), Span(-180, -170)), made.planes)
    assert asked == [] and np.isnan(far["image"]).all() and (far["flags"] == Flag.NO_DATA).all()
    small = Window(Span(0, 1), Span(10, 12), Span(20, 22))
    made.produce(small, ("image",))
    assert len(asked) == 1 and asked[0].pixels <= (2 + 8) ** 2
    (ask,) = made.inputs(small, frozenset({"image"}))
    assert (ask.parent, ask.window) == (made.parent, asked[0])


def test_lanczos_weights_are_the_formula_and_sum_to_one():
    weights = lanczos_table()
    for step in (0, 1, 300, 512, 1023, 1024):
        d = step / 1024 - np.arange(-2, 4)
        expected = np.sinc(d) * np.sinc(d / 3)
        np.testing.assert_allclose(weights[step], expected / expected.sum(), atol=2.0**-22)
    assert (weights.astype(np.float64).sum(axis=1) == 1).all()
    assert shift_weights("lanczos3", 0.0).tolist() == [1.0]


def test_the_variance_of_white_noise_falls_as_the_weights_say():
    """Var = sum of squared weights: bilinear 1/4 in the middle of four pixels, cubic more (stacking.md M6)."""
    noise = held_frames(np.random.default_rng(0).normal(0, 1, (1, 300, 300)).astype(np.float32))
    for kind in KINDS:
        w = shift_weights(kind, 0.5).astype(float)
        made = Warped(noise, shift(-0.5, -0.5)[None], Span(5, 290), Span(5, 290), kind)
        values = made.produce(made.grid.window, ("image",))["image"]
        expected = (w @ w) ** 2
        assert values.var() == pytest.approx(expected, rel=5 * np.sqrt(2 * 4 / 285**2))


def test_warp_matches_moves_by_frame_and_says_who_is_verified(refuses_to_compute):
    lights = lazy(frames(frame=[7, 3, 9, 1, 5]))
    order = np.array([4, 1, 0, 3, 2])
    moves = table(MOVES[order], np.array([True, True, False, True, True]), np.array([7, 3, 9, 1, 5])[order])
    made = warp(lights, moves)
    assert made.verified.values.tolist() == [False, True, True, True, True]
    producer = as_producer(made)
    np.testing.assert_array_equal(producer.transforms[1:], MOVES[1:])
    assert np.isnan(producer.transforms[0]).all()
    assert made.y.values[0] == -2 and made.image.dims == ("time", "y", "x") and made.image.attrs["units"] == "electron"


def test_the_union_holds_every_pixel_of_every_verified_frame():
    lights = lazy(frames())
    moves = table(MOVES, [True] * 5)
    union = as_producer(warp(lights, moves, canvas="union", kernel="bilinear"))
    corners = np.array([[y, x] for y in (-2, 28) for x in (5, 44)])
    at = np.concatenate([corners @ move[:, :2].T + move[:, 2] for move in MOVES])
    assert union.grid.y == Span(int(np.floor(at[:, 0].min())) - 1, int(np.ceil(at[:, 0].max())) + 2)
    assert union.grid.x == Span(int(np.floor(at[:, 1].min())) - 1, int(np.ceil(at[:, 1].max())) + 2)
    image = union.produce(union.grid.window, ("image",))["image"]
    grown = Warped(frames(), MOVES, Span(-80, 120), Span(-80, 120), "bilinear")
    all_of_it = grown.produce(grown.grid.window, ("image",))["image"]
    assert np.isfinite(image).sum() == np.isfinite(all_of_it).sum()
    half = as_producer(warp(lights, table(MOVES, [False, True, True, False, True]), canvas="union"))
    assert half.grid.y == Span(-3, 33) and half.grid.x == Span(0, 46)
    given = as_producer(warp(lights, moves, canvas=lights.image.isel(y=slice(3, 9))))
    assert given.grid.y == Span(1, 7) and given.grid.x == Span(5, 45)


def test_stars_of_turned_frames_stack_sharp_and_their_noise_is_told():
    rng = np.random.default_rng(5)
    moves = np.stack([turn(angle, *rng.uniform(-3, 3, 2)) for angle in np.linspace(-4, 4, 24)])
    y, x = np.mgrid[0:80, 0:90].astype(np.float64)
    values = np.empty((24, 80, 90), np.float32)
    for i, move in enumerate(moves):
        inverse = np.linalg.inv(move[:, :2])
        at = inverse @ ((40.0, 45.0) - move[:, 2])
        values[i] = 2000 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 8) + rng.normal(50, 3, y.shape)
    values[5, 20:60, 30] = 5000  # a trail
    verified = np.ones(24, bool)
    verified[9] = False
    warped = warp(lazy(held_frames(values)), table(moves, verified))
    made = stack(warped, reject=reject.SigmaClip(kappa=3.0)).compute()
    star = 2000 * np.exp(-((y - 40) ** 2 + (x - 45) ** 2) / 8)
    inside = (slice(15, 65), slice(15, 75))
    residual = (made.image.values - star - 50)[inside]
    sky = residual[(star < 0.1)[inside]]
    assert made.attrs["frames_left_out"] == 1
    # interpolation lowers the noise of each frame (0.76 in variance for a cubic on average, stacking.md M6)
    assert sky.std() == pytest.approx(3 * np.sqrt(0.76 / 23), rel=0.12)
    assert np.abs(sky.mean()) < 0.05 and made.noise.values[inside].mean() == pytest.approx(sky.std(), rel=0.12)
    assert np.abs(residual[star[inside] > 100]).max() < 0.03 * 2000  # cubic: 2 % of a peak of sigma 2 px
    assert int(made.coverage.values[inside].max()) == 23


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"kernel": "nearest"}, OptionError, "bilinear, bicubic, lanczos3"),
        ({"canvas": "all"}, OptionError, "union, reference"),
        ({"moves": table(MOVES, [False] * 5)}, RegistrationError, "none of the 5 frames"),
        ({"moves": table(MOVES[:4])}, DataError, "no row for frame 4"),
        ({"moves": table(MOVES).chunk(time=2)}, DataError, r"call \.load\(\)"),
        ({"moves": table(MOVES).rename(transform="other")}, DataError, "register"),
        ({"frames": lazy(frames(cfa="RGGB"))}, DataError, "debayer"),
        ({"moves": table(np.zeros((5, 2, 3)))}, DataError, "inverted"),
    ],
)
def test_what_cannot_be_warped_is_refused_with_words(change, error, words):
    arguments = {"frames": lazy(frames()), "moves": table(MOVES)} | change
    with pytest.raises(error, match=words):
        warp(**arguments)
