"""Sessions of every folder of real frames, with the hazards its README names; figures are measured there."""

import csv

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from getframes_xr.core.wcs_text import wcs_cards
from getframes_xr.core.window import Span, Window
from getframes_xr.face.frames_in import producer_of
from getframes_xr.io.fits_pixels import read_image
from getframes_xr.io.frames import open_frames
from getframes_xr.io.session import open_session


@pytest.fixture(scope="module")
def hatp32(real):
    return open_session(real / "hatp32")


def test_hatp32_has_142_frames_and_4_repeats_stored_in_another_form(hatp32):
    statuses = list(hatp32["files"].status.values)
    assert statuses.count("used") == 142 and statuses.count("duplicate") == 4 and statuses.count("foreign") == 1
    lights = hatp32["lights"]
    assert dict(lights.sizes) == {"time": 142, "y": 500, "x": 650} and lights.adu.dtype == np.int16
    assert sum(str(f).startswith("plain/") for f in lights.file.values) == 4


def test_hatp32_times_are_ut_mid_exposures_to_the_millisecond(hatp32, real):
    """UT-OBS plus 30 s; DATE-OBS is local, MJD-OBS is up to 42 s off."""
    with open(real / "hatp32" / "reference_lightcurve.csv") as file:
        mids = {row["file"]: float(row["mjd_utc_mid"]) for row in csv.DictReader(file)}
    lights = hatp32["lights"]
    assert str(lights.start.values[0]) == "2017-12-20T01:33:43.317000000"
    for name, time in zip(lights.file.values, lights.time.values, strict=True):
        reference = mids[str(name).split("/")[-1].removesuffix(".fz")]
        assert abs(Time(time).mjd - reference) * 86400 < 0.05  # the table has 6 decimals: 0.043 s
    assert (np.diff(lights.time.values) > np.timedelta64(0, "s")).all()


def test_hatp32_knows_its_temperature_saturation_and_nothing_it_cannot_know(hatp32):
    lights = hatp32["lights"]
    assert (lights.saturation_adu.values == 4095).all()  # a 12-bit camera in signed 16-bit files
    assert ((lights.temperature_c.values > -6) & (lights.temperature_c.values < 0)).all()  # 268-272 K
    assert "wcs" not in lights.coords and "gain_e_per_adu" not in lights.coords and "cfa_pattern" not in lights.coords
    assert lights.attrs["plate_scale_arcsec_per_px"] == 5.21
    assert abs(lights.airmass.values[0] - 1.126) < 0.01


def test_hatp32_plain_equals_compressed(real):
    for path in sorted((real / "hatp32" / "plain").iterdir()):
        packed = real / "hatp32" / "fz" / f"{path.name}.fz"
        assert read_image(path).tobytes() == read_image(packed).tobytes()


@pytest.mark.parametrize(("run", "count"), [("run_a", 8), ("run_b", 3), ("run_c", 5)])
def test_m94_frames_are_known_as_dark_subtracted_by_the_device(real, run, count):
    frames = open_frames(real / "m94" / run)
    assert frames.sizes["time"] == count and str(frames.cfa_pattern.values) == "GRBG"
    assert frames.attrs["dark_subtracted_by_device"] is True and "do not subtract another" in frames.attrs["notes"]
    assert "gain_e_per_adu" not in frames.coords  # GAIN = 80 is a setting
    assert "wcs" not in frames.coords  # RA, DEC are of date and of the last command
    assert abs(frames.attrs["plate_scale_arcsec_per_px"] - 2.39) < 0.01


def test_m94_starts_are_of_date_obs_not_of_the_name(real):
    frames = open_frames(real / "m94" / "run_a")
    assert str(frames.start.values[0]) == "2025-03-27T01:20:32.955368000"
    for name, start in zip(frames.file.values, frames.start.values, strict=True):
        stamp = str(name).removesuffix(".fit.fz")[-15:]  # local civil time (UTC-4) of the end, plus writing
        end = np.datetime64(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}")
        late = end + np.timedelta64(4, "h") - start
        assert np.timedelta64(10, "s") < late < np.timedelta64(20, "s")


def test_m94_runs_of_two_telescopes_are_one_session_in_order_of_time(real):
    session = open_session(real / "m94")
    lights = session["lights"]
    assert lights.sizes["time"] == 16
    folders = [str(name).split("/")[0] for name in lights.file.values]
    assert folders == ["run_a"] * 8 + ["run_b"] * 3 + ["run_c"] * 5
    assert "S50_12d98769" in lights.attrs["telescope"] and "S50_1d3fe189" in lights.attrs["telescope"]


