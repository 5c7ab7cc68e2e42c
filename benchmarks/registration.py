"""Star finding and registration of colour frames against astroalign on the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cases import Case


def registration_case(folder: Path, n: int = 60, shape: tuple[int, int] = (540, 960)) -> Case:
    """``n`` raw colour frames of one field, drifting and turning; both find the transforms to a reference frame."""
    import astroalign

    import getframes_xr as gx

    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.05, throughput=0.8, plate_scale_arcsec_per_px=2.4, band="green"),
        psf=gx.psf.Moffat(fwhm_arcsec=7.0, beta=3.5),
        sources=[gx.StarField(n=500, magnitude=(7.5, 13.5), seed=3), gx.Sky(mag_per_arcsec2=19.0)],
        pointing=gx.Pointing(
            jitter_arcsec=2.0,
            drift_arcsec_per_s=(0.05, -0.03),
            field_rotation=gx.pointing.FieldRotation(rate_deg_per_s=0.01),
        ),
    )
    camera = gx.Camera.preset("seestar_s50").replace(shape=shape)
    frames = gx.observe(scene, camera, gx.Exposures(n=n, exposure_s=10.0), seed=2, planes=("adu", "flags")).load()
    clean = gx.calibrate(frames).load()
    images = [np.ascontiguousarray(image) for image in clean.image.values.astype(np.float64)]

    def ours() -> np.ndarray:
        moves = gx.register(gx.find_stars(clean).load(), reference=0)
        assert bool(moves.verified.all())
        return moves.transform.values

    def theirs() -> np.ndarray:
        found = []
        for image in images:
            transform, _ = astroalign.find_transform(image, images[0])
            found.append(transform.params[:2])
        return np.array(found)

    def check(one: np.ndarray, two: np.ndarray) -> None:
        corners = np.array([[0, 0], [0, shape[1]], [shape[0], 0], [shape[0], shape[1]]], float)
        for ours_, theirs_ in zip(one, two, strict=True):
            at = corners @ ours_[:, :2].T + ours_[:, 2]
            xy = corners[:, ::-1] @ theirs_[:, :2].T + theirs_[:, 2]
            assert np.abs(at - xy[:, ::-1]).max() < 0.5

    return Case(
        f"stars + registration of {n} colour frames, astroalign", ours, theirs, check, n * shape[0] * shape[1], 3.0, 3
    )
