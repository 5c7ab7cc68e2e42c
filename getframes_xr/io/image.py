"""Images out and back: ``save_image`` (a product of a reduction as FITS), ``save_fits_frames`` (raw frames as FITS).

The product: the PRIMARY unit is the image, float32, linear, ``(band, y, x)``, NaN where no frame saw the sky; NOISE,
COUNT, COVERAGE, WEIGHT and FLAGS follow as extensions. WCS cards are those of this array (the absolute origin of its
first pixel is kept in XORIGIN, YORIGIN). Pixels are computed and written window by window, so an image may be larger
than memory; nothing in the file depends on the clock.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from astropy.io import fits

from getframes_xr.core.digest import code_version
from getframes_xr.core.errors import DataError
from getframes_xr.core.patch import Patch
from getframes_xr.core.vocabulary import BAND, PLANES, X, Y
from getframes_xr.core.wcs_text import cards_on, has_matrix, wcs_text
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.producer import Producer
from getframes_xr.face.budget import limited_threads
from getframes_xr.face.forecast import choose, tiles_of
from getframes_xr.face.frames_in import RAW, FramesLike, as_producer, dataset_in, frames_in, planes_of
from getframes_xr.face.lazy import run
from getframes_xr.io.fits import read_header, scan_all
from getframes_xr.io.fits_pixels import read_image
from getframes_xr.io.fits_writer import FileLayout, PathLike, Unit, WritePlanes, ascii_text, write_frame, written_whole
from getframes_xr.io.header import iso, wcs_of

EXTENSIONS: Final = ("noise", "count", "coverage", "weight", "flags")
CREATOR: Final = "getframes-xr"


PRODUCT_BYTES = 16  # copies of a pixel's image and noise on their way to the file


def save_image(image: FramesLike, path: PathLike) -> Path:
    """Compute a reduced image and write it as FITS.

    Parameters
    ----------
    image : Dataset with ``image`` and any of ``noise, count, coverage, weight, flags``, dims ``[band,] y, x`` (a time
        axis of length 1 is dropped)
    path : is replaced if it exists; nothing is left of it if the work fails

    Returns
    -------
    Path of the file

    Raises
    ------
    DataError : no plane ``image``, or several frames along time
    StoreError : the file cannot be written
    PlanError : the work does not fit the memory budget
    """
    shown = dataset_in(image, "save_image", ("image", "adu"))
    known = planes_of(shown)
    names = known if isinstance(image, xr.DataArray) else [n for n in ("image", *EXTENSIONS) if n in known]
    if "image" not in names and not isinstance(image, xr.DataArray):
        raise DataError(f"no plane 'image' to save; here are: {', '.join(map(str, shown.data_vars))}")
    producer = as_producer(image, names)
    grid = producer.grid
    if grid.timed and grid.n_frames != 1:
        raise DataError(
            f"an image has no time axis, here are {grid.n_frames} frames; stack them, or use save_fits_frames"
        )
    attrs = dict(shown.attrs)
    shape = grid.shape(grid.window)[1:] if grid.timed else grid.shape(grid.window)
    units: list[Unit] = []
    for name in names:
        dtype = np.dtype(np.float32) if producer.planes[name].dtype.kind == "f" else producer.planes[name].dtype
        first = not units
        cards = image_cards(grid, producer, name, attrs if first else {}, shown.coords)
        units.append(Unit("" if first else name.upper(), np.dtype(dtype), shape, cards))
    layout = FileLayout.of(units)
    fitting = choose(producer, names, scratch_per_pixel=PRODUCT_BYTES * len(grid.bands or (1,)))
    target = Path(path).expanduser().absolute()
    with written_whole(target) as temporary:
        layout.create(temporary)
        places = dict(zip(names, layout.data_at, strict=True))
        write = WritePlanes(str(temporary), places, grid.y, grid.x)
        with limited_threads(fitting.forecast.threads):
            run(producer, tiles_of(grid.window, fitting.tile), names, AsProduct(write))
        layout.seal(temporary)
    return target


@dataclass(frozen=True)
class AsProduct:
    """Sink before the writer: float32 planes, NaN where nothing was seen."""

    write: WritePlanes

    def token(self) -> str:
        return "product " + self.write.token()

    def __call__(self, patch: Patch, window: Window) -> int:
        planes = {name: patch[name] for name in self.write.places}
        planes = {n: v.astype(np.float32, copy=False) if v.dtype.kind == "f" else v for n, v in planes.items()}
        unseen = next((planes[name] == 0 for name in ("count", "coverage") if name in planes), None)
        if unseen is not None and unseen.any():
            for name in ("image", "noise"):
                if name in planes:
                    planes[name] = np.where(unseen, np.float32(np.nan), planes[name])
        return self.write(Patch(window, planes, patch.timed), window)


def image_cards(
    grid: Grid, producer: Producer, plane: str, attrs: Mapping[str, Any], coords: Mapping[Any, Any]
) -> fits.Header:
    """Cards of one unit of a product: units, bands, WCS of this array, and (primary only) where it comes from."""
    made = fits.Header()
    units = producer.planes[plane].units
    if units:
        made["BUNIT"] = units
    known = PLANES.get(plane)
    if known is not None and known.description:
        made["COMMENT"] = ascii_text(known.description)
    for number, band in enumerate(grid.bands or (), 1):
        made[f"BAND{number}"] = (ascii_text(band), f"plane {number} of axis 3")
    made["XORIGIN"] = (grid.x.start, "absolute x of the first column")
    made["YORIGIN"] = (grid.y.start, "absolute y of the first row")
    text = grid.wcs or _scalar_text(coords, "wcs")
    if text:
        add_wcs(made, text, grid)
    if not attrs:
        return made
    made["CREATOR"] = (f"{CREATOR} {code_version().split('+')[0]}", "program")
    made["IMAGETYP"] = "Stack"
    made["RECIPE"] = (producer.token(), "digest of inputs, options, code")
    _add_attrs(made, attrs)
    return made


def _scalar_text(coords: Mapping[Any, Any], name: str) -> str | None:
    return str(coords[name].values[()]) if name in coords and coords[name].ndim == 0 else None


def add_wcs(header: fits.Header, text: str, grid: Grid) -> None:
    """Cards of the canonical WCS for an array that begins at the grid's first pixel."""
    cards = cards_on(text, (grid.y.start, grid.x.start))
    if grid.bands:
        cards |= {"CTYPE3": "BAND", "CRPIX3": 1.0, "CRVAL3": 1.0}
        cards["CD3_3" if has_matrix(cards) else "CDELT3"] = 1.0
    for key in sorted(cards):
        header[key] = cards[key]


