"""``reduce_session``: a folder of frames -> a stack, a light curve, a run folder with every decision.

The phases are public functions a notebook user could type, in this order:

    session = gx.open_session(folder)                    what is in it, what is left out and why
    bad     = gx.cosmetic(lights)                        hot and dead pixels from the session itself
    clean   = gx.calibrate(lights, dark=..., flat=..., cosmetic=bad)
    stars   = gx.find_stars(clean).load()                every frame read once
    moves   = gx.normalise(stars, gx.register(stars))    transforms, verdicts, transparency, sky, weights
    first   = gx.first_image(clean, moves)               robust first image
    lines   = gx.find_lines(clean, moves, first)         satellite trails
    stack   = gx.splat(clean, moves, first=first, lines=lines)

Each product lies in the run folder under the digest of what decides it; a run that was killed goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from getframes_xr.core import allocator
from getframes_xr.core.digest import code_version
from getframes_xr.core.errors import DataError, OptionError, RegistrationError
from getframes_xr.core.options import Options
from getframes_xr.core.verdict import Reason, Verdicts, counted
from getframes_xr.core.vocabulary import Flag
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.tables import loaded
from getframes_xr.io.image import save_image
from getframes_xr.io.pictures import save_png
from getframes_xr.io.session import open_session
from getframes_xr.io.store import save_frames
from getframes_xr.io.tables import open_table, save_table
from getframes_xr.io.zarr import open_store
from getframes_xr.measure.light_curve import light_curve
from getframes_xr.measure.phase import phase_shifts
from getframes_xr.measure.registration import register
from getframes_xr.measure.score import score
from getframes_xr.measure.stars import find_stars
from getframes_xr.reduce.calibrate import calibrate
from getframes_xr.reduce.cosmetic import cosmetic
from getframes_xr.reduce.master import master
from getframes_xr.reduce.normalise import normalise
from getframes_xr.reduce.splat.first_image import first_image
from getframes_xr.reduce.splat.lines import find_lines, without_static
from getframes_xr.reduce.splat.splat import splat
from getframes_xr.workflows.plan import memory as memory_budget
from getframes_xr.workflows.run_folder import OnEvent, RunFolder, versions, write_whole

FEW_STARS = 12  # matches per frame, below which shifts by phase correlation are tried as well
LEAST_PX = 64  # of a frame, that phase correlation needs
NUMBERS = ("n_matched", "rms_px", "rotation_deg", "scale", "transparency", "score")  # of moves, one a frame
STANDS_ON = {  # each phase, and those whose options decide it as well; what decides the frames is in their token
    "masters": (),
    "cosmetic": (),
    "stars": (),
    "moves": (),
    "first": ("moves",),
    "lines": ("moves", "first"),
    "stack": ("moves", "first", "lines"),
    "light_curve": ("moves",),
}
PHASES = tuple(STANDS_ON)


class Decides:
    """Which phases of a run an option decides; their keys follow from it, and those of all that stand on them."""

    def __init__(self, *phases: str) -> None:
        self.phases = frozenset(phases)


class ReduceOptions(Options):
    """What a user may decide about a reduction; everything else follows from the frames."""

    # share of the usable frames to keep, best score first
    keep: Annotated[float, Field(gt=0, le=1), Decides("moves")] = 1.0
    # text file with the names of the frames to use, one a line
    frame_list: Annotated[str | None, Decides("cosmetic", "stars")] = None
    canvas: Annotated[Literal["union", "reference"], Decides("stack")] = "union"
    # (y, x) in the first verified frame
    target: Annotated[tuple[float, float] | None, Decides("light_curve")] = None
    compare: Annotated[tuple[tuple[float, float], ...], Decides("light_curve")] = ()
    # the frame in which target and compare are given
    at: Annotated[int | None, Decides("light_curve")] = None
    # aperture; None: chosen by the data
    radius_px: Annotated[Annotated[float, Field(gt=0)] | None, Decides("light_curve")] = None
    # standard deviations, and share of the local contrast, that a sample may differ by from the first image
    kappa: Annotated[float, Field(gt=0), Decides("stack")] = 4.0
    tolerance: Annotated[float, Field(ge=0), Decides("stack")] = 4.0
    # look for satellite trails
    lines: Annotated[bool, Decides("stack")] = True

    def deciding(self, phase: str) -> dict[str, Any]:
        """The options that decide a phase's product: its own, and those of the phases it stands on."""
        phases = {phase, *STANDS_ON[phase]}
        return {name: getattr(self, name) for name in sorted(type(self).model_fields) if phases & self.decides(name)}

    @classmethod
    def decides(cls, name: str) -> frozenset[str]:
        """The phases whose product an option decides."""
        marks = [mark for mark in cls.model_fields[name].metadata if isinstance(mark, Decides)]
        return frozenset().union(*(mark.phases for mark in marks))


