"""Members that are wrong on purpose: each must fail the law it breaks, and its honest twin must keep all of them.

Producers have a file of their own. None of the members here stays in a registry.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from getframes_xr.core.digest import digest
from getframes_xr.core.draws import Draws, stream_word
from getframes_xr.core.options import Family
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.vocabulary import Flag
from getframes_xr.core.window import Window
from getframes_xr.detector.fixed_maps import fixed_map
from getframes_xr.engine.collapse import Collapsed, Lanes, Samples, WholeTimeRule
from getframes_xr.engine.producer import Producer
from getframes_xr.engine.stage import Place, Stage
from getframes_xr.io.formats import FORMATS
from getframes_xr.io.formats.family import FrameFormat
from getframes_xr.io.formats.ser import HEADER, Ser, SerFrames
from getframes_xr.light.psf import Mixture, Psf
from getframes_xr.light.psf.family import SIGMA_PER_FWHM
from getframes_xr.light.sight import Sight, View
from getframes_xr.light.sources.family import Light, Source
from tests.laws import kit, stages
from tests.laws.light_and_stacks import bytes_of_light, bytes_of_stack, light_of, scene_with, stack_with
from tests.laws.producers import exposures

CALLS: Iterator[int] = itertools.count(1)  # state that a call leaves to the next one
SHARED: dict[tuple[int, ...], Array] = {}  # buffers that all threads write into
Broken = Callable[[Any], None]


def shared_buffer(values: Array) -> Array:
    """A buffer of this shape, one for all threads; another thread is let in before it is read."""
    buffer = SHARED.setdefault(values.shape, np.empty_like(values))
    buffer[...] = values
    time.sleep(0.002)
    return buffer.copy()


def planted(base: type, name: str, **parts: Any) -> None:
    """A member that differs from the honest one in the parts given; it has its name in this module, for pickle."""
    hints = {"kind": Literal[name]}
    hints |= {part: ClassVar if hasattr(base, part) else type(v) for part, v in parts.items() if not callable(v)}
    body = {"__module__": __name__, "__annotations__": hints, "kind": name, "examples": vars(base)["examples"]}
    globals()[name] = type(name, (base,), body | parts)


with kit.registries_kept():
    # --- stages ----------------------------------------------------------------------------------------------------

    class HonestStage(Stage):
        """Adds a level that flickers from frame to frame."""

        kind: Literal["planted"] = "planted"
        level_e: float = 3.0
        flicker: float = 0.5
        after: ClassVar = "dark"
        reads: ClassVar = ("expected_electrons",)
        writes: ClassVar = ("expected_electrons",)
        stream: ClassVar = 9002

        def apply(self, patch: Patch, place: Place) -> Patch:
            patch["expected_electrons"] += np.float32(self.level_e) + np.float32(self.flicker) * self.numbers(place)
            return patch

        def numbers(self, place: Place) -> Array:
            return place.draws(self).uniform()

        @classmethod
        def examples(cls) -> tuple[HonestStage, ...]:
            return cls(), cls(level_e=0.0)

    def plus(more: Callable[[Stage, Patch, Place], Any]) -> Callable[..., Patch]:
        """``apply`` of the honest stage and something more."""

        def apply(self: HonestStage, patch: Patch, place: Place) -> Patch:
            patch = HonestStage.apply(self, patch, place)
            extra = more(self, patch, place)
            if extra is not None:
                patch["expected_electrons"] += extra
            return patch

        return apply

    def _in_window(self: Stage, patch: Patch, place: Place) -> Array:
        return np.arange(len(place.window.x), dtype=np.float32)

    def _by_position(self: Stage, patch: Patch, place: Place) -> Array:
        frames = place.window.frames
        return np.arange(frames.start, frames.stop, dtype=np.float32)[:, None, None]

    def _much_scratch(self: Stage, patch: Patch, place: Place) -> None:
        np.ones((30, *patch["expected_electrons"].shape))

    def _secret_map(self: Stage, patch: Patch, place: Place) -> Array:
        return fixed_map(place, self, (), lambda draws: draws.uniform()[0])

    def _map_under_a_short_key(self: Stage, place: Place) -> Array:
        return fixed_map(place, self, (), lambda draws: draws.uniform()[0] * np.float32(self.flicker))

    def _through_a_shared_buffer(self: Stage, patch: Patch, place: Place) -> None:
        patch["expected_electrons"][...] = shared_buffer(patch["expected_electrons"])

    def _first_slope(self: Any, patch: Patch, place: Place) -> float:
        return float(self.slopes[0])

    def _flags(self: Stage, patch: Patch, place: Place) -> None:
        patch["flags"] |= np.uint16(Flag.HOT)

    def _first_of_its_kind(self: Stage, place: Place) -> Array:
        word = stream_word(self.stream_number, 0)
        return Draws(place.key, place.frames, place.window.y, place.window.x, word).uniform()

    def _of_no_key(self: Stage, place: Place) -> Array:
        word = stream_word(self.stream_number, place.number)
        return Draws((0, 0), place.frames, place.window.y, place.window.x, word).uniform()

    planted(HonestStage, "AddsTheWindowsSize", apply=plus(lambda self, patch, place: len(place.window.y)))
    planted(HonestStage, "CountsFromTheWindowsCorner", apply=plus(_in_window))
    planted(HonestStage, "KeepsStateInStages", apply=plus(lambda self, patch, place: next(CALLS)))
    planted(HonestStage, "TakesMoreThanItSays", apply=plus(_much_scratch))
    planted(HonestStage, "SaysMoreThanItTakes", peak_bytes=lambda self, window, planes: 2**30)
    planted(HonestStage, "KeepsAMapInSecret", apply=plus(_secret_map))
    planted(HonestStage, "KeepsAMapUnderTooShortAKey", numbers=_map_under_a_short_key)
    planted(
        HonestStage, "ReadsHalfOfAnOption", slopes=(1.0, 2.0), apply=plus(lambda self, patch, place: self.slopes[0])
    )
    planted(HonestStage, "BoastsOfAMap", cached_bytes=lambda self, grid: 2**27)
    planted(HonestStage, "ForgetsAnOptionInItsToken", token=lambda self: digest(type(self).__name__, self.level_e))
    planted(HonestStage, "ForgetsAnOptionInItsWork", numbers=lambda self, place: np.float32(0), stream=None)
    planted(HonestStage, "LooksAtTheThreads", apply=plus(lambda self, patch, place: threading.active_count()))
    planted(HonestStage, "SharesABuffer", apply=plus(_through_a_shared_buffer))
    planted(HonestStage, "GoesByPosition", apply=plus(_by_position))
    planted(HonestStage, "DrawsAsTheFirstOfItsKind", numbers=_first_of_its_kind)
    planted(HonestStage, "DrawsWithoutItsKey", numbers=_of_no_key)
    planted(HonestStage, "LosesCharge", apply=lambda self, patch, place: _times(patch, np.float32(0.9999)))
    planted(HonestStage, "WritesWhatItDoesNotSay", apply=plus(_flags), reads=("expected_electrons", "flags"))

    # --- rejection rules -------------------------------------------------------------------------------------------

    class HonestRule(WholeTimeRule):
        """Averages the brightest of the samples: a share of them, at least ``fewest_kept``."""

        kind: Literal["planted"] = "planted"
        share: float = 0.5
        fewest_kept: int = 1

        def choose(self, lanes: Lanes) -> None:
            n = lanes.high - lanes.low
            kept = np.maximum((n * self.share).astype(np.int32), min(self.fewest_kept, int(n.max(initial=1))))
            lanes.low += np.maximum(n - kept, 0)
            lanes.about_medians()
            lanes.take_means()

        def collapse(self, samples: Samples) -> Collapsed:
            out = super().collapse(samples)
            extra = self.more(samples, out)
            if extra is not None:
                out.value[...] += extra
            return out

        def more(self, samples: Samples, out: Collapsed) -> Any:
            return None

        @classmethod
        def examples(cls) -> tuple[HonestRule, ...]:
            return cls(), cls(share=0.1, fewest_kept=4)

    def _rule_scratch(self: HonestRule, samples: Samples, out: Collapsed) -> None:
        np.ones((8, *samples.values.shape))

    def _rule_buffer(self: HonestRule, samples: Samples, out: Collapsed) -> None:
        out.value[...] = shared_buffer(out.value)

    planted(HonestRule, "AddsThePixelsItSees", more=lambda self, samples, out: samples.values.shape[1])
    planted(HonestRule, "KeepsStateInRules", more=lambda self, samples, out: next(CALLS))
    planted(HonestRule, "TakesMoreThanAStackSays", more=_rule_scratch)
    planted(HonestRule, "ForgetsAnOptionOfTheRule", token=lambda self: digest(type(self).__name__, self.share))
    planted(HonestRule, "IgnoresAnOptionOfTheRule", choose=lambda self, lanes: _halve(lanes))
    planted(HonestRule, "LooksAtTheThreadsInRules", more=lambda self, samples, out: threading.active_count())
    planted(HonestRule, "SharesABufferInRules", more=_rule_buffer)

    # --- point spread functions ------------------------------------------------------------------------------------

    class HonestPsf(Psf):
        """A core in a halo as wide as a number says; both of the FWHM asked for."""

        kind: Literal["planted"] = "planted"
        offset_fwhm: float = 0.0

        def mixture(self) -> Mixture:
            return self.gaussian(SIGMA_PER_FWHM)

        def gaussian(self, sigma: float, n: int = 1) -> Mixture:
            shares = np.full(n, 1.0 / n)
            return Mixture(shares, np.full(n, sigma), np.full(n, self.offset_fwhm), np.zeros(n))

        @classmethod
        def examples(cls) -> tuple[HonestPsf, ...]:
            return cls(fwhm_arcsec=3.0), cls(fwhm_arcsec=5.0, offset_fwhm=0.25)

    def _of_scratch(self: HonestPsf) -> Mixture:
        np.ones(2**20)
        return self.gaussian(SIGMA_PER_FWHM)

    planted(HonestPsf, "IsWiderThanItSays", mixture=lambda self: self.gaussian(1.1 * SIGMA_PER_FWHM))
    planted(
        HonestPsf, "WidensWithEveryCall", mixture=lambda self: self.gaussian(SIGMA_PER_FWHM * (1 + 1e-6 * next(CALLS)))
    )
    planted(HonestPsf, "TakesMuchToFindItself", mixture=_of_scratch)
    planted(HonestPsf, "HasCountlessGaussians", mixture=lambda self: self.gaussian(SIGMA_PER_FWHM, 5000))
    planted(HonestPsf, "ForgetsAnOptionOfThePsf", token=lambda self: digest(type(self).__name__, self.fwhm_arcsec))
    planted(HonestPsf, "IgnoresAnOptionOfThePsf", mixture=lambda self: HonestPsf(fwhm_arcsec=1.0).mixture())
    planted(
        HonestPsf,
        "LooksAtTheThreadsInPsfs",
        mixture=lambda self: self.gaussian(SIGMA_PER_FWHM * threading.active_count()),
    )

    # --- sources of light ------------------------------------------------------------------------------------------

    class HonestSource(Source):
        """The same photons per second on every pixel of the frame."""

        kind: Literal["planted"] = "planted"
        per_s: float = 2.0
        flash: float = 1.0

        def light(self, sight: Sight, seed: int | str) -> Light:
            return Lamp(self)

        def more(self, out: Array, window: Window, view: View) -> Any:
            return 0.0

        @classmethod
        def examples(cls) -> tuple[HonestSource, ...]:
            return cls(), cls(per_s=0.5)

    def _source_scratch(self: HonestSource, out: Array, window: Window, view: View) -> float:
        np.ones((30, *out.shape))
        return 0.0

    planted(HonestSource, "AddsTheWindowsSizeInSources", more=lambda self, out, window, view: len(window.x))
    planted(HonestSource, "KeepsStateInSources", more=lambda self, out, window, view: next(CALLS))
    planted(HonestSource, "TakesMoreThanItSaysInSources", more=_source_scratch)
    planted(HonestSource, "ForgetsAnOptionOfTheSource", token=lambda self: digest(type(self).__name__, self.per_s))
    planted(HonestSource, "LooksAtTheThreadsInSources", more=lambda self, out, window, view: threading.active_count())

    # --- file formats ----------------------------------------------------------------------------------------------

    class HonestFrames(SerFrames):
        """Frames of a SER file; the planted ones differ in what they give or say."""

    def file_format(name: str, **parts: Any) -> None:
        """A format whose frames differ from those of a SER file in the parts given."""
        frames = dataclasses.dataclass(frozen=True, eq=False)(
            type(f"{name}Frames", (HonestFrames,), {"__module__": __name__, "__annotations__": {}} | parts)
        )
        globals()[f"{name}Frames"] = frames

        def opened(cls: Any, path: str) -> Producer:
            known = Ser.frames(path)
            return frames(*(getattr(known, field.name) for field in dataclasses.fields(known)))

        def example(cls: Any, folder: Path) -> tuple[Path, Array]:
            path, values = Ser.example(folder)
            return path.rename(path.with_suffix(f".{name.lower()}")), values

        body = {"__module__": __name__, "kind": name, "endings": (f".{name.lower()}",)}
        globals()[name] = type(
            name, (FrameFormat,), body | {"frames": classmethod(opened), "example": classmethod(example)}
        )

    def changed(change: Callable[[Any, Patch, Window], Any]) -> Callable[..., Patch]:
        """``produce`` of an honest file and something more."""

        def produce(self: HonestFrames, window: Window, planes: Collection[str], **how: Any) -> Patch:
            patch = SerFrames.produce(self, window, planes, **how)
            extra = change(self, patch, window)
            if extra is not None:
                patch["adu"] += np.uint16(extra)
            return patch

        return produce

    HANDLES: dict[str, Any] = {}

    def _one_handle_for_all(self: HonestFrames, patch: Patch, window: Window) -> None:
        """Rows read by seek and read of one open file: a thread reads where another one has sought."""
        file = HANDLES.setdefault(self.path, None) or open(self.path, "rb")  # noqa: SIM115 (kept open: the fault)
        HANDLES[self.path] = file
        row, rows = 2 * len(self.grid.x), len(self.grid.y)
        for at, frame in enumerate(range(window.frames.start, window.frames.stop)):
            file.seek(HEADER.size + (frame * rows + window.y.start) * row)
            time.sleep(0.001)
            strip = file.read(len(window.y) * row)
            values = np.frombuffer(strip.ljust(len(window.y) * row, b"\0"), "<u2").reshape(len(window.y), -1)
            patch["adu"][at] = values[:, window.x.start : window.x.stop]

    def _whole_file(self: HonestFrames, patch: Patch, window: Window) -> None:
        Path(self.path).read_bytes() * 20

    file_format("AddsTheWindowsSizeInFiles", produce=changed(lambda self, patch, window: len(window.y)))
    file_format("KeepsStateInFiles", produce=changed(lambda self, patch, window: next(CALLS)))
    file_format("TakesMoreThanItSaysInFiles", produce=changed(_whole_file))
    file_format("SaysMoreThanItTakesInFiles", peak_bytes=lambda self, window, planes: 2**30)
    file_format("ForgetsTheTimeOfItsFile", token=lambda self: digest(self.path, self.size))
    file_format("ForgetsTheSizeOfItsFile", token=lambda self: digest(self.path, self.changed_ns))
    file_format("LooksAtTheThreadsInFiles", produce=changed(lambda self, patch, window: threading.active_count()))
    file_format("HasOneHandleForAllThreads", produce=changed(_one_handle_for_all))
    file_format("Honest")


@dataclasses.dataclass(frozen=True, eq=False)
class Lamp(Light):
    """What a planted source adds."""

    source: Any

    def add(self, out: Array, window: Window, view: View) -> None:
        out += self.source.per_s * view.exposure_s + self.source.flash + self.source.more(out, window, view)

    def peak_bytes(self, window: Window, view: View) -> int:
        return 1024


def _times(patch: Patch, factor: np.float32) -> Patch:
    patch["expected_electrons"] *= factor
    return patch


def _halve(lanes: Lanes) -> None:
    lanes.low += (lanes.high - lanes.low) // 2
    lanes.about_medians()
    lanes.take_means()


def named(name: str) -> Any:
    return globals()[name]


# --- the laws, each with a member as its only argument ----------------------------------------------------------------


def first(law: Callable[..., None], of: Callable[[Any], Producer], only: bool = False) -> Broken:
    """A law of what is made of the member's first example."""

    def broken(cls: Any) -> None:
        member = cls.examples()[0]
        made = of(member)
        law(made, member.writes) if only else law(made)

    return broken


