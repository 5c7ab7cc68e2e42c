"""Kinds of faults in reduction: what belongs to a frame follows it, pedestals go once, flags survive, facts hold.

Frames are numbered 40, 10, 30, 20, 50 and differ in exposure, gain, pedestal, noise and saturation.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

from getframes_xr.core.vocabulary import COLOUR_BANDS, Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.collapse import Samples
from getframes_xr.engine.producer import ArrayFrames
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.registration import register
from getframes_xr.reduce import reject
from getframes_xr.reduce.binned import binned
from getframes_xr.reduce.calibrate import calibrate
from getframes_xr.reduce.concat import concat
from getframes_xr.reduce.cosmetic import cosmetic
from getframes_xr.reduce.debayer import debayer
from getframes_xr.reduce.master import master
from getframes_xr.reduce.normalise import normalise
from getframes_xr.reduce.splat.lines import without_static
from getframes_xr.reduce.splat.moves import read_moves
from getframes_xr.reduce.splat.splat import splat
from getframes_xr.reduce.stack import default_rule, stack
from tests.frames import held_frames
from tests.measure.star_tables import move_of, sky_of, star_table
from tests.reduce.night import night, with_frames

NUMBERS = np.array([40, 10, 30, 20, 50])
N, NY, NX = 5, 18, 26
RNG = np.random.default_rng(11)
BIAS = RNG.uniform(280, 320, (NY, NX))
CURRENT = RNG.uniform(0.5, 3.0, (NY, NX))  # adu / s
RESPONSE = RNG.uniform(0.7, 1.3, (NY, NX))
LIGHT = RNG.uniform(50, 2000, (N, NY, NX))
EXPOSURE = np.array([20.0, 60.0, 5.0, 40.0, 10.0])
GAIN = np.array([0.5, 1.0, 1.5, 2.0, 3.0])
LINE = ("angle_deg", "offset_px", "half_width_px")
SECONDS = EXPOSURE[:, None, None]


def timeless(values, **attrs):
    units = attrs.pop("units", "adu")
    dataset = xr.Dataset({"image": (("y", "x"), np.asarray(values, np.float32), {"units": units})}, attrs=attrs)
    return dataset.assign_coords(y=np.arange(values.shape[0]), x=np.arange(values.shape[1]))


def raw(values, flags=None, **columns):
    known = {"frame": NUMBERS, "exposure_s": EXPOSURE} | columns
    return lazy(held_frames(np.asarray(values, np.float32), flags, **known))


DARK_CURRENT = timeless(CURRENT * 100, exposure_s=100.0, calibrated="bias")  # no bias in it any more
DARK = timeless(BIAS + CURRENT * 100, exposure_s=100.0)
BIAS_MASTER = timeless(BIAS)


# --- calibration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [DARK, DARK_CURRENT], ids=["holds its bias", "without bias"])
def test_lights_of_any_length_lose_their_bias_once_and_the_dark_of_their_own_time(dark):
    made = calibrate(raw(BIAS + CURRENT * SECONDS + LIGHT), dark=dark, bias=BIAS_MASTER).compute()
    np.testing.assert_allclose(made.image, LIGHT, rtol=2e-6, atol=2e-3)


@pytest.mark.parametrize("exposure_s", [100.0, 20.0], ids=["scaled", "as long as the light"])
def test_a_dark_without_its_bias_leaves_the_pedestal_of_each_frame_to_its_card(exposure_s):
    pedestal = np.array([300.0, 310.0, 290.0, 350.0, 280.0])
    dark = timeless(CURRENT * exposure_s, exposure_s=exposure_s, calibrated="bias_adu")
    lights = raw(pedestal[:, None, None] + CURRENT * SECONDS + LIGHT, bias_adu=pedestal)
    np.testing.assert_allclose(calibrate(lights, dark=dark).compute().image, LIGHT, rtol=2e-6, atol=2e-3)


def test_pedestal_gain_and_saturation_are_those_of_the_frame():
    pedestal, full = np.array([300.0, 310.0, 290.0, 350.0, 280.0]), np.array([900.0, 1200.0, 700.0, 2000.0, 1500.0])
    values = pedestal[:, None, None] + LIGHT
    lights = raw(values, bias_adu=pedestal, gain_e_per_adu=GAIN, saturation_adu=full)
    made = calibrate(lights).compute()
    np.testing.assert_allclose(made.image, LIGHT * GAIN[:, None, None], rtol=2e-6, atol=2e-3)
    expected = values.astype(np.float32) >= full[:, None, None]
    np.testing.assert_array_equal((made["flags"].values & int(Flag.SATURATED)) > 0, expected)
    assert 0.05 < expected.mean() < 0.95
    part = as_producer(calibrate(lights)).produce(Window(Span(2, 4), Span(3, 9), Span(5, 20)), ("image",))["image"]
    np.testing.assert_array_equal(part, made.image.values[2:4, 3:9, 5:20])


def test_frames_calibrated_by_their_pedestal_lose_nothing_a_second_time():
    """A cosmetic map may follow later; the pedestal's column is still there and is off already."""
    pedestal = np.array([300.0, 310.0, 290.0, 350.0, 280.0])
    once = calibrate(raw(pedestal[:, None, None] + LIGHT, bias_adu=pedestal))
    nothing = xr.Dataset({"flags": (("y", "x"), np.zeros((NY, NX), np.uint16))})
    np.testing.assert_array_equal(calibrate(once, cosmetic=nothing).compute().image, once.compute().image)


