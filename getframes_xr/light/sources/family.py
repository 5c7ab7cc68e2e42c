"""The family of sources: options that, shown an instrument, become light that can be added to any window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, SerializeAsAny

from getframes_xr.core.options import Family, Registry
from getframes_xr.core.window import Window
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.sight import Sight, View

Floats = NDArray[np.float64]
SOURCES = Registry("source")


class Light(ABC):
    """A source as one instrument sees it: made once per process, used by every window."""

    @abstractmethod
    def add(self, out: Floats, window: Window, view: View) -> None:
        """Add the photons of one exposure to a window.

        What a pixel gets must follow from its place and the frame alone: the same bytes whatever the window.

        Parameters
        ----------
        out : float64 (rows, columns) [photon], added to
        window : its ``y`` and ``x`` say where ``out`` lies
        view : the exposure
        """

    @abstractmethod
    def peak_bytes(self, window: Window, view: View) -> int:
        """Bytes that `add` needs beside ``out`` in an exposure like this, what the light keeps included."""


class Source(Family):
    """Parent of sources: options with a ``kind``."""

    registry: ClassVar[Registry] = SOURCES

    @abstractmethod
    def light(self, sight: Sight, seed: int | str) -> Light:
        """What the instrument sees of it.

        Raises
        ------
        DataError : the source needs something the scene does not have (a wcs)
        """

    def curves(self, sight: Sight) -> tuple[tuple[str, float, LightCurve], ...]:
        """Named sources with a light curve: name, photons per second (of the sum of the bands), curve."""
        return ()


AnySource = Annotated[SerializeAsAny[Source], BeforeValidator(SOURCES.build)]
