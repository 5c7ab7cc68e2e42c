"""Digests: equal values agree on any machine; values that differ in anything that can decide a result do not.

Expected bytes are written here by hand from the encoding's own sentence (type tag, length, content).
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import itertools
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import getframes_xr.core.digest as digesting
from getframes_xr.core.digest import digest
from getframes_xr.core.options import Options


class Colour(enum.Enum):
    RED, BLUE = 1, 2


class Paint(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    y: float
    x: float


@dataclasses.dataclass
class Shift:
    y: float
    x: float


class Narrow(Options):
    width: float


class Wide(Options):
    width: float


class Told:
    def __init__(self, word: str) -> None:
        self.word = word

    def token(self) -> str:
        return self.word


RAMP = np.arange(6, dtype=np.float32)
# Every pair of these differs in exactly one thing that decides a result.
APART: list[Any] = [
    None, False, True, 0, 1, -1, 0.0, -0.0, 1.0, np.nextafter(1.0, 2), float("nan"), float("inf"), float("-inf"),
    "", "0", "1", "None", "nan", b"", b"1", (), (None,), ((),), [[], []], {}, {"a": 1}, {"a": 2}, {"b": 1}, {1: "a"},
    ("a", "bc"), ("ab", "c"), ("abc",), ("a", ("b", "c")), (("a", "b"), "c"), ("a", "b", "c"), ("c", "b", "a"),
    {"a": {"b": 1}}, {"a": {}, "b": 1}, {"a", "b"}, {"ab"}, set(), Colour.RED, Colour.BLUE, Paint.RED,
    Point(1.0, 2.0), Point(2.0, 1.0), Shift(1.0, 2.0), Narrow(width=1.0), Narrow(width=2.0), Wide(width=1.0),
    Told("one"), Told("two"), Path("a"), Path("a/b"), float, int, np.dtype("f4"), np.dtype(">f4"),
    np.datetime64("2026-03-01"), np.datetime64("2026-03-02"), np.timedelta64(1, "s"), np.timedelta64(1, "m"),
    datetime.datetime(2026, 3, 1), RAMP, RAMP[::-1], RAMP.reshape(2, 3), RAMP.reshape(3, 2), RAMP[:5],
    RAMP.astype("f8"), RAMP.astype(">f4"), RAMP.view(np.int32), RAMP.astype(np.int32), np.array(1.0), np.array([1.0]),
    np.array([-0.0]), np.array([0.0]), np.zeros((0, 3)), np.zeros((3, 0)), np.array(["a", "bc"]), np.array(["ab", "c"]),
    np.array([["a"], ["bc"]]),
]  # fmt: skip


def test_values_that_differ_in_anything_have_other_digests() -> None:
    found: dict[str, Any] = {}
    for value in APART:
        other = found.setdefault(digest(value), value)
        assert other is value, (other, value)


def test_several_values_are_not_one_and_their_order_counts() -> None:
    ways = [digest("a", "b"), digest("b", "a"), digest("ab"), digest(("a", "b")), digest("a"), digest()]
    assert len(set(ways)) == len(ways)


@pytest.mark.parametrize(
    "one, other",
    [
        ({"a": 1, "b": 2.0}, {"b": 2.0, "a": 1}),
        ({3, 1, 2}, {2, 3, 1}),
        (frozenset({1, 2}), {2, 1}),
        ((1, 2), [1, 2]),
        (1, np.int16(1)),
        (0.5, np.float32(0.5)),
        (True, np.bool_(True)),
        (RAMP.reshape(2, 3).T, np.ascontiguousarray(RAMP.reshape(2, 3).T)),
        (RAMP[::2], np.array([0, 2, 4], np.float32)),
        (np.array(["a", "b"]), np.array(["a", "b"], object)),
        (float("nan"), -float("nan")),
    ],
    ids=str,
)
def test_values_that_mean_the_same_have_one_digest(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


def test_the_encoding_is_tag_length_content() -> None:
    """Written out by hand: the digest of a text is that of these bytes, on any machine and for ever."""

    def entry(tag: bytes, content: bytes) -> bytes:
        return tag + struct.pack("<q", len(content)) + content

    def hashed(content: bytes, size: int) -> bytes:
        return hashlib.blake2b(content, digest_size=size).digest()

    assert digest("é") == hashed(entry(b"str", "é".encode()), 16).hex()
    assert digest(-7, size=8) == hashed(entry(b"int", b"-7"), 8).hex()
    assert digest(0.1) == hashed(entry(b"float", (0.1).hex().encode()), 16).hex()
    pair = hashed(entry(b"str", b"a") + entry(b"int", b"1"), 32)
    assert digest(("a", 1)) == hashed(entry(b"sequence", pair), 16).hex()
    assert digest({"a": 1}) == hashed(entry(b"mapping", pair), 16).hex()
    array = b"<f4(6,)" + hashlib.blake2b(RAMP.tobytes()).digest()
    assert digest(RAMP) == hashed(entry(b"array", array), 16).hex()


def test_another_process_with_other_hashes_says_the_same() -> None:
    code = (
        "from getframes_xr.core.digest import digest\n"
        "print(digest({'b': {'x', 'y', 'z'}, 'a': [1, 0.1, None]}, ('a', 'bc')))"
    )
    expected = digest({"a": [1, 0.1, None], "b": {"z", "y", "x"}}, ("a", "bc"))
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
        assert told.stdout.strip() == expected


@given(st.lists(st.floats(width=64), min_size=1, max_size=6), st.data())
def test_every_bit_of_a_float_counts(values: list[float], data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(values) - 1)), data.draw(st.integers(0, 63))
    array = np.array(values)
    changed = array.copy()
    changed.view(np.uint64)[at] ^= np.uint64(1 << bit)
    assert digest(array) != digest(changed)
    if not (np.isnan(array[at]) and np.isnan(changed[at])):  # as a number, any NaN is NaN
        assert digest(float(array[at])) != digest(float(changed[at]))


@given(st.lists(st.text(max_size=3), min_size=1, max_size=5), st.data())
def test_texts_cut_at_another_place_differ(words: list[str], data: st.DataObject) -> None:
    whole = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    others = [whole[i:j] for i, j in itertools.pairwise([0, *cuts, len(whole)])]
    assert (digest(words) == digest(others)) == (words == others)


def test_what_has_no_content_to_digest_is_refused() -> None:
    for value in (object(), lambda: None, iter([1]), 1j):
        with pytest.raises(TypeError, match="no digest for"):
            digest(value)


def test_the_code_s_digest_changes_with_any_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (package / "room" / "a.py").write_text("x = 1")
    (package / "camera.toml").write_text("x = 1")
    (package / "notes.txt").write_text("x = 1")
    monkeypatch.setattr(digesting, "PACKAGE", package)
    version = digesting.code_version.__wrapped__

    seen = [version()]
    (package / "notes.txt").write_text("x = 2")
    assert version() == seen[0]
    (package / "room" / "a.py").write_text("x = 2")
    seen.append(version())
    (package / "camera.toml").write_text("x = 2")
    seen.append(version())
    (package / "room" / "a.py").rename(package / "room" / "b.py")
    seen.append(version())
    assert len(set(seen)) == 4
    (tmp_path / "pyproject.toml").unlink()  # an installed release: its number says it all
    assert "+" not in version() or version().startswith("source+")