@dataclass(frozen=True)
class Run:
    """A finished reduction: where it lies and what it says."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def summary(self) -> dict[str, Any]:
        """The handful of numbers a person asks for first."""
        used = sum(bool(frame["used"]) for frame in self.manifest["frames"])
        return {
            "frames": len(self.manifest["frames"]),
            "used": used,
            "hours": self.manifest["session"]["hours"],
            "canvas": self.manifest["canvas"],
            "products": self.manifest["products"],
        }


def default_folder(folders: Sequence[str | Path]) -> Path:
    """``./processed/<session>``: the name of the first folder (its parent's where it is just ``light``)."""
    first = Path(folders[0]).resolve()
    name = first.name
    if re.fullmatch(r"(?i)lights?|fz|fits?", name):
        name = first.parent.name
    return Path("processed") / (name or "session")


def reduce_session(
    *folders: str | Path,
    out: str | Path | None = None,
    options: ReduceOptions | None = None,
    darks: str | Path | None = None,
    flats: str | Path | None = None,
    biases: str | Path | None = None,
    memory: str | int | None = None,
    from_phase: str | None = None,
    on_event: OnEvent | None = None,
) -> Run:
    """Reduce a session to a stack; run it again after a crash and it goes on.

    Parameters
    ----------
    folders : folders (or Zarr stores) with the frames, of any kinds
    out : run folder, ``./processed/<session>`` by default
    options : what a user may decide
    darks, flats, biases : folders of calibration frames that lie elsewhere
    memory : budget of the process, such as ``"1GiB"``
    from_phase : make this phase and the later ones again
    on_event : called with each event (a mapping) as it happens

    Returns
    -------
    Run : the run folder and its manifest

    Raises
    ------
    DataError : there are no frames to reduce
    RegistrationError : no frame can be verified against another
    StoreError : the run folder is in use, holds another recipe, or cannot be written
    OptionError : ``from_phase`` is no phase; a target or comparison star outside the frames, a target without any, an
        ``at`` that is no frame
    """
    allocator.few_arenas()
    options = options or ReduceOptions()
    folder_of = {"darks": darks, "flats": flats, "biases": biases}
    elsewhere = {name: Path(path).resolve() for name, path in folder_of.items() if path is not None}
    inputs = {
        "inputs": [str(Path(folder).resolve()) for folder in folders],
        **{name: str(path) for name, path in elsewhere.items()},
    }
    folder = RunFolder(out or default_folder(folders), inputs, options.to_dict(), PHASES, on_event)
    folder.check_phase(from_phase)
    session = open_session(*folders, *elsewhere.values(), told=kinds_told(elsewhere))
    if "lights" not in session.children:
        raise DataError(f"no light frames in {', '.join(map(str, folders))}, only {', '.join(session.children)}")
    lights = chosen_lights(session, options.frame_list)
    check_places(options, lights)
    with folder.open(from_phase), memory_budget(memory) if memory is not None else nullcontext():
        return _reduce(folder, session, lights, options)


def exposures_of(lights: xr.Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Exposure of each frame [s], NaN where no card tells it."""
    if "exposure_s" in lights.coords:
        return np.asarray(lights["exposure_s"].values, np.float64)
    return np.full(lights["frame"].shape, np.nan)


def kinds_told(elsewhere: Mapping[str, Any]) -> dict[str, Any]:
    """What ``darks``, ``flats``, ``biases`` say of the frames in their folders, by kind."""
    kinds = {"darks": "dark", "flats": "flat", "biases": "bias"}
    return {kinds[name]: folder for name, folder in elsewhere.items() if name in kinds}


def chosen_lights(session: xr.DataTree, frame_list: str | Path | None = None) -> xr.Dataset:
    """The light frames to reduce: those named in ``frame_list``, of the filter with the most exposure.

    Raises
    ------
    DataError : the list cannot be read, or names no light frame of the session
    """
    lights = session["lights"].to_dataset()
    if frame_list is not None:
        try:
            names = {Path(line.strip()).name for line in Path(frame_list).read_text().splitlines() if line.strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"frame_list: cannot read {frame_list}: {error}") from error
        files = [Path(str(file)).name for file in np.atleast_1d(lights["file"].values)]
        listed = np.array([file in names for file in files])
        if not listed.any():
            raise DataError(f"frame_list: {frame_list} names none of the {len(files)} light frames")
        strangers = sorted(names - set(files))
        if strangers:
            shown = ", ".join(strangers[:4]) + (f" and {len(strangers) - 4} more" if len(strangers) > 4 else "")
            raise DataError(f"frame_list: {frame_list} names {shown}, which is no light frame of this session")
        lights = lights.isel(time=np.flatnonzero(listed))
    if "filter" in lights.coords and lights["filter"].dims == ("time",):
        filters, exposure_s = lights["filter"].values.astype(str), exposures_of(lights)
        exposure_s = exposure_s if np.isfinite(exposure_s).all() else np.ones(len(filters))  # else the most frames
        total = {name: float(exposure_s[filters == name].sum()) for name in np.unique(filters)}
        deepest = max(total, key=lambda name: total[name])
        if len(total) > 1:
            lights = lights.isel(time=np.flatnonzero(filters == deepest))
            others = ", ".join(sorted(set(total) - {deepest}))
            lights.attrs["notes"] = _joined(lights.attrs.get("notes"), f"filter {deepest} is reduced; left: {others}")
    return lights


def check_places(options: ReduceOptions, lights: xr.Dataset) -> None:
    """Refuse what a light curve could not use, before anything is computed.

    Raises
    ------
    OptionError : a place outside the frames, a target without comparison stars or the reverse, an unknown frame
    """
    if options.at is not None and options.at not in lights["frame"].values:
        first, last = int(lights["frame"].min()), int(lights["frame"].max())
        raise OptionError("at", options.at, f"the number of one of the {lights.sizes['time']} frames, {first}..{last}")
    if options.target is not None and not options.compare:
        raise OptionError("compare", options.compare, "at least one comparison star Y,X beside a target")
    if options.compare and options.target is None:
        raise OptionError("target", None, "the star Y,X that is compared with them")
    y, x = ((int(lights[dim][0]), int(lights[dim][-1])) for dim in ("y", "x"))
    for name, place in (("target", options.target), *(("compare", place) for place in options.compare)):
        if place is not None and not (y[0] <= place[0] <= y[1] and x[0] <= place[1] <= x[1]):
            raise OptionError(name, place, f"y in {y[0]}..{y[1]} and x in {x[0]}..{x[1]}, in the order Y,X")


def _joined(*texts: str | None) -> str:
    return "\n".join(text for text in texts if text)


def _reduce(folder: RunFolder, session: xr.DataTree, lights: xr.Dataset, options: ReduceOptions) -> Run:
    """The script: one public function after the other, each product kept."""
    started = datetime.now(UTC)
    token = as_producer(lights).token()
    n_frames = lights.sizes["time"]
    unknown = int(np.isnan(exposures_of(lights)).sum())
    hours = None if unknown else float(exposures_of(lights).sum()) / 3600.0
    told = f"the exposure of {unknown} frames is not known (no EXPTIME): hours are not told, darks are not scaled"
    warnings = [told] if unknown else []
    warnings += [line for line in str(session.attrs.get("notes", "")).split("\n") if line]
    own = [line for line in str(lights.attrs.get("notes", "")).split("\n") if line]
    warnings += [line for line in own if not any(line in known for known in warnings)]
    warnings += [
        f"{session[name].sizes['time']} light frames of another geometry ({name}) are left: "
        f"{session[name].sizes['y']} x {session[name].sizes['x']} px"
        for name in session.children
        if name.startswith("lights_")
    ]
    folder.say("Session", lights=n_frames, hours=hours, camera=str(lights.attrs.get("camera", "")))
    for text in dict.fromkeys(warnings):
        folder.say("Warning", text=text)

    masters = {
        kind: _store(folder, "masters", [kind, as_producer(node).token()], master(node))
        for kind, node in (("dark", _node(session, "darks")), ("bias", _node(session, "biases")))
        if node is not None
    }
    flats = _node(session, "flats")
    if flats is not None:
        level, remark = _level_of_flats(flats, masters)
        if remark:
            warnings.append(remark)
            folder.say("Warning", text=remark)
        if level is not None:
            flat = master(calibrate(flats, bias=level.get("bias")))
            masters["flat"] = _store(folder, "masters", ["flat", as_producer(flat).token()], flat)

    bad = _store(folder, "cosmetic", token, cosmetic(lights))
    clean = calibrate(lights, cosmetic=bad, **masters)
    token = as_producer(clean).token()

    def decided(phase: str) -> list[Any]:
        return [token, options.deciding(phase)]

    stars = _table(folder, "stars", token, lambda: find_stars(clean).load())
    moves = _table(folder, "moves", decided("moves"), lambda: _register(clean, stars, options))
    _tell(folder, moves, lights)
    if not bool(moves["used"].any()):
        raise RegistrationError(f"none of the {n_frames} frames can be used: {_most_common(moves)}")

    first = _store(folder, "first", decided("first"), first_image(clean, moves))
    lines = None
    if options.lines:
        found = partial(find_lines, clean, moves, first)
        lines = _table(folder, "lines", decided("lines"), lambda: without_static(found().load()))
    stacked = splat(
        clean, moves, first=first, lines=lines, kappa=options.kappa, tolerance=options.tolerance, canvas=options.canvas
    )
    result = _store(folder, "stack", decided("stack"), stacked)
    products = _products(folder.path, result)
    curve = None
    if options.target is not None:
        measured = partial(light_curve, clean, moves, options.target, options.compare, at=options.at)
        curve = _table(
            folder, "light_curve", decided("light_curve"), lambda: measured(radius_px=options.radius_px).load()
        )
        products["light_curve"] = write_light_curve(curve, folder.path / "light_curve.csv").name
    manifest = {
        "version": code_version(),
        "versions": versions(),
        "name": folder.path.name,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": folder.recipe["inputs"],
        "options": options.to_dict(),
        "units": str(result["image"].attrs.get("units", "")),
        "session": {
            "lights": n_frames,
            "hours": hours,
            "camera": str(lights.attrs.get("camera", "")),
            "masters": sorted(masters),
            "warnings": list(dict.fromkeys(warnings)),
        },
        "files": _files(session),
        "frames": _frames(lights, stars, moves),
        "reference_frame": moves.attrs.get("reference_frame"),
        "canvas": {"y": [int(result.y[0]), int(result.y[-1]) + 1], "x": [int(result.x[0]), int(result.x[-1]) + 1]},
        "cosmetic": _cosmetic(bad),
        "lines": [] if lines is None else _lines(lines),
        "funnel": _funnel(session, moves),
        "light_curve": None if curve is None else _curve(curve),
        "products": products,
    }
    folder.manifest(manifest)
    folder.say("Finished", products=products)
    return Run(folder.path, {**manifest, "phases": folder.phases})


def _level_of_flats(flats: xr.Dataset, masters: Mapping[str, xr.Dataset]) -> tuple[dict[str, xr.Dataset] | None, str]:
    """The bias to take off the flats (None: they cannot be used), and what is to be said about it."""
    if "bias" in masters:
        return {"bias": masters["bias"]}, ""
    if "bias_adu" in flats.coords and bool(np.isfinite(flats["bias_adu"].values).all()):
        return {}, ""
    if "dark" in masters:
        return {"bias": masters["dark"]}, "no biases: the dark is taken off the flats in their place"
    return None, "the flats are left out: their bias is not known; give biases or darks as well"


def _node(session: xr.DataTree, name: str) -> xr.Dataset | None:
    return session[name].to_dataset() if name in session.children else None


def _store(folder: RunFolder, phase: str, decides: Any, data: xr.Dataset) -> xr.Dataset:
    """A phase whose product is a store: written shard by shard, opened again lazily."""

    def make(path: Path) -> None:
        save_frames(
            data, path, progress=lambda state: folder.progress(phase, state.shards, state.shards_total, "tiles")
        )

    return folder.phase(phase, decides, make, open_store)


def _table(folder: RunFolder, phase: str, decides: Any, make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """A phase whose product is a small loaded table."""
    return folder.phase(phase, decides, lambda path: save_table(make(), path), open_table, ".npz")


def _register(clean: xr.Dataset, stars: xr.Dataset, options: ReduceOptions) -> xr.Dataset:
    """Transforms, verdicts and weights; by phase correlation where there are too few stars to match."""
    moves = register(stars)
    verified = moves["verified"].values
    few = verified.sum() < 2 or np.median(moves["n_matched"].values[verified]) < FEW_STARS
    if few and clean.sizes["time"] > 1 and min(clean.sizes["y"], clean.sizes["x"]) >= LEAST_PX:
        shifted = register(stars, shifts=phase_shifts(clean).load())
        if int(shifted["verified"].sum()) > int(verified.sum()):
            moves = shifted
    moves = normalise(stars, moves)
    return keep_best(moves, score(stars, moves), options.keep)


def keep_best(moves: xr.Dataset, scores: xr.Dataset, keep: float) -> xr.Dataset:
    """Leave out the frames of lowest score (those without one first) so that ``keep`` of the usable ones stays.

    Raises
    ------
    DataError : a table is lazy, or the two hold different frames
    """
    moves, scores = loaded(moves, "reason"), loaded(scores, "score")
    if not np.array_equal(moves["frame"].values, scores["frame"].values):
        raise DataError("scores and moves hold different frames; score these moves")
    moves = moves.assign(score=("time", scores["score"].values))
    verdicts, score_of = Verdicts.read(moves), moves["score"].values
    n_used = int(verdicts.used.sum())
    order = np.argsort(np.where(verdicts.used, -np.nan_to_num(score_of), np.inf), kind="stable")
    worst = np.isin(np.arange(len(order)), order[max(1, round(keep * n_used)) : n_used])
    verdicts = verdicts.leave_out(worst, Reason.NOT_AMONG_BEST, score=score_of, keep=keep)
    return verdicts.write(moves)


def _tell(folder: RunFolder, moves: xr.Dataset, lights: xr.Dataset) -> None:
    files = np.atleast_1d(lights["file"].values) if "file" in lights.coords else [""] * lights.sizes["time"]
    known = dict(zip(lights["frame"].values.tolist(), files, strict=True))
    for frame, verdict in zip(moves["frame"].values, Verdicts.read(moves), strict=True):
        if not verdict.used:
            folder.say("FrameRejected", frame=int(frame), file=str(known.get(int(frame), "")), **verdict.to_dict())


def _most_common(moves: xr.Dataset) -> str:
    """How many frames each reason has left out, and the first frame of the most common one in words."""
    verdicts = Verdicts.read(moves)
    counts = counted(verdicts)
    at = next(at for at, verdict in enumerate(verdicts) if verdict.reason is counts[0][0])
    shown = ", ".join(f"{reason.label} ({count})" for reason, count in counts)
    return f"{shown}; frame {int(moves['frame'][at])}: {verdicts[at]}"


def _products(folder: Path, result: xr.Dataset) -> dict[str, str]:
    """FITS and PNG of the stack (``gx.save_tiff`` makes a 16-bit TIFF of it)."""
    return {
        "stack": save_image(result, folder / "stack.fits").name,
        "picture": save_png(result, folder / "stack.png").name,
    }


def write_light_curve(curve: xr.Dataset, path: Path) -> Path:
    """The curve as CSV: frame, mid-exposure time, relative flux and its error, airmass of errors left to the reader."""
    names = [name for name in curve.data_vars if curve[name].dims == ("time",)]
    rows = [",".join(["frame", "time_utc_mid", *map(str, names)])]
    for at in range(curve.sizes["time"]):
        values = [
            f"{curve[name].values[at]:.8g}" if curve[name].dtype.kind == "f" else str(curve[name].values[at])
            for name in names
        ]
        rows.append(",".join([str(int(curve["frame"].values[at])), str(curve["time"].values[at]), *values]))
    write_whole(path, "\n".join(rows) + "\n")
    return path


def _files(session: xr.DataTree) -> list[dict[str, str]]:
    table = session["files"].to_dataset()
    names = ("file", "kind", "status", "remark")
    return [dict(zip(names, map(str, row), strict=True)) for row in zip(*(table[n].values for n in names), strict=True)]


def _frames(lights: xr.Dataset, stars: xr.Dataset, moves: xr.Dataset) -> list[dict[str, Any]]:
    """One record per light frame: everything that was decided about it."""
    lights = lights.sortby("frame") if lights.sizes["time"] > 1 else lights
    centre = [0.5 * (int(lights[dim][0]) + int(lights[dim][-1])) for dim in ("y", "x")]
    records = []
    for at, verdict in enumerate(Verdicts.read(moves)):
        row, star, light = moves.isel(time=at), stars.isel(time=at), lights.isel(time=at)
        transform = row["transform"].values
        shift = transform[:, :2] @ centre + transform[:, 2] - centre
        bands = [str(band) for band in moves["band"].values]
        records.append({
            "frame": int(row["frame"]),
            "file": str(light["file"].values) if "file" in light.coords else "",
            "time": str(light["time"].values) if "time" in light.coords else None,
            "exposure_s": float(exposures_of(light)),
            "used": verdict.used,
            **verdict.to_dict(),
            "n_stars": int(star["n_stars"]),
            **{name: row[name].values.item() for name in NUMBERS},
            "fwhm_px": float(row["fwhm_px"]) if "fwhm_px" in row else float(star["fwhm_px"]),
            "elongation": float(row["elongation"]) if "elongation" in row else float(star["elongation"]),
            "shift_y_px": float(shift[0]),
            "shift_x_px": float(shift[1]),
            "transform": transform,
            **{
                name: dict(zip(bands, values, strict=True))
                for name, values in (
                    ("sky", row["sky"].values[:, 0]),
                    ("variance", row["variance"].values),
                    ("weight", row["weight"].values),
                )
            },
        })  # fmt: skip
    return records


def _cosmetic(bad: xr.Dataset) -> dict[str, int]:
    flags = bad["flags"].values
    return {"hot": int(((flags & Flag.HOT) != 0).sum()), "dead": int(((flags & Flag.DEAD) != 0).sum())}


def _lines(table: xr.Dataset) -> list[dict[str, Any]]:
    """One record per line found, with its frame."""
    found = np.argwhere(np.isfinite(table["z"].values))
    frames = table["frame"].values
    return [
        {"frame": int(frames[at]), **{str(n): float(table[n].values[at, line]) for n in table.data_vars}}
        for at, line in found
    ]


def _funnel(session: xr.DataTree, moves: xr.Dataset) -> list[dict[str, Any]]:
    files = session["files"].to_dataset()
    kinds = np.array([str(kind) for kind in files["kind"].values])
    usable = np.array([str(node) != "" for node in files["node"].values])
    return [
        {"step": "files found", "frames": len(kinds)},
        {"step": "light frames", "frames": int((kinds == "light").sum())},
        {"step": "light frames usable", "frames": int(((kinds == "light") & usable).sum())},
        {"step": "chosen", "frames": moves.sizes["time"]},
        {"step": "registered", "frames": int(moves["verified"].sum())},
        {"step": "stacked", "frames": int(moves["used"].sum())},
    ]


def _curve(curve: xr.Dataset) -> dict[str, Any]:
    return {
        "time": [str(moment) for moment in curve["time"].values],
        "flux": curve["flux"].values,
        "flux_err": curve["flux_err"].values,
        "radius_px": float(curve["radius_px"]),
    }