def test_the_level_of_a_flat_is_taken_without_its_pedestal():
    lights = raw(1000 * RESPONSE * np.ones((N, 1, 1)), calibrated_by=np.zeros(N))
    flat = timeless(300 + 500 * RESPONSE, bias_adu=300.0)  # a weak flat: its pedestal is most of it
    np.testing.assert_allclose(calibrate(lights, flat=flat).compute().image, 1000 * RESPONSE.mean(), rtol=1e-5)
    with_bias = calibrate(
        raw(BIAS + 1000 * RESPONSE * np.ones((N, 1, 1))), bias=BIAS_MASTER, flat=timeless(BIAS + 500 * RESPONSE)
    )
    np.testing.assert_allclose(with_bias.compute().image, 1000 * RESPONSE.mean(), rtol=1e-5)


@pytest.mark.parametrize(("dy", "dx"), [(0, 1), (1, 0), (1, 1)])
def test_a_crop_that_begins_at_an_odd_pixel_takes_the_level_of_its_own_colours(dy, dx):
    letters = np.array([["R", "G"], ["G", "B"]])[np.arange(NY)[:, None] % 2, np.arange(NX) % 2]
    lamp = np.select([letters == "R", letters == "G"], [3.0, 2.0], 1.0)
    lights = lazy(held_frames(np.full((N, NY, NX), 100, np.float32), cfa="RGGB", frame=NUMBERS))
    made = calibrate(lights, flat=timeless(lamp * 1000 * RESPONSE, calibrated="bias"))
    crop = calibrate(
        lights.isel(y=slice(dy, 15), x=slice(dx, 21)), flat=timeless(lamp * 1000 * RESPONSE, calibrated="bias")
    )
    whole = made.compute().image.values
    assert crop.compute().image.values.tobytes() == np.ascontiguousarray(whole[:, dy:15, dx:21]).tobytes()
    for letter in "RGB":  # each colour by itself has mean 100 over the response's own spread
        own = whole[0][letters == letter]
        assert own.mean() == pytest.approx(
            100 * (RESPONSE[letters == letter].mean() * (1 / RESPONSE[letters == letter]).mean())
        )


def test_a_master_of_calibrated_frames_says_no_pedestal_and_is_none_in_a_flat():
    """``bias_adu`` of the frames is off: the master must not say it, or a flat would lose it twice."""
    flats = raw(300 + 500 * RESPONSE * np.ones((N, 1, 1)), bias_adu=np.full(N, 300.0))
    plain, clean = master(flats, reject=reject.Mean()), master(calibrate(flats), reject=reject.Mean())
    assert plain.attrs["bias_adu"] == 300.0 and "bias_adu" not in clean.attrs
    lights = raw(1000 * RESPONSE * np.ones((N, 1, 1)))
    for flat in (plain, clean):
        np.testing.assert_allclose(calibrate(lights, flat=flat).compute().image, 1000 * RESPONSE.mean(), rtol=1e-5)


def test_a_master_says_only_what_all_its_frames_agree_on():
    made = master(raw(LIGHT, gain_e_per_adu=GAIN, bias_adu=np.full(N, 300.0)), reject=reject.Mean())
    assert "exposure_s" not in made.attrs and "gain_e_per_adu" not in made.attrs
    assert made.attrs["total_exposure_s"] == EXPOSURE.sum() and made.attrs["frames"] == N
    assert made.attrs["bias_adu"] == 300.0


