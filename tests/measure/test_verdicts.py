"""Every reason is reached by frames that deserve it, with the numbers that decided it and the sentence about them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from getframes_xr.core.errors import DataError
from getframes_xr.core.verdict import Reason, Verdicts
from getframes_xr.measure import phase
from getframes_xr.measure.leave_out import leave_out
from getframes_xr.measure.phase import phase_shifts
from getframes_xr.measure.registration import register
from getframes_xr.measure.score import score
from getframes_xr.measure.stars import find_stars
from getframes_xr.reduce.normalise import normalise
from getframes_xr.workflows.session import keep_best
from tests.measure.star_tables import SHAPE, move_of, sky_of, star_table
from tests.measure.test_phase import SHIFTS, cluster, frames

Case = tuple[xr.Dataset, int, dict[str, float], str]
FIRST = 40  # frame numbers are not positions


def night(n: int = 9, sky: Any = None, **changes: Any) -> xr.Dataset:
    """Stars of a slowly turning field, each frame with a transparency and a noise of its own."""
    rng = np.random.default_rng(91)
    moves = [move_of(0.6 * k, (2.0 * k, -1.0 * k)) for k in range(n)]
    transparency = 1 - 0.02 * (np.arange(n) % 4)
    stars = star_table(rng, moves, sky or sky_of(rng), transparency=transparency, **changes)
    stars["variance"].values[:, 0] = 120 + 3 * np.arange(n)
    return stars.assign_coords(frame=("time", FIRST + 3 * np.arange(n)))


def normalised(stars: xr.Dataset) -> xr.Dataset:
    return normalise(stars, register(stars))


def used() -> Case:
    return normalised(night()), 4, {}, "used"


def by_hand() -> Case:
    return leave_out(normalised(night()), [FIRST + 6]), 2, {}, "left out by hand"


def no_match() -> Case:
    """Eleven detections where no star is."""
    stars = night()
    for name, most in zip(("y", "x"), SHAPE, strict=True):
        stars[name].values[3] = np.nan
        stars[name].values[3, :11] = np.random.default_rng(5).uniform(10, most - 10, 11)
    stars["elongation"].values[3] = 0.22
    words = "no match: 11 stars found (elongation 0.22), no pattern in common with the reference"
    return normalised(stars), 3, {"stars": 11, "elongation": 0.22}, words


def no_other_frame() -> Case:
    """Three frames of three skies; the reference is the one in the middle."""
    rng = np.random.default_rng(6)
    parts = [star_table(rng, [move_of()], sky_of(rng)).assign_coords(frame=("time", [k])) for k in (3, 5, 8)]
    moves = register(xr.concat(parts, "time"), reference=5)
    return moves, 1, {}, "unverified: no other frame could be matched to this reference"


def too_few_stars() -> Case:
    """A sky of four stars."""
    places, flux = sky_of(np.random.default_rng(34), 60)
    inside = np.flatnonzero(((places > 100) & (places < np.array(SHAPE) - 100)).all(1))[:4]
    moves = register(night(sky=(places[inside], flux[inside] + 5000)), reference=FIRST)
    words = "unverified: only 4 catalogue stars lie in the frame, 6 needed"
    return moves, 5, {"catalogue_stars": 4, "needed": 6}, words


def too_few_seen() -> Case:
    """Twelve true stars, and detections where none is: a fifth of the sixty brightest that the others know."""
    stars = night()
    for name, most in zip(("y", "x"), SHAPE, strict=True):
        row = stars[name].values[3]
        others = np.flatnonzero(np.isfinite(row))[12:]
        row[others] = np.random.default_rng(len(name)).uniform(10, most - 10, len(others))
    numbers = {"share": 12 / 60, "catalogue_stars": 60, "elongation": 0.03, "needed": 0.3}
    words = "unverified: 20% of 60 catalogue stars seen (elongation 0.03), 30% needed"
    return normalised(stars), 3, numbers, words


def elongated() -> Case:
    """Moments of stars drawn out: e = 0.6 / (1 + sqrt(1 - 0.6^2)) x 2 / (1 + that) by the definition of 1 - b/a."""
    stars = night()
    stars["moment_cross"].values[7] = -0.6
    ratio = np.sqrt((1 - 0.6) / (1 + 0.6))  # b / a of an ellipse of moments (1 + m), (1 - m)
    return normalised(stars), 7, {"elongation": 1 - ratio, "most": 0.35}, "shape: elongation 0.50, at most 0.35"


def no_structure() -> Case:
    """One frame of the cluster is nothing but noise."""
    images = cluster(np.random.default_rng(61), SHIFTS)
    images[2] = np.random.default_rng(8).normal(500, 5, images.shape[1:])
    table = phase_shifts(frames(images)).load()
    peak = float(table["peak_sigma"][2])
    return table, 2, {"peak_sigma": peak, "needed": 6}, f"no common structure: peak {peak:.1f} sigma, 6 needed"


def scales_disagree() -> Case:
    """A cluster at rest under a fixed pattern: once the pattern is taken off, the two bands find different ghosts."""
    table = phase_shifts(frames(cluster(np.random.default_rng(61), SHIFTS[:1] * 4))).load()
    apart = float(table["reason_numbers"].sel(number="apart")[1])
    assert apart > 2
    words = f"no common structure: fine and coarse correlation disagree by {apart:.1f} cells, at most 2"
    return table, 1, {"apart": apart, "most": 2}, words


def sensor_pattern() -> Case:
    """What the fit of the pattern leaves (here: all of it) stands at no shift, in a session that does not move."""
    lumps = 20 * gaussian_filter(np.random.default_rng(9).normal(0, 1, (300, 380)), 5.0)
    images = np.random.default_rng(10).normal(500, 1, (3, 300, 380)) + lumps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase, "without_pattern", lambda found, band: found)
        table = phase_shifts(frames(images.astype(np.float32))).load()
    return table, 2, {}, "no shift found, which the sensor's own pattern gives as well"


def no_shift() -> Case:
    """A shift that was taken out of the table by hand."""
    data = frames(cluster(np.random.default_rng(61), SHIFTS))
    shifts = phase_shifts(data).load()
    shifts["dx"].values[3] = np.nan
    return register(find_stars(data).load(), shifts=shifts), 3, {}, "the table of shifts has none for this frame"


def no_background() -> Case:
    stars = night()
    stars["variance"].values[6] = np.nan
    return normalised(stars), 6, {}, "background could not be measured"


def no_shared_star() -> Case:
    """Every star of the frame is saturated, so none has a flux."""
    stars = night()
    moves = register(stars)
    stars["saturated"].values[2] = True
    return normalise(stars, moves), 2, {}, "transparency unknown: no shared star was measured"


def too_dim() -> Case:
    """Light and noise of a cloud: a weight of 0.2^2 x 120 / 240 of a clear frame's."""
    n = 9
    clear = np.ones(n)
    clear[5] = 0.2
    rng = np.random.default_rng(92)
    stars = star_table(rng, [move_of(0.6 * k) for k in range(n)], sky_of(rng), transparency=clear)
    stars["variance"].values[5] = 240.0
    moves = normalised(stars)
    t = float(moves["transparency"][5])
    assert t == pytest.approx(0.2, rel=0.02)  # 60 shared stars of 1 to 5 % each
    best = np.sort(moves["transparency"].values)[-2]  # of the best quarter of nine
    numbers = {"transparency": t, "weight": t**2 / 2, "light": t / best}
    words = f"transparency {t:.2f}, weight {t**2 / 2:.3f} of the median, light {t / best:.2f} of the best quarter"
    return moves, 5, numbers, words


