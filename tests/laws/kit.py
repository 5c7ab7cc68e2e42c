"""The laws as functions: each takes a member or what it makes, and raises AssertionError where a promise is broken.

The tests walk the registries and call them for every member; ``test_planted`` calls them for members that are wrong on
purpose and must be caught.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
import typing
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numba
import numpy as np
import tomli_w
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from getframes_xr.core.digest import digest
from getframes_xr.core.errors import GetframesError, OptionError
from getframes_xr.core.options import Family, Options, Registry, read_toml
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.window import Span, Window
from getframes_xr.engine.producer import Producer, Selected
from getframes_xr.io.formats import FORMATS, FrameFormat
from getframes_xr.light.column import Column
from getframes_xr.light.psf import Psf
from getframes_xr.light.psf.family import EDGE_FRACTION
from tests.strategies import pairs

MIB = 2**20
PYTHON_BYTES = 2**16  # objects of the interpreter beside the arrays that a forecast counts
SEARCH = (Phase.explicit, Phase.generate)  # a counterexample is found, not made smaller


# --- registries ----------------------------------------------------------------------------------------------------


@contextmanager
def registries_kept() -> Iterator[None]:
    """Whatever registers within this block (or decorated test) is forgotten behind it."""
    registries = [family.registry for family in Family.__subclasses__()]
    before, formats = [dict(registry._members) for registry in registries], dict(FORMATS)
    try:
        yield
    finally:
        for registry, members in zip(registries, before, strict=True):
            registry._members.clear()
            registry._members.update(members)
        FORMATS.clear()
        FORMATS.update(formats)


# --- what a producer makes -----------------------------------------------------------------------------------------


def whole(producer: Producer, planes: Collection[str] | None = None) -> Patch:
    return producer.produce(producer.grid.window, producer.planes if planes is None else planes)


def identical(one: Patch, two: Patch) -> bool:
    """Same planes, same bytes, same types."""
    return one.planes.keys() == two.planes.keys() and all(
        one[n].tobytes() == two[n].tobytes() and one[n].dtype == two[n].dtype and one[n].shape == two[n].shape
        for n in one
    )


def windows_agree(producer: Producer, planes: Collection[str] | None = None, tries: int = 12) -> None:
    """A window is the crop of any window around it, byte for byte."""
    names = producer.planes if planes is None else planes

    @given(data=st.data())
    @settings(max_examples=tries, phases=SEARCH, report_multiple_bugs=False)
    def search(data: st.DataObject) -> None:
        large, small = data.draw(pairs(producer.grid.window))
        part, around = producer.produce(small, names), producer.produce(large, names).crop(small)
        assert identical(part, around), f"the crop {small} of {large} has other bytes than the window alone"

    search()


def asked_again_agrees(producer: Producer, planes: Collection[str] | None = None) -> None:
    """What was asked before, of this producer or of a copy of it, does not show."""
    first = whole(producer, planes)
    kept = {name: values.copy() for name, values in first.planes.items()}
    for window in some_windows(producer.grid.window):
        producer.produce(window, first.planes)
    for asked in (producer, pickle.loads(pickle.dumps(producer)), producer):
        again = whole(asked, planes)
        for name, values in kept.items():
            assert again[name].tobytes() == values.tobytes(), f"{name} asked for again has other bytes"


def some_windows(outer: Window) -> list[Window]:
    """Windows that overlap: frame by frame the whole, and boxes of one size from all four corners."""
    single = [outer.with_frames(Span(at, at + 1)) for at in range(outer.frames.start, outer.frames.stop)]
    rows, columns = max(1, 2 * len(outer.y) // 3), max(1, 3 * len(outer.x) // 4)
    y = (Span(outer.y.start, outer.y.start + rows), Span(outer.y.stop - rows, outer.y.stop))
    x = (Span(outer.x.start, outer.x.start + columns), Span(outer.x.stop - columns, outer.x.stop))
    return [*single, *(Window(outer.frames, rows, columns) for rows in y for columns in x)]


def threads_agree(producer: Producer, planes: Collection[str] | None = None) -> None:
    """However many threads ask for windows at a time, in whatever order, each gets the bytes it gets alone."""
    names = list(producer.planes if planes is None else planes)
    windows = some_windows(producer.grid.window)
    alone = [producer.produce(window, names) for window in windows]
    alone = [Patch(p.window, {name: values.copy() for name, values in p.planes.items()}, p.timed) for p in alone]
    for threads in (2, 4):
        with ThreadPoolExecutor(threads) as pool:
            made = pool.map(lambda window: producer.produce(window, names), windows + windows[::-1])
        for window, one, other in zip(windows + windows[::-1], made, alone + alone[::-1], strict=True):
            assert identical(one, other), f"{window} made in one of {threads} threads has other bytes than alone"
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        for window, other in zip(windows[:1], alone, strict=False):
            assert identical(producer.produce(window, names), other), "numba's number of threads shows"
    finally:
        numba.set_num_threads(before)


def bytes_are_as_forecast(producer: Producer, planes: Collection[str] | None = None, slack: int = PYTHON_BYTES) -> None:
    """numpy tells tracemalloc of its buffers: real <= forecast <= 2 x real + 16 MiB."""
    names = tuple(producer.planes if planes is None else planes)
    window = producer.grid.window
    producer.produce(window, names)  # compiles kernels, fills bounded caches
    tracemalloc.start()
    producer.produce(window, names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    forecast = producer.peak_bytes(window, names)
    assert peak <= forecast + slack, f"took {peak / MIB:.2f} MiB, forecast {forecast / MIB:.2f} MiB"
    assert forecast <= 2 * peak + 16 * MIB, f"took {peak / MIB:.2f} MiB, forecast {forecast / MIB:.2f} MiB"


def frames_go_by_number(over: Callable[[Producer], Producer], parent: Producer, planes: Collection[str]) -> None:
    """What is made of a frame follows from its number: chosen in another order, every frame keeps its bytes."""
    order = np.random.default_rng(2).permutation(parent.grid.n_frames)[:-1]
    usual = whole(over(parent), planes)
    other = whole(over(Selected(parent, order, parent.grid.y, parent.grid.x)), planes)
    for name in planes:
        assert other[name].tobytes() == usual[name][order].tobytes(), f"{name} follows the position of a frame"


# --- options -------------------------------------------------------------------------------------------------------


def options_are_frozen(member: Any) -> None:
    """No option can be set, and none invented."""
    for name in type(member).model_fields:
        try:
            setattr(member, name, getattr(member, name))
        except ValidationError as error:
            assert "frozen" in str(error)
        else:
            raise AssertionError(f"{name} can be set")
    try:
        member.replace(no_such_option=1)
    except OptionError as error:
        assert "no_such_option" in str(error)
    else:
        raise AssertionError("an unknown option is taken")


def options_travel(member: Any, registry: Registry) -> None:
    """Equal, with an equal digest, behind pickle and TOML, built by its class and by its registry."""
    by_kind = registry.build(read_toml(tomli_w.dumps(member.to_dict())))
    for again in (pickle.loads(pickle.dumps(member)), type(member).from_toml(member.to_toml()), by_kind):
        assert type(again) is type(member) and again == member and hash(again) == hash(member)
        assert again.digest() == member.digest()
        for name in type(member).model_fields:
            assert _same(getattr(again, name), getattr(member, name)), f"{name} is lost on the way"


def _same(one: Any, two: Any) -> bool:
    """Equality that does not go by the digest of the member."""
    if isinstance(one, np.ndarray | Column):
        return bool(np.array_equal(np.asarray(one), np.asarray(two)))
    return bool(one == two)


def every_option_tells(examples: Collection[Any], make: Callable[[Any], Producer] | None = None) -> None:
    """Another value of any option is another member, another digest, and another token of what is made of it."""
    members = list(examples)
    tokens = [None if make is None else make(member).token() for member in members]
    for name in options_of(members[0]):
        known = 0
        for member, token in zip(members, tokens, strict=True):
            for other in replaced(member, name):
                shown = f"{name} = {getattr(other, name)!r}"
                assert other.digest() != member.digest() and other != member, f"{shown}: the digest stays"
                assert make is None or make(other).token() != token, f"{shown}: the token of what is made of it stays"
                known += 1
        assert known, f"no other value of {name} is known to the kit: let an example have one"


def every_option_works(
    examples: Collection[Any], result: Callable[[Any], bytes], idle: Collection[str] = (), results: int = 2
) -> None:
    """Another value of any option, or of any one number of it, changes what is made, for one example at least.

    ``results`` is how many must be found: with two, on and off would do.
    """
    kept = [(member, result(member)) for member in examples]
    for name in options_of(kept[0][0]):
        if name not in idle:
            for part in {part for member, _ in kept for part in _parts(getattr(member, name))}:
                works = any(
                    _vary(before, result, [o for o in replaced(member, name) if _only(part, member, o, name)], results)
                    for member, before in kept
                )
                shown = name if part is None else f"{name}[{part}]"
                assert works, f"{shown} can be anything: nothing that is made depends on it"


def _parts(value: Any) -> list[int | None]:
    return list(range(len(value))) if isinstance(value, tuple) and value else [None]


def _only(part: int | None, member: Any, other: Any, name: str) -> bool:
    """Whether two members differ in one part of an option alone (None: as a whole)."""
    one, two = getattr(member, name), getattr(other, name)
    if part is None:
        return True
    if not isinstance(one, tuple) or not isinstance(two, tuple) or len(one) != len(two):
        return False
    return [at for at, (a, b) in enumerate(zip(one, two, strict=True)) if not _same(a, b)] == [part]


def _vary(before: bytes, result: Callable[[Any], bytes], others: list[Any], results: int) -> bool:
    """Whether so many results are found among the values (as many as values where these are fewer)."""
    found = {before}
    for other in others:
        found.add(result(other))
        if len(found) == min(results, 1 + len(others)):
            return True
    return False


def with_other_options(examples: Collection[Any]) -> list[Any]:
    """The examples, each followed by copies with another value of one option (two of each: near ones)."""
    found = []
    for member in examples:
        others = (islice(replaced(member, name), 2) for name in options_of(member))
        found += [member, *(other for pair in others for other in pair)]
    return found


def order_does_not_show(cases: Collection[tuple[Any, Callable[[Any], bytes]]]) -> None:
    """What a process keeps of one member is not taken for another's: made backwards in another process, all are alike.

    Members and functions travel by pickle.
    """
    here = [digest(result(member)) for member, result in cases]
    told = subprocess.run(
        [sys.executable, "-c", BACKWARDS], input=pickle.dumps(list(cases)), capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr.decode()
    for (member, _), one, other in zip(cases, here, told.stdout.decode().split()[::-1], strict=True):
        assert one == other, f"{member!r} is another where others were made before it"


ROOT = Path(__file__).parents[2]
BACKWARDS = """
import pickle, sys
from getframes_xr.core.digest import digest
for member, result in reversed(pickle.load(sys.stdin.buffer)):
    print(digest(result(member)))
