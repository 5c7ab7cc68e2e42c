"""The house keeps its floors: imports point down, words are the vocabulary's, nothing heavy loads at the front door."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "getframes_xr"
MODULES = sorted(PACKAGE.rglob("*.py"))
GROUND = {"core", "engine", "face"}
MAY_IMPORT = {
    "core": set(),
    "engine": {"core"},
    "face": {"core", "engine"},
    "light": GROUND,
    "detector": GROUND,
    "io": GROUND,
    "measure": GROUND,
    "reduce": GROUND | {"measure"},
    "workflows": GROUND | {"light", "detector", "io", "measure", "reduce"},
    "app": GROUND | {"light", "detector", "io", "measure", "reduce", "workflows"},
}


def imported(path: Path) -> Iterator[str]:
    """Every imported name, those in functions and under TYPE_CHECKING too."""
    yield from imports_of(path.read_text(), path)


def imports_of(source: str, path: Path) -> Iterator[str]:
    here = ("getframes_xr", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: -node.level]) + "." if node.level else ""
            yield from (f"{base}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names)


def room_of(path: Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("path", [m for m in MODULES if room_of(m)], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    assert room is not None
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "getframes_xr" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir() and parts[1] != room:
            assert parts[1] in MAY_IMPORT[room], f"{path.name} in {room}/ imports {name}"


def test_a_climb_is_seen() -> None:
    """The tests above can fail: planted imports are found, deferred ones and those under TYPE_CHECKING too."""
    source = "def f():\n    from getframes_xr.app.demo import x\nif TYPE_CHECKING:\n    from ..io import store\n"
    path = PACKAGE / "engine" / "planted.py"
    found = list(imports_of(source, path))
    assert "getframes_xr.app.demo.x" in found and "getframes_xr.io.store" in found


def test_nothing_climbs_by_name() -> None:
    """What imports cannot see: a module looked up by its name, the front door asked from inside."""
    doors = {"__init__.py", "app/when_xarray_loads.py"}  # the door itself, and ``.gx`` when xarray loads
    families = re.compile(r"(light/sources|light/psf|detector/stages|io/formats|reduce/reject)/__init__\.py")
    for path in MODULES:
        where, text = str(path.relative_to(PACKAGE)), path.read_text()
        if where in doors or families.fullmatch(where) or room_of(path) == "app":
            continue  # a family loads its members, which lie in its own folder; nothing is above app/
        found = [name for name in imported(path) if name in {"importlib", "importlib.import_module", "getframes_xr"}]
        assert not found and "import_module" not in text and "__import__" not in text, f"{where} imports {found}"
        modules = re.findall(r"sys\.modules\S*", text)
        assert all("distributed" in lookup for lookup in modules), f"{where} looks modules up: {modules}"


def test_the_engine_knows_neither_dask_nor_xarray() -> None:
    for path in MODULES:
        if room_of(path) == "engine":
            found = [name for name in imported(path) if name.split(".")[0] in {"dask", "distributed", "xarray"}]
            assert not found, f"{path.name} imports {found}"


def test_only_the_lazy_face_knows_dask_graphs() -> None:
    allowed = {"face/graph.py", "face/lineage.py"}
    graph = re.compile(r"^(dask\.(blockwise|layers|highlevelgraph|_task_spec|core|base|delayed|array))")
    for path in MODULES:
        where = str(path.relative_to(PACKAGE))
        if where not in allowed:
            found = [name for name in imported(path) if graph.match(name)]
            assert not found, f"{where} imports {found}"


def test_only_io_reads_files_of_frames() -> None:
    for path in MODULES:
        if room_of(path) in {"core", "engine", "face", "light", "detector", "measure", "reduce"}:
            found = [n for n in imported(path) if n.startswith(("astropy.io.fits", "zarr", "tifffile", "PIL"))]
            assert not found, f"{path.name} imports {found}"


def test_no_module_has_a_name_that_can_hold_anything() -> None:
    for path in MODULES:
        assert path.stem.strip("_") not in {"utils", "util", "base", "common", "helpers", "misc", "tools"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_begins_with_its_idea(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_superseded_words_are_gone() -> None:
    words = re.compile(r"\b(exptime|gfx|n_channels|channels?)\b")
    for path in MODULES:
        text = path.read_text()
        if room_of(path) == "io":
            continue  # the door translates foreign cards
        assert not words.search(text), f"{path.name}: {words.search(text)}"


def test_the_front_door_is_light() -> None:
    code = (
        "import sys, getframes_xr\n"
        "heavy = {'astropy', 'numba', 'dask.array', 'matplotlib', 'distributed', 'zarr', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_can_be_reached_and_is_documented() -> None:
    import getframes_xr as gx

    for name in gx.__all__:
        thing = getattr(gx, name)
        assert thing.__doc__, f"gx.{name} has no docstring"
    assert len(gx.__all__) <= 75
    with pytest.raises(AttributeError, match="no attribute 'stak'"):
        gx.stak  # noqa: B018 (the access is the test)


def test_each_error_a_public_function_raises_stands_under_raises() -> None:
    """A function that says ``raise XError`` in its own body names XError in its docstring, if it is public."""
    missing = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            functions = [node] if isinstance(node, ast.FunctionDef) else []
            for function in functions:
                if function.name.startswith("_"):
                    continue
                doc = ast.get_docstring(function) or ""
                for inner in ast.walk(function):
                    if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
                        name = getattr(inner.exc.func, "id", "")
                        if name.endswith("Error") and name not in {"TypeError", "AttributeError"} and name not in doc:
                            missing.append(f"{path.relative_to(PACKAGE)}:{function.name} raises {name}")
    assert not missing, "\n".join(missing)
