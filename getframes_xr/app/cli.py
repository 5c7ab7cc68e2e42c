"""The command line: ``getframes-xr demo | presets | simulate | frames | reduce | validate | plan | report``.

Each command is a few lines around public functions. Bad input ends with one clear line on stderr and exit code 2, an
interrupt with exit code 130; a traceback is shown only with ``--debug``. Heavy packages load inside the commands, so
``--help`` is there at once.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from getframes_xr.core.errors import DataError, GetframesError, OptionError

if TYPE_CHECKING:
    import xarray as xr

    from getframes_xr.workflows.session import ReduceOptions
    from getframes_xr.workflows.validate import Validation

BAD_INPUT, UNEXPECTED, INTERRUPTED = 2, 1, 130
_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer keeps it

app = typer.Typer(
    name="getframes-xr",
    help="Frames of astronomical cameras: simulated, measured, reduced and stacked, at any size.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Memory = Annotated[str | None, typer.Option(help="Budget of the whole process, such as 1GiB.", show_default=False)]
Scheduler = Annotated[
    str | None,
    typer.Option(help="threads, synchronous, or a dask scheduler's address: tcp://host:8786.", show_default=False),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.", show_default=False)]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command; every error becomes one line on stderr and an exit code."""
    debug = "--debug" in arguments
    try:
        with warnings.catch_warnings(action="default" if debug else "ignore"):
            code = app(args=list(arguments), standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # how typer tells of Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more to say
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted; the same command goes on where it stopped", INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        return _say(*_words(error))


def _words(error: Exception) -> tuple[str, int]:
    """The line and the exit code for an error."""
    if isinstance(error, GetframesError):
        return "; ".join([str(error), *getattr(error, "__notes__", [])]), BAD_INPUT
    if isinstance(error, _CLICK_ERROR):
        text = str(getattr(error, "format_message", lambda: str(error))()).rstrip(".")
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context is not None else ""
        return text + hint, BAD_INPUT
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        what = "free space or choose another --out" if error.errno == errno.ENOSPC else "check the path and its rights"
        return f"{where}{error.strerror}; {what}", BAD_INPUT
    if isinstance(error, MemoryError):
        return "out of memory; give a smaller --memory", BAD_INPUT
    what = "; ".join([f"unexpected {type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return f"{what}; run again with --debug for the traceback", UNEXPECTED


def _say(text: str, code: int) -> int:
    print(f"getframes-xr: {' '.join(text.split())}", file=sys.stderr)
    return code


def _out() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _print(text: str) -> None:
    _out().print(text, markup=False, soft_wrap=True)


@contextmanager
def _settings(memory: str | None, scheduler: str | None) -> Iterator[None]:
    """Budget and scheduler of one command."""
    from getframes_xr.face.budget import memory as budget

    with nullcontext() if memory is None else budget(memory), _scheduled(scheduler):
        yield


@contextmanager
def _scheduled(scheduler: str | None) -> Iterator[None]:
    if scheduler is None:
        yield
    elif "://" in scheduler:
        from getframes_xr.workflows.cluster import client

        with client(scheduler):
            yield
    else:
        import dask

        known = ("threads", "synchronous")
        if scheduler not in known:
            raise OptionError("--scheduler", scheduler, f"{', '.join(known)}, or an address such as tcp://host:8786")
        with dask.config.set(scheduler=scheduler):
            yield


def _version(wanted: bool) -> None:
    if wanted:
        import getframes_xr

        typer.echo(f"getframes-xr {getframes_xr.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(out: Out = None, memory: Memory = None, scheduler: Scheduler = None, debug: Debug = False) -> None:
    """Simulate a night, reduce it without being told the truth, compare with the truth."""
    from getframes_xr.app.demo import run_demo
    from getframes_xr.app.progress import progress_on

    folder = out if out is not None else Path("demo")
    _print(f"writing to {folder}")
    with _settings(memory, scheduler), progress_on(_out()) as shown:
        result = run_demo(folder, on_event=shown)
    _judge(result)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="A camera; all are listed if none is named.")] = None,
    toml: Annotated[bool, typer.Option("--toml", help="Print the camera as TOML, to be changed and used.")] = False,
    debug: Debug = False,
) -> None:
    """List the cameras that come with the package, or show one of them stage by stage."""
    from getframes_xr.detector.camera import Camera

    if name is not None:
        camera = Camera.preset(name)
        _print(camera.to_toml() if toml else str(camera))
        return
    table = _table(
        "camera", "rows x columns", "pixel (um)", "colours", "stages", right=("rows x columns", "pixel (um)")
    )
    for known in Camera.presets():
        camera = Camera.preset(known)
        shape = f"{camera.shape[0]} x {camera.shape[1]}"
        table.add_row(known, shape, f"{camera.pixel_um:g}", camera.cfa or "mono", str(len(camera.stages)))
    _out().print(table)
    _print("getframes-xr presets NAME shows one of them")


def _table(*columns: str, right: Sequence[str] = ()) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


@app.command()
def simulate(
    experiment: Annotated[Path, typer.Argument(help="TOML file with scene, camera, exposures, seed.")],
    out: Annotated[
        Path | None, typer.Option(help="Store to write, by default the experiment's name with .zarr.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store of another recipe.")] = False,
    memory: Memory = None,
    scheduler: Scheduler = None,
    debug: Debug = False,
) -> None:
    """Simulate the frames of an experiment into a Zarr store; the same command goes on after an interruption."""
    from getframes_xr.app.progress import progress_on, size
    from getframes_xr.io.store import Progress as Stored
    from getframes_xr.io.store import save_frames
    from getframes_xr.workflows.observe import load_experiment

    planned = load_experiment(experiment)
    store = out if out is not None else experiment.with_suffix(".zarr")
    _print(f"writing to {store}")
    with _settings(memory, scheduler), progress_on(_out()) as shown:
        for kind, frames in planned.frames().items():
            place = store if kind == "lights" else store.with_name(f"{store.stem}_{kind}{store.suffix}")

            def tell(done: Stored, phase: str = kind) -> None:
                counts = {"bytes_done": done.bytes_done, "bytes_total": done.bytes_total, "unit": "frames"}
                shown({"event": "Progress", "phase": phase, "done": done.frames, "total": done.frames_total, **counts})

            shown({"event": "PhaseStarted", "phase": kind})
            saved = save_frames(frames, place, progress=tell, overwrite=overwrite)
            shown({"event": "PhaseSkipped" if not saved.made else "PhaseFinished", "phase": kind})
            _print(f"{kind}: {frames.sizes['time']} frames in {place}, {size(saved.bytes_written)} written now")


@app.command()
def frames(
    path: Annotated[Path, typer.Argument(help="A folder, a FITS file or a Zarr store.")],
    every: Annotated[bool, typer.Option("--all", help="List every file, not only those that are left out.")] = False,
    debug: Debug = False,
) -> None:
    """Say what is in a folder or store: kinds of frames, exposure, camera, and what is left out and why."""
    from getframes_xr.io.frames import is_store, open_frames
    from getframes_xr.io.session import open_session

    if is_store(path):
        data = open_frames(path, partial=True)
        _show_nodes({"store": data})
        _print(f"planes: {', '.join(map(str, data.data_vars))}")
        return
    session = open_session(path)
    _show_nodes({name: node.to_dataset() for name, node in session.children.items() if name != "files"})
    for note in str(session.attrs.get("notes", "")).splitlines():
        _print(f"note: {note}")
    _show_files(session["files"].to_dataset(), every)


def _show_nodes(nodes: Mapping[str, xr.Dataset]) -> None:
    import numpy as np

    numbers = ("frames", "exposure (s)", "hours")
    table = _table(
        "kind", "frames", "exposure (s)", "hours", "rows x columns", "colours", "first (UTC)", "camera", right=numbers
    )
    for name, data in nodes.items():
        count = data.sizes.get("time", 0)
        exposure = np.asarray(data["exposure_s"].values if "exposure_s" in data.coords else [], float)
        known = np.unique(exposure[np.isfinite(exposure)])
        each = f"{known[0]:g}" if len(known) == 1 else (f"{known[0]:g} to {known[-1]:g}" if len(known) else "unknown")
        hours = f"{exposure[np.isfinite(exposure)].sum() / 3600:.2f}" if len(known) else ""
        start = data["start"].values if "start" in data.coords else np.array([], "datetime64[ns]")
        start = start[~np.isnat(start)] if len(start) else start
        first = str(start.min())[:19].replace("T", " ") if len(start) else "unknown"
        colours = str(data["cfa_pattern"].item()) if "cfa_pattern" in data.coords else "mono"
        camera = str(data.attrs.get("camera") or data.attrs.get("instrument") or "")
        shape = f"{data.sizes.get('y', 0)} x {data.sizes.get('x', 0)}"
        table.add_row(name, str(count), each, hours, shape, colours, first, camera)
    _out().print(table)


def _show_files(files: xr.Dataset, every: bool) -> None:
    from getframes_xr.core.vocabulary import FileStatus

    rows = [
        (str(file), str(kind), str(status), str(remark))
        for file, kind, status, remark in zip(
            *(files[name].values for name in ("file", "kind", "status", "remark")), strict=True
        )
        if every or FileStatus(status).set_aside
    ]
    if not rows:
        return
    table = _table("file", "kind", "status", "remark")
    for row in rows:
        table.add_row(*row)
    _out().print(table)


@app.command()
def reduce(
    folders: Annotated[list[Path], typer.Argument(help="Folders of the session, searched recursively.")],
    darks: Annotated[Path | None, typer.Option(help="Folder of dark frames that lie elsewhere.")] = None,
    flats: Annotated[Path | None, typer.Option(help="Folder of flat frames that lie elsewhere.")] = None,
    biases: Annotated[Path | None, typer.Option(help="Folder of bias frames that lie elsewhere.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder, by default ./processed/<session>.")] = None,
    keep: Annotated[float | None, typer.Option(help="Share of the usable frames to keep, best first: 0.92.")] = None,
    frame_list: Annotated[Path | None, typer.Option(help="Text file with the names of the frames to use.")] = None,
    target: Annotated[str | None, typer.Option(help="Star to measure: Y,X in the first verified frame.")] = None,
    compare: Annotated[list[str] | None, typer.Option(help="Comparison star: Y,X; may be repeated.")] = None,
    at: Annotated[int | None, typer.Option(help="Number of the frame in which target and compare are given.")] = None,
    radius_px: Annotated[float | None, typer.Option(help="Radius of the aperture, by default as the data say.")] = None,
    canvas: Annotated[str | None, typer.Option(help="union (default) or reference.")] = None,
    kappa: Annotated[float | None, typer.Option(help="Standard deviations a sample may differ by: 4.")] = None,
    tolerance: Annotated[float | None, typer.Option(help="Share of the local contrast it may differ by: 4.")] = None,
    lines: Annotated[bool | None, typer.Option(help="Look for satellite trails (default) or not.")] = None,
    options: Annotated[Path | None, typer.Option(help="TOML file with the same options; flags win.")] = None,
    from_phase: Annotated[str | None, typer.Option(help="Make this phase and all later ones again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    memory: Memory = None,
    scheduler: Scheduler = None,
    debug: Debug = False,
) -> None:
    """Reduce a session: folders of raw frames -> a stack, a picture, a light curve, a report."""
    from getframes_xr.workflows.session import default_folder

    flags = {
        "keep": keep,
        "frame_list": str(frame_list) if frame_list is not None else None,
        "target": None if target is None else _position("--target", target),
        "compare": tuple(_position("--compare", text) for text in compare) if compare else None,
        "at": at,
        "radius_px": radius_px,
        "canvas": canvas,
        "kappa": kappa,
        "tolerance": tolerance,
        "lines": lines,
    }
    chosen, places = _reduce_options(options, flags)
    given = {"darks": darks, "flats": flats, "biases": biases, "out": out, "memory": memory, "scheduler": scheduler}
    places |= {name: value for name, value in given.items() if value is not None}
    folder = Path(places.pop("out", None) or default_folder(folders))
    with _settings(places.pop("memory", None), places.pop("scheduler", None)):
        if dry_run:
            _would_reduce(folders, folder, chosen, places)
        else:
            _reduce(folders, folder, chosen, places, from_phase)


def _position(option: str, text: str) -> tuple[float, float]:
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(option, text, "two numbers Y,X in pixels, such as 286.0,423.1") from None
    return y, x


def _reduce_options(path: Path | None, flags: Mapping[str, Any]) -> tuple[ReduceOptions, dict[str, Any]]:
    """Options out of the TOML file and the flags (flags win), and the file's places, budget and scheduler."""
    from getframes_xr.core.options import read_toml
    from getframes_xr.workflows.session import ReduceOptions

    values = read_toml(path) if path is not None else {}
    own = ("out", "darks", "flats", "biases", "memory", "scheduler")
    places = {name: str(values.pop(name)) for name in own if name in values}
    values |= {name: value for name, value in flags.items() if value is not None}
    return ReduceOptions(**values), places


def _would_reduce(folders: Sequence[Path], folder: Path, options: ReduceOptions, places: Mapping[str, Any]) -> None:
    from getframes_xr.io.session import open_session
    from getframes_xr.workflows.session import check_places, chosen_lights, kinds_told

    _print(f"would write to {folder}")
    elsewhere = {name: Path(place) for name, place in places.items()}
    session = open_session(*folders, *elsewhere.values(), told=kinds_told(elsewhere))
    _show_nodes({name: node.to_dataset() for name, node in session.children.items() if name != "files"})
    _show_files(session["files"].to_dataset(), every=False)
    if "lights" not in session.children:
        raise DataError(f"no light frames in {', '.join(map(str, folders))}; name the folder that holds them")
    lights = chosen_lights(session, options.frame_list)
    check_places(options, lights)
    _print(f"lights to reduce: {lights.sizes['time']} of {session['lights'].sizes['time']}")
    for note in filter(None, str(lights.attrs.get("notes", "")).split("\n")):
        _print(note)
    _print("options in effect:")
    _print(options.to_toml().rstrip())


def _reduce(
    folders: Sequence[Path], folder: Path, options: ReduceOptions, places: Mapping[str, Any], from_phase: str | None
) -> None:
    from getframes_xr.app.progress import progress_on
    from getframes_xr.app.report import write_report
    from getframes_xr.workflows.session import reduce_session

    _print(f"writing to {folder}")
    with progress_on(_out()) as shown:
        run = reduce_session(*folders, out=folder, options=options, from_phase=from_phase, on_event=shown, **places)
    _show_run(run.folder, run.summary)
    _print(f"report       {write_report(run.folder)}")


def _show_run(folder: Path, summary: Mapping[str, Any]) -> None:
    used, total = summary.get("used"), summary.get("frames")
    words = [f"{used} of {total} frames used"] if used is not None else []
    if isinstance(summary.get("hours"), int | float):
        words.append(f"{summary['hours']:.2f} h")
    canvas = summary.get("canvas")
    if isinstance(canvas, Mapping) and {"y", "x"} <= set(canvas):
        rows, columns = (int(canvas[axis][1]) - int(canvas[axis][0]) for axis in ("y", "x"))
        words.append(f"canvas {rows} x {columns} px (rows x columns)")
    _print(", ".join(words))
    for name, file in (summary.get("products") or {}).items():
        _print(f"{name:<12} {folder / str(file)}")


@app.command()
def validate(
    experiment: Annotated[Path | None, typer.Argument(help="TOML of an experiment; a small night by default.")] = None,
    out: Out = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    debug: Debug = False,
) -> None:
    """Simulate, reduce, compare with the truth; exit code 1 where a figure misses its target."""
    from getframes_xr.app.progress import progress_on
    from getframes_xr.workflows.validate import validate as check

    folder = out if out is not None else Path("processed") / "validation"
    _print(f"writing to {folder}")
    with _settings(memory, scheduler), progress_on(_out()) as shown:
        result = check(experiment, out=folder, on_event=shown)
    _judge(result)


def _judge(result: Validation) -> None:
    """Show a run and its figures against the truth; a figure beyond its limit ends the command with exit code 1."""
    import json

    from getframes_xr.app.report import FIGURES, write_report
    from getframes_xr.workflows.run_folder import write_whole
    from getframes_xr.workflows.validate import summary

    folder = result.run.folder
    write_whole(folder / FIGURES, json.dumps(summary(result), indent=1))
    _show_run(folder, result.run.summary)
    _print(f"report       {write_report(folder)}")
    _print(f"numbers      {folder / FIGURES}\n")
    _print(str(result))
    if not result.passed:
        raise typer.Exit(UNEXPECTED)


@app.command()
def plan(
    source: Annotated[Path, typer.Argument(help="A store, a folder of FITS files, or the TOML of an experiment.")],
    memory: Memory = None,
    scheduler: Scheduler = None,
    debug: Debug = False,
) -> None:
    """Say what the work would cost before it starts: chunks, tasks, bytes, forecast peak memory."""
    from getframes_xr.workflows.plan import plan as forecast

    with _settings(None, scheduler):
        _print(str(forecast(_lights_of(source), memory=memory)))


def _lights_of(source: Path) -> xr.Dataset:
    """The lights of a store, a folder or an experiment, lazily."""
    from getframes_xr.io.frames import is_store, open_frames
    from getframes_xr.io.session import open_session
    from getframes_xr.workflows.observe import load_experiment

    if source.suffix == ".toml":
        return load_experiment(source).observe()
    if is_store(source):
        return open_frames(source)
    session = open_session(source)
    name = "lights" if "lights" in session.children else next(n for n in session.children if n != "files")
    return session[name].to_dataset()


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run (it holds manifest.json).")], debug: Debug = False
) -> None:
    """Write the HTML report of a run anew from its manifest."""
    from getframes_xr.app.report import write_report

    _print(str(write_report(run_folder)))


if __name__ == "__main__":
    main()
