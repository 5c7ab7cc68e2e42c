"""Lines: trails found where they are, none where there are none; the transform against sums by hand; windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError
from getframes_xr.core.window import Span
from getframes_xr.face.frames_in import as_producer
from getframes_xr.reduce.splat.first_image import first_image
from getframes_xr.reduce.splat.line_fit import angle_table, line_significance, radon, refine, strongest_line
from getframes_xr.reduce.splat.lines import (
    COARSE_PX,
    COLUMNS,
    find_lines,
    half_width_px,
    mark_line,
    read_lines,
    without_static,
)
from getframes_xr.reduce.splat.moves import read_moves
from getframes_xr.reduce.splat.residual_bins import ResidualBins, local_contrast
from getframes_xr.reduce.splat.shared_bins import CommonBins, fit_bins, look_up, spread, without_plane
from getframes_xr.reduce.splat.splat import splat
from tests.reduce.night import night, with_frames
from tests.strategies import windows


def trail(made, frame, angle_deg, offset, peak_e, fwhm=3.7, start=-math.inf):
    """The night with a trail in one frame: x cos + y sin = offset, from `start` along it on; colours 0.8, 1, 0.7."""
    grid = made.frames.grid
    y, x = np.meshgrid(grid.y.indices(), grid.x.indices(), indexing="ij")
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    profile = peak_e * np.exp(-0.5 * ((x * c + y * s - offset) / (fwhm / 2.355)) ** 2) * (-x * s + y * c > start)
    image = made.frames.arrays["image"].copy()
    image[frame] += np.random.default_rng(7).poisson(profile * (0.8 if grid.cfa is None else 1))
    return with_frames(made, image)


@pytest.mark.parametrize("cfa", ["RGGB", None])
def test_trails_are_found_where_they_are(cfa):
    made = night(8, (170, 210), cfa, seed=2, stars=30, y0=5, x0=-12)
    made = trail(made, 2, 37.0, 130.0, 40.0)
    made = trail(made, 5, 101.3, 60.0, 400.0)
    made = trail(made, 6, 160.0, -50.0, 120.0, start=-175.0)
    table = find_lines(made.clean, made.moves, first_image(made.clean, made.moves)).load()
    assert dict(table.sizes) == {"time": 8, "line": 4}
    found = {int(f): table.sel(time=table["frame"] == f).isel(line=0, time=0) for f in table["frame"].values}
    true = {2: (37.0, 130.0), 5: (101.3, 60.0), 6: (160.0, -50.0)}
    assert {f for f, row in found.items() if np.isfinite(row["z"])} == set(true)
    for f, (angle, offset) in true.items():
        row = found[f]
        assert float(row["z"]) > 7
        # within 1 px everywhere on the frame: the mask is 6 px wide and more
        far = 120.0
        assert abs(math.radians(float(row["angle_deg"]) - angle)) * far + abs(float(row["offset_px"]) - offset) < 4.0
        y, x = 90.0, 90.0
        a, b = math.radians(angle), math.radians(float(row["angle_deg"]))
        on = (offset - (x * math.cos(a) + y * math.sin(a))) * np.array([math.sin(a), math.cos(a)]) + (y, x)
        assert abs(on[1] * math.cos(b) + on[0] * math.sin(b) - float(row["offset_px"])) < 1.0
        assert 5 < float(row["half_width_px"]) < 14
    assert bool(table["z"].isel(line=slice(1, None)).isnull().all())


def test_nights_without_trails_have_no_lines():
    for seed in (1, 2, 3):
        made = night(6, (150, 180), seed=seed, stars=40)
        assert bool(find_lines(made.clean, made.moves).load()["z"].isnull().all())


def test_a_found_trail_leaves_nothing_in_the_stack():
    made = night(8, (150, 180), seed=5, stars=10)
    dirty = trail(made, 3, 75.0, 85.0, 30.0)
    lines = find_lines(dirty.clean, dirty.moves).load()
    y, x = np.meshgrid(np.arange(150), np.arange(180), indexing="ij")
    move = made.moves["transform"].values[3]
    along = np.abs(x * math.cos(math.radians(75)) + y * math.sin(math.radians(75)) - 85) < 1
    at = np.rint(np.einsum("ij,jn->in", move, np.stack([y[along], x[along], np.ones(along.sum())]))).astype(int)

    def excess(**options):
        result, truth = (splat(n.clean, made.moves, **options).load() for n in (dirty, made))
        ratio = ((result["image"] - truth["image"]) / truth["noise"]).sum("band")
        grid = ratio.reindex(y=np.unique(at[0]), x=np.unique(at[1]))
        values = [float(grid.sel(y=j, x=i)) for j, i in zip(*at, strict=True)]
        return np.nanmean(values)

    assert excess() > 1.0
    # the samples masked with it are replaced by those of 7 frames: no more than noise, 5 sigma of 150 places / corr 2
    assert abs(excess(lines=lines)) < 5 * math.sqrt(3 * 2 / 150)


def test_two_frames_are_too_few_for_lines():
    made = trail(night(2, (80, 90)), 1, 30.0, 50.0, 300.0)
    assert bool(find_lines(made.clean, made.moves).load()["z"].isnull().all())


def test_radon_sums_are_sums_along_lines():
    rng = np.random.default_rng(0)
    values = rng.integers(-8000, 8000, (13, 17))
    packed = (values + (1 << 40)).astype(np.int64)
    packed[3, 5:9] = 0
    cosines, sines = angle_table(24)
    reach = 30
    sums = np.zeros((24, 2 * reach + 1), np.int64)
    radon(packed, cosines, sines, reach, sums)
    row, column = np.mgrid[:13, :17]
    for a in range(24):
        at = (row * sines[a] + column * cosines[a] + (reach << 20) + (1 << 19)) >> 20
        expected = np.bincount(at.ravel(), packed.ravel().astype(float), 2 * reach + 1)
        np.testing.assert_array_equal(sums[a], expected)


def test_the_significance_of_a_line_is_a_difference_of_means_over_its_error():
    sums = np.zeros((1, 15), np.int64)
    value = np.arange(15) ** 2 % 7
    sums[0] = (20 << 40) + value * 20 * 4096
    out = np.empty((2, 1, 15), np.float32)
    line_significance(sums, out)
    beside = (value[[3, 4, 5]].mean() + value[[9, 10, 11]].mean()) / 2
    assert out[0, 0, 7] == pytest.approx((value[7] - beside) / math.sqrt(1 / 20 + 1 / 120))
    beside = (value[[3, 4, 5]].mean() + value[[10, 11, 12]].mean()) / 2
    assert out[1, 0, 7] == pytest.approx((value[[7, 8]].mean() - beside) / math.sqrt(1 / 40 + 1 / 120))
    assert np.isnan(out[:, 0, [0, 1, 14]]).all()


def test_pure_noise_has_no_line_above_the_limit():
    rng = np.random.default_rng(4)
    for _ in range(5):
        noise = np.clip(rng.normal(size=(40, 60)), -2, 2).astype(np.float32)
        assert 3 < strongest_line(noise, np.ones(noise.shape, np.uint8))[0] < 7
    assert strongest_line(noise, np.zeros(noise.shape, np.uint8))[0] == 0
    assert strongest_line(0 * noise, np.ones(noise.shape, np.uint8))[0] == 0


@given(st.floats(0, 179), st.floats(-25, 25))
@settings(max_examples=10)
def test_refining_finds_the_line_from_a_coarse_guess(angle_deg, away):
    """Fine bins with a line 40 noise units strong; the fit is good to 0.3 px over the whole length."""
    rows, columns = 90, 110
    a = math.radians(angle_deg)
    middle = columns * math.cos(a) + rows * math.sin(a)  # the centre of the bins, in px
    offset = middle + away
    y, x = np.mgrid[:rows, :columns] * 2 + 0.5
    across = x * math.cos(a) + y * math.sin(a) - offset
    counts = np.full((rows, columns), 4, np.float32)
    sums = 4 * 40 * np.exp(-0.5 * (across / 1.7) ** 2) + np.random.default_rng(1).normal(0, 20, across.shape)
    found, place, peak = refine(sums.astype(np.float32), counts, a + math.radians(0.3), offset + 3)
    for along in (-60, 0, 60):
        y0, x0 = math.sin(a) * offset + along * math.cos(a), math.cos(a) * offset - along * math.sin(a)
        y0, x0 = y0 - (0 if abs(along) else 0), x0
        if 0 <= y0 < 2 * rows and 0 <= x0 < 2 * columns:
            assert abs(x0 * math.cos(found) + y0 * math.sin(found) - place) < 0.3
    assert 25 < peak < 45


def test_the_mask_widens_with_seeing_and_light():
    width, amplitude = half_width_px(0.5, 3.0)
    assert amplitude == pytest.approx(0.5)
    assert width == pytest.approx(1 + 1.1 * 1.05 * 3 / 2.355 * math.sqrt(2 * math.log(15 / 0.3)))
    assert half_width_px(2.0, 3.0)[1] == pytest.approx(20.0)  # clipped: taken ten times as bright
    assert half_width_px(0.5, 4.0)[0] > width and half_width_px(1.0, 3.0)[0] > width


def test_a_marked_line_is_the_set_of_pixels_near_it():
    flags = np.zeros((20, 30), np.uint16)
    c, s = math.cos(0.7), math.sin(0.7)
    mark_line(flags, 100, -50, c, s, 40.0, 2.5, 64)
    y, x = np.mgrid[100:120, -50:-20]
    np.testing.assert_array_equal(flags == 64, np.abs(x * c + y * s - 40) <= 2.5)


def test_contrast_is_the_range_within_three_by_three():
    values = np.random.default_rng(2).normal(size=(9, 11)).astype(np.float32)
    values[2, 3] = np.nan
    out = np.empty_like(values)
    local_contrast(values, out)
    padded = np.pad(values, 1, constant_values=np.nan)
    around = np.stack([padded[j : j + 9, i : i + 11] for j in range(3) for i in range(3)])
    np.testing.assert_array_equal(out, np.nanmax(around, 0) - np.nanmin(around, 0))


def test_a_plane_is_taken_off_and_shared_light_found_again():
    y, x = np.mgrid[:12, :15]
    samples = np.full((12, 15), 9, np.uint16)
    samples[4, 4:8] = 0
    sums = (samples * (3 + 0.5 * y - 0.25 * x)).astype(np.float32)
    means, plane = without_plane(sums, samples)
    assert np.abs(means).max() < 1e-4
    np.testing.assert_allclose(plane, 3 + 0.5 * y - 0.25 * x, atol=1e-4)
    move = np.array([[1.0, 0, 16.0], [0, 1.0, -8.0]])  # two bins down, one left
    over, under = np.zeros((20, 20)), np.zeros((20, 20))
    values = np.random.default_rng(3).normal(size=(12, 15)).astype(np.float32)
    spread(values, np.full((12, 15), 5, np.uint16), move, 8, 0, 0, 0, -2, over, under)
    common = np.where(under > 0, over / np.maximum(under, 1e-9), 0).astype(np.float32)
    np.testing.assert_allclose(common[2:14, 1:16], values, atol=1e-6)
    back = np.empty_like(values)
    look_up(common, move, 8, 0, 0, 0, -2, back)
    np.testing.assert_allclose(back, values, atol=1e-6)


MADE = trail(night(4, (100, 130), "GBRG", y0=-21, x0=9, stars=12), 1, 60.0, 60.0, 200.0)


def bins_of(made, bin_px):
    moves = read_moves(made.moves, made.frames.grid, "electron")
    picture = as_producer(first_image(made.clean, made.moves).load(), ("image", "count"))
    return ResidualBins(made.frames, picture, moves, bin_px)


BINS = {bin_px: bins_of(MADE, bin_px) for bin_px in (2, 8)}
WHOLE = {bin_px: bins.produce(bins.grid.window, ("sum", "samples")) for bin_px, bins in BINS.items()}


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("bin_px", [2, 8])
def test_a_window_of_bins_is_a_window_of_the_whole(bin_px, data):
    bins = BINS[bin_px]
    window = data.draw(windows(bins.grid.window))
    part = bins.produce(window, ("sum", "samples"))
    for name in part:
        assert part[name].tobytes() == WHOLE[bin_px].crop(window)[name].tobytes()


def test_coarse_bins_are_sums_of_fine_ones():
    coarse, fine = WHOLE[8]["samples"].astype(int), WHOLE[2]["samples"].astype(int)
    frames = MADE.frames.grid
    top, left = 4 * (frames.y.start // 8) - frames.y.start // 2, 4 * (frames.x.start // 8) - frames.x.start // 2
    padded = np.zeros((4, 4 * coarse.shape[1], 4 * coarse.shape[2]), int)
    padded[:, -top : -top + fine.shape[1], -left : -left + fine.shape[2]] = fine
    np.testing.assert_array_equal(padded.reshape(4, coarse.shape[1], 4, coarse.shape[2], 4).sum((2, 4)), coarse)
    assert coarse.sum() > 0.5 * MADE.signal.size


def test_the_shared_bins_cover_every_frame():
    common = CommonBins(BINS[8], BINS[8].moves, COARSE_PX)
    whole = common.produce(common.grid.window, ("mean",))["mean"]
    assert np.isfinite(whole).all() and np.abs(whole).max() > 0
    window = common.grid.window
    cut = type(window)(Span(0, 1), window.y.grow(-3), window.x.grow(-4))
    assert common.produce(cut, ("mean",))["mean"].tobytes() == whole[3:-3, 4:-4].tobytes()


def test_lines_are_lazy_and_read_only_when_loaded(refuses_to_compute):
    made = night(3, (60, 70))
    table = find_lines(made.clean, made.moves)
    assert set(table) == {"angle_deg", "offset_px", "half_width_px", "z", "amplitude"}
    assert table["offset_px"].attrs["units"] == "pixel"
    with pytest.raises(DataError, match="load"):
        splat(made.clean, made.moves, lines=table)
    assert read_lines(None).shape == (0, 5)


def test_a_first_image_of_another_kind_is_refused():
    made = night(3, (60, 70))
    with pytest.raises(DataError, match="first_image"):
        find_lines(made.clean, made.moves, made.clean.rename(flags="count"))


def test_a_line_that_stands_on_the_detector_is_no_trail():
    n = 40
    columns = {name: np.full((n, 4), np.nan) for name in COLUMNS}
    for frame in range(12):  # the same edge in twelve frames, once written with the opposite normal
        flip = frame == 5
        columns["angle_deg"][frame, 0] = 179.6 if flip else 0.4 * (frame % 3)
        columns["offset_px"][frame, 0] = -20.0 if flip else 20.0 + frame % 4
    columns["angle_deg"][20, 0], columns["offset_px"][20, 0] = 40.0, 500.0  # trails
    columns["angle_deg"][21, 0], columns["offset_px"][21, 0] = 41.0, 300.0
    columns["z"] = np.where(np.isfinite(columns["angle_deg"]), 9.0, np.nan)
    table = xr.Dataset(
        {name: (("time", "line"), values) for name, values in columns.items()},
        {"frame": ("time", np.arange(n))},
        {"frame_centre": [0.0, 0.0]},
    )
    kept = without_static(table)
    assert list(kept.frame.values[np.isfinite(kept.z.values).any(axis=1)]) == [20, 21]


def test_the_detectors_part_follows_the_sky_and_forgives_a_trail():
    rng = np.random.default_rng(8)
    sky = np.linspace(-1.5, 1.5, 30)
    level, slope = rng.normal(0, 3, 50), rng.normal(0, 2, 50)
    values = level + sky[:, None] * slope + rng.normal(0, 0.1, (30, 50))
    values[7, :20] += 25.0  # a trail
    values[3, 10] = np.nan
    got_level, got_slope = np.empty((2, 1, values.shape[1]), np.float32)
    fit_bins(values[:, None, :].astype(np.float32), sky, got_level, got_slope)
    got_level, got_slope = got_level[0], got_slope[0]
    # 0.1 / sqrt(30) and 0.1 / sqrt(sum s^2 = 24), 5 sigma
    np.testing.assert_allclose(got_level, level, atol=5 * 0.1 / np.sqrt(29))
    np.testing.assert_allclose(got_slope, slope, atol=5 * 0.1 / np.sqrt(22))
    empty_level, empty_slope = np.ones((2, 1, 2), np.float32)
    fit_bins(np.full((30, 1, 2), np.nan, np.float32), sky, empty_level, empty_slope)
    assert not empty_level.any() and not empty_slope.any()
