"""Tables per frame: rows belong to their frames, keys say all that decides them, loaded tables are sorted."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import numpy as np
import pytest

import getframes_xr as gx
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.face.lazy import lazy
from getframes_xr.face.tables import Column, FrameByFrame, loaded, per_frame
from tests.frames import held_frames
from tests.measure.star_fields import noisy, scatter_stars, stars_image

NUMBERS = np.array([40, 10, 30, 20])
COLUMNS = {"level": Column(np.float64, "adu"), "place": Column(np.int64), "corner": Column(np.float64, "", {"side": 2})}


@dataclass(frozen=True)
class Above:
    """Mean of a frame above a level; where the patch says it is."""

    level: float

    def __call__(self, patch: Patch) -> Mapping[str, Any]:
        image = patch["image"][0]
        return {
            "level": image.mean() - self.level, "place": patch.window.frames.start, "corner": image[0, [0, -1]]
        }  # fmt: skip


def plain(patch: Patch) -> Mapping[str, Any]:
    return Above(0.0)(patch)


def other(patch: Patch) -> Mapping[str, Any]:
    return Above(1.0)(patch)


def frames() -> Any:
    values = np.arange(4.0)[:, None, None] * 100 + np.arange(12.0).reshape(3, 4)
    return held_frames(values.astype(np.float32), frame=NUMBERS, gain_e_per_adu=[1.0, 2.0, 3.0, 4.0])


def test_every_row_is_its_frame_s_and_coordinates_come_along() -> None:
    table = per_frame(frames(), ("image",), Above(5.0), COLUMNS).load()
    np.testing.assert_allclose(table["level"], np.arange(4) * 100 + 5.5 - 5.0)
    assert table["place"].values.tolist() == [0, 1, 2, 3] and table["level"].attrs["units"] == "adu"
    np.testing.assert_allclose(table["corner"].values[:, 1] - table["corner"].values[:, 0], 3.0)
    assert table["frame"].values.tolist() == NUMBERS.tolist() and table["gain_e_per_adu"].values.tolist() == [
        1,
        2,
        3,
        4,
    ]
    ordered = loaded(table, "level")
    assert ordered["frame"].values.tolist() == [10, 20, 30, 40]
    np.testing.assert_allclose(ordered["level"], [100.5, 300.5, 200.5, 0.5])


def test_keys_say_every_option_of_the_function_and_every_column() -> None:
    """Two tables of one call to dask.compute are computed once each, unless all that decides them is equal."""
    tokens = [
        FrameByFrame(Above(5.0), ("image",), COLUMNS),
        FrameByFrame(Above(6.0), ("image",), COLUMNS),
        FrameByFrame(plain, ("image",), COLUMNS),
        FrameByFrame(other, ("image",), COLUMNS),
        FrameByFrame(Above(5.0), ("image",), {"level": Column(np.float32)}),
        FrameByFrame(Above(5.0), ("image",), {"level": Column(np.float64, "", {"side": 2})}),
        FrameByFrame(Above(5.0), ("image",), {"level": Column(np.float64, "", {"side": 3})}),
        FrameByFrame(Above(5.0), ("image",), {"level": Column(np.float64)}),
        FrameByFrame(Above(5.0), ("flags", "image"), COLUMNS),
    ]
    assert len({rows.token() for rows in tokens}) == len(tokens)
    assert FrameByFrame(Above(5.0), ("image",), COLUMNS).token() == pickle.loads(pickle.dumps(tokens[0])).token()
    tables = [per_frame(frames(), ("image",), Above(level), COLUMNS)["level"] for level in (5.0, 6.0)]
    assert len({table.data.name for table in tables}) == 2
    one, two = dask.compute(*tables)
    np.testing.assert_allclose(one - two, 1.0)


@pytest.mark.parametrize("function", [lambda patch: plain(patch), partial(plain)], ids=["lambda", "partial"])
def test_a_function_whose_name_does_not_say_what_it_does_is_refused(function: Any) -> None:
    """Two lambdas have one name: their tables would share a key, and one would get the other's values."""

    def inner(patch: Patch) -> Mapping[str, Any]:
        return plain(patch)

    for unnamed in (function, inner):
        with pytest.raises(TypeError, match="frozen dataclass or a function of a module"):
            per_frame(frames(), ("image",), unnamed, COLUMNS)


def test_two_searches_of_other_limits_in_one_compute_are_two_searches() -> None:
    rng = np.random.default_rng(1)
    shape = (120, 150)
    places = scatter_stars(rng, 20, shape)
    image = stars_image(shape, *places.T, np.geomspace(100, 30000, 20), 3.0) + 50
    clean = lazy(held_frames(np.stack([noisy(rng, image) for _ in range(3)]), units="electron", frame=NUMBERS[:3]))
    few, many = (gx.find_stars(clean, threshold_sigma=sigma) for sigma in (40.0, 4.0))
    narrow = gx.find_stars(clean, threshold_sigma=4.0, n_sources=12)
    together = dask.compute(few, many, narrow)
    alone = [table.compute() for table in (few, many, narrow)]
    for one, two in zip(together, alone, strict=True):
        assert one["n_stars"].values.tolist() == two["n_stars"].values.tolist()
        assert one["y"].values.tobytes() == two["y"].values.tobytes()
    assert (together[1]["n_stars"].values > together[0]["n_stars"].values).all()
    assert together[2].sizes["source"] == 12
    wide, small = (gx.aperture_photometry(clean, places[-3:], radius) for radius in (6.0, 3.0))
    found = dask.compute(wide, small)
    assert (found[0]["flux"].values > found[1]["flux"].values).all()


def test_a_lazy_table_a_lacking_one_and_one_of_a_frame_twice_are_refused() -> None:
    table = per_frame(frames(), ("image",), plain, COLUMNS)
    with pytest.raises(DataError, match="still lazy"):
        loaded(table, "level")
    with pytest.raises(DataError, match="no height; it holds"):
        loaded(table.load(), "height")
    with pytest.raises(DataError, match="a frame twice"):
        loaded(table.isel(time=[0, 1, 1]), "level")