def of_examples(law: Callable[..., None], *more: Any) -> Broken:
    return lambda cls: law(cls.examples(), *more)


def of_first(law: Callable[..., None]) -> Broken:
    return lambda cls: law(cls.examples()[0])


def large_light(member: Any) -> Producer:
    return scene_with(member).frames((256, 320), exposures(3), seed=9, cfa="RGGB")


def large_stack(member: Any) -> Producer:
    return stack_with(member, (24, 128, 160))


STAGE_LAWS: dict[str, Broken] = {
    "windows agree": first(kit.windows_agree, stages.chain, True),
    "asked again": first(kit.asked_again_agrees, stages.chain, True),
    "threads agree": first(kit.threads_agree, stages.chain, True),
    "bytes as forecast": of_first(stages.bytes_are_as_forecast),
    "options tell": of_examples(kit.every_option_tells, stages.chain),
    "options work": of_examples(stages.every_option_works),
    "order does not show": of_examples(stages.order_does_not_show),
    "frames by number": of_first(stages.frames_go_by_number),
    "planes as declared": of_first(stages.planes_are_as_declared),
    "draws of the key": of_examples(stages.draws_belong_to_the_key),
    "two share no draws": of_examples(stages.two_of_a_kind_share_no_draws),
}
RULE_LAWS: dict[str, Broken] = {
    "windows agree": first(kit.windows_agree, stack_with),
    "asked again": first(kit.asked_again_agrees, stack_with),
    "threads agree": first(kit.threads_agree, stack_with),
    "bytes as forecast": first(kit.bytes_are_as_forecast, large_stack),
    "options tell": of_examples(kit.every_option_tells, stack_with),
    "options work": of_examples(kit.every_option_works, bytes_of_stack),
}
LIGHT_LAWS: dict[str, Broken] = {
    "windows agree": first(kit.windows_agree, light_of),
    "asked again": first(kit.asked_again_agrees, light_of),
    "threads agree": first(kit.threads_agree, light_of),
    "bytes as forecast": first(kit.bytes_are_as_forecast, large_light),
    "options tell": of_examples(kit.every_option_tells, light_of),
    "options work": of_examples(kit.every_option_works, bytes_of_light),
}
PSF_LAWS = LIGHT_LAWS | {
    "profile as declared": of_first(kit.profile_is_as_declared),
    "profile of options": of_first(kit.profile_follows_from_the_options),
}

