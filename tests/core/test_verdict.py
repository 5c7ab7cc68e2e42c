"""Verdicts are data: every reason has a code and a sentence with its numbers, and tables carry them whole."""

from __future__ import annotations

import json
import pickle
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.core.verdict import NUMBERS, Reason, Verdict, Verdicts, counted
from getframes_xr.io.tables import open_table, save_table
from getframes_xr.workflows.run_folder import plain

CODES = {
    "used", "by_hand", "no_match", "no_other_frame", "too_few_stars", "too_few_seen", "elongated", "no_structure",
    "scales_disagree", "sensor_pattern", "no_shift", "no_background", "no_shared_star", "too_dim", "no_sky",
    "not_among_best",
}  # fmt: skip


def test_codes_are_pinned() -> None:
    """Manifests and stores of older runs hold them: a code may be added, never changed or taken away."""
    assert {reason.value for reason in Reason} == CODES


def test_a_reason_without_a_sentence_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'sentence'"):

        class Worse(StrEnum):  # an enum with members takes no subclass: another one that makes its members alike
            __new__ = Reason.__new_member__
            WINDY = "windy"

    assert len({reason.sentence for reason in Reason}) == len(Reason) and all(reason.sentence for reason in Reason)


@pytest.mark.parametrize("reason", Reason)
def test_every_number_of_a_sentence_is_told(reason: Reason) -> None:
    """Two values of one number are two sentences, so none is given for nothing; a number left out is an error."""
    given = {name: 0.25 + at for at, name in enumerate(reason.numbers)}
    for name in reason.numbers:
        assert str(Verdict(reason, given)) != str(Verdict(reason, given | {name: 9.75}))
        assert "unknown" in str(Verdict(reason, given | {name: np.nan}))
        with pytest.raises(DataError, match=f"{name}.* needed"):
            Verdict(reason, {other: value for other, value in given.items() if other != name})
    with pytest.raises(DataError, match="wind given|, wind given"):
        Verdict(reason, given | {"wind": 3.0})
    assert "{" not in str(Verdict(reason, given)) and "\n" not in str(Verdict(reason, given))
    assert Verdict(reason, given).used == (reason.value == "used")


@pytest.mark.parametrize("reason", Reason)
def test_a_verdict_comes_back_from_json_and_its_sentence_is_not_read(reason: Reason) -> None:
    verdict = Verdict(reason, {name: 0.1 + at for at, name in enumerate(reason.numbers)})
    record = json.loads(json.dumps(plain(verdict.to_dict())))
    assert record == {"reason": reason.value, "numbers": dict(verdict.numbers), "verdict": str(verdict)}
    assert Verdict.from_dict(record | {"verdict": "used"}) == verdict
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    unknown = json.loads(json.dumps(plain(Verdict(reason, dict.fromkeys(reason.numbers, np.nan)).to_dict())))
    assert all(np.isnan(value) for value in Verdict.from_dict(unknown).numbers.values())
    with pytest.raises(DataError, match="'windy' is not known; known: used, by_hand"):
        Verdict.from_dict({"reason": "windy", "numbers": {}})


def every_reason() -> Verdicts:
    """A frame for each reason, with numbers that tell frames and names apart."""
    verdicts = Verdicts.of(len(Reason))
    for at, reason in enumerate(Reason):
        numbers = {name: at + np.arange(len(Reason)) / 64 + 10 * place for place, name in enumerate(reason.numbers)}
        if reason is not Reason.USED:
            verdicts = verdicts.leave_out(np.arange(len(Reason)) == at, reason, **numbers)
    return verdicts


def table() -> xr.Dataset:
    frames = {"frame": ("time", 7 * np.arange(len(Reason))[::-1])}
    return every_reason().write(xr.Dataset({"weight": (("time", "band"), np.ones((len(Reason), 2)))}, frames))


