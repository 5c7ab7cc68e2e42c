"""The usual order of the stages: made of what their own files say, and one more effect is one new file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from getframes_xr.core.errors import OptionError
from getframes_xr.core.patch import Patch
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.order import usual_order
from getframes_xr.detector.stages.shot import ShotNoise
from getframes_xr.engine.stage import STAGES, Place, Stage
from tests.laws.kit import registries_kept

ROOT = Path(__file__).parents[2]
PHYSICS = """
quantum_efficiency prnu diffusion dark hot_pixels glow shot cosmic_rays persistence full_well blooming clock_charge
dead_pixels bad_columns parallel_cti serial_cti multiplication reset_noise ipc nonlinearity read_noise row_noise gain
bias bias_structure common_mode adc
""".split()  # light, charge, wells, transfer, amplifier, converter


class Idle(Stage):
    """A stage that does nothing; no kind, so it is not registered."""

    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("expected_electrons",)

    def apply(self, patch: Patch, place: Place) -> Patch:
        return patch


def test_the_usual_order_is_that_of_the_physics_and_holds_every_stage() -> None:
    order = usual_order()
    assert [kind for kind in order if kind in PHYSICS] == PHYSICS  # a new one may stand between
    assert set(order) == set(STAGES) and len(order) == len(STAGES)
    assert order[0] == "quantum_efficiency" and order[-1] == "adc"


@registries_kept()
def test_stages_go_in_between_those_that_touched_however_many_and_in_whatever_order_they_come() -> None:
    class Second(Idle):
        kind: Literal["a_second"] = "a_second"
        after: ClassVar = "z_first"

        @classmethod
        def examples(cls) -> tuple[Second, ...]:
            return (cls(),)

    class First(Idle):
        kind: Literal["z_first"] = "z_first"
        after: ClassVar = "glow"

        @classmethod
        def examples(cls) -> tuple[First, ...]:
            return (cls(),)

    order = usual_order()
    at = order.index("glow")
    assert order[at : at + 4] == ("glow", "z_first", "a_second", "shot")
    assert [kind for kind in order if kind in PHYSICS] == PHYSICS
    camera = Camera.preset("generic_ccd").with_stage(Second()).with_stage(First())
    kinds = [stage.kind for stage in camera.stages]  # type: ignore[attr-defined]
    assert kinds[kinds.index("shot") - 2 : kinds.index("shot")] == ["z_first", "a_second"]


@registries_kept()
@pytest.mark.parametrize(("behind", "words"), [("glwo", "bad_columns, bias"), ("astray", "not stand behind this one")])
def test_a_stage_behind_nothing_known_or_behind_itself_is_named(behind: str, words: str) -> None:
    class Astray(Idle):
        kind: Literal["astray"] = "astray"

        @classmethod
        def examples(cls) -> tuple[Astray, ...]:
            return (cls(),)

        after: ClassVar = behind

    with pytest.raises(OptionError, match=r"Astray\.after") as caught:
        usual_order()
    assert words in str(caught.value)


def test_a_stage_that_says_no_place_is_refused_and_not_registered() -> None:
    with pytest.raises(TypeError, match="Placeless does not say behind which kind it stands"):

        class Placeless(Idle):
            kind: Literal["placeless"] = "placeless"

            @classmethod
            def examples(cls) -> tuple[Placeless, ...]:
                return (cls(),)

    assert "placeless" not in STAGES
    assert ShotNoise.after == "glow"


NEW = '''"""Haze: a constant on the expectation."""

from typing import ClassVar, Literal

from getframes_xr.engine.stage import Stage


class Haze(Stage):
    """A constant."""

    kind: Literal["haze"] = "haze"
    level_e: float = 1.0
    after: ClassVar = "dark"
    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("expected_electrons",)

    def apply(self, patch, place):
        patch["expected_electrons"] += self.level_e
        return patch

    @classmethod
    def examples(cls):
        return cls(), cls(level_e=3.0)
'''
USED = """
import sys
sys.path.insert(0, "docs")
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.order import usual_order
from getframes_xr.engine.stage import STAGES
text = Camera.preset("generic_ccd").to_toml() + "\\n[[stages]]\\nkind = 'haze'\\n"
haze = Camera.from_toml(text).stages[-1]
kinds = [stage.kind for stage in Camera.preset("generic_ccd").with_stage(haze).stages]
print(kinds[kinds.index("haze") - 1], usual_order()[usual_order().index("haze") + 1])
from build_reference import family
print("## haze" in family(STAGES, usual_order()))
from tests.laws.test_stages import CASES
print([case for case in CASES if case[0] == "haze"])
"""


def test_one_more_effect_is_one_new_file(tmp_path: Path) -> None:
    """In a copy of the house: the file alone brings it into TOML, the order, the reference and the laws."""
    for part in ("getframes_xr", "tests", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "getframes_xr" / "detector" / "stages" / "haze.py").write_text(NEW)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", USED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == ["dark hot_pixels", "True", "[('haze', 0), ('haze', 1)]"]
