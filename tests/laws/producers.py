"""One case or more for every class of producers: how to build it, small for the law of windows, larger for memory.

A case is a function of a folder (for those that read files) and a size ``(frames, rows, columns)``; its parents hold
values that make the difference (saturated pixels, flags, a trail), so a wrong window would show.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.vocabulary import COLOUR_BANDS, Flag
from getframes_xr.core.window import Grid, Span
from getframes_xr.detector.illumination import Illumination
from getframes_xr.detector.stages.persistence import Persistence
from getframes_xr.engine.collapse import Stacked
from getframes_xr.engine.held import Held
from getframes_xr.engine.producer import ArrayFrames, Producer, Selected
from getframes_xr.engine.reduction import Partial, folded
from getframes_xr.engine.shifted import Shifted
from getframes_xr.face.frames_in import as_producer
from getframes_xr.face.lazy import lazy
from getframes_xr.io.formats.ser import CFA, HEADER, MAGIC
from getframes_xr.io.image import save_fits_frames
from getframes_xr.io.store import save_frames
from getframes_xr.light.optics import Vignetting
from getframes_xr.reduce.binned import Binned
from getframes_xr.reduce.calibrate import FlatField, FlatLevel, calibrate
from getframes_xr.reduce.concat import Concatenated
from getframes_xr.reduce.cosmetic import ExcessNoise, LowerQuartile, cosmetic_map
from getframes_xr.reduce.debayer import Debayered
from getframes_xr.reduce.level import level
from getframes_xr.reduce.master import Equalised, FrameLevels
from getframes_xr.reduce.splat.first_image import first_image
from getframes_xr.reduce.splat.lines import COARSE_PX, FINE_PX, FrameLines
from getframes_xr.reduce.splat.moves import read_moves
from getframes_xr.reduce.splat.residual_bins import ResidualBins
from getframes_xr.reduce.splat.shared_bins import CommonBins, DetectorBins
from getframes_xr.reduce.splat.splat import Splatted, splat
from getframes_xr.reduce.warp import warp
from getframes_xr.workflows.observe import lights

Size = tuple[int, int, int]
Make = Callable[[Path, Size], Producer]
CASES: dict[str, Make] = {}
TOP, LEFT = 4, -6  # of the frames: absolute, even
NIGHT = np.datetime64("2026-03-01T02:00:00", "ns")


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


def subclasses(cls: type[Producer]) -> Iterator[type[Producer]]:
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


# --- parents -------------------------------------------------------------------------------------------------------


def columns(n: int) -> dict[str, Any]:
    return {
        "frame": 10 + np.arange(n),
        "start": NIGHT + np.arange(n) * np.timedelta64(25, "s"),
        "exposure_s": np.full(n, 20.0),
        "gain_e_per_adu": np.full(n, 1.5),
        "read_noise_e": np.full(n, 4.0),
        "bias_adu": np.full(n, 100.0),
        "saturation_adu": np.full(n, 60_000.0),
    }


def place(size: Size, cfa: str | None = None) -> Grid:
    n, rows, across = size
    return Grid(Span(TOP, TOP + rows), Span(LEFT, LEFT + across), columns(n), cfa=cfa)


def raw(size: Size, cfa: str | None = None, seed: int = 3) -> ArrayFrames:
    """Raw frames: a sky, a bright blob that drifts, a hot pixel, one saturated pixel."""
    n, rows, across = size
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :across]
    blob = [8000.0 * np.exp(-((y - rows / 2 - k) ** 2 + (x - across / 2 + k) ** 2) / 18.0) for k in range(n)]
    adu = random.poisson(300.0 + np.array(blob)) + 100
    adu[:, rows // 3, across // 4] += 5000
    adu[0, rows // 2, across // 2] = 65_000
    return ArrayFrames(place(size, cfa), {"adu": adu.astype(np.uint16)}, {"adu": "adu"})


def clean(size: Size, cfa: str | None = None) -> ArrayFrames:
    """Calibrated frames in electrons with a few flags, and a trail through the second frame."""
    n, rows, across = size
    image = ((raw(size, cfa).arrays["adu"].astype(np.float32) - 100) * 1.5).astype(np.float32)
    if n > 1:
        y, x = np.mgrid[:rows, :across]
        image[1][np.abs(x - y - 3) < 3] += 300.0
    flags = np.zeros(image.shape, np.uint16)
    flags[:, rows // 3, across // 4] = Flag.HOT
    flags[0, rows // 2, across // 2] = Flag.SATURATED
    flags[-1, 2:4, 3:9] = Flag.BAD_COLUMN
    return ArrayFrames(place(size, cfa), {"image": image, "flags": flags}, {"image": "electron"})


def colours(size: Size) -> ArrayFrames:
    """Frames with bands."""
    one = clean(size)
    images = [one.arrays["image"] * factor for factor in (1.0, 0.8, 0.6)]
    flags = np.stack([one.arrays["flags"]] * 3, 1)
    grid = one.grid.replace(bands=COLOUR_BANDS)
    return ArrayFrames(grid, {"image": np.stack(images, 1), "flags": flags}, {"image": "electron"})


def still(size: Size, value: float, spread: float = 5.0, cfa: str | None = None, attrs: Any = None) -> ArrayFrames:
    """A timeless image that covers the frames."""
    _, rows, across = size
    image = np.random.default_rng(int(value)).normal(value, spread, (rows, across)).astype(np.float32)
    grid = place(size, cfa).replace(columns=None, attrs=attrs or {})
    return ArrayFrames(grid, {"image": image}, {"image": "adu"})


def moves_table(size: Size, cfa: str | None = None, turn_deg: float = 4.0) -> xr.Dataset:
    """Moves as ``normalise`` gives them: a turning, drifting field; the third frame is not used."""
    n, rows, across = size
    bands = list(COLOUR_BANDS) if cfa else ["mono"]
    centre = np.array([TOP + (rows - 1) / 2, LEFT + (across - 1) / 2])
    transforms = np.empty((n, 2, 3))
    for k in range(n):
        turn = math.radians(turn_deg * k / max(1, n - 1))
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        transforms[k] = np.column_stack([matrix, centre - matrix @ centre + (0.7 * k, -1.3 * k)])
    transparency = 1.0 - 0.02 * np.arange(n)
    variance = np.full((n, len(bands)), 500.0)
    sky = np.zeros((n, len(bands), 3))
    sky[:, :, 0], sky[:, :, 1] = 450.0, 0.05
    used = np.ones(n, bool)
    used[2:3] = False
    return xr.Dataset(
        {
            "transform": (("time", "axis", "term"), transforms),
            "transparency": ("time", transparency),
            "sky": (("time", "band", "plane_term"), sky),
            "variance": (("time", "band"), variance),
            "weight": (("time", "band"), transparency[:, None] ** 2 / variance),
            "used": ("time", used),
            "verified": ("time", used),
            "fwhm_px": ("time", np.full(n, 3.0)),
        },
        coords={"frame": ("time", columns(n)["frame"]), "band": bands},
        attrs={"units": "electron", "centre_px": centre.tolist()},
    )


def scene() -> gx.Scene:
    return gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.2, plate_scale_arcsec_per_px=3.0, band="johnson_R"),
        psf=gx.psf.Moffat(fwhm_arcsec=9.0, beta=3.0),
        sources=[
            gx.StarField(n=60, magnitude=(7.0, 13.0), seed=4),
            gx.sources.Galaxy(y=12.0, x=9.0, magnitude=9.0, half_light_radius_arcsec=12.0),
            gx.sources.SatelliteTrail(frame=1, y=8.0, x=7.0, angle_deg=30.0, magnitude=3.0, speed_arcsec_per_s=900.0),
            gx.Sky(mag_per_arcsec2=19.0),
        ],
        optics=[Vignetting(strength=0.3)],
        pointing=gx.Pointing(jitter_arcsec=4.0, field_rotation=gx.pointing.FieldRotation(rate_deg_per_s=0.05)),
    )


def exposures(n: int) -> gx.Exposures:
    return gx.Exposures(n=n, exposure_s=20.0, cadence_s=25.0, start="2026-03-01T02:00:00")


# --- engine --------------------------------------------------------------------------------------------------------


@case
def ArrayFrames_raw(folder: Path, size: Size) -> Producer:
    return raw(size)


@case
def Selected_in_any_order(folder: Path, size: Size) -> Producer:
    parent = clean(size)
    order = np.array([3, 1, 2, 0, *range(4, size[0])])
    return Selected(parent, order, Span(TOP + 1, parent.grid.y.stop - 2), Span(LEFT + 2, parent.grid.x.stop))


@case
def Held_master(folder: Path, size: Size) -> Producer:
    return Held(as_producer(gx.master(lazy(raw(size)))))


@case
def DaskFrames_of_arithmetic(folder: Path, size: Size) -> Producer:
    shown = lazy(raw(size), chunks=(2, max(5, size[1] // 3), max(7, size[2] // 3)))
    return as_producer(shown[["adu"]] + np.uint16(1))


@case
def Shifted_mosaic(folder: Path, size: Size) -> Producer:
    return Shifted(raw(size, "RGGB"), 3, -5)


@case
def Staged_camera(folder: Path, size: Size) -> Producer:
    camera = gx.Camera.preset("generic_cmos").replace(shape=size[1:], serial="law")
    return lights(scene(), camera, exposures(size[0]), seed=5)


@case
def Staged_colour_with_history(folder: Path, size: Size) -> Producer:
    remembering = Persistence(
        full_well_e=11_200.0, capture=(0.02,), release_time_s=(60.0,), horizon_frames=2, period_frames=3
    )
    camera = gx.Camera.preset("seestar_s50").replace(shape=size[1:]).with_stage(remembering)
    return lights(scene(), camera, exposures(size[0]), seed=5)


@case
def Dressed_in_other_coordinates(folder: Path, size: Size) -> Producer:
    frames = lazy(raw(size, "RGGB"))
    return as_producer(frames.assign_coords(gain_e_per_adu=("time", np.full(size[0], 2.5)), cfa_pattern="BGGR"))


@case
def Stacked_by_clipping(folder: Path, size: Size) -> Producer:
    weights = xr.DataArray(1.0 + np.arange(size[0]), dims="time", coords={"frame": ("time", columns(size[0])["frame"])})
    return as_producer(gx.stack(lazy(clean(size)), reject=gx.reject.SigmaClip(kappa=2.0), weights=weights))


@case
def Stacked_raw_streaming(folder: Path, size: Size) -> Producer:
    parent = raw(size)
    backwards = Selected(parent, np.arange(size[0])[::-1].copy(), parent.grid.y, parent.grid.x)
    return Stacked(backwards, gx.reject.Mean(), plane="adu")


def mean_of_colours(size: Size) -> Stacked:
    return Stacked(colours(size), gx.reject.Mean(), 1.0 + np.arange(size[0]))


@case
def Partial_mean(folder: Path, size: Size) -> Producer:
    return Partial(mean_of_colours(size).over(Span(1, 4)))


@case
def Folded_mean(folder: Path, size: Size) -> Producer:
    return folded(mean_of_colours(size))


@case
def Stacked_colours_by_median(folder: Path, size: Size) -> Producer:
    return Stacked(colours(size), gx.reject.Median())


# --- light and detector --------------------------------------------------------------------------------------------


@case
def SceneFrames_mono(folder: Path, size: Size) -> Producer:
    return scene().frames(size[1:], exposures(size[0]), seed=2, cfa=None)


@case
def SceneFrames_mosaic(folder: Path, size: Size) -> Producer:
    return scene().frames(size[1:], exposures(size[0]), seed=2, cfa="GRBG")


@case
def Illumination_picture(folder: Path, size: Size) -> Producer:
    rate = np.random.default_rng(1).gamma(2.0, 30.0, size[1:])
    return Illumination(place(size), rate, (Vignetting(strength=0.4),))


# --- io ------------------------------------------------------------------------------------------------------------


def fits_files(folder: Path, size: Size) -> list[Path]:
    return save_fits_frames(lazy(raw(size)), folder / f"fits{size[1]}")


@case
def FitsFrames_plain(folder: Path, size: Size) -> Producer:
    return as_producer(gx.open_frames(fits_files(folder / "plain", size)))


@case
def FitsFrames_compressed(folder: Path, size: Size) -> Producer:
    packed = []
    for path in fits_files(folder / "packed", size):
        packed.append(path.with_name("packed_" + path.name + ".gz"))
        packed[-1].write_bytes(gzip.compress(path.read_bytes(), 1))
    return as_producer(gx.open_frames(packed))


@case
def ZarrFrames_with_flags(folder: Path, size: Size) -> Producer:
    path = folder / f"frames{size[1]}.zarr"
    save_frames(lazy(clean(size)), path)
    return as_producer(gx.open_frames(path))


@case
def SerFrames_recording(folder: Path, size: Size) -> Producer:
    n, rows, across = size
    path = folder / f"recording{rows}.ser"
    colour = next(code for code, pattern in CFA.items() if pattern is None)
    fields = (MAGIC, 0, colour, 0, across, rows, 16, n, b"", b"", b"", 0, 0)
    values = raw(size).arrays["adu"].astype("<u2")
    stamps = struct.pack(f"<{n}q", *(638_000_000_000_000_000 + 400_000 * k for k in range(n)))
    path.write_bytes(HEADER.pack(*fields) + values.tobytes() + stamps)
    return as_producer(gx.open_frames(path))


# --- reduce --------------------------------------------------------------------------------------------------------


@case
def Calibrated_fully(folder: Path, size: Size) -> Producer:
    dark = still(size, 120.0, attrs={"exposure_s": 20.0})
    flat = still(size, 20_000.0, 400.0, attrs={"bias_adu": 100.0})
    bad = as_producer(gx.cosmetic(lazy(raw(size, "RGGB"))))
    return as_producer(
        calibrate(
            lazy(raw(size, "RGGB")), dark=lazy(dark), flat=lazy(flat), bias=lazy(still(size, 100.0)), cosmetic=lazy(bad)
        )
    )


@case
def Calibrated_barely(folder: Path, size: Size) -> Producer:
    return as_producer(calibrate(lazy(raw(size))))


@case
def FlatField_with_bias(folder: Path, size: Size) -> Producer:
    return FlatField(still(size, 9000.0), still(size, 100.0))


@case
def FlatLevel_per_colour(folder: Path, size: Size) -> Producer:
    return FlatLevel(Held(FlatField(still(size, 9000.0, cfa="RGGB"), None, 100.0)), "RGGB")


@case
def LowerQuartile_of_some(folder: Path, size: Size) -> Producer:
    return LowerQuartile(raw(size), "adu", 5)


@case
def CosmeticMap_colour(folder: Path, size: Size) -> Producer:
    return cosmetic_map(Held(LowerQuartile(raw(size, "RGGB"), "adu", 16)), 0.3)


@case
def ExcessNoise_colour(folder: Path, size: Size) -> Producer:
    return ExcessNoise(Held(LowerQuartile(raw(size, "RGGB"), "adu", 16)), 0.3)


@case
def Debayered_superpixel(folder: Path, size: Size) -> Producer:
    return Debayered(clean(size, "RGGB"), "superpixel")


@case
def Debayered_bilinear(folder: Path, size: Size) -> Producer:
    return Debayered(raw(size, "GBRG"), "bilinear", "adu")


@case
def Binned_by_three(folder: Path, size: Size) -> Producer:
    return Binned(colours(size), 3)


@case
def Concatenated_nights(folder: Path, size: Size) -> Producer:
    return Concatenated((clean(size), Shifted(Shifted(clean(size), 1, 1), -1, -1)))


@case
def FrameLevels_of_flats(folder: Path, size: Size) -> Producer:
    return FrameLevels(clean(size), "image")


@case
def Equalised_flats(folder: Path, size: Size) -> Producer:
    return Equalised(clean(size), Held(FrameLevels(clean(size), "image")), "image")


@case
def Levelled_mosaic(folder: Path, size: Size) -> Producer:
    return as_producer(level(lazy(clean(size, "GRBG")), moves_table(size, "GRBG")))


@case
def Levelled_bands(folder: Path, size: Size) -> Producer:
    return as_producer(level(lazy(colours(size)), moves_table(size, "RGGB")))


@case
def Warped_union(folder: Path, size: Size) -> Producer:
    return as_producer(warp(lazy(clean(size)), moves_table(size), canvas="union"))


@case
def Warped_by_shifts_with_bands(folder: Path, size: Size) -> Producer:
    return as_producer(warp(lazy(colours(size)), moves_table(size, turn_deg=0.0), kernel="lanczos3"))


@case
def FirstImage_mosaic(folder: Path, size: Size) -> Producer:
    return as_producer(first_image(lazy(clean(size, "RGGB")), moves_table(size, "RGGB")))


@case
def FirstImage_mono(folder: Path, size: Size) -> Producer:
    return as_producer(first_image(lazy(clean(size)), moves_table(size)))


@case
def GroupImage_mosaic(folder: Path, size: Size) -> Producer:
    return as_producer(first_image(lazy(clean(size, "RGGB")), moves_table(size, "RGGB"))).parents[1]


def search(size: Size) -> tuple[ResidualBins, ResidualBins, CommonBins]:
    frames = clean(size)
    moves = read_moves(moves_table(size), frames.grid, "electron")
    first = Held(as_producer(first_image(lazy(frames), moves_table(size))))
    coarse, fine = (ResidualBins(frames, first, moves, px) for px in (COARSE_PX, FINE_PX))
    return coarse, fine, CommonBins(Held(coarse), moves, COARSE_PX)


@case
def ResidualBins_fine(folder: Path, size: Size) -> Producer:
    return search(size)[1]


@case
def CommonBins_coarse(folder: Path, size: Size) -> Producer:
    return search(size)[2]


@case
def FrameLines_of_a_trail(folder: Path, size: Size) -> Producer:
    larger = 4 if size[1] < 100 else 1  # a line needs bins of 8 px, and a first image that is deep enough
    coarse, fine, common = search((18, larger * size[1], larger * size[2]))
    detector = DetectorBins(Held(coarse), Held(common), fine.moves, COARSE_PX)
    return FrameLines(Held(coarse), Held(common), Held(detector), fine, fine.moves, detector.sky)


@case
def DetectorBins_coarse(folder: Path, size: Size) -> Producer:
    coarse, fine, common = search(size)
    return DetectorBins(Held(coarse), Held(common), fine.moves, COARSE_PX)


ONE_LINE = {"angle_deg": 45.0, "offset_px": 20.0, "half_width_px": 2.0, "z": 20.0, "amplitude": 9.0}
LINE = xr.Dataset({n: (("time", "line"), [[v]]) for n, v in ONE_LINE.items()}, {"frame": ("time", [11])})


@case
def Splatted_mosaic(folder: Path, size: Size) -> Producer:
    return as_producer(splat(lazy(clean(size, "RGGB")), moves_table(size, "RGGB"), lines=LINE))


@case
def Partial_splat(folder: Path, size: Size) -> Producer:
    stack = as_producer(splat(lazy(clean(size, "RGGB")), moves_table(size, "RGGB"), lines=LINE))
    assert isinstance(stack, Splatted)
    return Partial(stack.over(Span(1, 3)))


@case
def Folded_splat(folder: Path, size: Size) -> Producer:
    stack = as_producer(splat(lazy(clean(size, "RGGB")), moves_table(size, "RGGB"), lines=LINE))
    assert isinstance(stack, Splatted)
    return folded(stack)


@case
def Splatted_mono_reference(folder: Path, size: Size) -> Producer:
    return as_producer(splat(lazy(clean(size)), moves_table(size), canvas="reference"))
