"""The same bytes on every CPU: digests of all laws, stored here, in processes that see different CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).parents[2]

# A change here changes every simulated image: it belongs under "Numbers that changed" in the changelog.
DIGESTS = {
    "words": "743db5aac8688844",
    "uniform": "aba33db2b5206769",
    "normal": "81123d9bb9b9e664",
    "exponential": "452c5ccd406b50f2",
    "poisson": "b445be1e0eaa36d0",
    "poisson float32": "d1776dadbcdfab7c",
    "gamma": "4cfda3dbb81c7eeb",
    "binomial": "bd2cb9f62f1cff90",
    "per frame": "a552f62af3b59074",
    "per column": "ec1f6cecd424257a",
    "per row": "c5d13321b65be061",
    "events": "d4db8e43233c31ea",
    "elementary": "1af770fec256f986",
    "log32": "d5378c8882ebc800",
}

SETTINGS = {
    "this CPU": {},
    "Numba for a generic CPU": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "libm without AVX2 and FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"},
    "NumPy without its dispatched features": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_law_gives_the_stored_bytes_whatever_the_cpu(setting):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | SETTINGS[setting]
    script = Path(__file__).with_name("print_draw_digests.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == DIGESTS
