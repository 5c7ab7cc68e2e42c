"""Point spread functions against numerical integrals, closed forms and published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import ndtr

from getframes_xr.core.errors import OptionError
from getframes_xr.light.points import phi, phi_table
from getframes_xr.light.psf import PSFS, Gaussian, Mixture, Moffat
from getframes_xr.light.psf.family import EDGE_FRACTION
from getframes_xr.light.sources import Stars
from tests.light.small import frames, light, photons

CASES = [(kind, n) for kind in PSFS for n in range(len(PSFS[kind].examples()))]


def moffat_profile(r2: float, fwhm: float, beta: float) -> float:
    a2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    return (beta - 1) / (np.pi * a2) * (1 + r2 / a2) ** -beta


def moffat_pixel(y: float, x: float, fwhm: float, beta: float) -> float:
    return dblquad(
        lambda u, v: moffat_profile(u * u + v * v, fwhm, beta), y - 0.5, y + 0.5, x - 0.5, x + 0.5, epsabs=1e-10
    )[0]


def star(psf: object, y: float = 32.0, x: float = 32.0, shape: tuple[int, int] = (65, 65)) -> np.ndarray:
    """One star's share of light in each pixel."""
    magnitude = 2.0  # bright enough that its stamp covers the frame
    return light(frames([Stars(y=y, x=x, magnitude=magnitude)], shape, psf=psf))[0] / photons(magnitude)


def test_the_normal_distribution_table_is_right_to_1e_11() -> None:
    z = np.linspace(-6.2, 6.2, 5001)
    value = np.array([phi(float(item), *phi_table()) for item in z])
    assert np.abs(value - ndtr(z)).max() < 1e-11


@pytest.mark.parametrize(("fwhm", "peak"), [(0.8, 0.559), (1.0, 0.431), (1.5, 0.238), (2.0, 0.146)])
def test_an_undersampled_moffat_has_the_peak_of_its_pixel_integral(fwhm: float, peak: float) -> None:
    share = star(Moffat(fwhm_arcsec=fwhm, beta=3.0))
    assert abs(share[32, 32] - peak) < 0.0006  # three published digits (spec/simulate.md D9)
    assert share[32, 32] == pytest.approx(moffat_pixel(0, 0, fwhm, 3.0), rel=3e-4)


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.765])
@pytest.mark.parametrize("fwhm", [1.0, 3.0])
def test_every_pixel_of_a_moffat_is_its_integral(fwhm: float, beta: float) -> None:
    share = star(Moffat(fwhm_arcsec=fwhm, beta=beta), 32.3, 31.8)
    for row, column in [(32, 32), (33, 31), (30, 36), (32, 45), (50, 20), (5, 5)]:
        expected = moffat_pixel(row - 32.3, column - 31.8, fwhm, beta)
        assert share[row, column] == pytest.approx(expected, rel=5e-4, abs=2e-9)  # mixture's ripple is 1e-4


def test_an_off_centre_star_has_the_centroid_of_its_pixel_integrals() -> None:
    share = star(Moffat(fwhm_arcsec=0.8, beta=3.0), 20.0, 20.25, (41, 41))
    stamp = share[16:25, 16:25].astype(float)
    expected = np.array([[moffat_pixel(r - 20.0, c - 20.25, 0.8, 3.0) for c in range(16, 25)] for r in range(16, 25)])
    columns = np.arange(16, 25)
    centroid = (stamp.sum(axis=0) * columns).sum() / stamp.sum()
    assert centroid == pytest.approx((expected.sum(axis=0) * columns).sum() / expected.sum(), abs=2e-4)


