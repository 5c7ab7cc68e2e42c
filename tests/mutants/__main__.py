"""Plant every fault of ``faults.toml`` in a copy of the tree, run the tests named for it, print who survives.

    python -m tests.mutants [--only WORD ...] [--most SURVIVORS]

The copy lies in ``.mutants/`` and stays, for its compiled kernels are worth a minute; only files that differ are copied
anew. A fault whose text no longer stands exactly once in its file is an error, and so are tests that fail without any
fault, that are not found, or that cannot even be collected with it: the list cannot rot in silence.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / ".mutants"
FAULTS = Path(__file__).with_name("faults.toml")
LIMIT_S = 120  # of the tests of one fault: one that makes them hang is noticed as well
MOST_SURVIVORS = 3
PASSED, FAILED = 0, 1  # what pytest returns


@dataclass(frozen=True)
class Fault:
    """One planted fault: in ``file`` the text ``old``, which stands there once, becomes ``new``."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


class Rotten(Exception):
    """The list does not fit the tree any more."""


def read_faults(path: Path = FAULTS) -> list[Fault]:
    """The list, each fault checked against the tree.

    Raises
    ------
    Rotten : a name twice, a text that does not stand exactly once, a test file that is not there
    """
    faults = [Fault(**(entry | {"tests": tuple(entry["tests"])})) for entry in tomllib.loads(path.read_text())["fault"]]
    wrong = []
    for fault in faults:
        count = (ROOT / fault.file).read_text().count(fault.old) if (ROOT / fault.file).is_file() else 0
        if count != 1:
            wrong.append(f"{fault.name}: its text stands {count} times in {fault.file}")
        if fault.old == fault.new or not fault.tests:
            wrong.append(f"{fault.name}: nothing changes, or no test is named")
        wrong += [
            f"{fault.name}: no file {test}" for test in fault.tests if not (ROOT / test.partition("::")[0]).is_file()
        ]
    names = [fault.name for fault in faults]
    wrong += [f"{name}: named twice" for name in sorted({name for name in names if names.count(name) > 1})]
    if wrong:
        raise Rotten("\n".join(wrong))
    return faults


def copy_tree() -> None:
    """Bring the copy up to date: the files git knows or would add, with their times (kernels stay compiled)."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    wanted = {name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()}
    for old in [path for path in COPY.rglob("*") if path.is_file() and ".kernels" not in path.parts]:
        if old.suffix in {".py", ".toml"} and old.relative_to(COPY).as_posix() not in wanted:
            old.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if target.is_file() and target.read_bytes() == source.read_bytes():
            os.utime(target, ns=(source.stat().st_mtime_ns, source.stat().st_mtime_ns))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        os.utime(target, ns=(source.stat().st_mtime_ns, source.stat().st_mtime_ns))


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The fault in the copy, and the copy as it was afterwards; times as well, by which compiled kernels are known."""
    path = COPY / fault.file
    text, moment = path.read_text(), path.stat().st_mtime_ns
    path.write_text(text.replace(fault.old, fault.new))
    os.utime(path, ns=(moment + 10**9, moment + 10**9))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(moment, moment))


def run(tests: list[str]) -> tuple[int | None, str]:
    """pytest's exit code in the copy (None: over the limit) and the line that tells most."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line", *tests]
    environment = os.environ | {
        "PYTHONPATH": str(COPY), "NUMBA_CACHE_DIR": str(COPY / ".kernels"), "HYPOTHESIS_PROFILE": "suite",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    limit = LIMIT_S * (1 if len(tests) < 20 else 10)
    try:
        done = subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None, f"longer than {limit} s"
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, (told or done.stdout.splitlines()[-1:] or [done.stderr[-200:]])[0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", nargs="*", default=[], help="only faults with one of these words in their names")
    parser.add_argument("--most", type=int, default=MOST_SURVIVORS, help="survivors that are allowed")
    options = parser.parse_args()
    begin = time.monotonic()
    faults = [f for f in read_faults() if not options.only or any(word in f.name for word in options.only)]
    copy_tree()
    code, words = run(sorted({test for fault in faults for test in fault.tests}))
    if code != PASSED:
        raise Rotten(f"without any fault the tests do not pass: {words}")
    print(f"{len(faults)} faults; without any the tests pass ({time.monotonic() - begin:.0f} s)", flush=True)
    survivors, broken = [], []
    for fault in faults:
        start = time.monotonic()
        with planted(fault):
            code, words = run(list(fault.tests))
        verdict = {PASSED: "SURVIVED", FAILED: "noticed", None: "noticed"}.get(code, "BROKEN")
        survivors += [fault.name] if verdict == "SURVIVED" else []
        broken += [f"{fault.name}: {words}"] if verdict == "BROKEN" else []
        by = words.removeprefix("FAILED ").split(" - ")[0] if verdict != "SURVIVED" else ""
        print(f"{verdict:9} {time.monotonic() - start:5.1f} s  {fault.name:60} {by}", flush=True)
    print(f"\n{len(faults)} faults, {len(survivors)} survived, {time.monotonic() - begin:.0f} s")
    for name in survivors:
        print(f"  survived: {name}")
    for line in broken:
        print(f"  broken, not noticed: {line}")
    return int(len(survivors) > options.most or bool(broken))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Rotten as error:
        sys.exit(str(error))