def no_sky() -> Case:
    """No block of one frame has a level: it has stars and a noise, and was out with the verdict "used"."""
    stars = night()
    stars["sky"].values[4] = np.nan
    return normalised(stars), 4, {}, "sky could not be measured in every band"


def not_among_best() -> Case:
    """Frame 7 has four times the noise of the others and goes when 8 of 9 stay."""
    stars = night()
    stars["variance"].values[7] *= 4
    moves = normalised(stars)
    moves = keep_best(moves, score(stars, moves), 8 / 9)
    worth = float(moves["score"][7])
    assert worth == moves["score"].values.min() > 0
    return moves, 7, {"score": worth, "keep": 8 / 9}, f"score {worth:.2f}: not among the best 89%"


CASES: dict[str, Callable[[], Case]] = {
    case.__name__: cache(case)
    for case in (
        used, by_hand, no_match, no_other_frame, too_few_stars, too_few_seen, elongated, no_structure, scales_disagree,
        sensor_pattern, no_shift, no_background, no_shared_star, too_dim, no_sky, not_among_best,
    )
}  # fmt: skip


@pytest.mark.parametrize("reason", Reason)
def test_a_frame_that_deserves_it_has_the_reason_its_numbers_and_its_sentence(reason: Reason) -> None:
    table, at, numbers, words = CASES[reason.value]()
    assert table["reason"].values[at] == reason.value
    assert table["verdict"].values[at] == words
    told = table["reason_numbers"].isel(time=at).dropna("number")
    assert dict(zip(told["number"].values, told.values, strict=True)) == pytest.approx(numbers, rel=0.02)