@pytest.mark.parametrize("beta", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("radius", [0.5, 1.0, 5.0, 40.0])
def test_wings_of_a_moffat_are_not_put_back_into_the_core(beta: float, radius: float) -> None:
    mixture = Moffat(fwhm_arcsec=1.0, beta=beta).mixture()
    a2 = 0.25 / (2 ** (1 / beta) - 1)
    assert mixture.outside(radius) == pytest.approx((1 + radius**2 / a2) ** (1 - beta), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("beta", [1.5, 2.5, 3.0, 4.765, 8.0])
def test_a_moffat_mixture_follows_the_profile_over_eight_decades(beta: float) -> None:
    mixture = Moffat(fwhm_arcsec=1.0, beta=beta).mixture()
    r = np.geomspace(0.01, 200.0, 60)
    exact = np.array([moffat_profile(item**2, 1.0, beta) for item in r])
    seen = exact > 1e-8 * exact[0]
    assert np.abs(mixture.brightness(r) / exact - 1)[seen].max() < 1e-3


def test_a_gaussian_is_the_product_of_error_functions() -> None:
    sigma = 1.0 / (2 * np.sqrt(2 * np.log(2)))
    share = star(Gaussian(fwhm_arcsec=1.0), 32.25, 31.625)

    def side(centre: float) -> np.ndarray:
        edges = np.arange(66) - 0.5
        return np.diff(ndtr((edges - centre) / sigma))

    assert np.abs(share - side(32.25)[:, None] * side(31.625)[None, :]).max() < 1e-7  # float32 of the result


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_a_psf_conserves_flux_and_keeps_its_width(kind: str, n: int) -> None:
    psf = PSFS[kind].examples()[n]
    mixture = psf.mixture()
    assert mixture.weight.sum() == pytest.approx(1.0, abs=1e-6)
    half = mixture.brightness(0.5) / mixture.brightness(0.0)
    assert half == pytest.approx(0.5, abs=3e-4)  # half of the peak at half of the FWHM
    radii, brightest = mixture.reach
    assert (np.diff(radii) > 0).all() and (np.diff(brightest) >= 0).all() and brightest[-1] == np.inf
    assert mixture.outside(radii[0]) <= EDGE_FRACTION


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_a_psf_survives_its_toml_and_is_frozen(kind: str, n: int) -> None:
    psf = PSFS[kind].examples()[n]
    assert PSFS.build(psf.to_dict()) == psf
    with pytest.raises((ValueError, TypeError)):
        psf.fwhm_arcsec = 2.0


@pytest.mark.parametrize("fwhm", [1.0, 2.5, 6.0])
def test_the_light_of_a_star_on_the_frame_is_all_there(fwhm: float) -> None:
    share = star(Gaussian(fwhm_arcsec=fwhm), 32.2, 31.1)
    assert share.sum(dtype=float) == pytest.approx(1.0, abs=2e-6)
    wide = star(Moffat(fwhm_arcsec=fwhm, beta=3.0), 250.3, 250.7, (501, 501))
    a2 = (0.5 * fwhm) ** 2 / (2 ** (1 / 3.0) - 1)
    assert wide.sum(dtype=float) == pytest.approx(1.0 - (1 + 250**2 / a2) ** -2, abs=2e-4)


def test_a_faint_star_loses_at_most_a_thousandth_of_its_light() -> None:
    for psf in (Gaussian(fwhm_arcsec=2.5), Moffat(fwhm_arcsec=2.5, beta=2.5), Moffat(fwhm_arcsec=2.5, beta=4.0)):
        producer = frames([Stars(y=100.4, x=99.8, magnitude=17.0)], (201, 201), psf=psf)
        assert light(producer).sum(dtype=float) / photons(17.0) > 1 - 1.05 * EDGE_FRACTION


def test_a_mixture_refuses_weights_that_do_not_sum_to_one() -> None:
    with pytest.raises(OptionError, match="sum to 1"):
        Mixture(np.array([0.5]), np.ones(1), np.zeros(1), np.zeros(1))
    with pytest.raises(OptionError, match="beta"):
        Moffat(fwhm_arcsec=1.0, beta=1.0)
    with pytest.raises(OptionError, match="fwhm_arcsec"):
        Gaussian(fwhm_arcsec=0.0)
