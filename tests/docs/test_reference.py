"""The reference is made from the code and leaves nothing out."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

import getframes_xr as gx
from getframes_xr.app.cli import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reference", ROOT / "docs" / "build_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {path.name: path.read_text() for path in builder.main(tmp_path_factory.mktemp("reference"))}


def test_every_public_name_has_its_entry(pages: dict[str, str]) -> None:
    for name in gx.__all__:
        entry = re.search(rf"(?m)^## {name}\n\n(.+)", pages["api.md"])
        assert entry is not None, name
        assert len(entry[1]) > 8, name


def test_every_member_of_a_family_has_its_entry(builder: ModuleType, pages: dict[str, str]) -> None:
    families = {"stages.md": builder.STAGES, "psfs.md": builder.PSFS, "rules.md": builder.RULES}
    for page, registry in {**families, "sources.md": builder.SOURCES}.items():
        assert len(registry) >= 2
        for kind, cls in registry.items():
            assert f"\n## {kind}\n" in pages[page]
            for option in cls.model_fields:
                assert option == "kind" or f"`{option}`" in pages[page], f"{kind}.{option}"
    for kind in builder.FORMATS:
        assert f"| {kind} |" in pages["formats.md"]


def test_every_command_option_and_camera_has_its_entry(pages: dict[str, str]) -> None:
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert f"## getframes-xr {name}\n" in pages["commands.md"]
        for parameter in command.params:
            assert f"`{', '.join(parameter.opts)}`" in pages["commands.md"] or parameter.param_type_name == "argument"
    for name in gx.Camera.presets():
        assert str(gx.Camera.preset(name)) in pages["cameras.md"]
    for flag in gx.Flag:
        assert f"| `{flag.name}` | {flag.value} |" in pages["vocabulary.md"]


def test_links_inside_the_reference_lead_somewhere(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", text)}
        for link in re.findall(r"\]\(([^)]+)\)", text):
            if link.startswith("#"):
                assert link[1:].lower() in headings, f"{name}: {link}"
            else:
                assert link in pages, f"{name}: {link}"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    named = set(re.findall(r"(?m)^\| ([a-z][\w-]*) \|", page)) - {"package", "extra"}
    needed = {re.split(r"[\[><=~]", item)[0] for item in project["dependencies"]}
    extras = set(project["optional-dependencies"])
    assert named == needed | extras
    for extra, packages in project["optional-dependencies"].items():
        row = re.search(rf"(?m)^\| {extra} \| ([^|]+) \|", page)
        assert row is not None
        for item in packages:
            inner = re.match(r"getframes-xr\[(\w+)\]", item)
            assert (inner[1] if inner else re.split(r"[\[><=~]", item)[0]) in row[1], f"{extra}: {item}"
