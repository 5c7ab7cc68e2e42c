"""Debayer, bins and joined frames: new integer grids over old ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from getframes_xr.core.cfa import CFA_PATTERNS, cfa_band
from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.binned import Binned, binned
from getframes_xr.reduce.concat import concat
from getframes_xr.reduce.debayer import Debayered, debayer
from tests.frames import held_frames
from tests.strategies import windows

BANDS = ("red", "green", "blue")


def mosaic(pattern, y0=0, x0=0, ny=13, nx=17, seed=0):
    """Two frames of a colour filter array, a plane for the truth of each band, some flagged samples."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(1, 100, (2, ny, nx)).astype(np.float32)
    flags = np.where(rng.random(values.shape) < 0.1, int(Flag.HOT), 0).astype(np.uint16)
    return held_frames(values, flags, y0=y0, x0=x0, cfa=pattern)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize("origin", [(0, 0), (-3, 5), (1, 0)])
def test_superpixels_are_the_good_samples_of_absolute_cells(pattern, origin):
    frames = mosaic(pattern, *origin)
    made = Debayered(frames, "superpixel")
    patch = made.produce(made.grid.window, made.planes)
    values, flags = frames.arrays["image"], frames.arrays["flags"]
    for y in range(made.grid.y.start, made.grid.y.stop):
        for x in range(made.grid.x.start, made.grid.x.stop):
            for band, name in enumerate(BANDS):
                cell = [(2 * y + dy, 2 * x + dx) for dy in (0, 1) for dx in (0, 1)]
                own = [(r - origin[0], c - origin[1]) for r, c in cell if cfa_band(pattern, r, c) == name]
                good = [values[0][at] for at in own if not flags[0][at]]
                got = patch["image"][0, band, y - made.grid.y.start, x - made.grid.x.start]
                mark = patch["flags"][0, band, y - made.grid.y.start, x - made.grid.x.start]
                assert (got == pytest.approx(np.mean(good), rel=1e-6)) if good else np.isnan(got)
                assert mark == (0 if good else int(Flag.HOT))


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_bilinear_takes_the_mean_of_the_nearest_good_samples_of_a_colour(pattern):
    frames = mosaic(pattern, 1, -2)
    made = Debayered(frames, "bilinear")
    patch = made.produce(made.grid.window, made.planes)
    values, flags = frames.arrays["image"], frames.arrays["flags"]
    ny, nx = values.shape[1:]
    for y in range(ny):
        for x in range(nx):
            for band, name in enumerate(BANDS):
                own = cfa_band(pattern, y + 1, x - 2) == name
                near = [(y, x)] if own else [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
                near = [
                    (r, c) for r, c in near if 0 <= r < ny and 0 <= c < nx and cfa_band(pattern, r + 1, c - 2) == name
                ]
                good = [values[1][at] for at in near if not flags[1][at]]
                got = patch["image"][1, band, y, x]
                assert (got == pytest.approx(np.mean(good), rel=1e-6)) if good else np.isnan(got)


@pytest.mark.parametrize("method", ["superpixel", "bilinear"])
@given(data=st.data())
def test_a_window_of_debayered_frames_is_debayered_alone(method, data):
    made = Debayered(mosaic("GRBG", -1, 3), method)
    window = data.draw(windows(made.grid.window))
    part, whole = made.produce(window, made.planes), made.produce(made.grid.window, made.planes).view(window)
    for name in made.planes:
        assert part[name].tobytes() == np.ascontiguousarray(whole[name]).tobytes()


def test_a_linear_scene_stays_where_it_is():
    """value = row + 10 column: superpixel i of the new grid lies at 2 i + 1/2 of the old one, in every band's mean."""
    y, x = np.mgrid[0:20, 0:24].astype(np.float32)
    made = debayer(lazy(held_frames((y + 10 * x)[None], cfa="RGGB"))).compute()
    green = made.image.sel(band="green").values[0]
    i, j = np.mgrid[0:10, 0:12]
    np.testing.assert_allclose(green, (2 * i + 0.5) + 10 * (2 * j + 0.5), rtol=1e-6)
    full = debayer(lazy(held_frames((y + 10 * x)[None], cfa="RGGB")), "bilinear").compute()
    np.testing.assert_allclose(
        full.image[0, :, 1:-1, 1:-1], np.broadcast_to((y + 10 * x)[1:-1, 1:-1], (3, 18, 22)), rtol=1e-6
    )


def test_mono_frames_and_unknown_methods_are_refused():
    with pytest.raises(DataError, match="cfa_pattern"):
        debayer(lazy(held_frames(np.zeros((2, 4, 4), np.float32))))
    with pytest.raises(OptionError, match="superpixel, bilinear"):
        debayer(lazy(mosaic("RGGB")), "fancy")


def test_bins_are_means_of_good_pixels_counted_from_zero():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (2, 14, 20)).astype(np.float32)
    flags = np.zeros(values.shape, np.uint16)
    flags[0, 4:7, 5:8] = int(Flag.COSMIC)  # rows 7..9, columns 0..2 of a grid that begins at (3, -5)
    made = Binned(held_frames(values, flags, y0=3, x0=-5), 3)
    assert made.grid.y == Span(1, 5) and made.grid.x == Span(-1, 5)
    patch = made.produce(made.grid.window, made.planes)
    for i in range(1, 5):
        for j in range(-1, 5):
            box = values[0, 3 * i - 3 : 3 * i, 3 * j + 5 : 3 * j + 8].astype(np.float64)
            good = flags[0, 3 * i - 3 : 3 * i, 3 * j + 5 : 3 * j + 8] == 0
            got = patch["image"][0, i - 1, j + 1]
            assert (got == pytest.approx(box[good].mean(), rel=1e-5, abs=1e-6)) if good.any() else np.isnan(got)
    with pytest.raises(DataError, match="debayer"):
        binned(lazy(mosaic("RGGB")), 2)
    with pytest.raises(OptionError, match="bin size"):
        binned(lazy(held_frames(values)), 0)


