"""The light of a scene is the same, byte for byte, whatever the processor can do."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import numpy as np
from getframes_xr.core.digest import digest
from getframes_xr.light.psf import Moffat
from getframes_xr.light.sources import Galaxy, SatelliteTrails, Sky, StarField
from tests.light.small import frames, light
from tests.light.test_scene import NIGHT
sources = [StarField(n=300, magnitude=(6.0, 15.0), seed=2), Galaxy(y=30.0, x=33.3, magnitude=11, sersic_n=4.0,
           half_light_radius_arcsec=3.0), SatelliteTrails(per_frame=2.0), Sky(mag_per_arcsec2=20.0, gradient=(0.1, 0))]
print(digest(light(frames(sources, (90, 100), n=3, cfa="RGGB", psf=Moffat(fwhm_arcsec=2.2), **NIGHT))))
"""
NARROW = {
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}


def digest_under(environment: dict[str, str]) -> str:
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_an_old_processor_makes_the_same_light() -> None:
    assert digest_under(NARROW) == digest_under({})
