"""The README's pictures, made by the project itself.

    python docs/make_pictures.py DEMO_RUN M94_RUN HATP32_RUN

The three are run folders: ``demo/reduced`` of ``make demo``; ``getframes-xr reduce`` of the M 94 frames, and of the
HAT-P-32 frames with ``--target 286.0,423.1 --compare 181.9,463.9``.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from getframes_xr.io.pictures import picture
from getframes_xr.io.zarr import open_store

HERE = Path(__file__).parent / "pictures"


def stack_of(run: Path) -> xr.Dataset:
    """The stack of a finished run."""
    return open_store(sorted((run / "phases").glob("stack-*.zarr"))[-1])


def photograph(stack: xr.Dataset, name: str, widest_px: int = 1000) -> None:
    """A JPEG of the stack, at most ``widest_px`` wide."""
    Image.fromarray(picture(stack, max_px=widest_px)).save(HERE / name, quality=86, optimize=True)


def transit(run: Path, name: str) -> None:
    """The light curve: single exposures and means of eight."""
    rows = list(csv.DictReader((run / "light_curve.csv").open()))
    time = np.array([np.datetime64(row["time_utc_mid"]) for row in rows])
    hours = (time - time[0].astype("datetime64[D]")) / np.timedelta64(1, "h")
    flux, error = (np.array([float(row[column]) for row in rows]) for column in ("flux", "flux_err"))
    groups = np.array_split(np.arange(len(flux)), len(flux) // 8)
    figure, axes = plt.subplots(figsize=(8.0, 3.4), layout="constrained")
    axes.errorbar(hours, flux, error, fmt="o", ms=3, lw=0.7, color="#9db7d5", label="one exposure of 60 s")
    axes.plot(
        [hours[g].mean() for g in groups],
        [flux[g].mean() for g in groups],
        "o",
        ms=6,
        color="#14508c",
        label="mean of 8",
    )
    axes.set(xlabel="hours UTC, 2017-12-20", ylabel="relative flux")
    axes.axvline(4.958, color="#b0562b", lw=1, ls="--", label="predicted mid-transit 04:57.5")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    figure.savefig(HERE / name, dpi=110)


def main(demo: Path, m94: Path, hatp32: Path) -> None:
    """Make all three."""
    HERE.mkdir(exist_ok=True)
    photograph(stack_of(demo), "demo.jpg", 1100)
    galaxy = stack_of(m94)
    y, x = int(galaxy.sizes["y"] * 0.5), int(galaxy.sizes["x"] * 0.5)
    photograph(galaxy.isel(y=slice(y - 450, y + 450), x=slice(x - 560, x + 560)), "m94.jpg", 1120)
    transit(hatp32, "transit.png")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
