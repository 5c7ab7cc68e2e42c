"""One door: every public function takes the same things as frames and does the same with them, or says what is wrong.

Walked over the front door: a public function whose frames go through the door must have a case here.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import getframes_xr as gx
from getframes_xr.core.errors import DataError
from getframes_xr.engine.producer import Producer
from getframes_xr.face.foreign import DaskFrames
from getframes_xr.face.frames_in import frames_in, plane_name
from getframes_xr.face.lazy import lazy
from tests.laws import producers as cases

SIZE = (4, 72, 80)
Use = Callable[[Any, Path], Any]


def moves(cfa: str | None = None) -> xr.Dataset:
    table = cases.moves_table(SIZE, cfa)
    table["catalogue_y"], table["catalogue_x"] = ("catalogue", [35.0]), ("catalogue", [29.0])
    table["verdict"] = ("time", np.where(table["used"].values, "used", "unlike").astype(object))
    return table


def raw(cfa: str | None = None) -> xr.Dataset:
    return lazy(cases.raw(SIZE, cfa), chunks=(2, 30, 37))


def clean(cfa: str | None = None) -> xr.Dataset:
    return lazy(cases.clean(SIZE, cfa), chunks=(2, 30, 37))


def image() -> xr.Dataset:
    return lazy(cases.still(SIZE, 100.0), chunks=(1, 30, 37))


def mosaic() -> xr.Dataset:
    return clean("GRBG")


STARS = {"target": (35, 29), "comparisons": [(32, 31)], "radius_px": 3.0}
USES: dict[str, tuple[Callable[[], xr.Dataset], Use]] = {
    "aperture_photometry": (clean, lambda f, _: gx.aperture_photometry(f, [(30.0, 29.0)], 3.0, (5.0, 8.0))),
    "as_producer": (clean, lambda f, _: lazy(gx.as_producer(f))),
    "binned": (clean, lambda f, _: gx.binned(f, 2)),
    "calibrate": (raw, lambda f, _: gx.calibrate(f)),
    "calibrate.dark": (image, lambda f, _: gx.calibrate(raw(), dark=f)),
    "concat": (clean, lambda f, _: gx.concat(f, f)),
    "concat of a list": (clean, lambda f, _: gx.concat([f, f])),
    "cosmetic": (raw, lambda f, _: gx.cosmetic(f)),
    "debayer": (mosaic, lambda f, _: gx.debayer(f)),
    "find_lines": (mosaic, lambda f, _: gx.find_lines(f, moves("GRBG"))),
    "find_stars": (clean, lambda f, _: gx.find_stars(f)),
    "first_image": (clean, lambda f, _: gx.first_image(f, moves())),
    "gx.compute": (clean, lambda f, _: f.gx.compute() if hasattr(f, "gx") else gx.as_producer(f)),
    "gx.plan": (clean, lambda f, _: (f.gx.plan() if hasattr(f, "gx") else gx.plan(f)).compute()),
    "gx.save": (clean, lambda f, p: save_by_ending(f, p)),
    "gx.shift_origin": (clean, lambda f, _: f.gx.shift_origin(2, 4) if hasattr(f, "gx") else gx.as_producer(f)),
    "level": (clean, lambda f, _: gx.level(f, moves())),
    "light_curve": (clean, lambda f, _: gx.light_curve(f, moves(), **STARS)),
    "master": (raw, lambda f, _: gx.master(f, equalise=True)),
    "phase_shifts": (clean, lambda f, _: gx.phase_shifts(f)),
    "plan": (clean, lambda f, _: gx.plan(f).compute()),
    "producer_of": (clean, lambda f, _: gx.producer_of(f)),
    "save_fits_frames": (raw, lambda f, p: gx.save_fits_frames(f, p / "files")),
    "save_frames": (raw, lambda f, p: stored(gx.save_frames(f, p / "frames.zarr").path)),
    "save_image": (image, lambda f, p: gx.save_image(f, p / "image.fits")),
    "save_png": (clean, lambda f, p: gx.save_png(f, p / "image.png")),
    "save_tiff": (clean, lambda f, p: gx.save_tiff(f, p / "image.tif")),
    "splat": (mosaic, lambda f, _: gx.splat(f, moves("GRBG"))),
    "stack": (clean, lambda f, _: gx.stack(f)),
    "warp": (clean, lambda f, _: gx.warp(f, moves())),
    "warp.canvas": (clean, lambda f, _: gx.warp(clean(), moves(), canvas=f)),
}  # fmt: skip
NEEDS_LINEAGE = {"producer_of"}
each_use = pytest.mark.parametrize("use", USES)


def save_by_ending(frames: Any, folder: Path) -> Any:
    return stored(frames.gx.save(folder / "a.zarr").path) if hasattr(frames, "gx") else gx.save_frames(frames, folder)


def stored(path: Path) -> xr.Dataset:
    return gx.open_frames(path)


def with_table(frames: xr.Dataset) -> xr.Dataset:
    """As ``gx.observe`` gives it where a source has a name and a light curve."""
    n = frames.sizes.get("time", 1)
    table = xr.DataArray(np.arange(2.0 * n).reshape(n, 2), dims=("time", "source"), coords={"source": ["a", "b"]})
    return frames.assign(truth_light_curve=table)


def one_plane(frames: xr.Dataset) -> str:
    return next(name for name in ("image", "adu") if name in frames)


KINDS: dict[str, Callable[[xr.Dataset], Any]] = {
    "DataArray": lambda d: d[one_plane(d)],
    "DataArray without a name": lambda d: d[one_plane(d)].rename(None),
    "node of a session": lambda d: xr.DataTree.from_dict({"/lights": d, "/darks": d})["lights"],
    "with a light curve": with_table,
    "foreign dask": lambda d: d.map(lambda v: v.copy(data=v.data.map_blocks(lambda b: b + 0, dtype=v.dtype))),
    "partly dask": lambda d: d.assign({n: d[n].compute() for n in list(d.data_vars)[1:]}),
    "in memory": lambda d: d.compute(),
    "transposed": lambda d: d.transpose("x", "y", ...),
}
ONE_PLANE = {"DataArray", "DataArray without a name"}


def content(made: Any) -> Iterator[bytes]:
    """Everything a result holds, as bytes."""
    if isinstance(made, xr.Dataset):
        for name in sorted(map(str, made.data_vars)):
            yield name.encode()
            data = made[name].transpose(*sorted(map(str, made[name].dims)))
            yield str(data.values.tolist()).encode() if data.dtype.kind in "OUT" else data.values.tobytes()
        for name in sorted({"frame", "y", "x"} & set(made.coords)):
            yield np.asarray(made[name].values, np.int64).tobytes()
    elif isinstance(made, Producer):
        yield from content(lazy(made))
    elif isinstance(made, xr.DataArray):
        yield from content(made.to_dataset(name=plane_name(made)))
    elif isinstance(made, list):
        for path in made:
            yield Path(path).read_bytes()
    else:
        yield Path(made).read_bytes()


def test_every_public_function_that_takes_frames_has_a_case() -> None:
    functions = {name: getattr(gx, name) for name in gx.__all__ if inspect.isfunction(getattr(gx, name))}
    said = {name: str(inspect.signature(function)).split(" -> ")[0] for name, function in functions.items()}
    takes = {name for name, text in said.items() if "FramesLike" in text}
    assert takes and takes <= set(USES), f"add a case for {takes - set(USES)}"
    arrays = [name for name, text in said.items() if "xr.Dataset | xr.DataArray" in text]
    assert not arrays, f"{arrays} do not take their frames through the door (FramesLike)"


@each_use
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_out_does_not_depend_on_the_form_of_the_frames(use: str, kind: str, tmp_path: Path) -> None:
    frames, run = USES[use]
    plain = frames()
    given = KINDS[kind](plain)
    if kind in ONE_PLANE:
        plain = plain[[one_plane(plain)]]
    (tmp_path / "one").mkdir(), (tmp_path / "other").mkdir()
    found = run(given, tmp_path / "one")
    if use in NEEDS_LINEAGE and kind in {"foreign dask", "partly dask", "in memory", "transposed"}:
        assert found is None
        return
    expected = run(plain, tmp_path / "other")
    if kind == "with a light curve" and "truth_light_curve" in getattr(found, "data_vars", {}):
        found = found.drop_vars(["truth_light_curve"])
    assert list(content(found)) == list(content(expected))


WRONG: dict[str, Callable[[xr.Dataset], Any]] = {
    "a plain array": lambda d: np.zeros((3, 72, 80), np.float32),
    "a dask array": lambda d: da.zeros((3, 72, 80)),
    "the path 'night.zarr'": lambda d: "night.zarr",
    "the path '/a/night'": lambda d: Path("/a/night"),
    "a NoneType": lambda d: None,
    "flux (time, source)": lambda d: xr.Dataset({"flux": (("time", "source"), np.zeros((3, 2)))}),
    "image (row, col)": lambda d: xr.Dataset({"image": (("row", "col"), np.zeros((3, 2)))}),
    "image (y, col)": lambda d: xr.DataArray(np.zeros((3, 2), np.float32), dims=("y", "col")),
    "one node of a session": lambda d: xr.DataTree.from_dict({"/lights": d, "/darks": d}),
}


@each_use
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_frames_is_named_in_one_line(use: str, wrong: str, tmp_path: Path) -> None:
    frames, run = USES[use]
    given = WRONG[wrong](frames())
    if wrong == "a NoneType" and use == "calibrate.dark":
        return  # no dark
    if use == "gx.compute" and isinstance(given, xr.Dataset | xr.DataArray):
        return  # any table can be loaded
    if use == "warp.canvas" and isinstance(given, str):
        return  # a canvas by name
    with pytest.raises(DataError) as caught:
        run(given, tmp_path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300
    assert wrong.removeprefix("a dask") in text or ("a plain array of shape (3, 72, 80)" in text), text
    assert not os.listdir(tmp_path), "something was written"


def test_a_list_is_joined_by_concat_and_refused_elsewhere_with_that_advice() -> None:
    with pytest.raises(DataError, match=r"a list of 2; join them first: gx.concat"):
        gx.stack([clean(), clean()])  # type: ignore[arg-type]
    joined = gx.concat([clean(), clean().isel(time=[0])], clean())
    assert list(joined["frame"].values) == list(range(9))


def test_tables_are_joined_where_they_fit_and_the_rest_is_named() -> None:
    one, other = with_table(clean()), with_table(clean().isel(time=[2, 1]))
    joined = gx.concat([one, other])
    expected = np.concatenate([one["truth_light_curve"].values, other["truth_light_curve"].values])
    np.testing.assert_array_equal(joined["truth_light_curve"].values, expected)
    assert list(joined["source"].values) == ["a", "b"] and "notes" not in joined.attrs
    for odd in (clean(), other.assign_coords(source=["a", "c"]), other.isel(source=[0])):
        left = gx.concat([one, odd])
        assert "truth_light_curve" not in left and "truth_light_curve" in left.attrs["notes"]


def test_tables_travel_with_frames_that_are_saved_or_moved(tmp_path: Path) -> None:
    data = with_table(clean())
    gx.save_frames(data, tmp_path / "a.zarr")
    for made in (gx.open_frames(tmp_path / "a.zarr"), data.gx.shift_origin(1, 1), gx.plan(data).compute()):
        np.testing.assert_array_equal(made["truth_light_curve"].values, data["truth_light_curve"].values)


def test_an_array_is_the_plane_it_is_named_for_if_it_can_be() -> None:
    adu = raw()["adu"]
    assert plane_name(adu) == plane_name(adu.rename("night")) == plane_name(adu.rename("image")) == "adu"
    assert plane_name(adu.astype("f4")) == "image"
    assert plane_name(clean()["image"].rename("noise")) == "noise"
    assert plane_name(clean()["image"].rename("noise"), ("image", "adu")) == "image"
    assert plane_name(clean()["flags"], ("flags",)) == "flags"


def test_flags_go_along_unless_they_are_not_wanted() -> None:
    assert frames_in(clean(), "me").planes == ("image", "flags")
    assert frames_in(clean(), "me", flags=False).planes == frames_in(clean()["image"], "me").planes == ("image",)
    with pytest.raises(DataError, match="me needs the plane 'image', there is no such plane here; known: adu; cal"):
        frames_in(raw(), "me", ("image",))
    with pytest.raises(DataError, match="me needs frames along time"):
        frames_in(image(), "me", timed=True)
    colours = lazy(cases.colours(SIZE))
    with pytest.raises(DataError, match="me works on raw mosaics"):
        frames_in(colours, "me", mosaic=True)


def test_a_plane_in_memory_beside_lazy_ones_stays_what_it_is(refuses_to_compute: None) -> None:
    flags = np.ones(SIZE, np.uint16)
    mixed = clean().assign(flags=(("time", "y", "x"), flags))
    assert isinstance(gx.as_producer(mixed), DaskFrames)


def test_another_ending_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(gx.OptionError, match=r"path='.*out' .*\.zarr, \.fits.*\.png"):
        image().gx.save(str(tmp_path / "out"))
    image().gx.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_an_observation_with_a_named_light_curve_is_frames_like_any_other(tmp_path: Path) -> None:
    curve = {"b": gx.LightCurve.box(depth=0.5, start_s=50, stop_s=100)}
    star = gx.Stars(y=[20, 30], x=[20, 5], magnitude=[10, 11], name=["b", "a"], light_curve=curve)
    camera = gx.Camera.preset("generic_ccd").replace(shape=SIZE[1:])
    scene = cases.scene().replace(sources=[star, gx.Sky(mag_per_arcsec2=19.0)])
    data = gx.observe(scene, camera, cases.exposures(4), seed=3)
    truth = data["truth_light_curve"]
    assert truth.dims == ("time", "source")
    assert set(gx.as_producer(data).planes) == set(data.data_vars) - {"truth_light_curve"}
    joined = gx.concat(data, data)
    np.testing.assert_array_equal(joined["truth_light_curve"].values, np.concatenate([truth.values, truth.values]))
    moved = data.gx.shift_origin(1, 1)
    assert moved["adu"].values.tobytes() == data["adu"].values.tobytes()
    np.testing.assert_array_equal(moved["truth_light_curve"].values, truth.values)
    gx.save_frames(data, tmp_path / "a.zarr")
    assert gx.open_frames(tmp_path / "a.zarr")["adu"].values.tobytes() == data["adu"].values.tobytes()
