"""Compile the kernels that most tests meet, before two workers would each compile them: ``python -m tests.warm``.

Machine code is kept on disk (core.kernel), so this takes seconds when nothing changed. One small colour night and one
mono session walk the common roads; kernels of rare options are compiled by the test that needs them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import dask

import getframes_xr as gx
from tests.app.sessions import lights
from tests.workflows.nights import altaz, raw


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="threads"):
        place = Path(folder)
        night = raw(altaz().isel(time=slice(0, 6)))
        gx.save_fits_frames(night, place / "colour" / "light")
        gx.reduce_session(place / "colour", out=place / "of colour")
        gx.reduce_session(lights(place / "mono" / "lights", frames=6), out=place / "of mono")
        clean = gx.calibrate(gx.open_frames(place / "colour"))
        stars = gx.find_stars(clean).load()
        moves = gx.normalise(stars, gx.register(stars))
        colours = gx.warp(gx.debayer(clean, "bilinear"), moves)
        for rule in gx.reject.RULES.values():
            gx.stack(colours, reject=rule()).isel(y=slice(0, 60)).load()
        gx.debayer(clean, "superpixel").isel(time=0).load()


if __name__ == "__main__":
    main()
