"""Splat: against a float64 twin, noise against its own plane, defects, small N, windows, errors."""

from __future__ import annotations

import dataclasses
import tracemalloc

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.splat.first_image import FirstImage, first_image, number_of_groups
from getframes_xr.reduce.splat.moves import inverse_gain, read_moves
from getframes_xr.reduce.splat.splat import Splatted, splat
from tests.reduce.night import HOT, SATURATED, night, with_frames
from tests.reference import deposit as twin
from tests.strategies import windows


def producer_of(made, **options) -> Splatted:
    found = as_producer(
        splat(made.clean, made.moves, **options), ("image", "noise", "weight", "count", "coverage", "flags")
    )
    assert isinstance(found, Splatted)
    return found


def bytes_of(patch):
    return {name: values.tobytes() for name, values in sorted(patch.planes.items())}


def test_one_unmoved_mono_frame_comes_back_with_its_own_noise():
    made = night(1, cfa=None, turn_deg=0, noise=False)
    moves = made.moves.assign(transform=(("time", "axis", "term"), [[[1.0, 0, 0], [0, 1, 0]]]))
    result = splat(made.clean, moves, canvas="reference").load()
    t = float(moves["transparency"][0])
    np.testing.assert_allclose(result["image"], made.signal[0] / t, rtol=1e-5, atol=1e-4)
    expected = float(np.sqrt(moves["variance"][0, 0])) / t
    np.testing.assert_allclose(result["noise"], expected, rtol=1e-6)
    assert (result["count"] == 1).all() and (result["coverage"] == 1).all() and (result["flags"] == 0).all()
    assert result["image"].attrs["units"] == "electron"


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", None])
def test_sums_are_those_of_the_formula_in_float64(cfa):
    """float32 sums of n < 30 terms: relative error below 30 x 6e-8 of the largest, 2e-5 with cancellation."""
    made = night(5, (40, 52), cfa, y0=-9, x0=33)
    flags = np.zeros(made.signal.shape, np.uint16)
    flags[:, ::11, ::7] = HOT
    flags[0, 20:24, 20:30] = SATURATED  # deposited like any other
    made = with_frames(made, flags=flags)
    stacked = producer_of(made, reject=False)
    window = stacked.grid.window
    patch = stacked.produce(window, ("image", "noise", "weight", "count"))
    rows, columns = window.y.grow(2), window.x.grow(2)
    sums, _ = twin.deposit(twin.frames_of(made), (rows.start, rows.stop), (columns.start, columns.stop))
    over, under, _, spread, shares = sums
    typical = np.median([f["variance"] for f in twin.frames_of(made)], axis=0)[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        few = (shares < 0.5 if cfa is None else ~(under**2 >= 4 * spread / typical)) | (under == 0)
        image = np.where(few, twin.widen(over) / twin.widen(under), over / under)
        noise = np.where(few, np.sqrt(twin.widen(spread, 2)) / twin.widen(under), np.sqrt(spread) / under)
        weight = np.where(few, twin.widen(under), under)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    at_the_limit = np.abs(under**2 * typical / np.maximum(spread, 1e-30) - 4) < 1e-3
    got = {name: np.atleast_3d(values).reshape(image[inner].shape) for name, values in patch.planes.items()}
    good = ~at_the_limit[inner]
    np.testing.assert_array_equal(np.isnan(got["image"]), np.isnan(image[inner]))
    np.testing.assert_allclose(got["image"][good], image[inner][good], rtol=2e-5, atol=2e-3)
    np.testing.assert_allclose(got["noise"][good], noise[inner][good], rtol=1e-4)
    np.testing.assert_allclose(got["weight"][good], weight[inner][good], rtol=2e-5, atol=1e-8)
    assert (few[inner] & np.isfinite(image[inner])).mean() > 0.005 and (~few[inner]).mean() > 0.02  # both ways are used


def test_rejection_takes_the_samples_that_the_formula_takes():
    made = night(9, (40, 52), seed=3)
    image = made.frames.arrays["image"].copy()
    rng = np.random.default_rng(8)
    for k in range(9):
        image[k, rng.integers(2, 38, 6), rng.integers(2, 50, 6)] += 400
    made = with_frames(made, image)
    stacked = producer_of(made)
    window = Window(Span(0, 1), Span(8, 32), Span(10, 42))
    rows, columns = window.y.grow(3), window.x.grow(3)
    first = stacked.first.produce(Window(Span(0, 1), rows, columns), ("image",))["image"].astype(float)
    frames = twin.frames_of(made)
    sums, rejected = twin.deposit(frames, (rows.start, rows.stop), (columns.start, columns.stop), first)
    assert rejected > 20
    got = stacked.produce(window, ("weight", "image"))
    over, under, _, spread, _ = sums[:, :, 3:-3, 3:-3]
    typical = np.median([frame["variance"] for frame in frames], axis=0)[:, None, None]
    plain = under**2 * typical / spread > 4.01  # the others are widened
    same = np.abs(got["weight"] / under - 1) < 2e-5
    assert plain.mean() > 0.5
    assert same[plain].mean() > 0.998  # one sample may stand at the very limit of float32
    np.testing.assert_allclose(got["image"][plain & same], (over / under)[plain & same], rtol=2e-5, atol=2e-3)


def test_noise_is_the_noise():
    """Pixels 4 apart share no sample: pulls have variance 1, to 5 sigma / sqrt(2 n)."""
    made = night(12, (90, 110), stars=0, seed=5)
    result = splat(made.clean, made.moves).load()
    full = (result["coverage"] == 12) & np.isfinite(result["image"])
    pulls = (result["image"] / result["noise"]).where(full)[:, ::4, ::4].values
    pulls = pulls[np.isfinite(pulls)]
    n = len(pulls)
    assert n > 500
    assert abs(pulls.mean()) < 5 / np.sqrt(n)
    assert abs(pulls.var() - 1) < 5 * np.sqrt(2 / n) + 0.03  # 3 %: the clipped tails


def test_stars_keep_their_light_and_colours():
    """Sum of the image over a star = its electrons times the band's share."""
    places = np.array([(30.2, 30.7, 4000.0), (31.6, 90.1, 2000.0), (78.4, 33.3, 1000.0), (77.9, 95.5, 6000.0)])
    result = splat((made := night(16, (110, 130), stars=places, turn_deg=12)).clean, made.moves).load()
    for y, x, light in places:
        box = result.sel(y=slice(round(y) - 8, round(y) + 8), x=slice(round(x) - 8, round(x) + 8))
        for band, share in (("red", 0.8), ("green", 1.0), ("blue", 0.7)):
            total = float(box["image"].sel(band=band).sum())
            # noise is correlated over 2 px (x 2.1 for sums); shot noise of 16 frames; 1 % for the CFA's sampling
            sky = 2.1 * float(np.sqrt((box["noise"].sel(band=band) ** 2).sum()))
            error = np.sqrt(sky**2 + 4 * light * share / 16 + (0.01 * light * share) ** 2)
            assert abs(total - light * share) < 4 * error


def test_cosmic_rays_and_unknown_hot_pixels_leave_nothing():
    made = night(12, (70, 90), seed=2, turn_deg=30)
    clean = splat(made.clean, made.moves).load()
    image = made.frames.arrays["image"].copy()
    rng = np.random.default_rng(3)
    hits = [(k, y, x) for k in range(12) for y, x in rng.integers(4, 66, (5, 2))]
    for k, y, x in hits:
        image[k, y, x] += 900
    image[:, 31, 14] += 700
    image[:, 12, 20] += 2500  # far from where turn and drift cancel: a track never dwells
    dirty = splat(with_frames(made, image).clean, made.moves).load()
    worst = np.abs((dirty["image"] - clean["image"]) / clean["noise"]).where(clean["coverage"] >= 6)
    assert float(worst.max()) < 4.0  # a rejected sample moves a mean of a few by its own noise
    assert float(dirty["count"].sum()) < float(clean["count"].sum())
    kept = splat(with_frames(made, image).clean, made.moves, reject=False).load()
    assert float(np.abs((kept["image"] - clean["image"]) / clean["noise"]).max()) > 20


def test_flagged_pixels_are_left_out_and_saturated_ones_flag_the_result():
    made = night(6, (50, 60), stars=0)
    flags = np.zeros(made.signal.shape, np.uint16)
    image = made.frames.arrays["image"].copy()
    flags[:, 10, 12], image[:, 10, 12] = HOT, 1e6
    flags[:, 30:34, 30:36] = SATURATED
    result = splat(with_frames(made, image, flags).clean, made.moves, reject=False).load()
    assert float(result["image"].max()) < 500
    saturated = (result["flags"] & SATURATED) > 0
    assert bool(saturated.sel(y=32, x=33).all()) and not bool(saturated.sel(y=slice(0, 22)).any())
    nothing = result["count"] == 0
    assert bool(((result["flags"] & int(Flag.NO_DATA)) > 0).equals(nothing))
    assert bool(result["image"].isnull().equals(nothing))


def test_lines_are_left_out_of_their_frame_only():
    made = night(6, (50, 60), stars=0)
    image = made.frames.arrays["image"].copy()
    image[2, 24:27] += 5000
    table = xr.Dataset(
        {
            "angle_deg": (("time", "line"), [[90.0]]),
            "offset_px": (("time", "line"), [[25.0]]),
            "half_width_px": (("time", "line"), [[1.5]]),
        },
        {"frame": ("time", [2])},
    )
    cut = splat(with_frames(made, image).clean, made.moves, lines=table, reject=False).load()
    assert float(cut["image"].max()) < 200
    whole = splat(made.clean, made.moves, reject=False).load()
    assert float(cut["count"].sum()) < float(whole["count"].sum())
    assert cut["coverage"].equals(whole["coverage"])


@pytest.mark.parametrize(("n", "groups"), [(1, 1), (2, 2), (3, 3), (5, 3), (24, 3), (32, 4), (40, 5), (300, 5)])
def test_groups_follow_the_number_of_frames(n, groups):
    assert number_of_groups(n) == groups


@pytest.mark.parametrize("cfa", ["RGGB", None])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_few_frames_stack_and_drop_what_can_be_dropped(n, cfa):
    made = night(n, (56, 64), cfa, seed=6, stars=4)
    image = made.frames.arrays["image"].copy()
    image[n // 2, 21, 33] += 3000
    result = splat(with_frames(made, image).clean, made.moves).load()
    clean = splat(made.clean, made.moves, reject=False).load()
    assert bool(np.isfinite(result["image"]).sel(y=slice(8, 46), x=slice(8, 54)).mean() > 0.98)
    y, x = np.rint(made.moves["transform"].values[n // 2] @ (21, 33, 1)).astype(int)
    near = {"y": slice(y - 2, y + 2), "x": slice(x - 2, x + 2)}
    left = float(np.nanmax(np.abs(result["image"].sel(near) - clean["image"].sel(near)) / clean["noise"].sel(near)))
    assert left > 20 if n == 1 else left < 6


def test_unused_frames_are_left_out_and_counted():
    made = night(6, (50, 60))
    image = made.frames.arrays["image"].copy()
    image[4] = 1e5
    moves = made.moves.assign(used=("time", [True] * 4 + [False, True]))
    result = splat(with_frames(made, image).clean, moves).load()
    assert result.attrs["frames"] == 5 and result.attrs["frames_left_out"] == 1
    assert result.attrs["total_exposure_s"] == 50.0
    assert float(result["image"].max()) < 1e4 and int(result["coverage"].max()) == 5


def test_the_order_of_the_axis_does_not_matter():
    made = night(7, (50, 60))
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = made.clean.isel(time=order).load()
    a = splat(made.clean, made.moves).load()
    b = splat(shuffled, made.moves.isel(time=order[::-1])).load()
    for name in a.data_vars:
        assert a[name].values.tobytes() == b[name].values.tobytes()


@settings(max_examples=12)
@given(st.data())
@pytest.mark.parametrize("cfa", ["GRBG", None])
def test_a_window_is_a_window_of_the_whole(cfa, data):
    made = WINDOW_NIGHTS[cfa]
    stacked = producer_of(made)
    window = data.draw(windows(stacked.grid.window))
    planes = ("image", "noise", "weight", "count", "coverage", "flags")
    whole = WHOLE.setdefault(cfa, stacked.produce(stacked.grid.window, planes))
    assert bytes_of(stacked.produce(window, planes)) == bytes_of(whole.crop(window))
    first = stacked.first.parent
    assert isinstance(first, FirstImage)
    all_of_it = WHOLE.setdefault((cfa, "first"), first.produce(first.grid.window, ("image", "count")))
    part = data.draw(windows(first.grid.window))
    assert bytes_of(first.produce(part, ("image", "count"))) == bytes_of(all_of_it.crop(part))


# larger than a part of the canvas and a batch of frames, and away from the origin
WINDOW_NIGHTS = {"GRBG": night(7, (90, 150), "GRBG", y0=-41, x0=60), None: night(5, (60, 80), None, y0=11, x0=-30)}
WHOLE: dict = {}


def test_bytes_do_not_depend_on_chunks_or_threads():
    made = night(6, (70, 90))
    stacked = producer_of(made)
    first = None
    for threads, chunks in ((1, (1, -1, -1)), (2, (1, 37, 50)), (2, (1, 64, -1))):
        with dask.config.set(scheduler="threads", num_workers=threads):
            made_of = lazy(stacked, chunks=chunks).load()
        now = {name: made_of[name].values.tobytes() for name in made_of}
        first = first or now
        assert now == first


def test_a_first_image_may_be_given_lazy_or_loaded():
    made = night(6, (60, 70))
    own = splat(made.clean, made.moves).load()
    first = first_image(made.clean, made.moves)
    for given_first in (first, first.load()):
        result = splat(made.clean, made.moves, first=given_first).load()
        assert all(result[name].values.tobytes() == own[name].values.tobytes() for name in own)
    for wrong in (first.drop_vars("count"), first.isel(band=[0, 2]), made.clean.rename(flags="count")):
        with pytest.raises(DataError, match="first_image"):
            splat(made.clean, made.moves, first=wrong)


def test_nothing_is_computed_before_it_is_asked_for(refuses_to_compute):
    made = night(3, (40, 50))
    result = splat(made.clean, made.moves)
    assert result["image"].dims == ("band", "y", "x") and result["image"].dtype == np.float32
    assert list(result["band"].values) == ["red", "green", "blue"]
    first_image(made.clean, made.moves)


def test_the_forecast_of_memory_holds():
    made = night(6, (200, 260), stars=3)
    stacked = producer_of(made)
    first = stacked.first.parent
    held = first.produce(first.grid.window, ("image",))
    stacked = dataclasses.replace(stacked, first=ArrayFrames(first.grid, held.planes))  # as in a run
    for producer in (stacked, first):
        window = Window(Span(0, 1), Span(20, 180), Span(20, 240))
        planes = tuple(producer.planes)
        producer.produce(window, planes)
        tracemalloc.start()
        producer.produce(window, planes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= producer.peak_bytes(window, planes) <= 2 * peak + 2**24


def test_memory_does_not_grow_with_the_frames():
    few, many = (producer_of(night(n, (60, 70), stars=2)) for n in (8, 24))
    window = Window(Span(0, 1), Span(10, 50), Span(10, 60))
    assert many.peak_bytes(window, ("image",)) <= 1.1 * few.peak_bytes(window, ("image",))


def test_frames_in_adu_give_the_same_picture():
    """The same electrons in ADU: image / gain, whether the gain is on the cards or has to be guessed."""
    made = night(10, (60, 70), seed=9)
    gain = 0.4
    electrons = splat(made.clean, made.moves).load()
    sky = made.moves["sky"] / gain
    moves = made.moves.assign(sky=sky, variance=made.moves["variance"] / gain**2, weight=made.moves["weight"] * gain**2)
    moves.attrs = {**made.moves.attrs, "units": "adu"}
    arrays = {**made.frames.arrays, "image": made.frames.arrays["image"] / np.float32(gain)}
    for known in (True, False):
        columns = dict(made.frames.grid.columns) | ({"gain_e_per_adu": np.full(10, gain)} if known else {})
        clean = lazy(ArrayFrames(made.frames.grid.replace(columns=columns), arrays, {"image": "adu"}))
        result = splat(clean, moves).load()
        pulls = ((result["image"] * gain - electrons["image"]) / electrons["noise"]).values
        assert np.nanmedian(np.abs(pulls)) < 1e-4 and np.nanmean(np.abs(pulls) > 1) < 2e-3


def test_the_gain_follows_from_variance_and_level():
    level = np.linspace(500, 900, 30)
    assert inverse_gain(level, level / 0.25 + 40) == pytest.approx(4.0)
    assert inverse_gain(np.full(30, 500.0), np.full(30, 2040.0)) == pytest.approx(2040 / 500)  # the bound
    assert inverse_gain(np.array([-1.0, np.nan]), np.array([3.0, 4.0])) == 0.0


def test_frames_without_flags_and_cards_are_taken():
    made = night(4, (40, 50), None)
    result = splat(made.clean[["image"]].drop_vars("exposure_s"), made.moves).load()
    assert "total_exposure_s" not in result.attrs
    assert result["image"].equals(splat(made.clean, made.moves).load()["image"])


def test_a_pixel_without_a_value_spoils_nothing():
    made = night(5, (40, 50))
    image = made.frames.arrays["image"].copy()
    image[1, 12:15, 20:25] = np.nan
    result = splat(with_frames(made, image).clean, made.moves).load()
    assert np.isfinite(result["image"].values[:, 14:30, 14:40]).all()


def test_what_cannot_be_stacked_is_refused_with_a_word_on_what_to_do():
    made = night(4, (40, 50))
    clean, moves = made.clean, made.moves
    with pytest.raises(DataError, match="normalise"):
        splat(clean, moves.drop_vars("sky"))
    with pytest.raises(DataError, match="load"):
        splat(clean, moves.chunk({"time": 1}))
    with pytest.raises(DataError, match="adu"):
        splat(clean, moves.assign_attrs(units="adu"))
    with pytest.raises(DataError, match="bands"):
        splat(clean, moves.assign_coords(band=["g", "r", "i"]))
    with pytest.raises(DataError, match="not finite"):
        splat(clean, moves.assign(weight=moves["weight"].where(moves["frame"] != 2)))
    with pytest.raises(DataError, match="> 0"):
        splat(clean, moves.assign(transparency=0 * moves["transparency"]))
    with pytest.raises(RegistrationError, match="verdicts"):
        splat(clean, moves.assign(used=("time", [False] * 4)))
    with pytest.raises(RegistrationError):
        splat(clean, moves.assign_coords(frame=("time", [10, 11, 12, 13])))
    with pytest.raises(DataError, match="calibrate"):
        splat(clean.rename(image="adu"), moves)
    with pytest.raises(DataError, match="along time"):
        splat(clean.isel(time=0, drop=True), moves)
    with pytest.raises(OptionError, match="kappa"):
        splat(clean, moves, kappa=0)
    with pytest.raises(OptionError, match="tolerance"):
        splat(clean, moves, tolerance=-1)
    with pytest.raises(OptionError, match="canvas"):
        splat(clean, moves, canvas="tiny")
    with pytest.raises(DataError, match="half_width_px"):
        splat(clean, moves, lines=moves)
    assert len(read_moves(moves, made.frames.grid, "electron")) == 4
