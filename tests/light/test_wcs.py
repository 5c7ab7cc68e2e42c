"""The gnomonic projection against astropy, and the cards of every exposure against where stars are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from getframes_xr.core.errors import DataError
from getframes_xr.light.pointing import FieldRotation, Pointing
from getframes_xr.light.psf import Gaussian
from getframes_xr.light.sources import Stars
from getframes_xr.light.wcs import Wcs
from tests.light.small import TELESCOPE, frames, light, moments

SKY = (np.array([150.02, 150.05, 149.99]), np.array([40.01, 39.995, 40.02]))


def astropy_wcs(cards: str) -> WCS:
    return WCS(fits.Header.fromstring(cards, sep="\n"))


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("rotation", [0.0, 33.0, -120.0])
def test_positions_agree_with_astropy(rotation: float, parity: int) -> None:
    pointing = Wcs(ra_deg=150.0, dec_deg=40.0, rotation_deg=rotation, parity=parity)
    y, x = pointing.pixels(*SKY, (100.0, 200.0), 2.5)
    expected_x, expected_y = astropy_wcs(pointing.cards((100.0, 200.0), 2.5)).all_world2pix(*SKY, 0)
    assert y == pytest.approx(expected_y, abs=2e-5) and x == pytest.approx(expected_x, abs=2e-5)  # grid of 2^-16 px


def test_north_is_up_and_east_is_left_at_rotation_zero() -> None:
    y, x = Wcs(ra_deg=10.0, dec_deg=0.0).pixels([10.0, 10.01], [0.01, 0.0], (0.0, 0.0), 1.0)
    assert (y[0], x[0]) == (pytest.approx(36.0, abs=1e-3), pytest.approx(0.0, abs=1e-4)) and x[1] < -35


def test_the_other_side_of_the_sky_is_refused() -> None:
    with pytest.raises(DataError, match="90 degrees"):
        Wcs(ra_deg=10.0, dec_deg=0.0).pixels([190.0], [0.0], (0.0, 0.0), 1.0)


def test_the_cards_of_each_exposure_say_where_its_stars_are() -> None:
    """D18: CRPIX follows dither and rotation."""
    star = Stars(ra_deg=[SKY[0][0]], dec_deg=[SKY[1][0]], magnitude=[8.0])
    turning = FieldRotation(rate_deg_per_s=0.02, start_deg=20.0, pivot_px=(30.0, 80.0))
    options = {
        "wcs": Wcs(ra_deg=150.0, dec_deg=40.0, rotation_deg=15.0),
        "telescope": TELESCOPE.replace(plate_scale_arcsec_per_px=4.0),
        "psf": Gaussian(fwhm_arcsec=10.0),
        "pointing": Pointing(jitter_arcsec=8.0, field_rotation=turning),
    }
    producer = frames([star], (121, 121), n=3, exposure_s=5.0, **options)
    assert producer.grid.wcs is None and len(producer.grid.column("wcs")) == 3
    for t, picture in enumerate(light(producer)):
        x, y = astropy_wcs(producer.grid.column("wcs")[t]).all_world2pix(SKY[0][0], SKY[1][0], 0)
        _, seen_y, seen_x, _, _ = moments(picture)
        assert (seen_y, seen_x) == (pytest.approx(float(y), abs=2e-3), pytest.approx(float(x), abs=2e-3))


def test_a_steady_scene_has_one_wcs_for_all_frames() -> None:
    star = Stars(ra_deg=[SKY[0][0]], dec_deg=[SKY[1][0]], magnitude=[8.0])
    producer = frames([star], n=2, wcs=Wcs(ra_deg=150.0, dec_deg=40.0))
    assert producer.grid.wcs is not None and "wcs" not in (producer.grid.columns or {})
