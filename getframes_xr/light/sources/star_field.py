"""A random field of stars: ``n`` on the frame, as dense around it, counts growing with magnitude.

The number of stars brighter than m grows like 10^(slope m); positions are uniform. Around the frame lies a margin of
half its longer side with the same density, so that drift, dither and field rotation bring in new stars, and light from
outside reaches the frame. Star k follows from the seed and k alone; the scene's own seed plays no part.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from getframes_xr.core.draws import Draws, key_of, stream_word
from getframes_xr.core.errors import OptionError
from getframes_xr.light.rounding import rounded_position
from getframes_xr.light.sight import Sight
from getframes_xr.light.sources.catalogue import CatalogueLight
from getframes_xr.light.sources.family import Source

Floats = NDArray[np.float64]


class StarField(Source):
    """``n`` stars on the frame between two magnitudes, and as many per area in a margin around it."""

    kind: Literal["star_field"] = "star_field"
    n: Annotated[int, Field(ge=0, le=10_000_000)]
    magnitude: tuple[float, float]
    seed: int | str = 0
    slope_per_mag: Annotated[float, Field(ge=0, le=2)] = 0.35
    colour: tuple[float, float] = (0.65, 0.35)  # B - V: mean and spread
    margin_fraction: Annotated[float, Field(ge=0, le=4)] = 0.5  # of the frame's longer side

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (np.isfinite(self.magnitude).all() and self.magnitude[0] <= self.magnitude[1]):
            raise OptionError(
                "StarField.magnitude", self.magnitude, "(bright, faint): two finite numbers, the smaller first"
            )
        return self

    def table(self, sight: Sight) -> tuple[Floats, Floats, Floats, Floats]:
        """y, x [px], magnitude and colour of all stars, those on the frame first."""
        height, width = len(sight.y), len(sight.x)
        margin = self.margin_fraction * max(height, width)
        outer = (height + 2 * margin) * (width + 2 * margin)
        more = int(round(self.n * (outer / (height * width) - 1.0)))
        numbers = self._uniforms(self.n + more)
        y = sight.y.start - 0.5 + numbers[:, 0] * height
        x = sight.x.start - 0.5 + numbers[:, 1] * width
        around = numbers[self.n :]
        # four strips around the frame, chosen by their areas: above and below over the whole width, left and right
        across, beside = margin * (width + 2 * margin), margin * height
        strip = around[:, 0] * (2 * across + 2 * beside)
        which = np.searchsorted([across, 2 * across, 2 * across + beside], strip, side="right")
        start = np.array([0.0, across, 2 * across, 2 * across + beside])[which]
        along = np.clip((strip - start) / np.where(which < 2, max(across, 1e-9), max(beside, 1e-9)), 0.0, 1.0)
        low_y, low_x = sight.y.start - 0.5, sight.x.start - 0.5
        wide = which < 2
        y[self.n :] = np.where(
            wide, np.where(which == 0, low_y - margin, low_y + height) + along * margin, low_y + along * height
        )
        x[self.n :] = np.where(
            wide, low_x - margin + around[:, 1] * (width + 2 * margin),
            np.where(which == 2, low_x - margin, low_x + width) + around[:, 1] * margin,
        )  # fmt: skip
        bright, faint = self.magnitude
        share = numbers[:, 2]
        if self.slope_per_mag > 0 and faint > bright:
            growth = 10.0 ** (self.slope_per_mag * (faint - bright)) - 1.0
            magnitude = bright + np.log10(1.0 + share * growth) / self.slope_per_mag
        else:
            magnitude = bright + share * (faint - bright)
        colour = self.colour[0] + self.colour[1] * np.sqrt(12.0) * (numbers[:, 3] - 0.5)
        return rounded_position(y), rounded_position(x), magnitude, colour

    def _uniforms(self, n: int) -> Floats:
        key = key_of(self.seed, "light", "star_field")
        stars = range(n)
        draws = Draws(key, [0], stars, range(4), stream_word(1))
        numbers: Floats = (draws.words()[0] + 0.5) * 2.0**-32
        return numbers

    def light(self, sight: Sight, seed: int | str) -> CatalogueLight:
        y, x, magnitude, colour = self.table(sight)
        return CatalogueLight(sight, y, x, sight.rates(magnitude, colour), np.empty((0, 2)))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """A few stars."""
        return (cls(n=40, magnitude=(11.5, 15.0), seed=4),)
