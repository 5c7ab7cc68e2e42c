"""Laws of options by kind, walked over every family: stages, PSFs, sources, optics, light curves, rejection rules.

A new family is found because it derives from ``Family``; a new member because it registers itself.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import getframes_xr
import getframes_xr as gx
from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Family, Registry
from getframes_xr.engine.collapse import RULES, Stacked
from getframes_xr.light.column import Column
from getframes_xr.light.optics import OPTICS
from getframes_xr.light.psf import PSFS
from getframes_xr.light.sources import SOURCES
from tests.laws import kit
from tests.laws.light_and_stacks import bytes_of_curve, bytes_of_light, bytes_of_stack, light_of, scene_with, stack_with
from tests.laws.producers import clean, colours, exposures, raw
from tests.laws.rooms import import_all

import_all(getframes_xr)

FAMILIES: dict[str, Registry] = {family.registry.family: family.registry for family in Family.__subclasses__()}
MEMBERS = [(name, kind) for name, registry in FAMILIES.items() for kind in registry]
CASES = [(name, kind, n) for name, kind in MEMBERS for n in range(len(FAMILIES[name][kind].examples()))]


def example(case: tuple[str, str, int]) -> Any:
    family, kind, n = case
    return FAMILIES[family][kind].examples()[n]


def examples(family: str, kind: str) -> tuple[Any, ...]:
    """Of one member; positions on the sky beside those in pixels, which exclude each other."""
    members: tuple[Any, ...] = FAMILIES[family][kind].examples()
    fields = type(members[0]).model_fields
    if "ra_deg" not in fields:
        return members
    column = isinstance(members[-1].y, Column)
    place = {"ra_deg": [40.002] if column else 40.002, "dec_deg": [20.003] if column else 20.003}
    return (*members, members[-1].replace(y=None, x=None, **place))


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
each_member = pytest.mark.parametrize(("family", "kind"), MEMBERS)


def test_the_families_of_the_house_are_here_with_an_example_each() -> None:
    assert set(FAMILIES) >= {"stage", "psf", "source", "optic", "light curve", "rejection rule"}
    assert {(family, kind) for family, kind, _ in CASES} == set(MEMBERS)
    assert len(MEMBERS) >= 45


@each_case
def test_an_example_is_what_it_says_and_frozen(case: tuple[str, str, int]) -> None:
    member = example(case)
    assert member.kind == case[1] and type(member).__doc__
    kit.options_are_frozen(member)


@each_case
def test_an_example_goes_through_pickle_and_toml_and_its_registry(case: tuple[str, str, int], tmp_path: Path) -> None:
    member, registry = example(case), FAMILIES[case[0]]
    kit.options_travel(member, registry)
    member.to_toml(tmp_path / "member.toml")
    assert type(member).from_toml(tmp_path / "member.toml") == member
    assert registry.build(member) is member


@each_member
def test_every_option_tells_in_the_digest(family: str, kind: str) -> None:
    kit.every_option_tells(examples(family, kind))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_member_without_examples_of_its_own_is_refused(family: str) -> None:
    (base,) = (cls for cls in Family.__subclasses__() if cls.registry is FAMILIES[family])
    hints = {"kind": Literal["bare"], "after": ClassVar[str | None]}
    fields = {"__module__": __name__, "__annotations__": hints, "kind": "bare", "after": None}
    with pytest.raises(TypeError, match=f"{family} Bare states no examples"):
        type("Bare", (base,), fields)
    assert "bare" not in FAMILIES[family]
    heir = FAMILIES[family][next(iter(FAMILIES[family]))]  # nor do those of another member count
    with pytest.raises(TypeError, match="Bare states no examples"):
        type("Bare", (heir,), fields)
    assert "bare" not in FAMILIES[family]


def test_digests_are_those_of_another_process_and_differ_among_examples() -> None:
    code = (
        "import pickle, sys\nfor member in pickle.load(sys.stdin.buffer): print(type(member)(**dict(member)).digest())"
    )
    members = [example(case) for case in CASES]
    told = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(members), capture_output=True, check=True)
    assert told.stdout.decode().split() == [member.digest() for member in members]
    assert len({member.digest() for member in members}) == len(members)


@each_case
def test_a_wrong_option_is_named_with_what_is_allowed(case: tuple[str, str, int]) -> None:
    member = example(case)
    with pytest.raises(OptionError, match="no_such_option") as caught:
        member.replace(no_such_option=1)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # it crosses process borders
    numbers = [name for name, value in dict(member).items() if type(value) is float]
    for name in numbers:
        with pytest.raises(OptionError, match=name):
            member.replace(**{name: "blue"})
        with pytest.raises(OptionError, match=name):
            member.replace(**{name: float("nan")})
        with pytest.raises(OptionError, match=name):
            member.replace(**{name: float("inf")})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_unknown_kind_lists_the_known_and_a_kind_cannot_be_taken_twice(family: str) -> None:
    registry = FAMILIES[family]
    with pytest.raises(OptionError) as caught:
        registry.build({"kind": "no_such_kind"})
    assert all(kind in str(caught.value) for kind in registry)
    taken = next(iter(registry))
    member = registry[taken]
    impostor = type("Impostor", (), {"model_fields": member.model_fields, "__module__": "elsewhere"})  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="is used by"):
        registry.add(impostor)
    assert registry[taken] is member


# --- what members make: the window law and memory -------------------------------------------------------------------


LIGHT = [case for case in CASES if FAMILIES[case[0]] in (PSFS, SOURCES, OPTICS)]
RULE_CASES = [case for case in CASES if FAMILIES[case[0]] is RULES]
each_light = pytest.mark.parametrize("case", LIGHT, ids=lambda case: "-".join(map(str, case)))
each_rule = pytest.mark.parametrize("case", RULE_CASES, ids=lambda case: f"{case[1]}-{case[2]}")


WORKED: dict[str, Any] = {
    "psf": bytes_of_light, "source": bytes_of_light, "optic": bytes_of_light, "light curve": bytes_of_curve,
    "rejection rule": bytes_of_stack,
}  # fmt: skip


@pytest.mark.parametrize(("family", "kind"), [member for member in MEMBERS if member[0] in WORKED])
def test_every_option_changes_what_is_made(family: str, kind: str) -> None:
    idle = {"name"} if kind == "stars" else ()  # names are for tables, not for the light
    kit.every_option_works(examples(family, kind), WORKED[family], idle)


def test_what_was_kept_of_other_options_does_not_show() -> None:
    worked = [(family, kind) for family, kind in MEMBERS if family in WORKED]
    made = [(member, WORKED[f]) for f, kind in worked for member in kit.with_other_options(examples(f, kind))]
    kit.order_does_not_show(made)


def test_every_family_is_put_to_work() -> None:
    assert set(FAMILIES) == {*WORKED, "stage"}  # stages: test_stages


@each_light
def test_light_of_a_window_is_the_crop_of_any_window_around_it(case: tuple[str, str, int]) -> None:
    kit.windows_agree(light_of(example(case)), tries=10)


@each_light
def test_light_asked_for_before_does_not_show(case: tuple[str, str, int]) -> None:
    kit.asked_again_agrees(light_of(example(case)))


@each_light
def test_any_number_of_threads_gives_the_same_light(case: tuple[str, str, int]) -> None:
    kit.threads_agree(light_of(example(case)))


@each_light
def test_the_memory_of_light_is_as_forecast(case: tuple[str, str, int]) -> None:
    frames = scene_with(example(case)).frames((256, 320), exposures(3), seed=9, cfa="RGGB")
    kit.bytes_are_as_forecast(frames)


@each_light
def test_light_tells_every_option_in_its_token(case: tuple[str, str, int]) -> None:
    kit.every_option_tells(examples(case[0], case[1]), light_of)


@pytest.mark.parametrize("case", [case for case in CASES if FAMILIES[case[0]] is PSFS], ids=lambda c: f"{c[1]}-{c[2]}")
def test_a_profile_follows_from_its_options_and_is_what_it_says(case: tuple[str, str, int]) -> None:
    kit.profile_is_as_declared(example(case))
    kit.profile_follows_from_the_options(example(case))


@each_rule
@pytest.mark.parametrize("n", [1, 2, 7, 12])
@pytest.mark.parametrize("parent", [raw, clean, colours])
def test_a_stack_of_a_window_is_the_crop_of_any_window_around_it(
    case: tuple[str, str, int], n: int, parent: Any
) -> None:
    frames = parent((n, 13, 19))
    kit.windows_agree(Stacked(frames, example(case), plane="adu" if "adu" in frames.planes else "image"), tries=6)


@each_rule
def test_stacks_made_before_do_not_show(case: tuple[str, str, int]) -> None:
    kit.asked_again_agrees(stack_with(example(case)))


@each_rule
def test_any_number_of_threads_gives_the_same_stack(case: tuple[str, str, int]) -> None:
    kit.threads_agree(stack_with(example(case)))


@each_rule
def test_a_stack_tells_every_option_of_its_rule_in_its_token(case: tuple[str, str, int]) -> None:
    kit.every_option_tells(examples(case[0], case[1]), stack_with)


@each_rule
def test_a_stack_of_equal_frames_is_that_frame_and_order_does_not_matter(case: tuple[str, str, int]) -> None:
    frames = gx.lazy(clean((9, 20, 24)))
    rule = example(case)
    one = frames.isel(time=[4] * 1)
    copies = np.repeat(one["image"].values, 9, axis=0)
    flags = np.repeat(one["flags"].values, 9, axis=0)
    equal = frames.assign(image=(frames["image"].dims, copies), flags=(frames["flags"].dims, flags))
    equal["image"].attrs["units"] = "electron"
    image = gx.stack(equal, reject=rule)["image"].values
    good = np.isfinite(image)
    assert good.mean() > 0.95
    np.testing.assert_allclose(image[good], copies[0][good], rtol=2e-7)
    forward, backward = (gx.stack(frames.isel(time=slice(None, None, step)), reject=rule).load() for step in (1, -1))
    for name in forward.data_vars:
        assert forward[name].values.tobytes() == backward[name].values.tobytes(), name


@each_rule
def test_the_memory_of_a_rule_is_as_forecast(case: tuple[str, str, int]) -> None:
    for parent, plane in ((raw((24, 128, 160)), "adu"), (clean((24, 128, 160)), "image")):
        kit.bytes_are_as_forecast(Stacked(parent, example(case), plane=plane))