# --- masters, joins, bins ------------------------------------------------------------------------------------------


def test_levels_of_flats_are_those_of_good_pixels_and_the_mean_of_all_remains():
    levels = np.array([1000.0, 4000.0, 2000.0, 8000.0, 3000.0])
    values = levels[:, None, None] * RESPONSE
    flags = np.zeros(values.shape, np.uint16)
    values[:, 4, 5], flags[:, 4, 5] = 1e7, int(Flag.HOT)
    made = master(raw(values, flags), equalise=True, reject=reject.Mean()).compute()
    good = np.ones((NY, NX), bool)
    good[4, 5] = False
    expected = RESPONSE * levels.mean()
    np.testing.assert_allclose(made.image.values[good], expected[good], rtol=1e-5)
    equal = as_producer(master(raw(values, flags), equalise=True)).parent  # frames, each by its own factor
    part = equal.produce(Window(Span(2, 4), Span(0, 3), Span(0, 6)), ("image",))["image"]
    np.testing.assert_allclose(part, np.broadcast_to(expected[:3, :6], (2, 3, 6)), rtol=1e-5)


def test_joined_frames_say_only_what_all_parts_say():
    one = held_frames(np.zeros((2, 4, 6), np.float32), frame=[7, 3], exposure_s=np.full(2, 5.0))
    two = held_frames(np.ones((3, 4, 6), np.float32), frame=[1, 9, 4], gain_e_per_adu=np.ones(3))
    one, two = (
        lazy(dataclasses.replace(part, grid=part.grid.replace(attrs={"camera": name, "site": "s"})))
        for part, name in ((one, "a"), (two, "b"))
    )
    made = concat(one, two)
    assert made["frame"].values.tolist() == [0, 1, 2, 3, 4]
    assert made.attrs.get("site") == "s" and "camera" not in made.attrs
    assert "exposure_s" not in made.coords and "gain_e_per_adu" not in made.coords
    assert made.image.values[:, 0, 0].tolist() == [0, 0, 1, 1, 1]


def test_flags_that_leave_a_pixel_usable_are_those_of_its_bin():
    """A saturated or persistent sample is in the mean: the bin says so. A hot one is not: the bin is clean."""
    values = np.arange(16.0).reshape(1, 4, 4)
    flags = np.zeros((1, 4, 4), np.uint16)
    flags[0, 0, 0], flags[0, 1, 1] = int(Flag.SATURATED), int(Flag.PERSISTENCE)
    flags[0, 0, 2] = int(Flag.HOT)
    flags[0, 2:, 2:] = int(Flag.DEAD)
    frames = lazy(held_frames(values.astype(np.float32), flags))
    made = binned(frames, 2).compute()
    expected = [[int(Flag.SATURATED | Flag.PERSISTENCE), 0], [0, int(Flag.DEAD)]]
    np.testing.assert_array_equal(made["flags"].values[0], expected)
    np.testing.assert_allclose(made.image.values[0, 0], [2.5, (3 + 6 + 7) / 3])


@pytest.mark.parametrize("method", ["superpixel", "bilinear"])
def test_colours_keep_the_flags_of_the_samples_they_are_made_of(method):
    values = np.full((1, 6, 6), 50.0, np.float32)
    flags = np.zeros((1, 6, 6), np.uint16)
    flags[0, 2, 2] = int(Flag.SATURATED)  # red of RGGB
    flags[0, 2, 3] = int(Flag.NONLINEAR)  # green
    flags[0, 3, 3] = int(Flag.HOT)  # blue
    found = debayer(lazy(held_frames(values, flags, cfa="RGGB")), method).compute()["flags"].values[0]
    y, x = (1, 1) if method == "superpixel" else (2, 2)
    assert found[0, y, x] == int(Flag.SATURATED)
    y, x = (1, 1) if method == "superpixel" else (2, 3)
    assert found[1, y, x] & int(Flag.NONLINEAR)
    assert not (found[0] & int(Flag.NONLINEAR)).any() and not (found[2] & int(Flag.SATURATED)).any()


# --- rejection -----------------------------------------------------------------------------------------------------


def model_limits(middle, n, gain, noise, bias, kappa, scatter):
    """Half width of what the model keeps, per frame [adu], from the formula of reject.noise_model."""
    signal = (middle - bias) * gain
    variance = (np.maximum(signal, 0) + noise**2 + (scatter * signal) ** 2) / gain**2
    return kappa * np.sqrt(variance * (1 + 1.57 / n))


