"""Build the reference from the code: public names, families, commands, cameras, flags, planes.

``python docs/build_reference.py [FOLDER]`` writes Markdown into ``docs/reference`` (or FOLDER). Nothing is written by
hand there: what a docstring or a registry does not say is not in the reference.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

import getframes_xr as gx
from getframes_xr.app.cli import app
from getframes_xr.core.options import Options
from getframes_xr.core.verdict import Reason
from getframes_xr.core.vocabulary import BAD, COLUMNS, PLANES, FileStatus, Flag
from getframes_xr.detector.order import usual_order
from getframes_xr.engine.collapse import RULES
from getframes_xr.engine.stage import STAGES
from getframes_xr.io.formats import FORMATS
from getframes_xr.light.psf import PSFS
from getframes_xr.light.sources import SOURCES

FAMILY_PAGES = {"psf": "psfs.md", "reject": "rules.md", "sources": "sources.md"}
NOTE = "<!-- made by docs/build_reference.py from the code; do not edit -->\n"


def main(folder: Path) -> list[Path]:
    """Write every page and the index."""
    folder.mkdir(parents=True, exist_ok=True)
    for room in ("detector", "reduce", "light", "io"):
        _import_all(importlib.import_module(f"getframes_xr.{room}"))
    pages = {
        "api.md": ("Public names", api()),
        "stages.md": (
            "Stages of a camera",
            family(STAGES, usual_order()),
        ),
        "psfs.md": ("Point spread functions", family(PSFS)),
        "sources.md": ("Sources of light", family(SOURCES)),
        "rules.md": ("Rejection rules", family(RULES)),
        "formats.md": ("File formats", formats()),
        "commands.md": ("Commands", commands()),
        "cameras.md": ("Cameras", cameras()),
        "vocabulary.md": ("Planes, flags, columns, verdicts, errors", vocabulary()),
    }
    written = []
    for name, (title, body) in pages.items():
        path = folder / name
        path.write_text(f"{NOTE}\n# {title}\n\n{body.strip()}\n")
        written.append(path)
    index = "\n".join(f"* [{title}]({name})" for name, (title, _) in pages.items())
    (folder / "README.md").write_text(f"{NOTE}\n# Reference\n\nGenerated from the code by `make docs`.\n\n{index}\n")
    return [folder / "README.md", *written]


def _import_all(package: types.ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


def api() -> str:
    """Every name of the front door, with its docstring."""
    parts = [", ".join(f"[`{name}`](#{_anchor(name)})" for name in gx.__all__)]
    for name in gx.__all__:
        thing = getattr(gx, name)
        if inspect.ismodule(thing):
            parts.append(f"## {name}\n\n{_first(thing)}")
            if name in FAMILY_PAGES:
                parts.append(f"See [its members]({FAMILY_PAGES[name]}).")
            else:
                parts.extend(_class(f"{name}.{cls.__name__}", cls, "###") for cls in _options_in(thing))
        elif inspect.isclass(thing):
            parts.append(_class(name, thing))
        else:
            parts.append(f"## {name}\n\n```python\ngx.{name}{_signature(thing)}\n```\n\n{_doc(thing)}")
    from getframes_xr.app.accessor import GxAccessor

    rows = [
        (f"`.gx.{name}{_signature(method)}`", _first(method))
        for name, method in inspect.getmembers(GxAccessor, inspect.isfunction)
        if not name.startswith("_")
    ]
    parts.append("## The accessor `.gx`\n\nOn every Dataset and DataArray.\n\n" + _table(("method", "what"), rows))
    return "\n\n".join(parts)


def _options_in(module: types.ModuleType) -> list[type[Options]]:
    """Options classes that a module defines."""
    found = inspect.getmembers(module, lambda item: inspect.isclass(item) and issubclass(item, Options))
    return [cls for name, cls in found if cls.__module__ == module.__name__ and not name.startswith("_")]


def _class(shown: str, cls: type, level: str = "##") -> str:
    parts = [f"{level} {shown}\n\n{_doc(cls)}"]
    if issubclass(cls, Options):
        parts.append(_options(cls))
    methods = [
        (f"`{name}{_signature(member)}`", _first(member))
        for name, member in vars(cls).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, classmethod | staticmethod))
        for member in [getattr(cls, name)]
        if inspect.getdoc(member) and name not in {"examples", "model_post_init"}
    ]
    if methods:
        parts.append(_table(("method", "what"), methods))
    return "\n\n".join(parts)


def family(registry: Mapping[str, type], order: Iterable[str] = ()) -> str:
    """Every member of a family: its idea (the module's docstring) and its options."""
    first = [kind for kind in order if kind in registry]
    kinds = [*first, *(kind for kind in sorted(registry) if kind not in first)]
    rows = [(f"[`{kind}`](#{_anchor(kind)})", f"`{registry[kind].__name__}`", _first(registry[kind])) for kind in kinds]
    parts = [_table(("kind", "class", "what"), rows)]
    for kind in kinds:
        cls = registry[kind]
        module = sys.modules[cls.__module__]
        facts = [
            f"{label} {', '.join(f'`{item}`' for item in getattr(cls, label))}"
            for label in ("reads", "writes", "needs")
            if getattr(cls, label, None) and not callable(getattr(cls, label))
        ]
        after = getattr(cls, "after", None)
        facts = [f"stands behind [`{after}`](#{_anchor(after)})", *facts] if after else facts
        scope = getattr(getattr(cls, "scope", None), "name", None)
        facts += [f"scope {scope}"] if scope else []
        body = f"## {kind}\n\n{_doc(cls)}\n\n```text\n{inspect.cleandoc(module.__doc__ or '')}\n```"
        parts.append("\n\n".join(filter(None, [body, "; ".join(facts), _options(cls)])))
    return "\n\n".join(parts)


def formats() -> str:
    """The registered file formats."""
    built_in = [
        ("FITS", "`.fits .fit .fts .fz .gz .bz2`", "plain and compressed; sessions"),
        ("Zarr", "`.zarr`", "stores"),
    ]
    rows = [(kind, f"`{' '.join(cls.endings)}`", _first(sys.modules[cls.__module__])) for kind, cls in FORMATS.items()]
    return _table(("format", "endings", "what"), [*built_in, *rows])


def commands() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():
        rows = []
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                shown = str(parameter.name).upper()
            else:
                shown = ", ".join(parameter.opts)
            rows.append((f"`{shown}`", str(getattr(parameter, "help", "") or "")))
        parts.append(f"## getframes-xr {name}\n\n{command.help}\n\n{_table(('argument or option', 'what'), rows)}")
    return "\n\n".join(parts)


def cameras() -> str:
    """The presets, stage by stage, and the sources of their numbers (comments of the TOML)."""
    folder = Path(gx.__file__).parent / "detector" / "presets"
    parts = []
    for name in gx.Camera.presets():
        comments = "\n".join(re.findall(r"(?m)^# ?(.*)$", (folder / f"{name}.toml").read_text()))
        parts.append(f"## {name}\n\n```text\n{gx.Camera.preset(name)}\n```\n\n{comments}")
    return "\n\n".join(parts)


def vocabulary() -> str:
    """Planes, flags, per-frame columns, verdicts, errors."""
    planes = [(f"`{name}`", str(plane.dtype), plane.units or "–", plane.description) for name, plane in PLANES.items()]
    flags = [(f"`{flag.name}`", str(flag.value), "yes" if flag & BAD else "") for flag in Flag]
    columns = [(f"`{name}`", unit or "–") for name, unit in COLUMNS.items()]
    reasons = [(f"`{r}`", re.sub(r"\{(\w+)[^}]*\}", r"*\1*", r.sentence)) for r in Reason]
    errors = inspect.cleandoc(importlib.import_module("getframes_xr.core.errors").__doc__ or "")
    return "\n\n".join(
        (
            "## Planes\n\n" + _table(("plane", "dtype", "unit", "what"), planes),
            "## Flags\n\n" + _table(("flag", "bit", "bad: no sum may use it"), flags),
            "## Columns of frames\n\n" + _table(("column", "unit"), columns),
            "## Reasons of frames\n\nWhy a frame is used or not: `reason` in tables of moves, manifest and events, "
            "its numbers beside it.\n\n" + _table(("reason", "verdict with its numbers"), reasons),
            f"## Status of files\n\n{', '.join(f'`{status}`' for status in FileStatus)}",
            f"## Errors\n\n```text\n{errors}\n```",
        )
    )


def _options(cls: type[Options]) -> str:
    rows = []
    for name, described in cls.model_fields.items():
        if name == "kind":
            continue
        needed = described.is_required()
        default = "needed" if needed else f"`{_short(described.default)}`" if described.default_factory is None else ""
        rows.append((f"`{name}`", _type(described.annotation), _bounds(described.metadata), default))
    return _table(("option", "type", "allowed", "default"), rows) if rows else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _bounds(metadata: Iterable[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
    found = [
        f"{sign} {getattr(item, name)}" for item in metadata for name, sign in signs.items() if hasattr(item, name)
    ]
    return " and ".join(dict.fromkeys(found))


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type(item) for item in arguments)
    if origin is typing.Literal:
        return ", ".join(f"`{item!r}`" for item in arguments)
    if origin is not None and arguments:
        inner = ", ".join("..." if item is Ellipsis else _type(item) for item in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    if annotation is type(None):
        return "none"
    return str(getattr(annotation, "__name__", annotation))


def _signature(thing: Any) -> str:
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return "(...)"
    return re.sub(r"\(self(, )?", "(", text).replace("'", "")


def _doc(thing: Any) -> str:
    """A docstring as Markdown: numpydoc's underlined headings become small headings."""
    text = inspect.cleandoc(inspect.getdoc(thing) or "")
    text = re.sub(r"(?m)^(\w[\w ]*)\n-{3,}$", r"**\1**\n", text)
    lines = [f"* {line}" if re.match(r"[\w*, .]+ : ", line) else line for line in text.splitlines()]
    return textwrap.dedent("\n".join(lines))


def _first(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _anchor(name: str) -> str:
    return re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    titles = list(columns)
    return "\n".join([line(titles), line("---" for _ in titles), *map(line, rows)])


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference"
    for page in main(target):
        print(page)
