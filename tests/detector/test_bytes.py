"""The same frames on every CPU: digests of whole cameras, stored here, in a process that sees a plain CPU too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from tests.detector import print_camera_digests

ROOT = Path(__file__).parents[2]

# A change here changes simulated images: it belongs under "Numbers that changed" in the changelog.
DIGESTS = {
    "asi2600mc": "319a78c81ad0424e",
    "dwarf_3": "72a30f94ed718dc1",
    "generic_ccd": "019e18166fdf32a7",
    "generic_cmos": "8f6ebce6937f5245",
    "generic_emccd": "22a1da999c5ebd93",
    "generic_scmos": "faaac71260facf9a",
    "seestar_s50": "be380abf6bf6924d",
    "every stage": "ef351925ec83bc98",
}
PLAIN_CPU = {
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name]),
}


def test_cameras_give_the_stored_bytes() -> None:
    assert print_camera_digests.digests() == DIGESTS


def test_cameras_give_the_stored_bytes_on_a_plain_cpu() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | PLAIN_CPU
    script = Path(__file__).with_name("print_camera_digests.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == DIGESTS