HONEST: dict[str, dict[str, Broken]] = {
    "HonestStage": STAGE_LAWS,
    "HonestRule": RULE_LAWS,
    "HonestPsf": PSF_LAWS,
    "HonestSource": LIGHT_LAWS,
}
PLANTED: list[tuple[str, str, Broken, str]] = [
    ("AddsTheWindowsSize", "windows agree", STAGE_LAWS["windows agree"], "has other bytes than the window alone"),
    ("CountsFromTheWindowsCorner", "windows agree", STAGE_LAWS["windows agree"], "has other bytes than the window"),
    ("KeepsStateInStages", "asked again", STAGE_LAWS["asked again"], "asked for again has other bytes"),
    ("TakesMoreThanItSays", "bytes as forecast", STAGE_LAWS["bytes as forecast"], "MiB, forecast"),
    ("SaysMoreThanItTakes", "bytes as forecast", STAGE_LAWS["bytes as forecast"], "MiB, forecast 10"),
    ("KeepsAMapInSecret", "bytes as forecast", STAGE_LAWS["bytes as forecast"], "bytes of fixed maps, says 0"),
    ("BoastsOfAMap", "bytes as forecast", STAGE_LAWS["bytes as forecast"], "keeps 0 bytes of fixed maps"),
    ("ForgetsAnOptionInItsToken", "options tell", STAGE_LAWS["options tell"], "flicker = .*: the digest stays"),
    ("ForgetsAnOptionInItsWork", "options work", STAGE_LAWS["options work"], "flicker can be anything"),
    ("ReadsHalfOfAnOption", "options work", STAGE_LAWS["options work"], r"slopes\[1\] can be anything"),
    ("KeepsAMapUnderTooShortAKey", "order does not show", STAGE_LAWS["order does not show"], "made before it"),
    ("LooksAtTheThreads", "threads agree", STAGE_LAWS["threads agree"], "has other bytes than alone"),
    ("SharesABuffer", "threads agree", STAGE_LAWS["threads agree"], "has other bytes than alone"),
    ("GoesByPosition", "frames by number", STAGE_LAWS["frames by number"], "follows the position of a frame"),
    ("DrawsAsTheFirstOfItsKind", "two share no draws", STAGE_LAWS["two share no draws"], "draw the same numbers"),
    ("DrawsWithoutItsKey", "draws of the key", STAGE_LAWS["draws of the key"], "does not depend on its key"),
    ("LosesCharge", "charge is conserved", of_first(stages.charge_is_conserved), "e- become"),
    (
        "WritesWhatItDoesNotSay",
        "planes as declared",
        STAGE_LAWS["planes as declared"],
        "flags is changed and not among",
    ),
    ("AddsThePixelsItSees", "windows agree", RULE_LAWS["windows agree"], "has other bytes than the window alone"),
    ("KeepsStateInRules", "asked again", RULE_LAWS["asked again"], "asked for again has other bytes"),
    ("TakesMoreThanAStackSays", "bytes as forecast", RULE_LAWS["bytes as forecast"], "MiB, forecast"),
    ("ForgetsAnOptionOfTheRule", "options tell", RULE_LAWS["options tell"], "fewest_kept = .*: the digest stays"),
    ("IgnoresAnOptionOfTheRule", "options work", RULE_LAWS["options work"], "can be anything"),
    ("LooksAtTheThreadsInRules", "threads agree", RULE_LAWS["threads agree"], "has other bytes than alone"),
    ("SharesABufferInRules", "threads agree", RULE_LAWS["threads agree"], "has other bytes than alone"),
    ("IsWiderThanItSays", "profile as declared", PSF_LAWS["profile as declared"], "the width is not the FWHM"),
    ("WidensWithEveryCall", "profile of options", PSF_LAWS["profile of options"], "asked again it is another"),
    ("TakesMuchToFindItself", "profile of options", PSF_LAWS["profile of options"], "to find its Gaussians"),
    ("HasCountlessGaussians", "profile of options", PSF_LAWS["profile of options"], "5000 Gaussians"),
    ("ForgetsAnOptionOfThePsf", "options tell", PSF_LAWS["options tell"], "offset_fwhm = .*: the digest stays"),
    ("IgnoresAnOptionOfThePsf", "options work", PSF_LAWS["options work"], "offset_fwhm can be anything"),
    ("LooksAtTheThreadsInPsfs", "profile of options", PSF_LAWS["profile of options"], "profile in other threads"),
    ("AddsTheWindowsSizeInSources", "windows agree", LIGHT_LAWS["windows agree"], "has other bytes than the window"),
    ("KeepsStateInSources", "asked again", LIGHT_LAWS["asked again"], "asked for again has other bytes"),
    ("TakesMoreThanItSaysInSources", "bytes as forecast", LIGHT_LAWS["bytes as forecast"], "MiB, forecast"),
    ("ForgetsAnOptionOfTheSource", "options tell", LIGHT_LAWS["options tell"], "flash = .*: the digest stays"),
    ("LooksAtTheThreadsInSources", "threads agree", LIGHT_LAWS["threads agree"], "has other bytes than alone"),
]


