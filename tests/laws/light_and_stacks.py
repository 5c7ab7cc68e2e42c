"""Members of light and of rejection at work: a scene with one of them in it, a stack by a rule, and their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

import getframes_xr as gx
from getframes_xr.engine.collapse import Stacked
from getframes_xr.engine.producer import Producer
from tests.laws import kit
from tests.laws.producers import clean, exposures, raw


def scene_with(member: Any) -> gx.Scene:
    family = member.registry.family
    options: dict[str, Any] = {
        "telescope": gx.Telescope(aperture_diameter_m=0.2, plate_scale_arcsec_per_px=1.5, band="johnson_R"),
        "psf": member if family == "psf" else gx.psf.Gaussian(fwhm_arcsec=4.0),
        "sources": [member if family == "source" else gx.StarField(n=30, magnitude=(8.0, 12.0), seed=2)],
        "optics": [member] if family == "optic" else [],
        "wcs": gx.Wcs(ra_deg=40.0, dec_deg=20.0),
        "pointing": gx.Pointing(jitter_arcsec=3.0, field_rotation=gx.pointing.FieldRotation(rate_deg_per_s=0.1)),
    }
    return gx.Scene(**options)


def light_of(member: Any) -> Producer:
    return scene_with(member).frames((40, 52), exposures(3), seed=9, cfa="RGGB")


def stack_with(rule: Any, size: tuple[int, int, int] = (12, 13, 19)) -> Stacked:
    return Stacked(clean(size), rule)


def bytes_of_light(member: Any) -> bytes:
    return bytes(kit.whole(light_of(member))["photons"].tobytes())


def bytes_of_curve(curve: Any) -> bytes:
    start = np.linspace(-50.0, 5000.0, 300)
    return bytes(curve.mean(start, start + 7.0).tobytes())


def bytes_of_stack(rule: Any) -> bytes:
    """Raw frames and images, with and without weights: what rules may look at."""
    size = (12, 13, 19)
    weights = 1.0 + np.arange(size[0])
    stacks = [Stacked(raw(size), rule, plane="adu"), Stacked(clean(size), rule)]
    stacks += [Stacked(clean(size), rule, weights=weights)] if rule.takes_weights else []
    return b"".join(kit.whole(stack)[name].tobytes() for stack in stacks for name in sorted(stack.planes))
