"""The report is one file that says what the manifest says, whatever the manifest lacks."""

from __future__ import annotations

import base64
import json
import math
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from getframes_xr.app.report import write_report
from getframes_xr.app.report.page import duration, number
from getframes_xr.core.errors import DataError, StoreError
from tests.app.manifests import manifest, run_folder


class Page(HTMLParser):
    """Tags, the texts of the page and whether tags close in order."""

    VOID = {"meta", "img", "br", "hr", "link", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(run_folder(tmp_path_factory.mktemp("run"))).read_text()


def test_the_page_needs_nothing_from_elsewhere(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), f"{tag} loads {value[:60]}"
    assert "url(" not in html
    assert "@import" not in html


def test_every_picture_is_described_and_can_be_decoded(html: str) -> None:
    images = [attributes for tag, attributes in Page(html).tags if tag == "img"]
    assert len(images) >= 12
    assert all(len(image["alt"] or "") > 15 for image in images)
    for image in images:
        kind, content = (image["src"] or "").split(";base64,")
        start = base64.b64decode(content)[:8]
        known = {"data:image/png": b"\x89PNG", "data:image/jpeg": b"\xff\xd8\xff", "data:image/svg+xml": b"<?xml"}
        assert start.startswith(known[kind])


def test_the_page_says_what_the_manifest_says(html: str) -> None:
    text = Page(html).text
    facts = manifest()
    assert "66 of 70" in text
    assert "4 frames measured but not used: elongated (2); no match; too dim." in text
    assert "no match: 3 stars found (elongation unknown)" in text
    assert "2 files set aside before measuring" in text and "not a FITS file" not in text
    assert "16.2°" in text
    assert "2,000 × 1,200 px" in text
    assert "2 files are duplicates of others & were <left> out" in text
    for frame in facts["frames"]:
        if not frame["used"]:
            assert Path(frame["file"]).name in text
            assert frame["verdict"] in text
    for anchor in ("frames", "light-curve", "registration", "conditions", "coverage", "lines", "options", "versions"):
        assert f'id="{anchor}"' in html
        assert f'href="#{anchor}"' in html
    assert "splat.tolerance" in text
    assert "truncated: 1.2 of 4.1 MB" in text


def test_figures_against_a_truth_are_shown_and_misses_are_named(tmp_path: Path) -> None:
    from getframes_xr.app.report import FIGURES
    from getframes_xr.app.report.page import make_page

    (tmp_path / "manifest.json").write_text("{}")
    figures = {
        "transforms": {"value": 0.003, "limit": 0.03, "unit": "px"},
        "good frames lost": {"value": 2, "limit": 1, "unit": "of 62"},
    }
    (tmp_path / FIGURES).write_text(json.dumps(figures))
    text = Page(make_page(tmp_path).read_text()).text
    assert "transforms 0.00300 0.0300 px yes" in text
    assert "good frames lost 2 1 of 62 no" in text
    assert "1 figure beyond the limit" in text


def test_notes_that_repeat_each_other_are_said_once(tmp_path: Path) -> None:
    from getframes_xr.app.report.page import Run, warnings_section

    said = ["lights: UT-OBS taken for the time", "4 files duplicate", "UT-OBS taken for the time"]
    (tmp_path / "manifest.json").write_text(json.dumps({"session": {"warnings": said}}))
    assert warnings_section(Run(tmp_path)).notes == said[:2]


@pytest.mark.parametrize("third", [0, 1, 2])
def test_parts_that_the_manifest_lacks_are_left_out(third: int, tmp_path: Path) -> None:
    from getframes_xr.app.report.page import context

    facts = manifest(frames=9)
    for missing in sorted(facts)[third::3]:
        del facts[missing]
    folder = run_folder(tmp_path, facts, shape=(60, 80))
    assert context(folder)["sections"]


def test_a_verdict_that_the_report_does_not_know_is_told_as_it_is_and_counted_apart(tmp_path: Path) -> None:
    """A manifest of another version, one without verdicts, and one that says used of a frame that is not."""
    from getframes_xr.app.report.page import Run, frames_section

    frames = [
        {"frame": 0, "used": False, "reason": "no_sky", "numbers": {}, "verdict": "words that nobody reads back"},
        {"frame": 1, "used": False, "reason": "too_windy", "numbers": {"wind": 9}, "verdict": "too windy: 9 m/s"},
        {"frame": 2, "used": False},
        {"frame": 3, "used": False, "reason": "used", "numbers": {}},
        {"frame": 4, "used": False, "reason": "elongated", "numbers": 3},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"frames": frames}))
    section = frames_section(Run(tmp_path))
    assert section.words == "5 frames measured but not used: no sky; not said (4)."
    told = [row[-1] for row in section.tables[0].rows]
    assert told == ["sky could not be measured in every band", "too windy: 9 m/s", "not said", "not said", "not said"]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"frames": []},
        {"frames": [{}]},
        {"frames": [{"used": True}, {"used": False, "sky": None, "weight": {}}], "canvas": {}, "light_curve": None},
        {"light_curve": {"time": [], "flux": []}, "phases": {"scan": {"skipped": True}}, "lines": []},
        {
            "frames": [{"fwhm_px": None, "used": True, "time": "not a time", "frame": 3, "rms_px": 0.0}],
            "products": {"stack": 3},
        },
    ],
)
def test_a_manifest_with_holes_still_makes_a_page(facts: dict[str, Any], tmp_path: Path) -> None:
    from getframes_xr.app.report.page import make_page

    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    Page(make_page(tmp_path).read_text())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no manifest\.json; run getframes-xr reduce first"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("{ half")
    with pytest.raises(StoreError, match=r"manifest\.json cannot be read"):
        write_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (1.0, "1.00"),
        (-12.34, "-12.3"),
        (123456.0, "123,456"),
        (7, "7"),
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (1e-7, "1.00e-07"),
        ("x", "x"),
    ],
)
def test_numbers_are_written_with_the_digits_that_count(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (42, "42 s"), (600, "10.0 min"), (7200, "2.00 h")])
def test_durations_are_written_in_the_unit_that_is_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_browser_shows_the_page_without_sideways_scrolling(html: str, tmp_path: Path) -> None:
    """Where a browser is found: the page's width at 400 px is the window's, and it draws without an error."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return
    probe = "<script>document.title=document.documentElement.scrollWidth+' '+window.innerWidth</script>"
    (tmp_path / "page.html").write_text(html.replace("</body>", probe + "</body>"))
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --user-data-dir={tmp_path}/profile --dump-dom --window-size=500,900"
    )
    command = [browser, *flags.split(), f"file://{tmp_path}/page.html"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    width, window = dom.split("<title>")[1].split("</title>")[0].split()
    assert int(width) <= int(window)
