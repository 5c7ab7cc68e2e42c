"""``.gx`` on every Dataset, DataArray and node of a session: short ways to public functions; each method only forwards.

    frames.gx.compute()        exactly the window that is shown, whatever its chunks
    frames.gx.plan("1GiB")     chunks, tasks, bytes, forecast peak
    frames.gx.save("a.zarr")   frames to a store; images also to .fits, .png, .tif
    frames.gx.show(time=0)     a figure
    stack.gx.cutout(ra=..., dec=..., size=200).gx.show()

In a notebook ``frames.gx`` alone says how many frames of which camera these are, how long, how large, made by what.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from getframes_xr.core.errors import DataError, OptionError


@xr.register_dataset_accessor("gx")  # type: ignore[no-untyped-call]  # xarray does not type it
@xr.register_dataarray_accessor("gx")  # type: ignore[no-untyped-call]  # xarray does not type it
@xr.register_datatree_accessor("gx")  # type: ignore[no-untyped-call]  # xarray does not type it
class GxAccessor:
    """Forwards to the public functions of getframes_xr."""

    def __init__(self, data: xr.Dataset | xr.DataArray | xr.DataTree) -> None:
        self._data = data

    def compute(self) -> Any:
        """Load exactly the window that is shown, whatever its chunks."""
        from getframes_xr.face.frames_in import checked, plane_name
        from getframes_xr.face.lazy import compute

        data = checked(self._data, "gx.compute")
        if isinstance(data, xr.Dataset):
            return compute(data)
        plane = plane_name(data)
        return compute(data.to_dataset(name=plane))[plane].rename(data.name)

    def plan(self, memory: str | int | None = None) -> Any:
        """What computing this would cost (``gx.plan``)."""
        from getframes_xr.workflows.plan import plan

        return plan(self._data, memory=memory)

    def save(self, path: str | Path, **options: Any) -> Any:
        """Save by the ending of the path, with the options of the function that does it.

        .zarr : ``gx.save_frames``; .fits, .fit, .fts : ``gx.save_image``; .png : ``gx.save_png``; .tif, .tiff :
        ``gx.save_tiff``

        Raises
        ------
        OptionError : another ending
        """
        from getframes_xr.io.image import save_image
        from getframes_xr.io.pictures import save_png, save_tiff
        from getframes_xr.io.store import save_frames

        by_ending: dict[str, Callable[..., Any]] = {".zarr": save_frames}
        by_ending |= dict.fromkeys((".fits", ".fit", ".fts"), save_image)
        by_ending |= {".png": save_png} | dict.fromkeys((".tif", ".tiff"), save_tiff)
        save = by_ending.get(Path(path).suffix.lower())
        if save is None:
            raise OptionError("path", str(path), f"a name that ends in {', '.join(by_ending)}")
        return save(self._data, path, **options)

    def show(self, time: int = 0, **options: Any) -> Any:
        """Draw one frame, stretched for the eye (``app.show``)."""
        from getframes_xr.app.show import show

        return show(self._data, time, **options)

    def sky(self, y: ArrayLike, x: ArrayLike, time: int = 0) -> tuple[Any, Any]:
        """Right ascension and declination [deg] of pixels."""
        from getframes_xr.app.sky import sky

        return sky(self._data, y, x, time)

    def pixel(self, ra: ArrayLike, dec: ArrayLike, time: int = 0) -> tuple[Any, Any]:
        """Pixel positions (y, x) of points on the sky [deg]."""
        from getframes_xr.app.sky import pixel

        return pixel(self._data, ra, dec, time)

    def cutout(self, *, ra: float, dec: float, size: int | tuple[int, int], time: int = 0) -> Any:
        """A box of pixels about a point on the sky [deg], still lazy."""
        from getframes_xr.app.sky import cutout

        return cutout(self._data, ra, dec, size, time)

    def shift_origin(self, y: int = 0, x: int = 0) -> xr.Dataset:
        """Count pixels from another origin: pixel (0, 0) becomes (y, x); CFA pattern and WCS follow, values stay.

        Tables come along as they are.
        """
        from getframes_xr.engine.shifted import Shifted
        from getframes_xr.face.frames_in import as_producer, dataset_in, tables_of
        from getframes_xr.face.lazy import lazy

        moved = lazy(Shifted(as_producer(self._data), int(y), int(x)))
        return moved.assign(tables_of(dataset_in(self._data, "shift_origin")).data_vars)

    def _facts(self) -> list[tuple[str, str]]:
        from getframes_xr.face.frames_in import checked, producer_of

        data = checked(self._data, ".gx")
        if "y" not in data.dims or "x" not in data.dims:
            raise DataError("no frames here: .gx is for data with the dims y and x")
        sizes = data.sizes
        facts = [("frames", f"{sizes['time']:,}")] if "time" in sizes else []
        facts.append(("rows x columns", f"{sizes['y']:,} x {sizes['x']:,}"))
        if "exposure_s" in data.coords:
            seconds = float(np.nansum(data["exposure_s"].values))
            facts.append(("exposure", f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.4g} s"))
        if "start" in data.coords and data["start"].size:
            facts.append(("first", str(np.min(data["start"].values))[:19].replace("T", " ") + " UTC"))
        colours = str(data["cfa_pattern"].item()) if "cfa_pattern" in data.coords else ""
        camera = ", ".join(part for part in (str(data.attrs.get("camera") or ""), colours) if part)
        facts += [("camera", camera)] if camera else []
        planes = sum(item.nbytes for item in data.data_vars.values()) if isinstance(data, xr.Dataset) else data.nbytes
        facts.append(("size in memory", _size(planes)))
        if isinstance(data, xr.Dataset):
            facts.append(("planes", ", ".join(map(str, data.data_vars))))
        producer = producer_of(data)
        steps = [] if producer is None else producer.steps()
        return facts + [("made by" if at == 0 else "", step) for at, step in enumerate(steps)]

    def __repr__(self) -> str:
        return "\n".join(f"{name:<15} {value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;padding-right:1em'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        return f"<table>{rows}</table>"


def _size(count: int) -> str:
    from getframes_xr.app.progress import size

    return size(count)
