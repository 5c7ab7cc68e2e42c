"""Verdicts: why a frame is used or not, as data: a reason out of one list and the numbers that decided it.

    Reason     the list: a code that never changes and the sentence it is told in, which names its numbers
    Verdict    one frame's reason and numbers; ``str`` of it is the sentence
    Verdicts   those of all frames, as columns of a table; ``used`` is decided here and nowhere else

A frame is used when nothing speaks against it; the first reason that does is the one it keeps. Sentences are made from
reason and numbers for people to read and never read back. Tables, manifest, events and report carry all three.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from getframes_xr.core.errors import DataError
from getframes_xr.core.vocabulary import TIME

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, Any]


class Reason(StrEnum):
    """Why a frame is used or left out; equal to its code, so ``moves["reason"] == "no_match"`` asks for it.

    A member is its code and its sentence; the names in the sentence's braces are the numbers it must be given.
    """

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    USED = "used", "used"
    BY_HAND = "by_hand", "left out by hand"
    # registration by stars
    NO_MATCH = (
        "no_match",
        "no match: {stars:.0f} stars found (elongation {elongation:.2f}), no pattern in common with the reference",
    )
    NO_OTHER_FRAME = "no_other_frame", "unverified: no other frame could be matched to this reference"
    TOO_FEW_STARS = (
        "too_few_stars",
        "unverified: only {catalogue_stars:.0f} catalogue stars lie in the frame, {needed:.0f} needed",
    )
    TOO_FEW_SEEN = (
        "too_few_seen",
        "unverified: {share:.0%} of {catalogue_stars:.0f} catalogue stars seen (elongation {elongation:.2f}), "
        "{needed:.0%} needed",
    )
    ELONGATED = "elongated", "shape: elongation {elongation:.2f}, at most {most:.2f}"
    # registration by phase correlation
    NO_STRUCTURE = "no_structure", "no common structure: peak {peak_sigma:.1f} sigma, {needed:.0f} needed"
    SCALES_DISAGREE = (
        "scales_disagree",
        "no common structure: fine and coarse correlation disagree by {apart:.1f} cells, at most {most:.0f}",
    )
    SENSOR_PATTERN = "sensor_pattern", "no shift found, which the sensor's own pattern gives as well"
    NO_SHIFT = "no_shift", "the table of shifts has none for this frame"
    # normalisation
    NO_BACKGROUND = "no_background", "background could not be measured"
    NO_SHARED_STAR = "no_shared_star", "transparency unknown: no shared star was measured"
    TOO_DIM = (
        "too_dim",
        "transparency {transparency:.2f}, weight {weight:.3f} of the median, light {light:.2f} of the best quarter",
    )
    NO_SKY = "no_sky", "sky could not be measured in every band"
    # choice
    NOT_AMONG_BEST = "not_among_best", "score {score:.2f}: not among the best {keep:.0%}"

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numbers in its sentence."""
        return tuple(name for _, name, _, _ in string.Formatter().parse(self.sentence) if name)

    @property
    def label(self) -> str:
        """The code as words, for counts: ``no match``."""
        return self.value.replace("_", " ")


NUMBERS: Final = tuple(dict.fromkeys(name for reason in Reason for name in reason.numbers))
"""names of all numbers, in the order of the columns of ``reason_numbers``"""


class _Teller(string.Formatter):
    """Writes a sentence; a number that is not known is said to be."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "unknown" if np.isnan(value) else str(super().format_field(value, format_spec))


@dataclass(frozen=True)
class Verdict:
    """Why one frame is used or not.

    Parameters
    ----------
    reason : of the list
    numbers : by name, exactly those that the reason's sentence names; NaN where not known

    Raises
    ------
    DataError : a number is missing or too many
    """

    reason: Reason
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.numbers) != set(self.reason.numbers):
            needed, given = (", ".join(names) or "no numbers" for names in (self.reason.numbers, self.numbers))
            raise DataError(f"verdict {self.reason}: {given} given, {needed} needed")

    @property
    def used(self) -> bool:
        return self.reason is Reason.USED

    def __str__(self) -> str:
        return _Teller().format(self.reason.sentence, **self.numbers)

    def to_dict(self) -> dict[str, Any]:
        """Reason, numbers and the sentence ``verdict``, as a manifest and an event carry them."""
        return {"reason": str(self.reason), "numbers": dict(self.numbers), "verdict": str(self)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``, also by way of JSON; the sentence is not looked at.

        Raises
        ------
        DataError : an unknown reason, or numbers that do not belong to it
        """
        numbers = facts.get("numbers") or {}
        known = {str(name): np.nan if value is None else float(value) for name, value in numbers.items()}
        return cls(_reason(facts.get("reason")), known)


