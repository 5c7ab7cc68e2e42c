"""Level: sky planes and transparency taken off frames, by colour, in absolute coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given

from getframes_xr.core.cfa import cfa_band
from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Span, Window
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce import reject
from getframes_xr.reduce.level import level
from getframes_xr.reduce.stack import stack
from tests.frames import held_frames
from tests.strategies import windows

N, NY, NX, Y0, X0 = 6, 21, 34, -3, 8
CENTRE = [7.0, 24.5]


def tables(bands, seed=0):
    rng = np.random.default_rng(seed)
    sky = rng.uniform(1, 3, (N, len(bands), 3)) * [300, 2, 1]
    return xr.Dataset(
        {
            "transparency": ("time", rng.uniform(0.5, 1.2, N)),
            "sky": (("time", "band", "plane_term"), sky),
            "used": ("time", np.arange(N) != 2),
        },
        {"frame": ("time", np.arange(N)), "band": list(bands)},
        attrs={"centre_px": CENTRE},
    )


def light_under(moves, cfa=None):
    """The same scene seen in every frame through its transparency, on its sky."""
    scene = np.random.default_rng(1).uniform(0, 500, (NY, NX))
    y, x = np.mgrid[Y0 : Y0 + NY, X0 : X0 + NX]
    bands = [str(band) for band in moves.band.values]
    at = np.array([[bands.index(cfa_band(cfa, r, c)) if cfa else 0 for c in x[0]] for r in y[:, 0]])
    sky = moves.sky.values[:, at]  # (time, y, x, term)
    planes = sky[..., 0] + sky[..., 1] * (y - CENTRE[0]) + sky[..., 2] * (x - CENTRE[1])
    values = scene * moves.transparency.values[:, None, None] + planes
    return scene, values.astype(np.float32)


@pytest.mark.parametrize("cfa", [None, "RGGB", "GBRG"])
def test_all_frames_show_the_same_scene_afterwards(cfa):
    moves = tables(("red", "green", "blue") if cfa else ("mono",))
    scene, values = light_under(moves, cfa)
    made = level(lazy(held_frames(values, y0=Y0, x0=X0, cfa=cfa)), moves.isel(time=slice(None, None, -1))).compute()
    used = moves.used.values
    np.testing.assert_allclose(made.image.values[used], np.broadcast_to(scene, (5, NY, NX)), atol=1e-3)
    assert np.isnan(made.image.values[2]).all() and (made["flags"].values[2] == int(Flag.NO_DATA)).all()
    stacked = stack(lazy(held_frames(values, y0=Y0, x0=X0, cfa=cfa)).pipe(level, moves), reject=reject.Mean())
    assert stacked.attrs["frames_left_out"] == 1
    np.testing.assert_allclose(stacked.image.compute(), scene, atol=1e-3)


@given(window=windows(Window(Span(0, N), Span(Y0, Y0 + NY), Span(X0, X0 + NX))))
def test_a_window_of_levelled_frames_is_levelled_alone(window):
    moves = tables(("red", "green", "blue"))
    made = as_producer(level(lazy(held_frames(light_under(moves, "RGGB")[1], y0=Y0, x0=X0, cfa="RGGB")), moves))
    part, whole = made.produce(window, made.planes), made.produce(made.grid.window, made.planes).view(window)
    for name in made.planes:
        assert part[name].tobytes() == np.ascontiguousarray(whole[name]).tobytes()


def test_bands_have_a_sky_each():
    moves = tables(("red", "green", "blue"))
    values = np.broadcast_to(moves.sky.values[:, :, :1, None], (N, 3, NY, NX)).astype(np.float32)
    flat = moves.assign(sky=moves.sky * [1.0, 0.0, 0.0])
    made = level(lazy(held_frames(values, bands=("red", "green", "blue"))), flat).compute()
    np.testing.assert_allclose(made.image.values[moves.used.values], 0, atol=1e-3)


def test_tables_that_do_not_fit_are_refused_with_words():
    moves = tables(("mono",))
    frames = lazy(held_frames(light_under(moves)[1]))
    with pytest.raises(DataError, match="normalise"):
        level(frames, moves.drop_vars("sky"))
    with pytest.raises(DataError, match="the frames hold red, green, blue"):
        level(lazy(held_frames(light_under(moves)[1], cfa="RGGB")), moves)
    with pytest.raises(DataError, match="no row for frame 5"):
        level(frames, moves.isel(time=slice(0, 5)))
