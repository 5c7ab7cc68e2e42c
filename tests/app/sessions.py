"""Small nights for the command line: one experiment in TOML, and its lights as FITS files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import getframes_xr as gx

NIGHT = """
seed = 3
[exposures]
n = 8
exposure_s = 20.0
cadence_s = 25.0
start = "2026-03-01T02:00:00"
[camera]
preset = "generic_ccd"
shape = [160, 200]
[scene.telescope]
aperture_diameter_m = 0.2
throughput = 0.5
plate_scale_arcsec_per_px = 5.0
band = "johnson_R"
[scene.psf]
kind = "gaussian"
fwhm_arcsec = 14.0
[scene.pointing]
jitter_arcsec = 4.0
[[scene.sources]]
kind = "star_field"
n = 60
magnitude = [8.5, 12.0]
seed = 4
[[scene.sources]]
kind = "sky"
mag_per_arcsec2 = 20.0
"""


def experiment(folder: Path, **changes: str) -> Path:
    """The night as TOML; ``changes`` replace texts."""
    text = NIGHT
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "night.toml"
    path.write_text(text)
    return path


def lights(folder: Path, shape: tuple[int, int] = (160, 200), frames: int = 8, starless: bool = False) -> Path:
    """FITS files of the night in ``folder``; without stars, nothing in them can be registered."""
    from astropy.io import fits

    folder.mkdir(parents=True, exist_ok=True)
    night = gx.Exposures(n=frames, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T02:00:00")
    camera = gx.Camera.preset("generic_ccd").replace(shape=shape).without("hot_pixels", "cosmic_rays")
    if starless:
        data = gx.expose(camera, 10.0, night, seed=7)
    else:
        telescope = gx.Telescope(
            aperture_diameter_m=0.2, throughput=0.5, plate_scale_arcsec_per_px=5.0, band="johnson_R"
        )
        sources = [gx.StarField(n=60, magnitude=(8.5, 12.0), seed=4), gx.Sky(mag_per_arcsec2=20.0)]
        scene = gx.Scene(
            telescope=telescope,
            psf=gx.psf.Gaussian(fwhm_arcsec=14.0),
            sources=sources,
            pointing=gx.Pointing(jitter_arcsec=4.0),
        )
        data = gx.observe(scene, camera, night, seed=0)
    values = data["adu"].values
    for place, start in enumerate(data["start"].values):
        header = fits.Header({"EXPTIME": 20.0, "DATE-OBS": str(np.datetime64(start, "ms")), "IMAGETYP": "Light"})
        fits.PrimaryHDU(values[place], header).writeto(folder / f"light_{place:03d}.fits")
    return folder