"""


def options_of(member: Options) -> list[str]:
    return [name for name in type(member).model_fields if name != "kind"]


def replaced(member: Any, name: str) -> Iterator[Any]:
    """Copies with another valid value of one option (those that its class refuses are left out)."""
    seen = set()
    fields = type(member).model_fields
    kin = [getattr(other, name) for other in type(member).examples()] if isinstance(member, Family) else []
    for value in [*_others(getattr(member, name), fields[name].annotation), *kin]:
        try:
            other = member.replace(**{name: value})
        except GetframesError:
            continue
        shown = pickle.dumps(getattr(other, name))
        if not _same(getattr(other, name), getattr(member, name)) and shown not in seen:
            seen.add(shown)
            yield other


def _others(value: Any, annotation: Any) -> Iterator[Any]:
    """Other values that might be allowed."""
    yield from (choice for choice in _choices(annotation) if choice != value)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, 2 * value + 3)
    elif isinstance(value, float):
        yield from (1.25 * value + 0.01, 0.75 * value - 0.01, 0.75 * value + 0.001, value * (1 + 2.0**-40), 1e-7, 5e-12)
    elif isinstance(value, str):
        yield value + "x"
    elif isinstance(value, Column):
        yield from (type(value)(1.1 * value.values + 0.1), type(value)(0.9 * value.values))
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            for other in _others(item, None):
                yield (*value[:at], other, *value[at + 1 :])
        yield from (value[:-1], value + value[-1:])
    elif isinstance(value, Options):
        for name in options_of(value):
            yield from replaced(value, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            for other in _others(item, None):
                yield value | {key: other}
    elif value is None:
        yield from (0.5, 3, 1.5, "a word", [3.0], [3.0, 4.0])
        for cls in _classes(annotation):
            if issubclass(cls, Family):
                yield from (example for kind in cls.registry.values() for example in kind.examples())


def _choices(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    else:
        for inner in typing.get_args(annotation):
            yield from _choices(inner)


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _classes(inner)


# --- file formats --------------------------------------------------------------------------------------------------


def file_gives_its_values(kind: type[FrameFormat], path: Path, values: Array) -> None:
    """The whole and every window are the values that were written, in their type."""
    producer = kind.frames(str(path))
    (name,) = producer.planes
    for window in (producer.grid.window, *some_windows(producer.grid.window)):
        box = tuple(slice(span.start, span.stop) for span in (window.frames, window.y, window.x))
        made = producer.produce(window, [name])[name]
        assert made.dtype == values.dtype and made.tobytes() == np.ascontiguousarray(values[box]).tobytes(), window


def file_that_changes_is_another(kind: type[FrameFormat], path: Path) -> None:
    """Another last byte, one byte more, a touch: each is another token; the same file has the same one."""
    before = kind.frames(str(path)).token()
    assert kind.frames(str(path)).token() == before
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert kind.frames(str(path)).token() != before, "another last byte: the token stays"
    path.write_bytes(content + b"\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert kind.frames(str(path)).token() != before, "one byte more at the same time: the token stays"
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert kind.frames(str(path)).token() != before, "touched: the token stays"
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert kind.frames(str(path)).token() == before, "the same file again has another token"


# --- point spread functions ----------------------------------------------------------------------------------------


def profile_is_as_declared(psf: Psf) -> None:
    """All of the light, half of the peak at half of the FWHM, and stamps that grow with the star and lose little."""
    mixture = psf.mixture()
    assert abs(mixture.weight.sum() - 1) < 1e-6
    assert abs(mixture.brightness(0.5) / mixture.brightness(0.0) - 0.5) < 3e-4, "the width is not the FWHM"
    radii, brightest = mixture.reach
    assert (np.diff(radii) > 0).all() and (np.diff(brightest) >= 0).all() and brightest[-1] == np.inf
    assert mixture.outside(radii[0]) <= EDGE_FRACTION, "light outside of the smallest stamp"


def profile_follows_from_the_options(psf: Psf) -> None:
    """The Gaussians are those of the options whoever asks, how often, in how many threads; few and cheap to find."""
    kept = _gaussians(psf)
    tracemalloc.start()
    again = _gaussians(psf)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert again == kept and _gaussians(pickle.loads(pickle.dumps(psf))) == kept, "asked again it is another profile"
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: _gaussians(psf), range(8))) == {kept}, "another profile in other threads"
    assert peak < MIB, f"takes {peak / MIB:.1f} MiB to find its Gaussians: no forecast knows of them"
    n = len(psf.mixture().weight)
    assert n <= 1000, f"{n} Gaussians: every star costs so many"


def _gaussians(psf: Psf) -> bytes:
    mixture = psf.mixture()
    return b"".join(part.tobytes() for part in (mixture.weight, mixture.sigma, mixture.dy, mixture.dx))
