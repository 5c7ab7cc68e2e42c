"""Show frames and images to a person: one matplotlib figure, stretched for the eye, axes in absolute pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from getframes_xr.face.frames_in import FramesLike


def show(data: FramesLike, time: int = 0, *, max_px: int = 1600) -> Any:
    """Draw one frame (or an image) with an asinh stretch; the numbers are never changed.

    Parameters
    ----------
    data : frames ``(time, y, x)`` (raw colour frames are shown in colour) or an image ``([band,] y, x)``
    time : position of the frame to show
    max_px : longest side; larger images are averaged over blocks

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError : there is nothing to show
    """
    from matplotlib.figure import Figure

    from getframes_xr.face.frames_in import checked
    from getframes_xr.io.pictures import mirrored, picture

    data = checked(data, "show")
    one = data.isel(time=[time]) if "time" in data.dims else data
    values = picture(one, max_px=max_px)
    y, x = (
        one["y"].values if "y" in one.coords else range(one.sizes["y"]),
        one["x"].values if "x" in one.coords else range(one.sizes["x"]),
    )
    top, bottom = float(y[0]) - 0.5, float(y[-1]) + 0.5
    text = str(one["wcs"].values.ravel()[0]) if "wcs" in one.coords else None
    if mirrored(text):
        top, bottom = bottom, top
    height = 8.0 * values.shape[0] / values.shape[1]
    figure = Figure(figsize=(8.0, min(10.0, max(2.5, height)) + 0.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values, extent=(float(x[0]) - 0.5, float(x[-1]) + 0.5, bottom, top), interpolation="nearest")
    axes.set_xlabel("x (px)")
    axes.set_ylabel("y (px)")
    axes.set_title(_title(one), fontsize=10, loc="left")
    return figure


def _title(one: xr.Dataset | xr.DataArray) -> str:
    parts = []
    if "frame" in one.coords:
        parts.append(f"frame {int(one['frame'].values.ravel()[0])}")
    if "start" in one.coords:
        parts.append(str(one["start"].values.ravel()[0])[:19].replace("T", " ") + " UTC")
    if "exposure_s" in one.coords:
        parts.append(f"{float(one['exposure_s'].values.ravel()[0]):g} s")
    return ", ".join(parts)