@pytest.mark.parametrize("given", [False, True], ids=["from the frames", "as options"])
def test_the_noise_model_of_raw_frames_knows_pedestal_gain_and_noise_of_each(given):
    """Each frame in turn departs by a little less, and by a little more, than its own noise explains."""
    n, pixels, middle, kappa, scatter = 5, 2 * 5, 3000, 4.0, 0.01
    gain, noise, bias = GAIN, np.array([5.0, 30.0, 12.0, 60.0, 8.0]), np.array([100.0, 900.0, 2500.0, 300.0, 1500.0])
    if given:
        gain, noise, bias = np.full(n, 1.5), np.full(n, 12.0), np.full(n, 2500.0)
    limit = model_limits(middle, n, gain, noise, bias, kappa, scatter)
    values = np.full((n, pixels), middle, np.uint16)
    for f in range(n):
        values[f, 2 * f], values[f, 2 * f + 1] = middle + np.floor(limit[f]), middle + np.ceil(limit[f]) + 1
    columns = {"gain_e_per_adu": gain, "read_noise_e": noise, "bias_adu": bias}
    options = {name: float(column[0]) for name, column in columns.items()} if given else {}
    rule = reject.NoiseModel(kappa=kappa, response_scatter=scatter, **options)
    made = rule.collapse(Samples(values, np.zeros((n, 0), bool), None, {} if given else columns, "adu"))
    assert made.count.tolist() == [5, 4] * 5
    variance = (np.maximum((middle - bias) * gain, 0) + noise**2) / gain**2
    np.testing.assert_allclose(made.noise[::2], np.sqrt(variance.sum()) / n, rtol=1e-9)


def test_the_default_rule_follows_frames_noise_and_sky():
    def frames(n, **columns):
        return as_producer(lazy(held_frames(np.zeros((n, 4, 4), np.float32), units="electron", **columns))).grid

    known = {"read_noise_e": np.arange(1.0, 11.0), "gain_e_per_adu": np.ones(10)}
    assert isinstance(default_rule(frames(10, **known), "electron"), reject.NoiseModel)
    assert isinstance(default_rule(frames(11), "electron"), reject.SigmaClip)
    assert isinstance(default_rule(frames(10), "electron"), reject.Winsor)
    some = known | {"read_noise_e": np.r_[np.nan, np.ones(9)]}
    assert isinstance(default_rule(frames(10, **some), "electron"), reject.Winsor)
    off = frames(10, **known).replace(attrs={"levelled": True})
    assert isinstance(default_rule(off, "electron"), reject.Winsor), "the sky is off, and its shot noise with it"


def test_weights_belong_to_frames_and_bands_by_name():
    """Three bands, weights unlike in each, frames out of order, one left out: the mean is that of the formula."""
    values = RNG.uniform(0, 100, (N, 3, 4, 6)).astype(np.float32)
    table = RNG.uniform(0.2, 3.0, (N, 3))
    table[2] = 0.0
    order = np.argsort(NUMBERS)
    weights = xr.DataArray(
        table[order][:, ::-1], dims=("time", "band"),
        coords={"frame": ("time", NUMBERS[order]), "band": list(COLOUR_BANDS[::-1])},
    )  # fmt: skip
    frames = lazy(held_frames(values, bands=COLOUR_BANDS, frame=NUMBERS))
    made = stack(frames, weights=weights, reject=reject.Mean()).compute()
    used = np.arange(N) != 2
    share = table[used] / table[used].sum(0)
    expected = (values[used] * share[:, :, None, None]).sum(0)
    np.testing.assert_allclose(made.image, expected, rtol=1e-5)
    assert made.attrs["frames_left_out"] == 1


# --- moves, splat, lines -------------------------------------------------------------------------------------------


def renumbered(made, numbers, **columns):
    """The night under other frame numbers; the table of moves in the order of the numbers."""
    grid = made.frames.grid
    known = dict(grid.columns) | {"frame": np.asarray(numbers)} | columns
    frames = ArrayFrames(grid.replace(columns=known), made.frames.arrays, {"image": made.frames.planes["image"].units})
    moves = made.moves.assign_coords(frame=("time", np.asarray(numbers)))
    return dataclasses.replace(made, frames=frames, moves=moves.isel(time=np.argsort(numbers)))


