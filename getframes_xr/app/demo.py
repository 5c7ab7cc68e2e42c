"""``getframes-xr demo``: an alt-az night of our own simulator, reduced without being told the truth, laid beside it.

64 colour exposures under a turning sky: seeing and transparency that wander, drift and jitter, satellite trails, hot
pixels, muons, one exposure ruined by a knock and one by a cloud. What is printed at the end is measured on the result.
"""

from __future__ import annotations

import json
from pathlib import Path

from getframes_xr.detector.camera import Camera
from getframes_xr.light.atmosphere import Seeing, Transparency
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.light_curve import LightCurve
from getframes_xr.light.pointing import FieldRotation, Jolt, Pointing
from getframes_xr.light.psf import Moffat
from getframes_xr.light.scene import Scene
from getframes_xr.light.sources.galaxy import Galaxy
from getframes_xr.light.sources.sky import Sky
from getframes_xr.light.sources.star_field import StarField
from getframes_xr.light.sources.trails import SatelliteTrails
from getframes_xr.light.telescope import Telescope
from getframes_xr.workflows.observe import Experiment
from getframes_xr.workflows.run_folder import OnEvent, write_whole
from getframes_xr.workflows.validate import Validation, summary, validate

CLOUDED, KNOCKED = 41, 17
CADENCE_S = 30.0


def demo_night() -> Experiment:
    """The night of the demo."""
    cloud_s = (CLOUDED * CADENCE_S - 4.0, CLOUDED * CADENCE_S + 14.0)
    return Experiment(
        scene=Scene(
            telescope=Telescope(aperture_diameter_m=0.05, throughput=0.85, plate_scale_arcsec_per_px=2.4, band="green"),
            psf=Moffat(fwhm_arcsec=7.6, beta=3.5),
            sources=(
                StarField(n=1400, magnitude=(5.5, 13.5), seed=11, slope_per_mag=0.27, colour=(0.7, 0.45)),
                Galaxy(
                    y=560.0, x=980.0, magnitude=7.6, half_light_radius_arcsec=170.0, sersic_n=1.3, axis_ratio=0.38,
                    angle_deg=-32.0, colour=0.75,
                ),
                Galaxy(y=640.0, x=1010.0, magnitude=9.6, half_light_radius_arcsec=16.0, sersic_n=3.0, axis_ratio=0.8),
                Sky(mag_per_arcsec2=19.4, gradient=(0.06, -0.1)),
                SatelliteTrails(per_frame=0.11, magnitude=(3.0, 7.0)),
            ),
            pointing=Pointing(
                jitter_arcsec=2.2,
                drift_arcsec_per_s=(0.016, -0.024),
                field_rotation=FieldRotation(rate_deg_per_s=0.011),
                jolts=(Jolt(frame=KNOCKED, dy_arcsec=44.0, dx_arcsec=37.0),),
            ),
            seeing=Seeing(rms_fraction=0.14, correlation_s=400.0, jitter_fraction=0.03),
            transparency=Transparency(
                rms_mag=0.12, correlation_s=500.0,
                curve=LightCurve.box(depth=0.9, start_s=cloud_s[0], stop_s=cloud_s[1]),
            ),
        ),
        camera=Camera.preset("seestar_s50").replace(shape=(1080, 1920)),
        exposures=Exposures(n=64, exposure_s=10.0, cadence_s=CADENCE_S, start="2026-03-01T20:00:00"),
        seed=7,
    )  # fmt: skip


def run_demo(out: str | Path = "demo", on_event: OnEvent | None = None) -> Validation:
    """Simulate the night into ``out/raw/night.zarr``, reduce it into ``out/reduced``, compare with the truth.

    Returns
    -------
    Validation; its figures are also written to ``out/figures.json``

    Raises
    ------
    StoreError : ``out`` cannot be written, or holds another night
    """
    out = Path(out)
    result = validate(demo_night(), out=out, ruined=(KNOCKED, CLOUDED), on_event=on_event)
    write_whole(out / "figures.json", json.dumps(summary(result), indent=1))
    return result