@given(window=windows(Window(Span(0, 2), Span(1, 5), Span(-1, 5))))
def test_a_window_of_bins_is_binned_alone(window):
    values = np.random.default_rng(3).normal(0, 1, (2, 14, 20)).astype(np.float32)
    made = Binned(held_frames(values, y0=3, x0=-5), 3)
    part, whole = made.produce(window, made.planes), made.produce(made.grid.window, made.planes).view(window)
    assert part["image"].tobytes() == np.ascontiguousarray(whole["image"]).tobytes()


def test_joined_frames_count_anew_and_keep_their_pixels():
    rng = np.random.default_rng(4)
    one, two = (lazy(held_frames(rng.normal(0, 1, (n, 6, 7)).astype(np.float32), frame=np.arange(n) + 5,
                                 exposure_s=np.full(n, 1.0 + n))) for n in (3, 4))  # fmt: skip
    made = concat(one, two)
    assert made.frame.values.tolist() == list(range(7)) and made.exposure_s.values.tolist() == [4.0] * 3 + [5.0] * 4
    expected = np.concatenate([one.image.values, two.image.values])
    assert made.image.values.tobytes() == expected.tobytes()
    middle = as_producer(made).produce(Window(Span(1, 5), Span(1, 4), Span(2, 5)), ("image",))
    assert middle["image"].tobytes() == np.ascontiguousarray(expected[1:5, 1:4, 2:5]).tobytes()


def test_unlike_frames_are_not_joined():
    one = lazy(held_frames(np.zeros((3, 6, 7), np.float32)))
    with pytest.raises(DataError, match="only equal frames"):
        concat(one, lazy(held_frames(np.zeros((3, 6, 8), np.float32))))
    with pytest.raises(DataError, match="no plane in common"):
        concat(one, lazy(held_frames(np.zeros((3, 6, 7), np.uint16), plane="adu")))
    with pytest.raises(DataError, match="'image' of part 1"):
        concat(one, lazy(held_frames(np.zeros((3, 6, 7), np.float32), units="electron")))
