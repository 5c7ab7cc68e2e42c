"""Zero points against published values and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.errors import OptionError
from getframes_xr.light.bands import Band, band, bands, photon_ratio, temperature_of_colour, vega
from getframes_xr.light.telescope import Telescope

# Bessell, Castelli & Plez 1998 (A&A 333, 231), table A2: f_lambda of magnitude 0 in 1e-11 erg cm-2 s-1 A-1
BESSELL_1998 = {"U": 417.5, "B": 632.0, "V": 363.1, "R": 217.7, "I": 112.6}
# Blanton & Roweis 2007 (AJ 133, 734), table 1: AB - Vega
AB_MINUS_VEGA = {"U": 0.79, "B": -0.09, "V": 0.02, "R": 0.21, "I": 0.45}
# Bessell 1990 (PASP 102, 1181): effective wavelengths lie near these pivots [nm]
PIVOT_NM = {"U": 360, "B": 440, "V": 550, "R": 655, "I": 805}


@pytest.mark.parametrize("name", "UBVRI")
def test_vega_zero_points_agree_with_bessell_1998_within_4_percent(name: str) -> None:
    found = band(f"johnson_{name}")
    area = found.integral(np.ones_like(found.grid_nm))  # nm
    mean_photon_j = 6.62607015e-34 * 299792458.0 / (found.pivot_nm * 1e-9)
    flux = found.zero_point * mean_photon_j / area  # W m-2 nm-1
    assert flux * 1e13 == pytest.approx(BESSELL_1998[name], rel=0.045)


@pytest.mark.parametrize("name", "UBVRI")
def test_ab_minus_vega_agrees_with_blanton_and_roweis(name: str) -> None:
    tolerance = 0.05 if name == "U" else 0.02  # what curves/vega.toml claims
    assert band(f"johnson_{name}").ab_minus_vega == pytest.approx(AB_MINUS_VEGA[name], abs=tolerance)


@pytest.mark.parametrize(("name", "expected", "pivot"), [("g", -0.08, 470.2), ("r", 0.16, 617.6), ("i", 0.37, 749.0)])
def test_sdss_bands_agree_with_blanton_and_roweis_and_doi(name: str, expected: float, pivot: float) -> None:
    found = band(f"sdss_{name}")
    assert found.system == "ab" and found.zero_point == found.ab_zero_point
    assert found.ab_minus_vega == pytest.approx(expected, abs=0.02)
    assert found.pivot_nm == pytest.approx(pivot, abs=1.0)


@pytest.mark.parametrize("name", "UBVRI")
def test_pivot_wavelengths_are_those_of_the_bands(name: str) -> None:
    assert band(f"johnson_{name}").pivot_nm == pytest.approx(PIVOT_NM[name], abs=3)


def test_the_ab_zero_point_of_a_top_hat_is_a_logarithm() -> None:
    hat = Band("hat", np.array([400.0, 600.0]), np.ones(2), "ab")
    assert hat.zero_point == pytest.approx(3631e-26 / 6.62607015e-34 * np.log(1.5), rel=1e-6)
    assert hat.integral(hat.grid_nm) == pytest.approx(0.5 * (600**2 - 400**2), rel=1e-9)


def test_vega_at_5556_angstrom_is_its_monochromatic_flux() -> None:
    wavelength, flux = vega()
    assert np.interp(555.6, wavelength, flux) == pytest.approx(3.44e-11, rel=0.01)  # Hayes 1985; Megessier 1995: 3.46


def test_redder_stars_send_more_photons_into_redder_bands() -> None:
    ratio = photon_ratio("johnson_R", "johnson_B", np.array([0.0, 0.65, 1.5]))
    assert (np.diff(ratio) > 0).all()
    assert photon_ratio("johnson_V", "johnson_V", [0.3, 2.0]).tolist() == [1.0, 1.0]
    assert temperature_of_colour(0.65) == pytest.approx(5780, rel=0.02)  # the Sun


def test_a_star_of_colour_zero_is_nearly_vega_in_all_bands() -> None:
    """Colours are defined by A0 V stars: photons in B and R per photon in V are Vega's, as far as a black body is."""
    for name in "BR":
        expected = band(f"johnson_{name}").vega_photons / band("johnson_V").vega_photons
        assert photon_ratio(f"johnson_{name}", "johnson_V", 0.0) == pytest.approx(expected, rel=0.15)


def test_an_unknown_band_names_the_known() -> None:
    with pytest.raises(OptionError, match="johnson_V"):
        band("johnson_X")
    with pytest.raises(OptionError, match="Vega is known from 300"):
        _ = Band("far", np.array([1000.0, 2500.0]), np.ones(2), "vega").vega_photons
    assert {"red", "green", "blue", "johnson_U"} <= set(bands())


def test_the_telescope_turns_magnitudes_into_photons() -> None:
    one = Telescope(aperture_diameter_m=0.2, obstruction=0.5, throughput=0.5, plate_scale_arcsec_per_px=2.0)
    assert one.collecting_area_m2 == pytest.approx(np.pi * 0.01 * 0.75)
    assert one.photon_rate(5.0) == pytest.approx(band("johnson_V").zero_point * 0.01 * one.collecting_area_m2 * 0.5)
    focus = Telescope(aperture_diameter_m=0.1, focal_length_m=0.25, pixel_um=2.9)
    assert focus.scale_arcsec_per_px == pytest.approx(206.265 * 2.9 / 250.0, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"plate_scale_arcsec_per_px": 1.0, "focal_length_m": 1.0, "pixel_um": 5.0}, {"focal_length_m": 1.0},
     {"plate_scale_arcsec_per_px": 1.0, "pixel_um": 3.0}, {"plate_scale_arcsec_per_px": 1.0, "band": "V"},
     {"plate_scale_arcsec_per_px": 1.0, "obstruction": 1.0}],
)  # fmt: skip
def test_a_telescope_with_no_scale_or_two_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Telescope(aperture_diameter_m=0.1, **options)