@pytest.mark.parametrize(
    ("name", "law", "broken", "words"), PLANTED, ids=lambda part: part if type(part) is str else ""
)
def test_a_planted_member_fails_the_law_it_breaks(name: str, law: str, broken: Broken, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        broken(named(name))


@pytest.mark.parametrize(("name", "law"), [(name, law) for name, laws in HONEST.items() for law in laws])
def test_the_honest_twin_keeps_the_law(name: str, law: str) -> None:
    HONEST[name][law](named(name))


FileLaw = Callable[[Any, Path, Array], None]


def of_frames(law: Callable[..., None], **more: Any) -> FileLaw:
    return lambda kind, path, values: law(kind.frames(str(path)), **more)


FILE_LAWS: dict[str, FileLaw] = {
    "gives its values": kit.file_gives_its_values,
    "windows agree": of_frames(kit.windows_agree),
    "asked again": of_frames(kit.asked_again_agrees),
    "threads agree": of_frames(kit.threads_agree),
    "bytes as forecast": of_frames(kit.bytes_are_as_forecast, slack=2**15),
    "a changed file is another": lambda kind, path, values: kit.file_that_changes_is_another(kind, path),
}
PLANTED_FILES = [
    ("AddsTheWindowsSizeInFiles", "windows agree", "has other bytes than the window alone"),
    ("AddsTheWindowsSizeInFiles", "gives its values", "Window"),
    ("KeepsStateInFiles", "asked again", "asked for again has other bytes"),
    ("TakesMoreThanItSaysInFiles", "bytes as forecast", "MiB, forecast"),
    ("SaysMoreThanItTakesInFiles", "bytes as forecast", "MiB, forecast 10"),
    ("ForgetsTheTimeOfItsFile", "a changed file is another", "another last byte: the token stays"),
    ("ForgetsTheSizeOfItsFile", "a changed file is another", "one byte more at the same time: the token stays"),
    ("LooksAtTheThreadsInFiles", "threads agree", "has other bytes than alone"),
    ("HasOneHandleForAllThreads", "threads agree", "has other bytes than alone"),
]


@pytest.mark.parametrize(("name", "law", "words"), PLANTED_FILES)
def test_a_planted_format_fails_the_law_it_breaks(name: str, law: str, words: str, tmp_path: Path) -> None:
    path, values = named(name).example(tmp_path)
    with pytest.raises(AssertionError, match=words):
        FILE_LAWS[law](named(name), path, values)


@pytest.mark.parametrize("law", FILE_LAWS)
def test_the_honest_format_keeps_the_law(law: str, tmp_path: Path) -> None:
    path, values = named("Honest").example(tmp_path)
    FILE_LAWS[law](named("Honest"), path, values)


def test_no_planted_member_stays_in_a_registry() -> None:
    for family in Family.__subclasses__():
        assert not [kind for kind, cls in family.registry.items() if cls.__module__ == __name__]
    assert not [kind for kind, cls in FORMATS.items() if cls.__module__ == __name__]
