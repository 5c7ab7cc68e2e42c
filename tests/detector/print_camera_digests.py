"""Print a digest of the frames of every preset and of a camera with every stage; run by test_bytes.py."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from getframes_xr.core.window import Span, Window
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.illumination import Illumination
from getframes_xr.detector.order import usual_order
from getframes_xr.engine.stage import STAGES
from tests.detector.frames import grid

SHAPE = (48, 72)


def every_stage() -> Camera:
    stages = []
    for kind in usual_order():
        stage = STAGES[kind].examples()[-1]
        fields = type(stage).model_fields
        stage = stage.replace(full_well_e=3e4) if "full_well_e" in fields else stage
        stage = stage.replace(fraction=0.05) if "fraction" in fields else stage
        stages.append(stage.replace(pixel_um=3.0) if "pixel_um" in fields else stage)
    return Camera(name="every stage", shape=SHAPE, pixel_um=3.0, stages=stages)


def digest(camera: Camera) -> str:
    rate = np.linspace(0.0, 400.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE) ** 1.5
    light = Illumination(grid((4, *SHAPE), 3.0, camera.temperature_c, cfa=camera.cfa), rate)
    frames = camera.over(light, seed="digest", frame_kind="light")
    patch = frames.produce(
        Window(Span(0, 4), Span(0, SHAPE[0]), Span(0, SHAPE[1])), ("adu", "flags", "truth_electrons")
    )
    state = hashlib.blake2b(digest_size=8)
    for name in ("adu", "flags", "truth_electrons"):
        state.update(np.ascontiguousarray(patch[name]).tobytes())
    return state.hexdigest()


def digests() -> dict[str, str]:
    cameras = {name: Camera.preset(name).replace(shape=SHAPE) for name in Camera.presets()}
    return {name: digest(camera) for name, camera in (cameras | {"every stage": every_stage()}).items()}


if __name__ == "__main__":
    print(json.dumps(digests()))