def _add_attrs(header: fits.Header, attrs: Mapping[str, Any]) -> None:
    """Attributes as cards: short facts under a keyword of their own, long texts as HISTORY."""
    keywords = {"object": "OBJECT", "camera": "INSTRUME", "telescope": "TELESCOP", "total_exposure_s": "EXPTIME",
                "frames": "NCOMBINE", "exposure_s": "SUBEXP"}  # fmt: skip
    for name in sorted(map(str, attrs)):
        value = attrs[name]
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            continue
        if not isinstance(value, bool | int | float | str):
            continue
        value = ascii_text(value) if isinstance(value, str) else value
        if name in keywords and len(str(value)) <= 60:
            header[keywords[name]] = value
        else:
            for line in f"{name} = {value}".splitlines():
                header["HISTORY"] = line


def open_image(path: PathLike) -> xr.Dataset:
    """Read a product of ``save_image`` (or any FITS image) into memory, with its planes, bands, place and WCS.

    Raises
    ------
    DataError : not FITS, no image, truncated or damaged
    """
    found = scan_all(path)
    first = found[0]
    header = read_header(path, first.hdu)
    y0, x0 = int(header.get("YORIGIN", 0)), int(header.get("XORIGIN", 0))
    shape = first.layout.shape
    bands = [header.get(f"BAND{i + 1}") for i in range(shape[0])] if len(shape) == 3 else []
    dims: tuple[str, ...] = (Y, X) if len(shape) == 2 else (BAND, Y, X)
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: its image has the shape {shape}, not ([band,] y, x)")
    variables: dict[str, Any] = {}
    for image in found:
        name = "image" if image is first else image.name.lower()
        if image.layout.shape != shape or name in variables or name == "":
            continue
        units = str(image.cards.own("BUNIT") or "")
        variables[name] = (dims, read_image(path, image.hdu), {"units": units} if units else {})
    coords: dict[str, Any] = {Y: y0 + np.arange(shape[-2]), X: x0 + np.arange(shape[-1])}
    if bands:
        named = [str(band) if band else str(number) for number, band in enumerate(bands)]
        coords[BAND] = np.array(named, dtype=object)
    text = wcs_of(first.cards)
    if text:
        coords["wcs"] = ((), np.array(wcs_text(cards_on(text, (-y0, -x0))), dtype=object))
    attrs: dict[str, Any] = {}
    for card in header.get("HISTORY", []):
        match = re.match(r"^(\w+) = (.*)$", str(card))
        if match:
            attrs[match.group(1)] = match.group(2)
    for key, name in {"OBJECT": "object", "EXPTIME": "total_exposure_s", "NCOMBINE": "frames"}.items():
        if key in header:
            attrs[name] = header[key]
    return xr.Dataset(variables, coords, attrs)


