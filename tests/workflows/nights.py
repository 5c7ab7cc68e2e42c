"""Small nights of our own simulator, as the reduction meets them: raw frames with what a camera's header says."""

from __future__ import annotations

import xarray as xr

import getframes_xr as gx
from getframes_xr.light.sources.trails import SatelliteTrail
from getframes_xr.workflows.validate import without_truth

SHAPE, N, KNOCKED, TRAILED = (220, 300), 11, 4, 7


def altaz() -> xr.Dataset:
    """Colour frames of a turning field with a satellite trail; the mount was knocked during one exposure."""
    return gx.observe(scene(), camera(), gx.Exposures(n=N, exposure_s=10.0, cadence_s=13.0), seed="knocked")


def camera() -> gx.Camera:
    return gx.Camera.preset("seestar_s50").replace(shape=SHAPE, serial="of the nights")


def scene() -> gx.Scene:
    return gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.05, throughput=0.8, plate_scale_arcsec_per_px=2.4, band="green"),
        psf=gx.psf.Moffat(fwhm_arcsec=7.5, beta=3.5),
        sources=[
            gx.StarField(n=80, magnitude=(5.5, 11.0), seed=3),
            SatelliteTrail(frame=TRAILED, y=90.0, x=140.0, angle_deg=28.0, magnitude=5.0, speed_arcsec_per_s=1500.0),
            gx.Sky(mag_per_arcsec2=19.0),
        ],
        pointing=gx.Pointing(
            jitter_arcsec=3.0,
            drift_arcsec_per_s=(0.05, -0.08),
            field_rotation=gx.pointing.FieldRotation(rate_deg_per_s=0.012),
            jolts=(gx.pointing.Jolt(frame=KNOCKED, dy_arcsec=60.0, dx_arcsec=45.0),),
        ),
    )


def raw(frames: xr.Dataset) -> xr.Dataset:
    """Only what a camera would hand over."""
    return without_truth(frames)
