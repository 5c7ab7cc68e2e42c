"""WCS texts against astropy: the sky stays where it is on every new grid."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from getframes_xr.core.errors import DataError
from getframes_xr.core.wcs_text import astropy_wcs, cards_on, wcs_cards, wcs_text
from getframes_xr.light.wcs import Wcs


@pytest.mark.parametrize("matrix", ["CD", "CDELT", "PC"])
def test_the_sky_stays_where_it_is_on_a_grid_of_bins(matrix):
    cards = {"CTYPE1": "'RA---TAN'", "CTYPE2": "'DEC--TAN'", "CRPIX1": "100.5", "CRPIX2": "80.", "CRVAL1": "150.",
             "CRVAL2": "30.", "CUNIT1": "'deg'", "CUNIT2": "'deg'"}  # fmt: skip
    if matrix == "CD":
        cards |= {"CD1_1": "-0.0004", "CD1_2": "0.0001", "CD2_1": "0.0001", "CD2_2": "0.0004"}
    else:
        cards |= {"CDELT1": "-0.0004", "CDELT2": "0.0004"}
    if matrix == "PC":
        cards |= {"PC1_1": "0.9", "PC1_2": "-0.1", "PC2_1": "0.1", "PC2_2": "0.9"}
    text = "\n".join(f"{key:<8}= {value}" for key, value in cards.items())

    def sky(of, y, x):
        return WCS(fits.Header.fromstring(of, sep="\n")).pixel_to_world_values(x, y)

    for scale, offset in ((2, 0.5), (3, 1.0)):
        new = wcs_text(cards_on(text, (offset, offset), scale))
        for y, x in ((0.0, 0.0), (33.0, 17.5)):
            np.testing.assert_allclose(sky(new, y, x), sky(text, scale * y + offset, scale * x + offset), atol=1e-10)


def test_the_canonical_text_is_that_of_its_own_cards():
    loose = Wcs(ra_deg=192.7, dec_deg=41.1, rotation_deg=20.0).cards((80.0, 100.0), 1.3)
    text = wcs_text(wcs_cards(loose))
    assert wcs_text(wcs_cards(text)) == text and "WCSAXES" not in text
    there = [of.all_pix2world(31.0, 7.0, 0) for of in (WCS(fits.Header.fromstring(loose, sep="\n")), astropy_wcs(text))]
    np.testing.assert_array_equal(*there)


def test_a_card_of_nonsense_is_named():
    with pytest.raises(DataError, match="CRPIX1  = somewhere"):
        wcs_cards("CTYPE1  = 'RA---TAN'\nCRPIX1  = somewhere")
    assert wcs_cards("CRPIX1  = 3.5 / [px]\nOBJECT  = 'it''s'\n\nEND") == {"CRPIX1": 3.5, "OBJECT": "it's"}