def test_what_the_deposit_knows_of_a_frame_is_that_frame_s():
    """V' = V / t^2 and 1 / (t g): gains, variances and transparencies all differ and the axis is out of order."""
    made = renumbered(night(5, (20, 26), None), NUMBERS, gain_e_per_adu=GAIN)
    used = np.ones(5, bool)
    used[1] = False  # in the order of the table: frame 20
    moves = made.moves.assign(used=("time", used)).assign_attrs(units="adu")
    found = read_moves(moves, made.frames.grid, "adu")
    assert found.frames.tolist() == [10, 30, 40, 50] and found.positions.tolist() == [1, 2, 0, 4]
    t, variance = moves["transparency"].values[used], moves["variance"].values[used]
    gain = np.array([GAIN[list(NUMBERS).index(number)] for number in found.frames])
    np.testing.assert_allclose(found.variances, variance / t[:, None] ** 2, rtol=1e-12)
    np.testing.assert_allclose(found.per_signal, 1 / (gain * t), rtol=1e-12)
    np.testing.assert_array_equal(
        read_moves(moves.assign_attrs(units="electron"), made.frames.grid, "electron").per_signal, 1 / t
    )
    assert found.n_left_out == 1


def test_total_exposure_is_that_of_the_used_frames():
    made = renumbered(night(5, (20, 26), None), NUMBERS, exposure_s=EXPOSURE)
    used = np.ones(5, bool)
    used[[0, 3]] = False  # frames 10 and 40: 60 s and 20 s
    result = splat(lazy(made.frames), made.moves.assign(used=("time", used)))
    assert result.attrs["total_exposure_s"] == EXPOSURE.sum() - 80.0 and result.attrs["frames_left_out"] == 2


def test_a_line_is_cut_from_the_frame_of_its_number_and_from_no_other():
    made = renumbered(night(6, (40, 60), None, turn_deg=0.0, noise=False, stars=0), [60, 20, 10, 50, 30, 40])
    lines = xr.Dataset(
        {name: (("time", "line"), np.full((1, 4), np.nan)) for name in LINE},
        {"frame": ("time", [50])}, {"frame_centre": [19.5, 29.5]},
    )  # fmt: skip
    lines["angle_deg"].values[0, 0], lines["offset_px"].values[0, 0], lines["half_width_px"].values[0, 0] = (
        90.0,
        20.0,
        2.5,
    )
    image = made.frames.arrays["image"].copy()
    image[3, 18:23] += 5000.0  # the trail itself, in frame 50, the fourth of the axis
    made = dataclasses.replace(
        made,
        frames=ArrayFrames(
            made.frames.grid, {"image": image, "flags": made.frames.arrays["flags"]}, {"image": "electron"}
        ),
    )
    result = splat(lazy(made.frames), made.moves, lines=lines, reject=False).load()
    clean = splat(lazy(made.frames), made.moves, reject=False).load()
    assert np.nanmax(np.abs(result["image"])) < 1.0 < np.nanmax(clean["image"])


def test_faint_light_has_shot_noise_when_a_sample_is_judged():
    """A star whose shot noise is far above the sky's: its own samples are kept, frame by frame."""
    peak = np.array([[35.0, 45.0, 400_000.0]])
    kept = []
    for seed in range(3):
        made = night(
            12, (70, 90), None, seed=seed, stars=peak, turn_deg=0.0, fwhm=9.0
        )  # wide: little contrast to hide in
        result = splat(made.clean, made.moves, kappa=3.5, tolerance=0.0).load()
        y, x = (int(np.argmin(np.abs(result[dim].values - at))) for dim, at in (("y", 35), ("x", 45)))
        kept.append(result["count"].values[y - 3 : y + 4, x - 3 : x + 4].mean() / 12)
    assert np.mean(kept) > 0.97  # 3.5 sigma of the right noise: 99.9 %; of the sky's alone 10 % and more are lost


def test_two_frames_are_compared_less_strictly_than_many():
    """Of two the smaller counts, and the difference of two has sqrt(2) sigma: kappa is at least 5."""
    two = as_producer(splat(*(lambda m: (m.clean, m.moves))(night(2, (20, 26), None)), kappa=3.0))
    three = as_producer(splat(*(lambda m: (m.clean, m.moves))(night(3, (20, 26), None)), kappa=3.0))
    assert (two.kappa, three.kappa) == (5.0, 3.0)


