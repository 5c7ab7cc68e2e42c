"""Options: validated at birth, frozen, equal by content, the same after TOML, pickle and replace."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from getframes_xr.core.errors import DataError, GetframesError, OptionError
from getframes_xr.core.options import Family, Options, Registry, read_toml


class Ring(Options):
    inner_px: Annotated[float, Field(gt=0.0, le=50.0)] = 6.0
    count: Annotated[int, Field(ge=1)] = 3


class Probe(Options):
    """Every sort of option there is in the house."""

    gain_e_per_adu: Annotated[float, Field(gt=0.0)]
    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=3)] = ("a",)
    place: Literal["near", "far"] = "near"
    shape: tuple[int, int] = (4, 6)
    limit: float | None = None
    on: bool = True
    ring: Ring = Ring()


def shapes() -> tuple[type[Family], type[Family], type[Family]]:
    """A family of two, made anew: the laws walk every family that stands in a module."""

    class ShapeOf(Family):
        registry = Registry("shape")

    class Square(ShapeOf):
        kind: Literal["square"] = "square"
        side_px: float = 1.0

        @classmethod
        def examples(cls):
            return (cls(),)

    class Disc(ShapeOf):
        kind: Literal["disc"] = "disc"
        side_px: float = 1.0

        @classmethod
        def examples(cls):
            return (cls(),)

    return ShapeOf, Square, Disc


probes = st.builds(
    Probe,
    gain_e_per_adu=st.floats(1e-300, 1e300),
    share=st.floats(0.0, 1.0, exclude_max=True),
    names=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4), min_size=1, max_size=3).map(
        tuple
    ),
    place=st.sampled_from(["near", "far"]),
    shape=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    ring=st.builds(Ring, inner_px=st.floats(0.0, 50.0, exclude_min=True), count=st.integers(1, 9)),
)


@given(probes)
def test_options_come_back_from_toml_and_pickle_to_the_last_bit(probe: Probe) -> None:
    for again in (
        Probe.from_toml("\n" + probe.to_toml()), Probe(**probe.to_dict()), pickle.loads(pickle.dumps(probe)),
        probe.replace(), Probe(**read_toml(probe.to_toml())),
    ):  # fmt: skip
        assert again == probe and hash(again) == hash(probe) and again.digest() == probe.digest()
        assert repr(again) == repr(probe) and type(again.ring) is Ring


@given(probes, probes)
def test_options_are_equal_when_and_only_when_each_is(one: Probe, other: Probe) -> None:
    alike = all(
        repr(getattr(one, name)) == repr(getattr(other, name)) for name in Probe.model_fields
    )  # repr: 0.0 is not -0.0
    assert (one == other) == alike == (one.digest() == other.digest())


def test_options_of_two_classes_are_never_equal() -> None:
    _, Square, Disc = shapes()
    assert Square() != Disc() and Square().digest() != Disc().digest() and Square() != "square"


def test_a_file_and_its_text_are_read_alike(tmp_path: Path) -> None:
    probe = Probe(gain_e_per_adu=1.5, names=("x", "y"), ring=Ring(count=2))
    text = probe.to_toml(tmp_path / "probe.toml")
    assert Probe.from_toml(tmp_path / "probe.toml") == Probe.from_toml(str(tmp_path / "probe.toml")) == probe
    assert Probe.from_toml(text) == probe and (tmp_path / "probe.toml").read_text() == text
    assert "limit" not in text  # None is left out, and stays None
    for wrong, words in ((tmp_path / "none.toml", "cannot read .*none.toml"), ("a = = 1", "TOML text is not TOML")):
        with pytest.raises(DataError, match=words):
            read_toml(wrong)
    (tmp_path / "bad.toml").write_text("a = 1\nb = = 2\n")
    with pytest.raises(DataError, match=r"bad\.toml is not TOML.*line 2"):
        read_toml(tmp_path / "bad.toml")


def test_replace_changes_what_is_named_and_validates_it_again() -> None:
    probe = Probe(gain_e_per_adu=1.5, share=0.5)
    changed = probe.replace(share=0.75)
    assert changed.share == 0.75 and changed.gain_e_per_adu == 1.5 and probe.share == 0.5
    with pytest.raises(OptionError, match="Probe.share=1.0"):
        probe.replace(share=1.0)


def test_options_are_frozen_and_keyword_only() -> None:
    probe = Probe(gain_e_per_adu=1.5)
    with pytest.raises(ValidationError, match="frozen"):
        probe.share = 0.5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Probe(1.5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("values", "option", "value", "allowed"),
    [
        ({"gain_e_per_adu": 0.0}, "Probe.gain_e_per_adu", 0.0, "> 0.0"),
        ({"gain_e_per_adu": -1.0}, "Probe.gain_e_per_adu", -1.0, "> 0.0"),
        ({"share": 1.0}, "Probe.share", 1.0, ">= 0.0 and < 1.0"),
        ({"share": -1e-9}, "Probe.share", -1e-9, ">= 0.0 and < 1.0"),
        ({"names": ()}, "Probe.names", (), "length >= 1 and length <= 3"),
        ({"names": ("a",) * 4}, "Probe.names", ("a",) * 4, "length >= 1 and length <= 3"),
        ({"place": "here"}, "Probe.place", "here", "'near' or 'far'"),
        ({"shape": (1, "two")}, "Probe.shape.1", "two", "valid integer"),
        ({"ring": {"inner_px": 51.0}}, "Ring.inner_px", 51.0, "> 0.0 and <= 50.0"),
        ({"shar": 0.5}, "Probe.shar", 0.5, "does not exist; known: gain_e_per_adu, share, names"),
        ({"gain_e_per_adu": None}, "Probe.gain_e_per_adu", None, "valid number"),
        ({"limit": float("nan")}, "Probe.limit", None, "finite"),
        ({"limit": float("inf")}, "Probe.limit", float("inf"), "finite"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_allowed(
    values: dict[str, object], option: str, value: object, allowed: str
) -> None:
    with pytest.raises(OptionError) as caught:
        Probe(**({"gain_e_per_adu": 2.0} | values))  # type: ignore[arg-type]
    error = caught.value
    assert error.option.endswith(option.split(".", 1)[1]) and option.split(".")[0] in ("Probe", "Ring")
    assert allowed in error.allowed
    if value is not None:
        assert error.value == value and repr(value) in str(error)
    assert str(error).startswith(f"{error.option}=") and "\n" not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is OptionError and repr(again.args) == repr(error.args) and error.__context__ is None
    assert isinstance(error, GetframesError) and isinstance(error, ValueError)


def test_a_missing_option_is_named_and_a_typo_before_it() -> None:
    with pytest.raises(OptionError, match=r"Probe\.gain_e_per_adu=None.*a value must be given"):
        Probe()  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="gain_e_per_aduu"):
        Probe(gain_e_per_aduu=1.0)  # type: ignore[call-arg]


def test_a_bound_itself_is_allowed_where_it_is_said_to_be() -> None:
    assert Probe(gain_e_per_adu=5e-324, share=0.0).share == 0.0
    assert Ring(inner_px=50.0, count=1) == Ring(inner_px=50, count=1)


def test_a_family_builds_its_members_by_kind() -> None:
    family, _, Disc = shapes()
    registry = family.registry
    assert list(registry) == ["disc", "square"] and len(registry) == 2 and "disc" in registry and "cube" not in registry
    built = registry.build({"kind": "disc", "side_px": 2.5})
    assert type(built) is Disc and built == Disc(side_px=2.5)
    assert registry.build(built) is built
    values = {"kind": "square", "side_px": 3.0}
    registry.build(values)
    assert values == {"kind": "square", "side_px": 3.0}  # the caller's mapping stays as it was
    for wrong in ({"kind": "cube"}, {"side_px": 1.0}):
        with pytest.raises(OptionError, match="shape kind.*disc, square"):
            registry.build(wrong)
    with pytest.raises(OptionError, match=r"Disc\.side_px='wide'"):
        registry.build({"kind": "disc", "side_px": "wide"})


def test_a_kind_cannot_be_taken_twice() -> None:
    family, _, Disc = shapes()
    with pytest.raises(TypeError, match=r"shape kind 'disc' is used by .*Disc and Plate"):
        body = {"__annotations__": {"kind": Literal["disc"]}, "kind": "disc", "__qualname__": "Plate"}
        type("Plate", (family,), {**body, "examples": classmethod(lambda cls: (cls(),))})
    assert family.registry["disc"] is Disc
