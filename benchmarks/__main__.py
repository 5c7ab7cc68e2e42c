"""``python -m benchmarks [name ...]``: compare results, then time ours and the peer in turn; one line a case."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import dask

from benchmarks.cases import Case, clip_case, expose_case, stack_case, warp_case
from benchmarks.registration import registration_case
from benchmarks.timing import timed


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    yield "expose", lambda: expose_case(2.0)
    yield "expose", lambda: expose_case(40.0)
    yield "expose", lambda: expose_case(2000.0)
    yield "clip", lambda: clip_case()
    yield "stack", lambda: stack_case(folder)
    yield "warp", lambda: warp_case(shift_only=False)
    yield "warp", lambda: warp_case(shift_only=True)
    yield "register", lambda: registration_case(folder)


def main(wanted: list[str]) -> None:
    rows = []
    print(f"{'case':58} {'ours':>9} {'peer':>9} {'ratio':>7} {'goal':>6}  ns/sample")
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        for group, make in cases(Path(folder)):
            if wanted and group not in wanted:
                continue
            case = make()
            case.check(case.ours(), case.peer())
            ours, peer = timed(case.ours, case.repeats), timed(case.peer, case.repeats)
            ratio = peer.cpu_s / ours.cpu_s
            verdict = "" if ratio >= case.goal else "  below the goal"
            print(
                f"{case.name:58} {ours.cpu_s:8.3f}s {peer.cpu_s:8.3f}s {ratio:6.1f}x {case.goal:5.0f}x "
                f"{ours.cpu_s / case.samples * 1e9:8.2f}{verdict}",
                flush=True,
            )
            rows.append({"case": case.name, "ours_cpu_s": ours.cpu_s, "peer_cpu_s": peer.cpu_s, "ratio": ratio})
    print(json.dumps(rows), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
