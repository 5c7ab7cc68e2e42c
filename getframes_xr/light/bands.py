"""Bands: filter curves, and how many photons a magnitude is.

Zero points come from integrals of the curves in ``curves/*.toml`` (each names its source), on a grid of 0.1 nm:

    AB:    Z = (3631 Jy / h) int T(l) dl / l                   photon s^-1 m^-2 at magnitude 0 above the atmosphere
    Vega:  Z = 10^(0.4 m_Vega) int F_Vega(l) T(l) l / (h c) dl

T is the share of photons that pass, 1 at its peak. A star's colour B - V stands for a black body (Ballesteros 2012,
EPL 97, 34008), which tells how its photons divide between bands.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from getframes_xr.core.errors import OptionError

Floats = NDArray[np.float64]

PLANCK_J_S = 6.62607015e-34
LIGHT_M_PER_S = 299792458.0
BOLTZMANN_J_PER_K = 1.380649e-23
AB_ZERO_W_PER_M2_HZ = 3631e-26
_STEP_NM = 0.1
_CURVES = Path(__file__).parent / "curves"
COLOUR_RANGE = (-0.4, 2.5)  # B - V


@dataclass(frozen=True, eq=False)
class Band:
    """A filter curve and its magnitude system.

    Parameters
    ----------
    name : as in ``Telescope.band``
    wavelength_nm, transmission : float64 (n,), straight lines between, 0 outside
    system : "vega" or "ab"
    vega_magnitude : Vega's magnitude in this band (Vega system)
    """

    name: str
    wavelength_nm: Floats
    transmission: Floats
    system: Literal["vega", "ab"]
    vega_magnitude: float = 0.0

    @cached_property
    def grid_nm(self) -> Floats:
        """Wavelengths of the integrals."""
        count = int(round((self.wavelength_nm[-1] - self.wavelength_nm[0]) / _STEP_NM)) + 1
        result: Floats = np.linspace(self.wavelength_nm[0], self.wavelength_nm[-1], count)
        return result

    def integral(self, per_nm: Floats) -> float:
        """Integral of transmission x a spectrum given on `grid_nm`."""
        transmission = np.interp(self.grid_nm, self.wavelength_nm, self.transmission)
        return float(np.trapezoid(transmission * per_nm, self.grid_nm))

    @property
    def pivot_nm(self) -> float:
        """sqrt(int T l dl / int T / l dl): the wavelength that relates f_nu and f_lambda."""
        return float(np.sqrt(self.integral(self.grid_nm) / self.integral(1.0 / self.grid_nm)))

    @cached_property
    def ab_zero_point(self) -> float:
        """Photons s^-1 m^-2 of AB magnitude 0."""
        return float(AB_ZERO_W_PER_M2_HZ / PLANCK_J_S * self.integral(1.0 / self.grid_nm))

    @cached_property
    def vega_photons(self) -> float:
        """Photons s^-1 m^-2 of Vega.

        Raises
        ------
        OptionError : the band reaches beyond the shipped spectrum of Vega
        """
        wavelength, flux = vega()
        if self.grid_nm[0] < wavelength[0] or self.grid_nm[-1] > wavelength[-1]:
            raise OptionError("band", self.name, f"Vega is known from {wavelength[0]:.0f} to {wavelength[-1]:.0f} nm")
        photons = np.interp(self.grid_nm, wavelength, flux) * self.grid_nm * 1e-9 / (PLANCK_J_S * LIGHT_M_PER_S)
        return self.integral(photons)

    @cached_property
    def zero_point(self) -> float:
        """Photons s^-1 m^-2 of magnitude 0 in the band's own system."""
        if self.system == "ab":
            return self.ab_zero_point
        return float(self.vega_photons * 10.0 ** (0.4 * self.vega_magnitude))

    @cached_property
    def ab_minus_vega(self) -> float:
        """Vega's AB magnitude: what to add to a magnitude relative to Vega itself."""
        return float(-2.5 * np.log10(self.vega_photons / self.ab_zero_point))

    def black_body(self, temperature_k: float) -> float:
        """Photons through the band, of a black body whose scale is common to all bands."""
        x = PLANCK_J_S * LIGHT_M_PER_S / (self.grid_nm * 1e-9 * BOLTZMANN_J_PER_K * temperature_k)
        return self.integral((self.grid_nm / 550.0) ** -4 / np.expm1(x))


@cache
def vega() -> tuple[Floats, Floats]:
    """Wavelength [nm] and flux [W m^-2 nm^-1] of Vega; see curves/vega.toml for what it is."""
    table = _read("vega.toml")
    flux = np.array(table["flux_w_per_m2_nm"])
    return table["start_nm"] + table["step_nm"] * np.arange(len(flux)), flux


@cache
def bands() -> dict[str, Band]:
    """All shipped bands by name."""
    found: dict[str, Band] = {}
    for path in sorted(_CURVES.glob("*.toml")):
        table = _read(path.name)
        for name, curve in table.items():
            if isinstance(curve, dict):
                found[name] = Band(
                    name, np.array(curve["wavelength_nm"], np.float64), np.array(curve["transmission"], np.float64),
                    table["system"], table.get("vega_magnitude", 0.0),
                )  # fmt: skip
    return found


def band(name: str) -> Band:
    """A shipped band.

    Raises
    ------
    OptionError : there is no such band
    """
    if name not in bands():
        raise OptionError("band", name, ", ".join(sorted(bands())))
    return bands()[name]


def temperature_of_colour(colour: ArrayLike) -> Floats:
    """Temperature [K] of a star of colour B - V (Ballesteros 2012)."""
    c = 0.92 * np.asarray(colour, np.float64)
    result: Floats = 4600.0 * (1.0 / (c + 1.7) + 1.0 / (c + 0.62))
    return result


@cache
def _colour_table(target: str, reference: str) -> tuple[Floats, Floats]:
    colours = np.linspace(*COLOUR_RANGE, 59)
    photons = [band(target).black_body(t) / band(reference).black_body(t) for t in temperature_of_colour(colours)]
    return colours, np.array(photons)


def photon_ratio(target: str, reference: str, colour: ArrayLike) -> Floats:
    """Photons in one band per photon in another, for stars of colour B - V (clipped to -0.4 .. 2.5)."""
    if target == reference:
        return np.ones(np.shape(colour))
    colours, ratio = _colour_table(target, reference)
    result: Floats = np.interp(np.clip(np.asarray(colour, np.float64), *COLOUR_RANGE), colours, ratio)
    return result


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_CURVES / name).read_text())
