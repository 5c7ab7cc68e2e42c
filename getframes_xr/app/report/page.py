"""From a manifest to the page: which numbers, tables and charts it shows, and the words around them.

Every part of the manifest may be missing (a run that was killed, an older version): its section is then left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from getframes_xr.app.report import FIGURES, figures
from getframes_xr.app.report.figures import Array, Axis, Picture
from getframes_xr.core.errors import DataError
from getframes_xr.core.verdict import Verdict, counted
from getframes_xr.core.vocabulary import FileStatus

NAN = float("nan")
FEW_ROWS = 14


@dataclass(frozen=True)
class Number:
    """A headline number: what it is, its value, one line below it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts; columns named in ``right`` hold numbers and stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    summary: str = ""
    folded: bool = False


@dataclass
class Section:
    """A heading with words, charts and tables below it."""

    anchor: str
    title: str
    words: str = ""
    pictures: list[Picture] = field(default_factory=list)
    bars: list[tuple[str, str, float]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wide: bool = False
    """pictures take the whole width"""

    @property
    def empty(self) -> bool:
        return not (self.pictures or self.bars or self.tables or self.notes)


def number(value: Any, digits: int = 3) -> str:
    """A number as people read it: ``digits`` significant digits, no exponent where avoidable, a dash for none."""
    if value is None or isinstance(value, str | bool) or not math.isfinite(value):
        return value if isinstance(value, str) else "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 10**digits):
        return f"{int(value):,}"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude > 8:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is read most easily."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.2f} h"


class Run:
    """A run folder's manifest with holes forgiven."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "manifest.json"
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}; run getframes-xr reduce again") from error
        if not isinstance(facts, dict):
            raise DataError(f"{path} is no manifest of a run; run getframes-xr reduce again")
        self.facts: dict[str, Any] = facts
        self.frames: list[dict[str, Any]] = [item for item in self.list("frames") if isinstance(item, dict)]
        self.used: Array = np.array([bool(item.get("used")) for item in self.frames], bool)
        self.verdicts: list[Verdict | None] = [_verdict(item) for item in self.frames]
        self.units = {"electron": "e⁻", "adu": "ADU"}.get(str(facts.get("units", "")), str(facts.get("units") or ""))

    def list(self, name: str) -> list[Any]:
        found = self.facts.get(name)
        return found if isinstance(found, list) else []

    def map(self, name: str) -> dict[str, Any]:
        found = self.facts.get(name)
        return found if isinstance(found, dict) else {}

    def column(self, name: str) -> Array:
        """One number per frame; NaN where unknown."""
        values = [item.get(name) for item in self.frames]
        return np.array([NAN if isinstance(v, str | list | dict) or v is None else float(v) for v in values], float)

    def banded(self, name: str) -> dict[str, Array]:
        """One number per frame and band."""
        bands = list(dict.fromkeys(b for item in self.frames for b in (item.get(name) or {})))
        found = {}
        for band in bands:
            values = [(item.get(name) or {}).get(band) for item in self.frames]
            found[str(band)] = np.array([NAN if v is None else float(v) for v in values], float)
        return found

    def axis(self) -> Axis:
        numbers = [int(item.get("frame", place)) for place, item in enumerate(self.frames)]
        return figures.time_axis([item.get("time") for item in self.frames], numbers)

    def product(self, *names: str) -> Path | None:
        for name in names:
            value = self.map("products").get(name)
            if isinstance(value, str) and (self.folder / value).is_file():
                return self.folder / value
        return None


def _median(values: Array, keep: Array) -> float:
    chosen = values[keep & np.isfinite(values)]
    return float(np.median(chosen)) if len(chosen) else NAN


def _canvas(run: Run) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(origin, size) of the canvas, both (y, x)."""
    canvas = run.map("canvas")
    try:
        (top, bottom), (left, right) = canvas["y"], canvas["x"]
        return (int(top), int(left)), (int(bottom) - int(top), int(right) - int(left))
    except (KeyError, TypeError, ValueError):
        return None


def headline(run: Run) -> list[Number]:
    """The few numbers that say how the run went."""
    found: list[Number] = []
    total, used = len(run.frames), int(run.used.sum())
    if total:
        left = total - used
        found.append(Number("frames used", f"{used} of {total}", f"{left} left out" if left else "none left out"))
    exposure = run.column("exposure_s")
    if np.isfinite(exposure[run.used]).any():
        seconds = float(np.nansum(exposure[run.used]))
        each = _median(exposure, run.used)
        found.append(Number("exposure", duration(seconds), f"{number(each)} s per frame"))
    elif isinstance(run.map("session").get("hours"), int | float):
        found.append(Number("exposure", f"{number(run.map('session')['hours'])} h", "of all frames"))
    fwhm = run.column("fwhm_px")
    if np.isfinite(fwhm[run.used]).any():
        low, high = np.nanmin(fwhm[run.used]), np.nanmax(fwhm[run.used])
        found.append(
            Number("star width (FWHM)", f"{number(_median(fwhm, run.used))} px", f"{number(low)} to {number(high)}")
        )
    rms = run.column("rms_px")
    if np.isfinite(rms[run.used]).any():
        stars = _median(run.column("n_matched"), run.used)
        note = f"from {stars:.0f} stars per frame" if math.isfinite(stars) else ""
        found.append(Number("match error (rms)", f"{number(_median(rms, run.used), 2)} px", note))
    rotation = run.column("rotation_deg")
    if np.isfinite(rotation[run.used]).any():
        turn = float(np.nanmax(rotation[run.used]) - np.nanmin(rotation[run.used]))
        found.append(Number("field rotation", f"{number(turn)}°" if turn >= 0.01 else "< 0.01°", "between extremes"))
    canvas = _canvas(run)
    if canvas is not None:
        rows, columns = canvas[1]
        found.append(Number("canvas", f"{number(rows * columns / 1e6, 2)} Mpx", f"{columns:,} × {rows:,} px"))
    return found


def frames_section(run: Run) -> Section:
    """Where frames were lost, and why."""
    section = Section("frames", "Frames")
    steps = [(str(s.get("step", "")), int(s.get("frames", 0))) for s in run.list("funnel") if isinstance(s, dict)]
    if not steps and run.frames:
        steps = [("measured", len(run.frames)), ("used", int(run.used.sum()))]
    widest = max((count for _, count in steps), default=0)
    section.bars = [(name, f"{count:,}", 100.0 * count / widest) for name, count in steps] if widest else []
    lost = [(item, verdict) for item, verdict in zip(run.frames, run.verdicts, strict=True) if not item.get("used")]
    if lost:
        counts = [(r.label, count) for r, count in counted(verdict for _, verdict in lost if verdict is not None)]
        silent = len(lost) - sum(count for _, count in counts)
        counts += [("not said", silent)] if silent else []
        named = (f"{label} ({count})" if count > 1 else label for label, count in counts)
        section.words = f"{plural(len(lost), 'frame')} measured but not used: {'; '.join(named)}."
        rows = [(str(i.get("frame", "")), _name(i.get("file")), _told(i, verdict)) for i, verdict in lost]
        section.tables.append(
            Table(("frame", "file", "reason"), rows, frozenset({"frame"}), "Frames not used", len(rows) > FEW_ROWS)
        )
    elif run.frames:
        section.words = "Every frame that was measured is in the stack."
    aside = [f for f in run.list("files") if isinstance(f, dict) and _set_aside(f)]
    if aside:
        rows = [(_name(f.get("file")), str(f.get("kind") or ""), str(f.get("remark") or f["status"])) for f in aside]
        title = f"{plural(len(rows), 'file')} set aside before measuring"
        section.tables.append(Table(("file", "kind", "reason"), rows, frozenset(), title, len(rows) > FEW_ROWS))
    return section


def _set_aside(file: Mapping[str, Any]) -> bool:
    return file.get("status") in {status.value for status in FileStatus if status.set_aside}


def _verdict(item: Mapping[str, Any]) -> Verdict | None:
    """The verdict of a frame's record, None where it holds none that this version knows or one that it contradicts."""
    try:
        verdict = Verdict.from_dict(item)
    except (DataError, TypeError, ValueError, AttributeError):
        return None
    return verdict if verdict.used == bool(item.get("used")) else None


def _told(item: Mapping[str, Any], verdict: Verdict | None) -> str:
    """The verdict as a sentence; as the record has it where this version does not know its reason."""
    if verdict is not None:
        return str(verdict)
    return "used" if item.get("used") else str(item.get("verdict") or "not said")


def _name(path: Any) -> str:
    return Path(str(path)).name if path else ""


def registration_section(run: Run, axis: Axis) -> Section:
    """How frames lie on each other."""
    section = Section("registration", "Registration")
    if not run.frames:
        return section
    span, used = _span_words(axis), run.used
    reference = run.facts.get("reference_frame")
    chosen = (
        (("rotation_deg",), "rotation (°)", "Rotation of each frame against the reference, in degrees"),
        (("shift_y_px", "shift_x_px"), "shift (px)", "Shift of each frame against the reference in y and x, in pixels"),
        (("rms_px",), "match error, rms (px)", "Distance left between matched stars, in pixels"),
        (("n_matched",), "stars matched", "Number of stars matched in each frame"),
    )
    for names, label, alt in chosen:
        columns = {name.removeprefix("shift_").removesuffix("_px"): run.column(name) for name in names}
        _add(section, figures.series(axis, columns, used, label, f"{alt}{span}"))
    scale = run.column("scale")
    if np.isfinite(scale[used]).any() and float(np.nanmax(scale[used]) - np.nanmin(scale[used])) > 5e-4:
        alt = f"Scale of each frame against the reference{span}"
        _add(section, figures.series(axis, {"scale": scale}, used, "scale", alt))
    words = [f"Frame {reference} is the reference."] if reference is not None else []
    rms = run.column("rms_px")
    if np.isfinite(rms[used]).any():
        worst = float(np.nanmax(rms[used]))
        words.append(f"Matched stars agree to {number(_median(rms, used), 2)} px (worst frame {number(worst, 2)} px).")
    section.words = " ".join(words)
    return section


def conditions_section(run: Run, axis: Axis) -> Section:
    """Seeing, sky and clouds."""
    section = Section("conditions", "Seeing, sky, transparency")
    if not run.frames:
        return section
    span, used = _span_words(axis), run.used
    unit = f" ({run.units} per px)" if run.units else ""
    transparency = run.column("transparency")
    add = [
        ({"fwhm": run.column("fwhm_px")}, "FWHM (px)", "Width of the stars in each frame, in pixels"),
        (run.banded("sky"), f"sky{unit}", "Level of the sky in each frame and band"),
        ({"t": transparency}, "transparency", "Transparency of each frame relative to the median of the session"),
        ({"elongation": run.column("elongation")}, "elongation (1 − b/a)", "Elongation of the stars in each frame"),
        ({"stars": run.column("n_stars")}, "stars found", "Number of stars found in each frame"),
        (_relative(run.banded("weight"), used), "weight / median", "Weight of each frame relative to the median"),
    ]
    for columns, label, alt in add:
        _add(section, figures.series(axis, columns, used, label, f"{alt}{span}"))
    words = []
    fwhm = run.column("fwhm_px")
    if np.isfinite(fwhm[used]).any():
        words.append(f"Stars were {number(np.nanmin(fwhm[used]))} to {number(np.nanmax(fwhm[used]))} px wide.")
    if np.isfinite(transparency[used]).any():
        low = 100 * float(np.nanmin(transparency[used]))
        words.append(f"The haziest frame that was used let {low:.0f} % of the median light through.")
    section.words = " ".join(words)
    return section


def _relative(columns: Mapping[str, Array], used: Array) -> dict[str, Array]:
    found = {}
    for name, values in columns.items():
        middle = _median(values, used)
        found[name] = values / middle if middle and math.isfinite(middle) else np.full(len(values), NAN)
    return found


def _span_words(axis: Axis) -> str:
    return ", over the night" if axis.is_time else ", by frame number"


def _add(section: Section, picture: Picture | None) -> None:
    if picture is not None:
        section.pictures.append(picture)


def coverage_section(run: Run) -> Section:
    """How many frames each pixel of the canvas has seen."""
    section = Section("coverage", "Coverage")
    words = "Frames whose footprint holds a pixel, before rejection."
    canvas = _canvas(run)
    found = _coverage(run.product("stack"))
    if found is not None:
        values, size, upwards = found
        origin = canvas[0] if canvas is not None and canvas[1] == size else (0, 0)
        alt = f"Map of the number of frames per pixel of the canvas, up to {int(np.nanmax(values, initial=0))} frames"
        section.pictures.append(figures.coverage_map(values, origin, size, alt, upwards))
        full = float((values >= 0.9 * np.nanmax(values, initial=0)).mean())
        seen = float((values > 0).mean())
        words += f" {100 * full:.0f} % of the canvas has at least nine tenths of the deepest coverage"
        words += f", {100 * (1 - seen):.0f} % has none." if seen < 1 else "."
    else:
        path = run.product("coverage")
        _add(section, figures.photograph(path, "Map of the number of frames per pixel of the canvas") if path else None)
    section.words = words if section.pictures else ""
    return section


def _coverage(stack: Path | None) -> tuple[Array, tuple[int, int], bool] | None:
    """The COVERAGE plane of a FITS product, thinned to at most about 900 px, its full size, is row 0 at the bottom."""
    if stack is None:
        return None
    from astropy.io import fits
    from astropy.wcs import WCS

    try:
        with fits.open(stack, memmap=False) as hdus:  # only this plane is read, in a process of its own
            if "COVERAGE" not in hdus:
                return None
            values = hdus["COVERAGE"].data
            step = max(1, max(values.shape[-2:]) // 900)
            thin = np.array(values[..., ::step, ::step], dtype=np.float32)
            wcs = WCS(hdus[0].header, naxis=2)
            upwards = wcs.has_celestial and float(np.linalg.det(wcs.pixel_scale_matrix)) < 0
    except (OSError, ValueError):
        return None
    size = (int(values.shape[-2]), int(values.shape[-1]))
    return (thin.max(axis=0) if thin.ndim == 3 else thin), size, upwards


def light_curve_section(run: Run) -> Section:
    """The target's brightness against its comparison stars."""
    section = Section("light-curve", "Light curve", wide=True)
    curve = run.map("light_curve")
    flux = np.array([NAN if v is None else float(v) for v in curve.get("flux") or []], float)
    times = [str(t) for t in curve.get("time") or []]
    if not len(flux) or len(times) != len(flux):
        return section
    raw = curve.get("flux_err") or []
    errors = np.array([NAN if v is None else float(v) for v in raw], float) if len(raw) == len(flux) else None
    axis = figures.time_axis(times, range(len(times)))
    picture = figures.light_curve(axis, flux, errors, "Brightness of the target relative to its comparison stars")
    if picture is None:
        return section
    section.pictures.append(picture)
    steps = np.diff(flux[np.isfinite(flux)]) / np.nanmedian(flux)
    words = f"{plural(int(np.isfinite(flux).sum()), 'point')}"
    if curve.get("radius_px") is not None:
        words += f", aperture radius {number(curve['radius_px'])} px"
    if len(steps) > 2:
        scatter = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2)
        words += f", point-to-point scatter {100 * scatter:.2f} %"
    section.words = words + "."
    return section


def lines_section(run: Run) -> Section:
    """Satellites and aeroplanes."""
    section = Section("lines", "Trails")
    lines = [item for item in run.list("lines") if isinstance(item, dict)]
    if "lines" not in run.facts:
        return section
    if not lines:
        section.notes.append("No trail of a satellite or aeroplane was found.")
        return section
    columns = (
        "frame",
        "angle (°)",
        "offset (px)",
        "half width (px)",
        f"amplitude{f' ({run.units})' if run.units else ''}",
        "z",
    )
    names = ("frame", "angle_deg", "offset_px", "half_width_px", "amplitude", "z")
    rows = [[number(item.get(name)) for name in names] for item in lines]
    many = len({item.get("frame") for item in lines})
    section.words = f"{plural(len(lines), 'trail')} in {plural(many, 'frame')}, masked across the whole frame."
    section.tables.append(Table(columns, rows, frozenset(columns), "All trails", len(rows) > FEW_ROWS))
    return section


def detector_section(run: Run) -> Section:
    """What the session says about the detector."""
    section = Section("detector", "Detector")
    cosmetic = run.map("cosmetic")
    if cosmetic:
        rows = [(f"{name} pixels", number(count)) for name, count in cosmetic.items()]
        section.tables.append(Table(("map made from the session", "count"), rows, frozenset({"count"})))
    return section


def warnings_section(run: Run) -> Section:
    """What a person should know before trusting the result."""
    section = Section("warnings", "Warnings")
    said = [*run.map("session").get("warnings", []), *run.list("warnings")]
    texts = list(dict.fromkeys(str(text) for text in said))
    section.notes = [text for text in texts if not any(other.endswith(f": {text}") for other in texts)]
    return section


def truth_section(run: Run) -> Section:
    """Figures against the truth of a simulated night."""
    section = Section("truth", "Against the truth")
    try:
        figures_found = json.loads((run.folder / FIGURES).read_text())
        known = [(str(n), f["value"], f["limit"], str(f.get("unit") or "")) for n, f in figures_found.items()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return section
    rows = [(n, number(v), number(limit), unit, _reached(v, limit)) for n, v, limit, unit in known]
    missed = sum(row[-1] != "yes" for row in rows)
    section.words = (
        "This night was simulated. The reduction was not told the truth; here is what it measured against it. "
    )
    section.words += (
        "Every figure is inside its limit." if not missed else f"{plural(missed, 'figure')} beyond the limit."
    )
    columns = ("figure", "measured", "at most", "unit", "inside")
    section.tables.append(Table(columns, rows, frozenset({"measured", "at most"})))
    return section


def _reached(value: Any, limit: Any) -> str:
    try:
        return "yes" if abs(float(value)) <= float(limit) else "no"
    except (TypeError, ValueError):
        return "no"


def frame_table_section(run: Run) -> Section:
    """Every frame with its numbers."""
    section = Section("all-frames", "All frames")
    if not run.frames:
        return section
    columns = {
        "frame": "frame",
        "exposure_s": "exposure (s)",
        "n_stars": "stars",
        "n_matched": "matched",
        "rms_px": "rms (px)",
        "rotation_deg": "rotation (°)",
        "shift_y_px": "shift y (px)",
        "shift_x_px": "shift x (px)",
        "fwhm_px": "FWHM (px)",
        "elongation": "elongation",
        "transparency": "transparency",
        "score": "score",
    }
    shown = {name: title for name, title in columns.items() if any(item.get(name) is not None for item in run.frames)}
    rows = [
        [
            *(number(item.get(name)) for name in shown),
            *(_clock(item.get("time")), _name(item.get("file")), _told(item, verdict)),
        ]
        for item, verdict in zip(run.frames, run.verdicts, strict=True)
    ]
    titles = (*shown.values(), "time (UTC)", "file", "verdict")
    section.tables.append(Table(titles, rows, frozenset(shown.values()), f"{plural(len(rows), 'frame')}", True))
    return section


def _clock(time: Any) -> str:
    return str(time)[:19].replace("T", " ") if time else "–"


def phases_section(run: Run) -> Section:
    """Where the time went."""
    section = Section("timeline", "Time spent")
    phases = {name: facts for name, facts in run.map("phases").items() if isinstance(facts, dict)}
    seconds = {name: float(facts.get("seconds") or 0.0) for name, facts in phases.items()}
    longest = max(seconds.values(), default=0.0)
    for name, facts in phases.items():
        text = "kept from before" if facts.get("skipped") else duration(seconds[name])
        section.bars.append((name, text, 100.0 * seconds[name] / longest if longest else 0.0))
    if longest:
        section.words = f"{duration(sum(seconds.values()))} in all."
    return section


def options_section(run: Run) -> Section:
    """Options as they were in effect, defaults included."""
    section = Section("options", "Options in effect")
    rows = list(_flat(run.map("options")))
    if rows:
        section.tables.append(Table(("option", "value"), rows, frozenset(), plural(len(rows), "option"), True))
    return section


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "none" if value is None else json.dumps(value, ensure_ascii=False).strip('"')


def versions_section(run: Run) -> Section:
    """What made the run."""
    section = Section("versions", "Versions and inputs")
    rows = [("getframes-xr", str(run.facts["version"]))] if run.facts.get("version") else []
    rows += [(str(name), str(text)) for name, text in run.map("versions").items() if name != "getframes-xr"]
    rows += [("input", str(path)) for path in run.list("inputs")]
    rows += [("run folder", str(run.folder.resolve()))]
    rows += [(f"product: {name}", str(path)) for name, path in run.map("products").items()]
    section.tables.append(Table(("what", "value"), rows))
    return section


def _subtitle(run: Run) -> str:
    session, parts = run.map("session"), []
    times = [str(item["time"]) for item in run.frames if item.get("time")]
    if times:
        first, last = min(times)[:10], max(times)[:10]
        parts.append(first if first == last else f"{first} to {last}")
    if session.get("camera"):
        parts.append(str(session["camera"]))
    if session.get("lights"):
        parts.append(plural(int(session["lights"]), "light frame"))
    finished = run.facts.get("finished")
    if finished:
        try:
            parts.append(f"reduced {datetime.fromisoformat(str(finished)):%Y-%m-%d %H:%M}")
        except ValueError:
            parts.append(f"reduced {finished}")
    return " · ".join(parts)


def context(folder: Path) -> dict[str, Any]:
    """All that the template shows.

    Raises
    ------
    DataError : the manifest cannot be read
    """
    run = Run(folder)
    axis = run.axis()
    path = run.product("picture", "png")
    name = str(run.facts.get("name") or folder.name)
    name = folder.resolve().parent.name if name == "reduced" else name  # the run folder inside a demo or validation
    quicklook = figures.photograph(path, f"Stack of {name}, stretched for the eye") if path else None
    sections = [
        warnings_section(run),
        truth_section(run),
        frames_section(run),
        light_curve_section(run),
        registration_section(run, axis),
        conditions_section(run, axis),
        coverage_section(run),
        lines_section(run),
        detector_section(run),
        phases_section(run),
        frame_table_section(run),
        options_section(run),
        versions_section(run),
    ]
    return {
        "title": name,
        "subtitle": _subtitle(run),
        "quicklook": quicklook,
        "numbers": headline(run),
        "sections": [section for section in sections if not section.empty],
        "finished": run.facts.get("finished"),
    }


def make_page(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, whole or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("getframes_xr.app.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    html = environment.get_template("template.html.j2").render(context(folder))
    path = folder / "report.html"
    partial = folder / "report.html.partial"
    try:
        partial.write_text(html, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return path
