"""The words of the house: dims, planes, units, flags, per-frame columns and bands; each named once, here.

``y`` and ``x`` are absolute integer pixel indices, centres at integers, origin 0; pairs are always ``(y, x)``.
Units are astropy's strings. Flags are one uint16 plane; a pixel is bad when ``(flags & BAD) != 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Final

import numpy as np

TIME, BAND, Y, X = "time", "band", "y", "x"
COLOUR_BANDS: Final = ("red", "green", "blue")


class Flag(IntFlag):
    """Why a pixel is special (uint16); ``BAD`` holds those that no sum may use."""

    NO_DATA = 1
    SATURATED = 2
    COSMIC = 4
    HOT = 8
    DEAD = 16
    BAD_COLUMN = 32
    TRAIL = 64
    EDGE = 128
    INTERPOLATED = 256
    REJECTED = 512
    BLOOMED = 1024
    NONLINEAR = 2048
    PERSISTENCE = 4096
    LOW_RESPONSE = 8192


class FileStatus(StrEnum):
    """What becomes of a file of a session; of frames that are measured, ``core.verdict.Reason`` says it."""

    USED = "used"
    DUPLICATE = "duplicate"  # the same exposure lies there twice
    FLAGGED = "flagged"  # the device itself marked it as failed
    PRODUCT = "product"  # a stack or a master, no raw frame
    FOREIGN = "foreign"  # not a file of frames
    UNUSABLE = "unusable"  # truncated, damaged, no image

    @property
    def set_aside(self) -> bool:
        """Holds a frame, or should, and is not used."""
        return self not in (FileStatus.USED, FileStatus.FOREIGN)


BAD: Final = int(
    Flag.NO_DATA | Flag.SATURATED | Flag.COSMIC | Flag.HOT | Flag.DEAD | Flag.BAD_COLUMN | Flag.TRAIL
    | Flag.REJECTED | Flag.BLOOMED
)  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """What one variable is: dtype and units; its dims are the grid's."""

    dtype: np.dtype[np.generic]
    units: str
    description: str = ""

    def token(self) -> str:
        return f"{self.dtype.str} {self.units}"


def _plane(dtype: type, units: str, description: str) -> Plane:
    return Plane(np.dtype(dtype), units, description)


PLANES: Final = {
    "photons": _plane(np.float32, "photon", "photons that reach a pixel during the exposure"),
    "expected_electrons": _plane(np.float32, "electron", "mean charge before shot noise"),
    "electrons": _plane(np.float32, "electron", "charge after shot noise"),
    "truth_electrons": _plane(np.float32, "electron", "photons x quantum efficiency; no fixed pattern, dark, noise"),
    "adu": _plane(np.uint16, "adu", "what the file holds"),
    "image": _plane(np.float32, "adu", "calibrated or reduced signal"),
    "noise": _plane(np.float32, "adu", "1 sigma of the image"),
    "flags": _plane(np.uint16, "", "why a pixel is special, bits of core.vocabulary.Flag"),
    "count": _plane(np.uint16, "", "samples kept after rejection"),
    "coverage": _plane(np.uint16, "", "frames whose footprint holds the pixel with unflagged input"),
    "weight": _plane(np.float32, "", "sum of the weights of the kept samples"),
}

STACK_PLANES: Final = ("image", "noise", "count", "coverage", "weight", "flags")  # what a stack may hold
SATURATED_SHARE: Final = 0.1  # of the samples of a stacked pixel, by weight; above it the pixel is flagged

# What is left out wherever an image is made (stack, master, warp, debayer, bin, splat and its first image, lines). A
# saturated pixel is kept and flagged: it holds light, the core of a star, and without it there would be a hole. A
# bloomed pixel goes: its charge spilled over from elsewhere (the core that spilled is saturated, not bloomed).
UNUSABLE: Final = BAD & ~int(Flag.SATURATED)
# A star with such a pixel is called saturated; what measures stars leaves the pixel in and does not trust the star.
OVERFULL: Final = int(Flag.SATURATED | Flag.BLOOMED)

# Per-frame columns a Grid may carry (read-only vectors along time), with their units.
COLUMNS: Final = {
    "frame": "",
    "start": "",
    "exposure_s": "s",
    "gain_e_per_adu": "electron/adu",
    "read_noise_e": "electron",
    "bias_adu": "adu",
    "saturation_adu": "adu",
    "temperature_c": "deg_C",
    "airmass": "",
    "filter": "",
    "sky_level": "adu",
    "zero_point_mag": "mag",
    "file": "",
    "group": "",
    "pointing_dy_px": "pixel",
    "pointing_dx_px": "pixel",
    "rotation_deg": "deg",
    "transparency": "",
    "seeing_fwhm_arcsec": "arcsec",
}


def plane_by_dtype(dtype: np.dtype[np.generic]) -> str:
    """The plane that pixels without a name are: integers are ``adu``, all else is ``image``."""
    return "adu" if dtype.kind in "iu" else "image"
