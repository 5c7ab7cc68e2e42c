"""Scores of frames."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import DataError
from getframes_xr.measure.registration import register
from getframes_xr.measure.score import score
from getframes_xr.reduce.normalise import normalise
from getframes_xr.workflows.session import keep_best
from tests.measure.star_tables import move_of, sky_of, star_table


def night(n=8):
    rng = np.random.default_rng(71)
    return star_table(rng, [move_of(0.5 * k, (2.0 * k, 1.0)) for k in range(n)], sky_of(rng))


def test_a_frame_of_half_the_variance_counts_twice() -> None:
    stars = night()
    stars["variance"].values[2] = 60.0
    found = score(stars)
    assert found["score"].values[2] == pytest.approx(2.0)
    assert np.median(found["score"].values) == pytest.approx(1.0)


def test_width_counts_squared() -> None:
    stars = night()
    stars["fwhm_px"].values[4] = 6.0
    assert score(stars)["score"].values[4] == pytest.approx(0.25)


def test_every_rejected_frame_has_a_reason() -> None:
    stars = night()
    stars["y"].values[3], stars["x"].values[3] = np.nan, np.nan
    moves = register(stars)
    for table in (moves, normalise(stars, moves)):
        found = score(stars, table)
        assert found["score"].values[3] == 0 and not found["used"].values[3]
        assert found["reason"].values[3] == "no_match" and "no match" in found["verdict"].values[3]
        assert (found["score"].values[found["used"].values] > 0).all()


def test_a_score_leaves_no_frame_out() -> None:
    """The run stacks a frame whose width is not known (its weight needs none), so the score may not say it is out."""
    stars = night()
    stars["fwhm_px"].values[1] = stars["star_fwhm_px"].values[1] = np.nan
    moves = normalise(stars, register(stars))
    assert moves["used"].all() and np.isnan(moves["fwhm_px"].values[1])
    for found in (score(stars), score(stars, moves)):
        assert found["used"].all() and (found["reason"] == "used").all() and (found["verdict"] == "used").all()
        assert np.isnan(found["score"].values[1]) and (np.delete(found["score"].values, 1) > 0).all()
    order = [5, 6, 0, 1, 2, 4, 7]
    shuffled = moves.isel(time=order)  # in any order of the frames, and one that is out among them
    shuffled["used"].values[1] = False
    kept = keep_best(shuffled, score(stars.isel(time=order), shuffled), 0.8)
    assert kept["frame"].values[~kept["used"].values].tolist() == [1, 6]
    assert kept["reason"].values[[1, 5]].tolist() == ["not_among_best", "by_hand"]
    assert kept["verdict"].values[1] == "score unknown: not among the best 80%"
    with pytest.raises(DataError, match="different frames"):
        keep_best(moves, score(stars.isel(time=order), shuffled), 0.8)


def test_tables_of_different_frames_are_refused() -> None:
    stars = night()
    with pytest.raises(DataError, match="different frames"):
        score(stars, register(stars).isel(time=slice(1, None)))