_OF_CODE: Final = {reason.value: reason for reason in Reason}


def _reason(code: object) -> Reason:
    if str(code) not in _OF_CODE:
        raise DataError(f"reason {str(code)!r} is not known; known: {', '.join(Reason)}")
    return _OF_CODE[str(code)]


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of some frames, in their order: codes (n,) and numbers (n, number), NaN where a reason has none.

    In a table they are the columns ``reason`` and ``reason_numbers``; ``verdict``, the sentences, is made from them.
    """

    reasons: Array
    numbers: Array

    @classmethod
    def of(cls, n: int) -> Self:
        """``n`` frames with nothing against them."""
        return cls(np.full(n, Reason.USED.value, object), np.full((n, len(NUMBERS)), np.nan))

    @classmethod
    def read(cls, table: xr.Dataset) -> Self:
        """Those of a table of moves, shifts or scores.

        Its column ``used`` (before ``normalise``: ``verified``) is the user's switch and wins: a frame that was
        switched off has the reason ``by_hand``, one that was switched on is used.

        Raises
        ------
        DataError : the table has no reasons, or one that is not known
        """
        missing = [name for name in ("reason", "reason_numbers") if name not in table]
        if missing:
            raise DataError(f"this table has no {', '.join(missing)}; make it with register, normalise or phase_shifts")
        reasons = np.array([_reason(code).value for code in table["reason"].values], object)
        columns = table["reason_numbers"].transpose(TIME, "number").reindex(number=list(NUMBERS))
        found = cls(reasons, columns.values.astype(np.float64))
        switch = next((table[name].values for name in ("used", "verified") if name in table), found.used)
        on = cls.of(len(reasons))
        numbers = np.where((switch & ~found.used)[:, None], on.numbers, found.numbers)
        return cls(np.where(switch, on.reasons, reasons), numbers).leave_out(~switch, Reason.BY_HAND)

    def leave_out(self, where: Array, reason: Reason, **numbers: Any) -> Self:
        """Leave frames out for a reason; those that are out already keep theirs.

        Parameters
        ----------
        where : bool (n,)
        numbers : each that the reason's sentence names, of one frame for all or (n,)

        Raises
        ------
        DataError : a number is missing or too many
        """
        Verdict(reason, dict.fromkeys(numbers, 0.0))
        out = np.asarray(where, np.bool_) & self.used
        reasons, table = self.reasons.copy(), self.numbers.copy()
        reasons[out] = reason.value
        for name, values in numbers.items():
            table[out, NUMBERS.index(name)] = np.broadcast_to(values, out.shape)[out]
        return type(self)(reasons, table)

    @property
    def used(self) -> Array:
        """Which frames are used, bool (n,): those with nothing against them. No other place decides this."""
        return np.asarray(self.reasons == Reason.USED.value, np.bool_)

    @property
    def sentences(self) -> Array:
        """What to tell people, texts (n,)."""
        return np.array([str(verdict) for verdict in self], object)

    def __len__(self) -> int:
        return len(self.reasons)

    def __getitem__(self, at: int) -> Verdict:
        reason = _OF_CODE[self.reasons[at]]
        return Verdict(reason, {name: float(self.numbers[at, NUMBERS.index(name)]) for name in reason.numbers})

    def __iter__(self) -> Iterator[Verdict]:
        return (self[at] for at in range(len(self)))

    def write(self, table: xr.Dataset) -> xr.Dataset:
        """The table with these verdicts, the column ``used``, and no ``weight`` for frames that are out."""
        table = table.assign(used=(TIME, self.used), **self.columns())
        return table.assign(weight=table["weight"].where(table["used"], 0.0)) if "weight" in table else table

    def columns(self) -> dict[str, Any]:
        """Columns of a Dataset: reason (time), reason_numbers (time, number) and, for people, verdict (time)."""
        return {
            "reason": (TIME, self.reasons),
            "reason_numbers": ((TIME, "number"), self.numbers),
            "number": ("number", np.array(NUMBERS, object)),
            "verdict": (TIME, self.sentences),
        }


def counted(verdicts: Iterable[Verdict]) -> list[tuple[Reason, int]]:
    """How many frames each reason has left out, most first, ties in the order of the list."""
    counts = Counter(verdict.reason for verdict in verdicts if not verdict.used)
    order = list(Reason)
    return sorted(counts.items(), key=lambda item: (-item[1], order.index(item[0])))
