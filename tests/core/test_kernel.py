"""The Numba decorator: what it promises about arithmetic, and about machine code kept on disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import numpy as np

from getframes_xr.core.kernel import kernel

ROOT = Path(__file__).parents[2]


def run(program: str, folder: Path, **environment: str) -> list[str]:
    """Run a program in a fresh process and give the lines it printed."""
    names = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | names | environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@kernel
def weighted(values, weight, out):
    for i in range(values.size):
        out[i] = values[i] * weight + values[i] / weight


@kernel(inline="always")
def squared(value):
    return value * value


@kernel
def sum_of_squares(values):
    total = 0.0
    for i in range(values.size):
        total += squared(values[i])
    return total


def test_both_forms_of_the_decorator_compile():
    values = np.arange(5.0)
    out = np.empty(5)
    weighted(values, 2.0, out)
    assert out.tolist() == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert sum_of_squares(values) == 30.0


def test_kernels_release_the_gil_and_divide_like_numpy():
    assert weighted.targetoptions["nogil"] is True
    out = np.empty(1)
    weighted(np.ones(1), 0.0, out)
    assert np.isinf(out[0])


def test_no_multiply_and_add_is_contracted_or_reordered():
    names: dict[str, object] = {}  # without a file nothing comes from disk, where Numba has no LLVM code to show
    exec("def line(x, out):\n    for i in range(x.size):\n        out[i] = x[i] * 3.1 + 0.7", names)
    line = kernel(names["line"])
    line(np.ones(3), np.ones(3))
    (llvm,) = line.inspect_llvm().values()
    operations = re.findall(r"= (fmul|fadd) (.*?)(?:<|double)", llvm)
    assert operations
    assert {flags for _, flags in operations} == {""}
    assert "fmuladd" not in llvm
    assert "llvm.fma." not in llvm


def test_the_folder_of_other_packages_kernels_stays_where_it_was(tmp_path):
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(tmp_path)
    try:

        @kernel
        def one(value):
            return value + 1

        assert numba.config.CACHE_DIR == str(tmp_path)
        assert one(1) == 2
    finally:
        numba.config.CACHE_DIR = before


PACKAGE = {
    "helper.py": """
        from getframes_xr.core.kernel import kernel
        OFFSET = 1.0
        @kernel(inline="always")
        def shifted(value):
            return value + OFFSET
    """,
    "limits.py": "LIMIT = 10.0\n",
    "user.py": """
        import sys
        import helper
        from getframes_xr.core.kernel import kernel
        from helper import shifted
        from limits import LIMIT
        @kernel
        def result(value):
            return min(shifted(value), LIMIT)
        print(result(5.0), sum(result.stats.cache_hits.values()))
    """,
}


def write_package(folder: Path, **changed: str) -> None:
    for name, text in PACKAGE.items():
        (folder / name).write_text(textwrap.dedent(changed.get(name.removesuffix(".py"), text)))


def test_machine_code_is_kept_and_an_edit_of_a_helper_in_another_file_is_seen(tmp_path):
    code, cache = tmp_path / "code", tmp_path / "cache"
    code.mkdir()
    write_package(code)
    environment = {"XDG_CACHE_HOME": str(cache)}
    assert run("import user", code, **environment) == ["6.0 0"]
    assert run("import user", code, **environment) == ["6.0 1"]
    write_package(code, helper=PACKAGE["helper.py"].replace("value + OFFSET", "value - OFFSET"))
    assert run("import user", code, **environment) == ["4.0 0"]
    write_package(code, limits="LIMIT = 2.0\n")
    assert run("import user", code, **environment) == ["2.0 0"]
    write_package(code)
    assert run("import user", code, **environment) == ["6.0 1"]
    assert list(cache.glob("getframes-xr/kernels/*/*/user.result-*.nbi"))


def test_a_file_run_as_a_program_and_then_imported_by_name_keeps_two_codes(tmp_path):
    write_package(tmp_path)
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert run("import runpy; runpy.run_module('user', run_name='other')", tmp_path, **environment) == ["6.0 0"]
    assert run("import user", tmp_path, **environment) == ["6.0 0"]


def test_a_folder_given_to_numba_is_used(tmp_path):
    write_package(tmp_path)
    run("import user", tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "given"))
    assert list((tmp_path / "given").rglob("user.result-*.nbi"))


def test_a_file_system_that_cannot_be_written_does_not_break_the_import(tmp_path):
    write_package(tmp_path)
    program = """
        import errno, os, tempfile
        def refuse(*arguments, **options):
            raise OSError(errno.EROFS, "Read-only file system")
        os.makedirs = tempfile.TemporaryFile = refuse
        import getframes_xr.core.draws
        from getframes_xr.core.kernel import _cache_root
        import user
        print(_cache_root())
    """
    assert run(program, tmp_path) == ["6.0 0", "None"]


def test_a_home_that_is_no_folder_does_not_break_the_import(tmp_path):
    write_package(tmp_path)
    assert run("import user", tmp_path, HOME="/dev/null", XDG_CACHE_HOME="")[0].startswith("6.0")


def test_a_function_typed_into_a_session_compiles_without_a_file():
    names: dict[str, object] = {}
    exec("def twice(value):\n    return 2 * value", names)
    assert kernel(names["twice"])(21) == 42


def test_compilers_of_two_versions_keep_two_codes(tmp_path):
    """Two environments share the user's cache, and machine code of one numba is not readable for another."""
    write_package(tmp_path)
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    other = "import numba; numba.__version__ = '0.0.1'; import user"
    assert run("import user", tmp_path, **environment)[0] == run(other, tmp_path, **environment)[0] == "6.0 0"
    assert len(list((tmp_path / "cache").glob("getframes-xr/kernels/*/*/user.result-*.nbi"))) == 2