def test_the_first_reason_stays() -> None:
    verdicts = Verdicts.of(4).leave_out(np.array([0, 1, 1, 0], bool), Reason.NO_MATCH, stars=[5, 6, 7, 8], elongation=0)
    verdicts = verdicts.leave_out(np.array([0, 0, 1, 1], bool), Reason.NO_SKY)
    assert [verdict.reason.value for verdict in verdicts] == ["used", "no_match", "no_match", "no_sky"]
    assert verdicts.used.tolist() == [True, False, False, False]
    assert [dict(verdict.numbers).get("stars") for verdict in verdicts] == [None, 6.0, 7.0, None]
    assert counted(verdicts) == [(Reason.NO_MATCH, 2), (Reason.NO_SKY, 1)]


def test_a_table_says_used_where_and_only_where_the_reason_does() -> None:
    shown = table()
    assert shown["used"].values.tolist() == [reason.value == "used" for reason in Reason]
    assert shown["reason"].values.tolist() == [reason.value for reason in Reason]
    assert (shown["weight"].values > 0).tolist() == [[reason.value == "used"] * 2 for reason in Reason]
    assert (shown["reason"] == "too_dim").values.tolist() == [reason is Reason.TOO_DIM for reason in Reason]
    assert (shown["reason"] == Reason.TOO_DIM).values.tolist() == [reason is Reason.TOO_DIM for reason in Reason]
    finite = np.isfinite(shown["reason_numbers"]).values
    for at, reason in enumerate(Reason):
        assert {NUMBERS[place] for place in np.flatnonzero(finite[at])} == set(reason.numbers)


@pytest.mark.parametrize("way", ["npz", "zarr", "sorted", "isel", "concat", "numbers in another order"])
def test_verdicts_survive_what_happens_to_tables(way: str, tmp_path: Path) -> None:
    shown, expected = table(), list(every_reason())
    if way == "npz":
        again = open_table(save_table(shown, tmp_path / "moves.npz"))
        xr.testing.assert_identical(again, shown)
        assert {name: again[name].dtype for name in again.variables} == {n: shown[n].dtype for n in shown.variables}
    elif way == "zarr":
        shown.to_zarr(tmp_path / "moves.zarr")
        again = xr.open_zarr(tmp_path / "moves.zarr", chunks=None).load()
    elif way == "sorted":
        again, expected = shown.sortby("frame"), expected[::-1]
    elif way == "isel":
        again, expected = shown.isel(time=[5, 2, 11]), [expected[at] for at in (5, 2, 11)]
    elif way == "concat":
        parts = [shown.isel(time=slice(0, 4)), shown.isel(time=slice(4, None))]
        again = xr.concat(parts, "time")
    else:
        again = shown.isel(number=np.random.default_rng(3).permutation(len(NUMBERS)))
    assert list(Verdicts.read(again)) == expected
    assert again["verdict"].values.tolist() == [str(verdict) for verdict in expected]


@pytest.mark.parametrize("column", ["used", "verified"])
def test_the_users_switch_wins_and_is_named(column: str) -> None:
    """Whoever sets the column by hand decides, and no frame is out with the verdict "used", nor in with another."""
    shown = table().drop_vars("used").assign({column: ("time", np.arange(len(Reason)) == 3)})
    read = Verdicts.read(shown)
    assert read.used.tolist() == [at == 3 for at in range(len(Reason))]
    assert read[0].reason is Reason.BY_HAND and read[3] == Verdict(Reason.USED)
    assert list(read)[4:] == list(every_reason())[4:]


def test_tables_without_reasons_or_with_unknown_ones_are_refused() -> None:
    with pytest.raises(DataError, match="this table has no reason, reason_numbers; make it with register"):
        Verdicts.read(table().drop_vars(["reason", "reason_numbers"]))
    foreign = table()
    foreign["reason"].values[2] = "windy"
    with pytest.raises(DataError, match="reason 'windy' is not known; known: used"):
        Verdicts.read(foreign)
    with pytest.raises(DataError, match="no_match: stars given, stars, elongation needed"):
        Verdicts.of(3).leave_out(np.ones(3, bool), Reason.NO_MATCH, stars=3)