def test_ngc7023_has_a_sky_of_positive_parity_and_a_clipped_frame_is_flagged(real):
    session = open_session(real / "ngc7023")
    lights = session["lights"]
    assert lights.sizes["time"] == 4 and lights.wcs.dims == ("time",)
    cards = fits.Header()
    for key, value in wcs_cards(str(lights.wcs.values[0])).items():
        cards[key] = value
    sky = WCS(cards)
    assert np.linalg.det(sky.pixel_scale_matrix) > 0
    # HD 200775 at 21:01:36.92 +68:09:47.8 is predicted at (480.14, 970.47)
    x, y = sky.all_world2pix(315.403833, 68.163278, 0)
    assert abs(x - 480.14) < 0.02 and abs(y - 970.47) < 0.02
    assert lights.wcs.values[3] == ""  # the 2025 frame has none
    share = lights.black_clipped_share.values
    assert (share[:3] == 0).all() and abs(share[3] - 135387 / (1080 * 1920)) < 1e-9
    assert "black level was cut" in session.attrs["notes"]


def test_ccd_ub17_is_sorted_by_its_long_image_types(real):
    session = open_session(real / "ccd_ub17")
    assert {n: session[n].sizes["time"] for n in ("lights", "darks", "flats", "biases")} == {
        "lights": 2,
        "darks": 2,
        "flats": 2,
        "biases": 2,
    }
    assert (session["biases"].exposure_s.values == 0).all() and (session["darks"].exposure_s.values == 300).all()
    lights = session["lights"]
    np.testing.assert_allclose(lights.gain_e_per_adu.values, 2.6, atol=1e-6)
    assert "plate_scale_arcsec_per_px" not in lights.attrs  # FOCALLEN 0 means unknown
    assert "object" not in lights.attrs and "telescope" not in lights.attrs  # blanks
    assert str(lights.start.values[0]) == "2025-06-25T03:16:10.000000000"
    bias = np.median(session["biases"].adu.values, axis=(1, 2))
    assert sorted(bias) == [899.0, 900.0]


def test_m13_carries_its_pedestal(real):
    frames = open_frames(real / "m13")
    assert (frames.bias_adu.values == 500).all() and frames.sizes["time"] == 3
    assert (np.diff(frames.start.values) == np.array([12, 11], "timedelta64[s]")).all()


def test_emva_pairs_are_two_frames_each(real):
    session = open_session(real / "emva_ccd12")
    assert session["lights"].sizes["time"] == 14 and session["darks"].sizes["time"] == 6
    frames = open_frames(real / "emva_ccd12" / "bright_014.fits.fz")
    assert frames.adu.shape == (2, 480, 640) and frames.exposure_s.values[0] == pytest.approx(0.00404)
    with open(real / "emva_ccd12" / "ptc_table.csv") as file:
        row = next(row for row in csv.DictReader(file) if row["step"] == "14")
    values = frames.adu.values.astype(np.int64)
    assert values.sum() == int(row["bright_sum"]) and ((values[0] - values[1]) ** 2).sum() == int(row["bright_sqdiff"])


def test_fields_of_every_form_open(real):
    session = open_session(real / "fields")
    shapes = sorted((n.sizes["y"], n.sizes["x"]) for name, n in session.children.items() if name.startswith("lights"))
    assert shapes == [(150, 200), (199, 199), (256, 256), (720, 721)]
    gmos = open_frames(real / "fields" / "gmos_sci_var_sky.fits.gz", hdu="VAR")
    science = open_frames(real / "fields" / "gmos_sci_var_sky.fits.gz")
    difference = gmos.image.values - science.image.values  # variance = signal + read noise^2
    assert 17.9 < difference.min() and difference.max() < 18.4
    old = open_frames(real / "fields" / "sep_image.fits")
    assert str(old.start.values[0])[:10] == "1992-10-26" and old.image.dtype == np.float32


def test_a_window_of_a_real_frame_is_the_cut_of_the_frame(real):
    for folder in ("m94/run_b", "ngc7023/altaz_2024"):
        frames = open_frames(real / folder)
        producer = producer_of(frames.adu)
        window = Window(Span(1, 3), Span(701, 812), Span(33, 90))
        cut = producer.produce(window, ["adu"])["adu"]
        np.testing.assert_array_equal(cut, frames.adu.values[1:3, 701:812, 33:90])


def test_every_real_frame_has_the_pixels_astropy_reads(real):
    for folder in ("m94/run_b", "m94/run_c", "m13", "ccd_ub17"):
        for path in sorted(p for p in (real / folder).iterdir() if ".fit" in p.name)[:2]:
            with fits.open(path) as units:
                expected = next(u.data for u in units if u.header.get("NAXIS") == 2)
            np.testing.assert_array_equal(read_image(path), expected)
