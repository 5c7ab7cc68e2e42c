"""Pictures: neutral sky, colours that do not depend on brightness, no trace of chunks, files others can read."""

import numpy as np
import pytest
import tifffile
import xarray as xr
from PIL import Image

from getframes_xr.core.errors import DataError, OptionError, StoreError
from getframes_xr.io.pictures import picture, save_png, save_tiff, stretch_of

SKY = np.array([900.0, 1400.0, 700.0])
SLOPE = np.array([0.3, -0.2, 0.1])


def scene(seed=1, shape=(240, 320), noise=10.0):
    """A sloped, coloured sky with 80 stars whose mean colour is white: (band, y, x) and the stars' places."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    light = np.zeros((3, *shape))
    places = rng.uniform(12, np.array(shape) - 12, (80, 2))
    for number, (row, column) in enumerate(places):
        colour = np.array([1.0, 1.0, 1.0]) + (number % 3 - 1) * np.array([0.3, 0.0, -0.3])
        flux = 2000.0 * 1.09**number
        light += flux * colour[:, None, None] * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8.0) / 25.0
    light += SKY[:, None, None] + SLOPE[:, None, None] * (x + y)
    light += rng.normal(0, noise, light.shape) * np.array([1.0, 0.6, 1.8])[:, None, None]  # bands of unlike noise
    return light.astype(np.float32), places


def dataset(image, dims=("band", "y", "x"), **coords):
    if "band" in dims:
        coords["band"] = np.array(["red", "green", "blue"], object)
    return xr.Dataset({"image": (dims, image)}, coords)


def test_the_sky_is_dark_grey_and_neutral_everywhere():
    image, places = scene()
    shown = picture(dataset(image), sky_grey=0.1).astype(float) / 255
    y, x = np.indices(shown.shape[:2])
    far = np.min([(y - r) ** 2 + (x - c) ** 2 for r, c in places], axis=0) > 15**2
    for part in (np.s_[:80], np.s_[160:]):
        sky = shown[part][far[part]].mean(axis=0)
        assert np.ptp(sky) < 0.01  # three grey values of 8 bits
        assert abs(sky.mean() - 0.1) < 0.02


def test_hue_does_not_depend_on_brightness_below_white():
    stretch = stretch_of(scene()[0].astype(float))
    colour = np.array([1.3, 1.0, 0.7]) / stretch.gains
    levels = np.array([400.0, 800.0, 1600.0]) * stretch.sigma / 10
    sky = stretch.planes[:, 0]
    image = sky[:, None, None] + colour[:, None, None] * levels[None, None, :]
    plane = stretch(image, np.zeros(1), np.zeros(3))[0]
    below = plane.max(axis=1) < 1
    assert below.sum() >= 2
    ratios = plane[below, 0] / plane[below, 2]
    assert ratios.max() / ratios.min() < 1.08


def test_brighter_never_looks_darker():
    stretch = stretch_of(scene()[0].astype(float))
    for colour in ([1.0, 1.0, 1.0], [2.0, 0.8, 0.2], [0.1, 0.5, 2.4]):
        levels = np.geomspace(5 * stretch.sigma, 50 * stretch.white, 200)
        image = stretch.planes[:, 0, None, None] + np.array(colour)[:, None, None] * levels[None, None, :]
        grey = stretch(image, np.zeros(1), np.zeros(200))[0].sum(axis=-1)
        assert (np.diff(grey) > -1e-5).all()


def test_what_nothing_saw_is_black_and_leaves_the_rest_alone():
    image, _ = scene()
    image[:, :60, :] = np.nan
    shown = picture(dataset(image))
    assert (shown[:60] == 0).all() and (shown[60:].mean() > 10)
    counted = dataset(np.nan_to_num(image, nan=0.0))
    counted["count"] = (("band", "y", "x"), np.isfinite(image).astype(np.uint16))
    np.testing.assert_array_equal(picture(counted), shown)


def test_a_large_image_is_shown_as_means_of_blocks():
    image, _ = scene(shape=(330, 410))
    small = picture(dataset(image).chunk(y=100, x=128), max_px=200)
    assert small.shape == (110, 136, 3)
    blocks = image[:, :330, :408].reshape(3, 110, 3, 136, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(small.astype(int), picture(dataset(blocks)).astype(int), atol=1)


def test_chunks_do_not_change_a_picture():
    image, _ = scene()
    whole = picture(dataset(image))
    np.testing.assert_array_equal(picture(dataset(image).chunk(y=37, x=101)), whole)


def test_a_raw_colour_frame_is_shown_by_its_cells():
    raw = np.zeros((40, 60), np.uint16)
    raw[0::2, 1::2], raw[1::2, 0::2] = 900, 300  # red and blue of GRBG
    raw[0::2, 0::2] = raw[1::2, 1::2] = 600
    rng = np.random.default_rng(2)
    raw += rng.integers(0, 20, raw.shape).astype(np.uint16)
    frames = xr.Dataset({"adu": (("time", "y", "x"), raw[None])}, {"cfa_pattern": ((), np.array("GRBG", object))})
    shown = picture(frames)
    assert shown.shape == (20, 30, 3)
    sky = shown.reshape(-1, 3).mean(axis=0)
    assert np.ptp(sky) < 8  # the three levels are the sky's own colour and are made neutral


@pytest.mark.parametrize(("sign", "turned"), [(-1.0, True), (1.0, False)])
def test_a_mirrored_sky_is_turned_upright(sign, turned):
    image, _ = scene()
    text = f"CDELT1  = {sign * 1e-3}\nCDELT2  = 1E-03\nCTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'"
    plain = picture(dataset(image))
    with_sky = picture(dataset(image, wcs=((), np.array(text, object))))
    np.testing.assert_array_equal(with_sky, plain[::-1] if turned else plain)


def test_files_hold_the_picture_and_appear_whole(tmp_path):
    image, _ = scene()
    path = save_png(dataset(image), tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture(dataset(image)))
    path = save_tiff(dataset(image), tmp_path / "a.tif")
    found = tifffile.imread(path)
    assert found.dtype == np.uint16 and found.shape == (240, 320, 3)
    np.testing.assert_allclose(found / 257.0, picture(dataset(image)), atol=0.51)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.tif"]


def test_mono_and_flat_images_can_be_shown():
    image, _ = scene()
    grey = picture(dataset(image[1], ("y", "x")))
    assert (grey[..., 0] == grey[..., 2]).all() and grey.std() > 5
    assert picture(dataset(np.full((40, 50), 7.0, np.float32), ("y", "x"))).shape == (40, 50, 3)


def test_bad_requests_are_refused(tmp_path):
    image, _ = scene()
    with pytest.raises(DataError, match="no finite pixel"):
        picture(dataset(np.full((3, 40, 40), np.nan, np.float32)))
    with pytest.raises(DataError, match="1 or 3 bands"):
        picture(
            xr.DataArray(
                image[:2], dims=("band", "y", "x"), coords={"band": np.array(["a", "b"], object)}, name="image"
            )
        )
    with pytest.raises(DataError, match="no plane to show"):
        picture(dataset(image).rename(image="other"))
    with pytest.raises(OptionError, match="sky_grey"):
        picture(dataset(image), sky_grey=2.0)
    with pytest.raises(OptionError, match="max_px"):
        picture(dataset(image), max_px=3)
    with pytest.raises(StoreError, match="cannot be written"):
        save_png(dataset(image), tmp_path / "no" / "a.png")
