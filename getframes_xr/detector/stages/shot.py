"""Shot noise: charge comes in whole electrons, counted by chance.

    q(y, x) ~ Poisson(mu(y, x)),    mean = variance = mu   [e-]

mu is the expectation of everything that gathers during the exposure (light, dark current, glow). The Poisson law holds
for any mean from 1e-6 to 1e15 (core/poisson).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from getframes_xr.core.patch import Patch
from getframes_xr.engine.stage import Place, Stage


class ShotNoise(Stage):
    """Electrons drawn from the Poisson law around the expected ones."""

    kind: Literal["shot"] = "shot"
    after: ClassVar = "glow"
    reads: ClassVar = ("expected_electrons",)
    writes: ClassVar = ("electrons",)
    stream: ClassVar = 1

    def apply(self, patch: Patch, place: Place) -> Patch:
        mean = patch["expected_electrons"]
        if mean.any():
            patch["electrons"] = place.draws(self).poisson(mean)
        else:  # a bias: Poisson of nothing is nothing
            patch["electrons"] = np.zeros(mean.shape, np.float32)
        return patch

    @classmethod
    def examples(cls) -> tuple[ShotNoise, ...]:
        return (cls(),)