@pytest.mark.parametrize("reason", Reason)
def test_no_frame_is_out_with_the_verdict_used_nor_in_with_another(reason: Reason) -> None:
    table = CASES[reason.value]()[0]
    switch = table["used" if "used" in table else "verified"].values
    for name in ("reason", "verdict"):
        assert np.array_equal(switch, table[name].values == "used")
    if "weight" in table:
        assert np.array_equal(switch, (table["weight"].values > 0).all(1))
    if "transform" in table:
        assert np.isfinite(table["transform"].values[switch]).all()


def test_a_bad_reference_that_others_were_matched_to_is_not_said_to_be_alone() -> None:
    """Frame 3 of ``too_few_seen`` is the reference here: the others know each other, but hardly any of its stars."""
    moves = too_few_seen()[0]
    assert moves.attrs["reference_frame"] == FIRST + 9 and moves["used"].values.tolist() == [k != 3 for k in range(9)]


def test_what_is_left_out_by_hand_stays_out_and_has_no_say() -> None:
    stars = night()
    stars["variance"].values[2] = 1.0  # a frame of a hundredth of the noise would lift the median weight it is put to
    moves = register(stars)
    wide = xr.DataArray(np.arange(9) == 2, dims="time")
    for chosen in (wide, wide.values, [FIRST + 6], np.array([FIRST + 6])):
        out = leave_out(moves, chosen)
        assert np.flatnonzero(~out["used"].values).tolist() == [2] and out["verified"].all()
    found = normalise(stars, leave_out(moves, wide))
    assert found["reason"].values[2] == "by_hand" and found["weight"].values[2] == 0
    without = normalise(stars.drop_isel(time=2), moves.drop_isel(time=2))
    rest = found.drop_isel(time=2)
    # which stars are compared may differ by one or two of 150; a say in the median would be a factor of some 1.05
    assert np.allclose(rest["relative_weight"].values, without["relative_weight"].values, rtol=2e-3)
    again = score(stars, found)
    assert again["score"].values[2] == 0 and again["reason"].values[2] == "by_hand"
    assert keep_best(found, again, 0.5)["reason"].values.tolist().count("not_among_best") == 4


def test_a_switch_set_by_hand_in_the_table_is_told_as_such() -> None:
    stars = night()
    moves = register(stars)
    moves["verified"].values[5] = False
    found = normalise(stars, moves)
    assert not found["used"].values[5] and found["verdict"].values[5] == "left out by hand"
    kept = normalised(stars)
    kept["used"].values[1] = False
    assert score(stars, kept)["verdict"].values[1] == "left out by hand"


def test_an_earlier_reason_is_kept_when_a_frame_is_left_out_by_hand() -> None:
    moves = leave_out(no_sky()[0], np.ones(9, bool))
    assert moves["reason"].values.tolist() == ["no_sky" if at == 4 else "by_hand" for at in range(9)]
    assert not Verdicts.read(moves).used.any()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([41], "there is no frame 41 in this table"),
        (np.ones(3, bool), r"a mask of the shape \(3,\) for 9 frames"),
        (np.ones((9, 1), bool), r"a mask of the shape \(9, 1\)"),
    ],
)
def test_frames_that_are_not_there_are_refused(frames: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        leave_out(register(night()), frames)
    with pytest.raises(DataError, match="no reason"):
        leave_out(register(night()).drop_vars("reason"), [FIRST])
