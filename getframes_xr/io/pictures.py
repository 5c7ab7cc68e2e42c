"""Pictures of an image: PNG and 16-bit TIFF with a stretch that shows faint and bright at once and keeps colours.

Per band a sky plane is taken off and the bands are balanced on the colours of the stars, so the background is neutral.
The luminance L (mean of the bands) goes through ``asinh``: linear at the sky, logarithmic in stars; the bands follow in
proportion ``f(L) / L``, so hue does not depend on brightness; only where a band passes the top the colour pales
(after Lupton et al. 2004, PASP 116, 133). Colour fades into the noise of the sky, where it would be noise. The curve's
strength is solved so that the sky has a given dark grey. The linear product itself is never touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from getframes_xr.core.errors import DataError, OptionError
from getframes_xr.core.patch import Array, Patch
from getframes_xr.core.wcs_text import has_matrix, wcs_cards
from getframes_xr.core.window import Grid, Span, Window
from getframes_xr.engine.producer import Producer, Selected
from getframes_xr.face.frames_in import SAMPLES, FramesLike, as_producer, dataset_in, planes_of
from getframes_xr.face.lazy import run
from getframes_xr.io.fits_writer import PathLike, written_whole

SHOWN: Final = (*SAMPLES, "truth_electrons", "photons")  # the first of these is drawn
SKY_GREY: Final = 0.085
MEASURED_PX: Final = 1024
MOST_PX: Final = 1600
STRIPS_AT_ONCE: Final = 4  # made before the first of them is drawn
STRIP_PIXELS: Final = 2**17


@dataclass(frozen=True)
class Stretch:
    """How numbers become grey values; measured by ``stretch_of`` and applied window by window.

    ``planes`` (band, 3): sky level at the origin, slope per row, slope per column; ``gains`` (band): white balance;
    ``black``: luminance below the sky that is black; ``white``: luminance that is white; ``sigma``: noise of the
    luminance; ``strength``: of the asinh curve.
    """

    planes: Array
    gains: Array
    black: float
    white: float
    sigma: float
    strength: float
    saturation: float = 1.25

    def __call__(self, image: Array, y: Array, x: Array) -> Array:
        """Grey values 0..1, float32 (y, x, 3), of ``image`` (band, y, x) whose rows and columns are ``y`` and ``x``."""
        level = self.planes[:, 0, None, None] + self.planes[:, 1, None, None] * y[:, None]
        level = level + self.planes[:, 2, None, None] * x
        bands = (image - level) * self.gains[:, None, None]
        unseen = ~np.isfinite(bands).all(axis=0)
        bands = np.where(unseen, 0.0, bands) + self.black
        light = bands.mean(axis=0)
        grey = np.arcsinh(self.strength * np.maximum(light, 0.0)) / math.asinh(self.strength * self.white)
        if len(bands) == 1:
            picture = np.repeat(grey[..., None], 3, axis=-1)
        else:
            above = np.maximum(light - self.black, 0.0) ** 2
            colour = self.saturation * above / (above + (3 * self.sigma) ** 2)
            ratio = bands / np.maximum(light, self.sigma * 0.1)
            ratio = 1.0 + colour * (ratio - 1.0)
            picture = np.moveaxis(grey * np.maximum(ratio, 0.0), 0, -1)
            over = np.maximum(picture.max(axis=-1, keepdims=True), 1.0)
            picture = 1.0 - (1.0 - picture / over) / over  # a band at the top: its colour pales towards white
        picture[unseen] = 0.0
        return np.asarray(np.clip(picture, 0.0, 1.0), np.float32)


def stretch_of(image: Array, *, sky_grey: float = SKY_GREY, flat_sky: bool = True) -> Stretch:
    """Measure a stretch on a (small) image.

    Parameters
    ----------
    image : float (band, y, x), 1 or 3 bands, NaN where nothing was seen
    sky_grey : grey value of the sky, 0..1
    flat_sky : take a plane off each band, not only its level

    Raises
    ------
    DataError : no pixel was seen
    """
    seen: Array = np.asarray(np.isfinite(image).all(axis=0))
    if not seen.any():
        raise DataError("there is no finite pixel to show")
    planes = np.array([_sky_plane(band, seen, flat_sky) for band in image])
    rows, columns = np.indices(image.shape[1:])
    flat = image - (planes[:, 0, None, None] + planes[:, 1, None, None] * rows + planes[:, 2, None, None] * columns)
    sigmas = np.array([_sigma(band[seen]) for band in flat])
    gains = _white_balance(flat, seen, sigmas)
    light = (flat * gains[:, None, None]).mean(axis=0)[seen]
    sigma = max(_sigma(light), 1e-6 * float(np.abs(light).max() or 1.0), 1e-30)
    black = 2.5 * sigma
    white = max(float(np.percentile(light, 99.97)), 20 * sigma) + black
    return Stretch(planes, gains, black, white, sigma, _strength(black, white, sky_grey))


def _sigma(values: Array) -> float:
    """Noise from the part below the median, where no star is."""
    median = float(np.median(values))
    below = values[values < median]
    return 1.4826 * float(np.median(median - below)) if below.size else 0.0


def _level(values: Array) -> float:
    """Median without the bright tail; clipped on both sides alike, or bands of unlike noise would differ in level."""
    for _ in range(4):
        median, sigma = float(np.median(values)), _sigma(values)
        kept = values[np.abs(values - median) <= 2.5 * sigma]
        if kept.size in (0, values.size):
            break
        values = kept
    return float(np.median(values))


def _sky_plane(band: Array, seen: Array, sloped: bool) -> Array:
    """Level at (0, 0) and slopes of the sky: medians of blocks, refitted without blocks that hold something bright."""
    ny, nx = band.shape
    size = max(8, min(ny, nx) // 24)
    places, levels = [], []
    for y in range(0, ny - size // 2, size):
        for x in range(0, nx - size // 2, size):
            block = band[y : y + size, x : x + size][seen[y : y + size, x : x + size]]
            if block.size >= size * size // 4:
                places.append((1.0, y + size / 2, x + size / 2))
                levels.append(_level(block))
    if len(levels) < 12 or not sloped:
        return np.array([_level(band[seen]), 0.0, 0.0])
    matrix, wanted = np.array(places), np.array(levels)
    kept = wanted <= np.percentile(wanted, 70)
    for _ in range(6):
        found = np.linalg.lstsq(matrix[kept], wanted[kept], rcond=None)[0]
        rest = wanted - matrix @ found
        spread = max(_sigma(rest[kept]), 1e-12)
        kept = (rest < 2.0 * spread) & (rest > -4.0 * spread)
        if kept.sum() < 8:
            kept = wanted <= np.percentile(wanted, 70)
            break
    return np.asarray(np.linalg.lstsq(matrix[kept], wanted[kept], rcond=None)[0])


def _white_balance(flat: Array, seen: Array, sigmas: Array) -> Array:
    """Factors that make the median star grey; ones where there are too few bright pixels."""
    if len(flat) == 1:
        return np.ones(1)
    bright = seen & (flat > 15 * sigmas[:, None, None]).all(axis=0)
    if bright.sum() < 50:
        return np.ones(len(flat))
    top = np.percentile(flat[1][bright], 99)
    bright &= flat[1] < top
    ratios = np.array([np.median(flat[1][bright] / band[bright]) for band in flat])
    ratios = np.clip(ratios, 0.25, 4.0)
    return np.asarray(ratios / ratios.mean())


def _strength(black: float, white: float, sky_grey: float) -> float:
    """Strength q of ``asinh(q black) / asinh(q white) = sky_grey`` by bisection (0 strength is linear)."""
    low, high = 1e-6 / white, 1e6 / black
    if black / white >= sky_grey:
        return low
    for _ in range(80):
        middle = math.sqrt(low * high)
        if math.asinh(middle * black) / math.asinh(middle * white) < sky_grey:
            low = middle
        else:
            high = middle
    return low


# From Datasets


def picture(
    image: FramesLike,
    *,
    max_px: int | None = MOST_PX,
    sky_grey: float = SKY_GREY,
    flat_sky: bool = True,
    bits: int = 8,
) -> Array:
    """Make a picture of an image, computed in windows.

    Parameters
    ----------
    image : Dataset with ``image`` (or one DataArray), dims ``[band,] y, x``, 1 or 3 bands; of frames, the first
    max_px : longest side of the picture; larger images are averaged over blocks; None: every pixel
    sky_grey : grey value of the sky, 0..1
    flat_sky : take a sloped plane off each band
    bits : 8 or 16

    Returns
    -------
    uint8 or uint16 (y, x, 3), row 0 at the top; turned where a WCS of negative parity would show a mirrored sky

    Raises
    ------
    DataError : no plane to show, neither 1 nor 3 bands, or no finite pixel
    OptionError : an option is outside its range
    """
    if not 0 < sky_grey < 0.9:
        raise OptionError("sky_grey", sky_grey, "> 0 and < 0.9")
    if bits not in (8, 16):
        raise OptionError("bits", bits, "8 or 16")
    if max_px is not None and max_px < 16:
        raise OptionError("max_px", max_px, ">= 16, or None")
    producer, plane = _shown(image)
    grid = producer.grid
    longest = max(len(grid.y), len(grid.x))
    factor = 1 if max_px is None else -(-longest // max_px)
    rough = -(-longest // MEASURED_PX)
    alone = factor >= rough or max_px is not None  # the picture itself is small enough to measure the stretch on
    small = shrunk(producer, plane, factor if alone else rough)
    stretch = stretch_of(small, sky_grey=sky_grey, flat_sky=flat_sky)
    ratio = 1.0 if alone else factor / rough
    top = 255 if bits == 8 else 65535
    shape = small.shape[1:] if alone else shrunk_shape(grid, factor)
    out = np.empty((*shape, 3), np.uint8 if bits == 8 else np.uint16)
    columns = (np.arange(shape[1]) + 0.5) * ratio - 0.5
    at = 0
    for strip in [small] if alone else strips(producer, plane, factor):
        for rows in Span(0, strip.shape[1]).pieces(max(1, STRIP_PIXELS // shape[1])):
            y = (rows.shift(at).indices() + 0.5) * ratio - 0.5
            values = stretch(strip[:, rows.start : rows.stop].astype(np.float64), y, columns)
            out[at + rows.start : at + rows.stop] = np.rint(values * top)
        at += strip.shape[1]
    return np.ascontiguousarray(out[::-1]) if mirrored(grid.wcs) else out


def _shown(image: FramesLike) -> tuple[Producer, str]:
    shown = dataset_in(image, "a picture")
    known = planes_of(shown)
    name = known[0] if isinstance(image, xr.DataArray) else next((n for n in SHOWN if n in known), None)
    if name is None:
        raise DataError(f"no plane to show; here are: {', '.join(map(str, shown.data_vars))}")
    names = [name] + [
        n for n in ("count", "coverage") if n in known and shown[n].dims == shown[name].dims and n != name
    ]
    producer = as_producer(image, names)
    grid = producer.grid
    if grid.bands is not None and len(grid.bands) not in (1, 3):
        raise DataError(f"a picture needs 1 or 3 bands, here are {len(grid.bands)}: choose some")
    if grid.timed and grid.n_frames > 1:
        producer = Selected(producer, np.zeros(1, np.int64), grid.y, grid.x)
    return producer, name


def mirrored(wcs: str | None) -> bool:
    """True where row 0 at the top would show the sky mirrored (east right of north): the usual FITS order."""
    if not wcs:
        return False
    cards = wcs_cards(wcs)
    matrix = has_matrix(cards)

    def term(row: int, column: int) -> float:
        if matrix:
            return float(cards.get(f"CD{row}_{column}", 0.0))
        own = 1.0 if row == column else 0.0
        return float(cards.get(f"PC{row}_{column}", own)) * float(cards.get(f"CDELT{row}", 1.0))

    return term(1, 1) * term(2, 2) - term(1, 2) * term(2, 1) < 0


def _step(grid: Grid, factor: int) -> int:
    """Pixels of a block: whole 2 x 2 cells of a raw colour frame."""
    return factor if grid.cfa is None or grid.bands is not None else 2 * -(-factor // 2)


def shrunk_shape(grid: Grid, factor: int) -> tuple[int, int]:
    """Rows and columns of an image averaged over blocks.

    Raises
    ------
    DataError : the image is smaller than one block
    """
    step = _step(grid, factor)
    ny, nx = len(grid.y) // step, len(grid.x) // step
    if min(ny, nx) == 0:
        raise DataError(f"an image of {len(grid.y)} x {len(grid.x)} pixels is too small to show")
    return ny, nx


def strips(producer: Producer, plane: str, factor: int) -> Iterator[Array]:
    """The image averaged over ``factor x factor`` blocks, strip after strip, float32 (band, y, x); a few at a time.

    NaN where a block saw nothing. A raw colour frame is shown as its 2 x 2 cells: red, the mean of the greens, blue.

    Raises
    ------
    DataError : the image is smaller than one block
    """
    grid = producer.grid
    step, (ny, nx) = _step(grid, factor), shrunk_shape(grid, factor)
    rows = max(1, 4 * STRIP_PIXELS // (len(grid.x) * step)) * step
    windows = [
        Window(Span(0, 1), piece, Span(grid.x.start, grid.x.start + nx * step))
        for piece in Span(grid.y.start, grid.y.start + ny * step).pieces(rows)
    ]
    planes = [plane] + [name for name in ("count", "coverage") if name in producer.planes]
    shrink = Shrink(plane, step, grid.cfa if grid.bands is None else None)
    for first in range(0, len(windows), STRIPS_AT_ONCE):
        yield from run(producer, windows[first : first + STRIPS_AT_ONCE], planes, shrink)


def shrunk(producer: Producer, plane: str, factor: int) -> Array:
    """All strips of ``strips`` in one array.

    Raises
    ------
    DataError : the image is smaller than one block
    """
    return np.concatenate(list(strips(producer, plane, factor)), axis=1)


@dataclass(frozen=True)
class Shrink:
    """Sink that averages blocks of a window."""

    plane: str
    step: int
    cfa: str | None

    def token(self) -> str:
        return f"shrink {self.plane} {self.step} {self.cfa}"

    def __call__(self, patch: Patch, window: Window) -> Array:
        values = patch[self.plane].astype(np.float32)
        for name in ("count", "coverage"):
            if name in patch:
                values[patch[name] == 0] = np.nan
        values = values.reshape(-1, len(window.y), len(window.x))
        if self.cfa is not None:
            values = _cells(values[0], self.cfa, window)
        step = self.step if self.cfa is None else self.step // 2
        if step == 1:
            return values
        blocks = values.reshape(len(values), values.shape[1] // step, step, values.shape[2] // step, step)
        finite = np.isfinite(blocks)
        total = np.where(finite, blocks, 0).sum(axis=(2, 4), dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((total / finite.sum(axis=(2, 4))).astype(np.float32))


def _cells(values: Array, cfa: str, window: Window) -> Array:
    """Red, mean green and blue of 2x2 cells (the window's own cells, wherever it begins)."""
    found: dict[str, list[Array]] = {"R": [], "G": [], "B": []}
    for dy in (0, 1):
        for dx in (0, 1):
            letter = cfa[2 * ((window.y.start + dy) % 2) + (window.x.start + dx) % 2]
            found[letter].append(values[dy::2, dx::2])
    return np.stack([np.mean(found[letter], axis=0) for letter in "RGB"])


def save_png(image: FramesLike, path: PathLike, **options: Any) -> Path:
    """Write a picture as PNG; options as for ``picture``.

    Raises
    ------
    DataError : no plane to show, neither 1 nor 3 bands, or no finite pixel
    OptionError : an option is outside its range
    StoreError : the file cannot be written
    """
    from PIL import Image

    values = picture(image, **{**options, "bits": 8})
    target = Path(path).expanduser().absolute()
    with written_whole(target) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
    return target


def save_tiff(image: FramesLike, path: PathLike, **options: Any) -> Path:
    """Write a stretched picture as 16-bit TIFF (every pixel unless ``max_px`` is given); options as for ``picture``.

    Raises
    ------
    DataError : no plane to show, neither 1 nor 3 bands, or no finite pixel
    OptionError : an option is outside its range
    StoreError : the file cannot be written
    """
    import tifffile

    values = picture(image, **{"max_px": None, **options, "bits": 16})
    target = Path(path).expanduser().absolute()
    with written_whole(target) as temporary:
        tifffile.imwrite(temporary, values, photometric="rgb", compression="zlib", metadata=None)
    return target