# Raw frames


def save_fits_frames(frames: FramesLike, folder: PathLike, *, kind: str = "Light", stem: str = "frame") -> list[Path]:
    """Write frames as raw FITS files, one per exposure: ``<stem>_<frame>.fits`` with BAYERPAT, EXPTIME, DATE-OBS ...

    Parameters
    ----------
    frames : Dataset with ``adu`` (or ``image``), dims ``time, [band,] y, x``
    folder : is made if it does not exist
    kind : IMAGETYP of the files ("Light", "Dark", "Flat", "Bias")
    stem : begin of the names

    Returns
    -------
    list of paths, in order of the frames

    Raises
    ------
    DataError : no plane ``adu`` or ``image``, or no time axis
    StoreError : a file cannot be written
    """
    producer, plane, _ = frames_in(frames, "save_fits_frames", RAW, timed=True, flags=False)
    target = Path(folder).expanduser().absolute()
    with written_whole(target / ".probe") as probe:
        target.mkdir(parents=True, exist_ok=True)
        probe.touch()
    (target / ".probe").unlink()
    sink = WriteFrame(str(target), stem, kind, plane, producer.grid, producer.planes[plane].units)
    whole = producer.grid.window
    windows = [whole.with_frames(Span(i, i + 1)) for i in range(producer.grid.n_frames)]
    return [Path(path) for path in run(producer, windows, [plane], sink)]


@dataclass(frozen=True)
class WriteFrame:
    """Sink that writes one whole frame to its own file and gives the path."""

    folder: str
    stem: str
    kind: str
    plane: str
    grid: Grid
    units: str

    def token(self) -> str:
        return f"{self.folder}|{self.stem}|{self.kind}|{self.plane}|{self.grid.token()}"

    def __call__(self, patch: Patch, window: Window) -> str:
        position = window.frames.start
        number = int(self.grid.column("frame")[position])
        path = os.path.join(self.folder, f"{self.stem}_{number:05d}.fits")
        write_frame(path, patch[self.plane][0], frame_cards(self.grid, position, self.kind, self.units))
        return path


def frame_cards(grid: Grid, position: int, kind: str, units: str) -> fits.Header:
    """Cards of one raw frame, in the words that our own reader and other programs understand."""
    made = fits.Header()
    columns = {name: column[position] for name, column in (grid.columns or {}).items()}
    made["IMAGETYP"] = kind
    made["BUNIT"] = units or "adu"
    exposure = float(columns.get("exposure_s", math.nan))
    if math.isfinite(exposure):
        made["EXPTIME"] = (exposure, "s")
    start = columns.get("start")
    if start is not None and not np.isnat(start):
        made["DATE-OBS"] = (iso(start), "UTC, shutter opens")
        if math.isfinite(exposure):
            made["DATE-AVG"] = iso(start + np.timedelta64(round(exposure * 5e8), "ns"))
            made["DATE-END"] = iso(start + np.timedelta64(round(exposure * 1e9), "ns"))
        made["TIMESYS"] = "UTC"
    numbers = {
        "EGAIN": ("gain_e_per_adu", "e-/ADU"), "RDNOISE": ("read_noise_e", "e-"), "OFFSET": ("bias_adu", "ADU"),
        "SATURATE": ("saturation_adu", "ADU"), "CCD-TEMP": ("temperature_c", "C"), "AIRMASS": ("airmass", ""),
    }  # fmt: skip
    for key, (name, comment) in numbers.items():
        if name in columns and math.isfinite(float(columns[name])):
            made[key] = (float(columns[name]), comment)
    if columns.get("filter"):
        made["FILTER"] = ascii_text(str(columns["filter"]))
    for key, name in {"OBJECT": "object", "INSTRUME": "camera", "TELESCOP": "telescope"}.items():
        if isinstance(grid.attrs.get(name), str):
            made[key] = ascii_text(str(grid.attrs[name]))[:60]
    if grid.cfa is not None:
        made["BAYERPAT"] = (grid.cfa, "rows as stored, see XBAYROFF, YBAYROFF")
        made["XBAYROFF"], made["YBAYROFF"], made["ROWORDER"] = grid.x.start % 2, grid.y.start % 2, "TOP-DOWN"
    made["XORIGIN"], made["YORIGIN"] = grid.x.start, grid.y.start
    text = grid.wcs or (str(columns["wcs"]) if columns.get("wcs") else None)
    if text:
        add_wcs(made, text, grid)
    made["CREATOR"] = f"{CREATOR} {code_version().split('+')[0]}"
    return made
