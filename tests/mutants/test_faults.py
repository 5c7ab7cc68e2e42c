"""The list of planted faults fits the tree: ``make mutants`` runs it, this says early when it no longer can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutants.__main__ import FAULTS, ROOT, Rotten, read_faults


def test_every_fault_has_its_place_once_and_its_tests_exist() -> None:
    faults = read_faults()
    assert len(faults) >= 60 and len({fault.file.split("/")[1] for fault in faults}) >= 7, "rooms"
    for fault in faults:
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.M), test


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return max(0, self.stop - self.start)", "return 0", "stands 0 times in getframes_xr/core/window.py"),
        ("return ", "yield ", r"stands \d\d times"),
    ],
)
def test_a_fault_whose_text_is_gone_or_stands_twice_is_an_error(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = FAULTS.read_text()
    entry = (
        f"[[fault]]\nname = 'n'\nfile = 'getframes_xr/core/window.py'\nold = '{old}'\nnew = '{new}'\n"
        "tests = ['tests/core/test_window.py', 'tests/core/test_nothing.py']\n"
    )
    if "stands 0" in words:
        entry = entry.replace(old, old + " + 1")
    (tmp_path / "faults.toml").write_text(text + "\n" + entry)
    with pytest.raises(Rotten, match=words) as caught:
        read_faults(tmp_path / "faults.toml")
    assert "no file tests/core/test_nothing.py" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2, "nothing else is wrong with the list"
