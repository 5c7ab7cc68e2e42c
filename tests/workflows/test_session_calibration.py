"""Sessions with calibration frames: what is taken off, what is said, what is left out rather than wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import getframes_xr as gx
from getframes_xr.light.optics import Vignetting
from getframes_xr.workflows.session import ReduceOptions, Run, reduce_session

SHAPE = (200, 260)
ROWS, COLUMNS = np.meshgrid([22.0, 61.0, 100.0, 139.0, 178.0], [24.0, 77.0, 130.0, 183.0, 236.0], indexing="ij")
CAMERA = gx.Camera.preset("generic_ccd").replace(shape=SHAPE)
DIMMED = 1 - 0.5 * (77.5**2 + 105.5**2) / (99.5**2 + 129.5**2)  # four corner stars, on average
PLAIN = ReduceOptions(lines=False, canvas="reference")


def written(frames: xr.Dataset, folder: Path, kind: str) -> Path:
    """FITS files with what the poorest camera says: kind, exposure, time; neither gain nor pedestal."""
    folder.mkdir(parents=True)
    for at, values in enumerate(frames["adu"].values):
        card: dict[str, Any] = {"IMAGETYP": kind, "EXPTIME": float(frames["exposure_s"].values[at])}
        card["DATE-OBS"] = str(np.datetime64(frames["start"].values[at], "ms"))
        fits.PrimaryHDU(values, fits.Header(card)).writeto(folder / f"{kind.lower()}_{at:03d}.fits")
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stars of one brightness all over a vignetted field; darks, biases, flats and another kind of darks."""
    folder = tmp_path_factory.mktemp("calibration")
    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.2, plate_scale_arcsec_per_px=2.0, band="johnson_R"),
        psf=gx.psf.Gaussian(fwhm_arcsec=7.0),
        sources=[
            gx.Stars(y=ROWS.ravel(), x=COLUMNS.ravel(), magnitude=np.full(ROWS.size, 11.0)),
            gx.StarField(n=25, magnitude=(12.5, 14.0), seed=5),
            gx.Sky(mag_per_arcsec2=19.5),
        ],
        pointing=gx.Pointing(jitter_arcsec=2.0),
        optics=[Vignetting(strength=0.5)],
    )
    night = gx.Exposures(n=6, exposure_s=30.0, start="2026-03-01T02:00:00")
    even = scene.replace(optics=())
    written(gx.observe(scene, CAMERA, night, seed=1), folder / "dim" / "lights", "Light")
    written(gx.observe(even, CAMERA, night, seed=1), folder / "even", "Light")
    written(gx.dark(CAMERA, gx.Exposures(n=5, exposure_s=30.0), seed=2), folder / "dim" / "darks", "Dark")
    written(gx.bias(CAMERA, 9, seed=3), folder / "dim" / "biases", "Bias")
    written(gx.flat(CAMERA, gx.Exposures(n=5, exposure_s=1.0), seed=4, optics=scene), folder / "dim" / "flats", "Flat")
    return folder / "dim"


@pytest.fixture(scope="module")
def even(frames: Path) -> float:
    """Corner over centre in the same field without vignetting: neighbours and noise make it a little else than 1."""
    return corner_over_centre(reduce_session(frames.parent / "even", out=frames.parent / "out", options=PLAIN))


def corner_over_centre(run: Run) -> float:
    """Light of the four corner stars over that of the middle one, on the stack."""
    stack = gx.open_image(run.folder / "stack.fits")
    places = np.array([[ROWS[j, i], COLUMNS[j, i]] for j, i in ((0, 0), (0, -1), (-1, 0), (-1, -1), (2, 2))])
    reference = run.manifest["frames"][0]  # jitter moves the grid by a pixel or two: the brightest nearby pixel
    moved = places @ np.asarray(reference["transform"])[:, :2].T + np.asarray(reference["transform"])[:, 2]
    frame = stack["image"].expand_dims("time").to_dataset(name="image").assign_coords(frame=("time", [0]))
    flux = gx.aperture_photometry(frame, moved, 8.0, (11.0, 18.0)).load()["flux"].values[0, :, 0]
    return float(flux[:4].mean() / flux[4])


def test_flats_take_the_vignetting_off_with_their_own_bias(frames: Path, tmp_path: Path, even: float) -> None:
    """0.8 of the way to the corner 1 - 0.5 x 0.8^2 of the light is left; flats bring all of it back."""
    bare = reduce_session(frames / "lights", out=tmp_path / "bare", options=PLAIN)
    whole = reduce_session(
        frames / "lights", darks=frames / "darks", biases=frames / "biases", flats=frames / "flats",
        out=tmp_path / "whole", options=PLAIN,
    )  # fmt: skip
    assert whole.manifest["session"]["masters"] == ["bias", "dark", "flat"] and whole.summary["used"] == 6
    assert bare.manifest["session"]["masters"] == []
    assert corner_over_centre(bare) / even == pytest.approx(DIMMED, abs=0.01)
    assert corner_over_centre(whole) / even == pytest.approx(1.0, abs=0.01)  # five fluxes of 0.4 % each


def test_one_folder_with_everything_in_it_is_the_same_session(frames: Path, tmp_path: Path) -> None:
    apart = reduce_session(
        frames / "lights", darks=frames / "darks", biases=frames / "biases", flats=frames / "flats",
        out=tmp_path / "apart", options=PLAIN,
    )  # fmt: skip
    together = reduce_session(frames, out=tmp_path / "together", options=PLAIN)
    one, other = (gx.open_image(run.folder / "stack.fits") for run in (apart, together))
    assert one["image"].values.tobytes() == other["image"].values.tobytes()


def test_a_dark_stands_in_for_the_bias_of_flats_and_that_is_said(frames: Path, tmp_path: Path, even: float) -> None:
    run = reduce_session(
        frames / "lights", darks=frames / "darks", flats=frames / "flats", out=tmp_path / "out", options=PLAIN
    )
    assert run.manifest["session"]["masters"] == ["dark", "flat"]
    assert corner_over_centre(run) / even == pytest.approx(1.0, abs=0.01)
    assert any("flats" in text and "dark" in text for text in run.manifest["session"]["warnings"])


def test_flats_of_unknown_pedestal_are_left_out_and_that_is_said(frames: Path, tmp_path: Path, even: float) -> None:
    run = reduce_session(frames / "lights", flats=frames / "flats", out=tmp_path / "out", options=PLAIN)
    assert run.manifest["session"]["masters"] == []
    assert any("flats" in text and "bias" in text for text in run.manifest["session"]["warnings"])
    assert corner_over_centre(run) / even == pytest.approx(DIMMED, abs=0.01)


def test_a_warning_is_said_once(frames: Path, tmp_path: Path) -> None:
    run = reduce_session(frames / "lights", flats=frames / "flats", out=tmp_path / "out", options=PLAIN)
    texts = run.manifest["session"]["warnings"]
    assert not [(one, other) for one in texts for other in texts if one is not other and one in other]