@pytest.mark.parametrize(("n_saturated", "flagged"), [(0, False), (1, False), (2, True), (12, True)])
def test_a_share_of_saturated_weight_flags_a_pixel_and_a_smaller_one_does_not(n_saturated, flagged):
    """More than a tenth of the weight: 1 of 12 frames is 8 %, 2 of 12 are 17 %."""
    made = night(12, (24, 30), None, turn_deg=0.0, stars=0)
    moves = made.moves.copy(deep=True)
    moves["transform"].values[:] = [[1.0, 0, 0], [0, 1, 0]]
    moves["weight"].values[:] = 0.01
    flags = np.zeros(made.signal.shape, np.uint16)
    flags[:n_saturated, 10:14, 10:14] = int(Flag.SATURATED)
    result = splat(with_frames(made, flags=flags).clean, moves, reject=False, canvas="reference").load()
    found = result["flags"].values & int(Flag.SATURATED) > 0
    assert found[11:13, 11:13].all() == flagged and not found[:8].any()


def test_a_line_in_two_frames_is_a_trail_each_and_in_three_the_detector_s():
    def table(n):
        lines = xr.Dataset(
            {name: (("time", "line"), np.full((20, 4), np.nan)) for name in LINE},
            {"frame": ("time", 5 + 3 * np.arange(20))}, {"frame_centre": [100.0, 150.0]},
        )  # fmt: skip
        for k in range(n):  # near 0 degrees the normal may be written either way
            lines["angle_deg"].values[4 * k, 1] = 0.5 if k % 2 else 179.5
            normal = np.deg2rad(lines["angle_deg"].values[4 * k, 1])
            beside = -40.0 if k % 2 else 40.0  # of the centre, along the normal
            lines["offset_px"].values[4 * k, 1] = 150 * np.cos(normal) + 100 * np.sin(normal) + beside
            lines["half_width_px"].values[4 * k, 1] = 3.0
        return lines

    assert int(np.isfinite(without_static(table(2))["angle_deg"]).sum()) == 2
    assert int(np.isfinite(without_static(table(3))["angle_deg"]).sum()) == 0


# --- normalise, cosmetic -------------------------------------------------------------------------------------------


def test_weights_are_transparency_squared_over_variance_and_every_band_decides():
    """A frame that is dark in red alone is not left out; one that is bad in all bands is."""
    rng = np.random.default_rng(12)
    moves = [move_of(0.5 * k, (2.0 * k, -1.0 * k)) for k in range(9)]
    truth = np.array([1.0, 0.95, 1.05, 1.0, 0.9, 1.0, 1.1, 1.0, 0.97])
    stars = star_table(rng, moves, sky_of(rng), transparency=truth)
    three = {
        name: xr.concat([stars[name]] * 3, "band").transpose("time", "band", ...)
        for name in ("variance", "background", "sky")
    }
    stars = stars.drop_dims("band").assign(three).assign_coords(band=list(COLOUR_BANDS))
    stars["variance"].values[:] = [100.0, 150.0, 250.0]
    stars["variance"].values[4, 0] *= 15.0  # moonlit red: weight 0.07 there, 1 in green and blue
    stars["variance"].values[7] *= 15.0
    found = normalise(stars, register(stars))
    assert np.flatnonzero(~found["used"].values).tolist() == [7]
    t, used = found["transparency"].values, found["used"].values
    expected = np.where(used[:, None], t[:, None] ** 2 / stars["variance"].values, 0.0)
    np.testing.assert_allclose(found["weight"], expected, rtol=1e-12)
    assert np.ptp(t) > 0.1
    middle = np.median(t[:, None] ** 2 / stars["variance"].values, axis=0)
    np.testing.assert_allclose(
        found["relative_weight"], (t[:, None] ** 2 / stars["variance"].values / middle).mean(1), rtol=1e-12
    )


@pytest.mark.parametrize("gain", [0.1, 4.0])
def test_the_least_noise_of_a_cosmetic_map_is_in_electrons(gain):
    """0.3 e- are 3 adu at 0.1 e-/adu and 0.075 at 4: a pixel 5 adu high on a flat frame is noise, or it is hot."""
    values = np.full((N, 40, 40), 500, np.uint16)
    values[:, 20, 20] += 5
    frames = lazy(held_frames(values, plane="adu", frame=NUMBERS, gain_e_per_adu=np.full(N, gain)))
    found = cosmetic(frames).compute()["flags"].values
    assert bool(found[20, 20] & int(Flag.HOT)) == (gain > 1) and np.count_nonzero(found) == int(gain > 1)
