"""Laws of options by kind, walked over every family: stages, PSFs, sources, optics, light curves, rejection rules.

A new family is found because it derives from ``Family``; a new member because it registers itself.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import getframes_xr
import getframes_xr as gx
from getframes_xr.core.errors import OptionError
from getframes_xr.core.options import Family, Registry, read_toml
from getframes_xr.engine.collapse import RULES, Stacked
from getframes_xr.light.optics import OPTICS
from getframes_xr.light.psf import PSFS
from getframes_xr.light.sources import SOURCES
from tests.laws.producers import clean, colours, exposures, raw
from tests.laws.rooms import import_all
from tests.strategies import pairs

import_all(getframes_xr)

FAMILIES: dict[str, Registry] = {family.registry.family: family.registry for family in Family.__subclasses__()}
MEMBERS = [(name, kind) for name, registry in FAMILIES.items() for kind in registry]
CASES = [(name, kind, n) for name, kind in MEMBERS for n in range(len(FAMILIES[name][kind].examples()))]


def example(case: tuple[str, str, int]) -> Any:
    family, kind, n = case
    return FAMILIES[family][kind].examples()[n]


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))


def test_the_families_of_the_house_are_here_with_an_example_each() -> None:
    assert set(FAMILIES) >= {"stage", "psf", "source", "optic", "light curve", "rejection rule"}
    assert {(family, kind) for family, kind, _ in CASES} == set(MEMBERS)
    assert len(MEMBERS) >= 45


@each_case
def test_an_example_is_what_it_says_and_frozen(case: tuple[str, str, int]) -> None:
    member = example(case)
    assert member.kind == case[1] and type(member).__doc__
    for name in type(member).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(member, name, getattr(member, name))
    with pytest.raises(ValidationError):
        member.no_such_option = 1


@each_case
def test_an_example_goes_through_pickle_and_toml_and_its_registry(case: tuple[str, str, int], tmp_path: Path) -> None:
    member, registry = example(case), FAMILIES[case[0]]
    again = pickle.loads(pickle.dumps(member))
    assert again == member and hash(again) == hash(member) and again.digest() == member.digest()
    member.to_toml(tmp_path / "member.toml")
    assert type(member).from_toml(tmp_path / "member.toml") == member
    built = registry.build(read_toml(tomli_w.dumps(member.to_dict())))
    assert type(built) is type(member) and built == member and built.digest() == member.digest()
    assert registry.build(member) is member


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


def scene_with(member: Any) -> gx.Scene:
    family = next(name for name, registry in FAMILIES.items() if type(member) in registry.values())
    options: dict[str, Any] = {
        "telescope": gx.Telescope(aperture_diameter_m=0.2, plate_scale_arcsec_per_px=1.5, band="johnson_R"),
        "psf": member if family == "psf" else gx.psf.Gaussian(fwhm_arcsec=4.0),
        "sources": [member if family == "source" else gx.StarField(n=30, magnitude=(8.0, 12.0), seed=2)],
        "optics": [member] if family == "optic" else [],
        "pointing": gx.Pointing(jitter_arcsec=3.0, field_rotation=gx.pointing.FieldRotation(rate_deg_per_s=0.1)),
    }
    return gx.Scene(**options)


LIGHT = [case for case in CASES if FAMILIES[case[0]] in (PSFS, SOURCES, OPTICS)]
each_light = pytest.mark.parametrize("case", LIGHT, ids=lambda case: "-".join(map(str, case)))
each_rule = pytest.mark.parametrize(
    "case", [c for c in CASES if FAMILIES[c[0]] is RULES], ids=lambda c: f"{c[1]}-{c[2]}"
)


@each_light
@given(data=st.data())
@settings(max_examples=10)
def test_light_of_a_window_is_the_crop_of_any_window_around_it(case: tuple[str, str, int], data: st.DataObject) -> None:
    producer = scene_with(example(case)).frames((40, 52), exposures(3), seed=9, cfa="RGGB")
    large, small = data.draw(pairs(producer.grid.window))
    part, around = (producer.produce(w, ["photons"]) for w in (small, large))
    assert part["photons"].tobytes() == around.crop(small)["photons"].tobytes()


@each_rule
@given(data=st.data())
@settings(max_examples=12)
def test_a_stack_of_a_window_is_the_crop_of_any_window_around_it(
    case: tuple[str, str, int], data: st.DataObject
) -> None:
    size = (data.draw(st.sampled_from([1, 2, 7, 12])), 13, 19)
    parent = data.draw(st.sampled_from([raw, clean, colours]))(size)
    stacked = Stacked(parent, example(case), plane="adu" if "adu" in parent.planes else "image")
    large, small = data.draw(pairs(stacked.grid.window))
    part, around = (stacked.produce(w, stacked.planes) for w in (small, large))
    for name in stacked.planes:
        assert part[name].tobytes() == around.crop(small)[name].tobytes()


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
        stacked = Stacked(parent, example(case), plane=plane)
        stacked.produce(stacked.grid.window, stacked.planes)
        tracemalloc.start()
        stacked.produce(stacked.grid.window, stacked.planes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        forecast = stacked.peak_bytes(stacked.grid.window, stacked.planes)
        assert peak <= forecast + 2**16 and forecast <= 2 * peak + 2**24
