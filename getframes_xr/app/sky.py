"""From pixels to the sky and back, by the ``wcs`` coordinate of frames or images (cards in absolute pixels).

Positions are computed when asked for and never stored as planes. Pixels are ``(y, x)``, centres at integers; the sky
is right ascension and declination in degrees, in the frame the WCS states (ICRS for our own).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.wcs_text import astropy_wcs

if TYPE_CHECKING:
    import xarray as xr

    from getframes_xr.face.frames_in import FramesLike

Floats = NDArray[np.float64]


def wcs_of(data: FramesLike, time: int = 0) -> Any:
    """The ``astropy.wcs.WCS`` of an image, or of the frame at position ``time``.

    Raises
    ------
    DataError : no ``wcs`` here, or one that astropy cannot read
    """
    from getframes_xr.face.frames_in import checked

    data = checked(data, "the sky")
    if "wcs" not in data.coords:
        raise DataError("there is no wcs here: frames from files carry one where their headers have it")
    coordinate = data.coords["wcs"]
    text = str(coordinate.values.item() if coordinate.ndim == 0 else coordinate.values[time])
    if not text.strip():
        raise DataError(f"frame at position {time} has no wcs; choose another with time=")
    return astropy_wcs(text)


def sky(data: FramesLike, y: ArrayLike, x: ArrayLike, time: int = 0) -> tuple[Floats, Floats]:
    """Right ascension and declination of pixels.

    Parameters
    ----------
    data : frames or an image with a ``wcs``
    y, x : positions [px], any shape
    time : position of the frame where each has its own WCS

    Returns
    -------
    ra, dec [deg]

    Raises
    ------
    DataError : there is no WCS
    """
    ra, dec = wcs_of(data, time).all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
    return np.asarray(ra), np.asarray(dec)


def pixel(data: FramesLike, ra: ArrayLike, dec: ArrayLike, time: int = 0) -> tuple[Floats, Floats]:
    """Pixel positions of points on the sky.

    Parameters
    ----------
    data : frames or an image with a ``wcs``
    ra, dec : positions [deg], any shape
    time : position of the frame where each has its own WCS

    Returns
    -------
    y, x [px]

    Raises
    ------
    DataError : there is no WCS
    """
    x, y = wcs_of(data, time).all_world2pix(np.asarray(ra, float), np.asarray(dec, float), 0)
    return np.asarray(y), np.asarray(x)


def cutout(
    data: FramesLike, ra: float, dec: float, size: int | tuple[int, int], time: int = 0
) -> xr.Dataset | xr.DataArray:
    """A box of pixels about a point on the sky, still lazy, with its absolute coordinates.

    Parameters
    ----------
    data : frames or an image with a ``wcs``
    ra, dec : centre [deg]
    size : rows and columns, or one number for both [px]; cut at the border of the frame
    time : position of the frame whose WCS decides

    Raises
    ------
    OptionError : a size below 1
    DataError : there is no WCS, or the box lies outside the frame
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(rows, columns) < 1:
        raise OptionError("size", size, ">= 1 pixel")
    from getframes_xr.face.frames_in import checked

    data = checked(data, "cutout")
    centre = [float(value) for value in pixel(data, ra, dec, time)]
    box = {}
    for axis, at, length in zip(("y", "x"), centre, (rows, columns), strict=True):
        if not math.isfinite(at):
            raise DataError(f"ra={ra}, dec={dec} is not on this projection")
        first = math.floor(at - length / 2 + 0.5 + 1e-6)  # a position on a pixel centre, but for rounding
        places = np.asarray(data[axis].values)
        box[axis] = np.flatnonzero((places >= first) & (places < first + length))
        if not len(box[axis]):
            raise DataError(f"ra={ra}, dec={dec} lies at y={centre[0]:.1f}, x={centre[1]:.1f}, outside the frame")
    return data.isel({axis: slice(int(found[0]), int(found[-1]) + 1) for axis, found in box.items()})
