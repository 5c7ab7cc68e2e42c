"""Folders as people have them: kinds, devices, repeats, what is set aside, and no trust in the order of listings."""

import gzip
import json
import os
import random
import shutil

import numpy as np
import pytest
from astropy.io import fits

from getframes_xr.core.errors import DataError
from getframes_xr.io.frames import open_frames
from getframes_xr.io.session import open_session

RNG = np.random.default_rng(11)


def put(path, kind="Light", seconds=0, exposure=10.0, shape=(12, 16), array=None, **cards):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.integers(900, 1100, shape).astype(np.uint16) if array is None else array
    unit = fits.PrimaryHDU(array)
    if kind is not None:
        unit.header["IMAGETYP"] = kind
    if seconds is not None:
        unit.header["DATE-OBS"] = str(np.datetime64("2026-01-01T20:00:00") + np.timedelta64(seconds, "s"))
    if exposure is not None:
        unit.header["EXPTIME"] = exposure
    unit.header.update(cards)
    unit.writeto(path, overwrite=True)
    return array


def rows(session):
    """The table of files as {file: (kind, status, node, frame)}."""
    table = session["files"]
    names = ("kind", "status", "node", "frame")
    return {str(table.file.values[i]): tuple(table[n].values[i] for n in names) for i in range(table.sizes["item"])}


def remark(session, file):
    table = session["files"]
    return str(table.remark.values[list(table.file.values).index(file)])


@pytest.fixture
def night(tmp_path):
    """Two nights of lights, darks named only by their folder, flats by their name, a bias by its exposure of 0."""
    root = tmp_path / "night"
    for i in range(3):
        put(root / "night1" / f"b_{i}.fits", seconds=100 - 10 * i)
        put(root / "night2" / f"a_{i}.fits", seconds=90000 + 10 * i)
        put(root / "darks" / f"x_{i}.fits", kind=None, seconds=200 + i)
        put(root / f"flat_00{i}.fits", kind=None, seconds=300 + i, exposure=1.0)
    put(root / "zero.fits", kind=None, seconds=400, exposure=0.0)
    return root


def test_frames_are_sorted_by_kind_from_header_name_and_folder(night):
    session = open_session(night)
    assert list(session.children) == ["lights", "darks", "flats", "biases", "files"]
    assert {name: session[name].sizes["time"] for name in ("lights", "darks", "flats", "biases")} == {
        "lights": 6, "darks": 3, "flats": 3, "biases": 1}  # fmt: skip
    assert list(session["lights"].file.values) == [f"night1/b_{i}.fits" for i in (2, 1, 0)] + [
        f"night2/a_{i}.fits" for i in (0, 1, 2)]  # fmt: skip
    assert list(session["lights"].frame.values) == list(range(6))
    assert remark(session, "darks/x_0.fits") == "kind by the folder's name"
    assert remark(session, "flat_000.fits") == "kind by the file's name"


def test_opening_a_session_runs_no_task(night, refuses_to_compute):
    assert open_session(night)["lights"].adu.chunks is not None


def test_the_header_outweighs_the_folder(tmp_path):
    put(tmp_path / "darks" / "a.fits", kind="Light Frame")
    assert rows(open_session(tmp_path))["darks/a.fits"][0] == "light"


def test_the_order_of_listing_does_not_matter(night, monkeypatch):
    expected = open_session(night)
    walk = os.walk

    def shuffled(*args, **kwargs):
        for here, folders, files in walk(*args, **kwargs):
            random.Random(5).shuffle(folders)
            random.Random(6).shuffle(files)
            yield here, folders, files

    monkeypatch.setattr(os, "walk", shuffled)
    found = open_session(night)
    for name in expected.children:
        assert found[name].to_dataset().identical(expected[name].to_dataset())


def test_several_folders_are_one_session_whatever_their_order(night):
    one = open_session(night / "night1", night / "night2", night / "darks")
    other = open_session(night / "darks", night / "night2", night / "night1")
    assert one["lights"].to_dataset().identical(other["lights"].to_dataset())
    assert one["lights"].sizes["time"] == 6 and one["darks"].sizes["time"] == 3
    assert open_session(night, night / "night1")["lights"].sizes["time"] == 6  # a folder within a folder


def test_a_frame_stored_twice_is_used_once_and_the_plain_file_stays(tmp_path):
    put(tmp_path / "z.fits", seconds=0)
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress((tmp_path / "z.fits").read_bytes()))
    shutil.copy(tmp_path / "z.fits", tmp_path / "zz_copy.fits")
    fits.CompImageHDU(fits.getdata(tmp_path / "z.fits"), fits.getheader(tmp_path / "z.fits")).writeto(
        tmp_path / "b.fits.fz"
    )
    put(tmp_path / "same_time.fits", seconds=0)  # other pixels: a second camera, or a clock of whole seconds
    table = rows(open_session(tmp_path))
    assert {name for name, row in table.items() if row[1] == "used"} == {"z.fits", "same_time.fits"}
    assert {name for name, row in table.items() if row[1] == "duplicate"} == {"a.fits.gz", "b.fits.fz", "zz_copy.fits"}


def test_copies_without_a_time_are_found_too(tmp_path):
    put(tmp_path / "a.fits", seconds=None)
    put(tmp_path / "b.fits", seconds=None)
    shutil.copy(tmp_path / "b.fits", tmp_path / "c.fits")
    assert rows(open_session(tmp_path))["c.fits"][1] == "duplicate"


def test_frames_of_other_kinds_with_equal_pixels_are_no_repeats(tmp_path):
    array = put(tmp_path / "a.fits", kind="Dark")
    put(tmp_path / "b.fits", kind="Light", array=array)
    assert {row[1] for row in rows(open_session(tmp_path)).values()} == {"used"}


def test_what_cannot_be_used_is_set_aside_with_a_remark(night):
    whole = (night / "night1" / "b_0.fits").read_bytes()
    (night / "cut.fits").write_bytes(whole[:-3000])
    (night / "empty.fits").write_bytes(b"")
    (night / "page.fits").write_text("<html>")
    (night / "notes.txt").write_text("clouds")
    (night / "preview.jpg").write_bytes(b"\xff\xd8")
    session = open_session(night)
    assert session["lights"].sizes["time"] == 6
    assert "truncated" in remark(session, "cut.fits") and "of 12 rows are whole" in remark(session, "cut.fits")
    assert "0 bytes" in remark(session, "empty.fits") and "not a FITS file" in remark(session, "page.fits")
    table = rows(session)
    assert table["notes.txt"][1] == table["preview.jpg"][1] == "foreign"
    assert table["cut.fits"][1] == "unusable" and "3 files unusable" in session.attrs["notes"]
    with pytest.raises(DataError, match=r"cut\.fits: truncated.*open_session sets such files aside"):
        open_frames(night)


def test_a_dwarf_folder_with_names_in_any_script_is_understood(tmp_path):
    folder = tmp_path / "DWARF_RAW_TELE_仙女座星系_EXP_15_GAIN_60_2026-01-01"
    for i in range(3):
        put(folder / f"仙女座星系_15s60_Astro_{i:04d}.fits", kind=None, exposure=None, seconds=20 * i)
    put(folder / "failed_仙女座星系_15s60_Astro_0003.fits", kind=None, seconds=60)
    put(folder / "stacked-16_仙女座星系.fits", kind=None, seconds=80)
    (folder / "shotsInfo.json").write_text(json.dumps({"exp": "15", "gain": 60, "target": "仙女座星系"}), "utf-8")
    session = open_session(folder)
    lights = session["lights"]
    assert lights.sizes["time"] == 3 and list(lights.exposure_s.values) == [15.0] * 3
    assert lights.attrs["object"] == "仙女座星系" and json.loads(session.attrs["shots_info"])[""]["gain"] == 60
    statuses = {name[:6]: row[1] for name, row in rows(session).items()}
    assert statuses["failed"] == "flagged" and statuses["stacke"] == "product"


def test_run_folders_stores_and_hidden_files_are_not_searched(night):
    put(night / "processed" / "run1" / "raw.fits")
    (night / "processed" / "run1" / "manifest.json").write_text("{}")
    put(night / "night.zarr" / "x.fits")
    (night / "night.zarr" / "zarr.json").write_text("{}")
    put(night / ".trash" / "x.fits")
    put(night / "._b_0.fits")
    assert open_session(night)["lights"].sizes["time"] == 6


def test_a_link_in_a_circle_is_walked_once(night):
    (night / "again").symlink_to(night)
    assert open_session(night)["lights"].sizes["time"] == 6


def test_a_second_geometry_gets_its_own_nodes_and_the_longer_one_comes_first(tmp_path):
    for i in range(4):
        put(tmp_path / f"s_{i}.fits", seconds=i, exposure=1.0)
        put(tmp_path / f"s_dark_{i}.fits", kind="Dark", seconds=50 + i)
    for i in range(2):
        put(tmp_path / f"l_{i}.fits", seconds=100 + i, exposure=60.0, shape=(20, 30))
    put(tmp_path / "l_dark.fits", kind="Dark", seconds=200, shape=(20, 30))
    put(tmp_path / "odd_bias.fits", kind="Bias", seconds=300, shape=(5, 5))
    session = open_session(tmp_path)
    sizes = {name: (node.sizes["time"], node.sizes["y"]) for name, node in session.children.items() if name != "files"}
    assert sizes == {"lights": (2, 20), "lights_2": (4, 12), "darks": (1, 20), "darks_2": (4, 12), "biases_3": (1, 5)}


def test_a_second_colour_filter_pattern_is_a_second_geometry(tmp_path):
    put(tmp_path / "a.fits", BAYERPAT="RGGB", seconds=1, exposure=20.0)
    put(tmp_path / "b.fits", BAYERPAT="BGGR", seconds=2)
    session = open_session(tmp_path)
    assert str(session["lights"].cfa_pattern.values) == "RGGB" and str(session["lights_2"].cfa_pattern.values) == "BGGR"


def test_frames_with_a_sky_of_their_own_carry_it_along_time(tmp_path):
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL2": 41.0, "CRPIX1": 8.0, "CRPIX2": 6.0,
             "CDELT1": -1e-3, "CDELT2": 1e-3}  # fmt: skip
    for i in range(3):
        put(tmp_path / "own" / f"{i}.fits", seconds=i, CRVAL1=10.0 + i, **cards)
        put(tmp_path / "one" / f"{i}.fits", seconds=i, CRVAL1=10.0, **cards)
    own, one = open_frames(tmp_path / "own"), open_frames(tmp_path / "one")
    assert own.wcs.dims == ("time",) and "CRVAL1  = 11." in own.wcs.values[1]
    assert one.wcs.dims == () and one.wcs.dtype == object


def test_a_folder_of_mixed_kinds_is_refused_by_open_frames(night):
    with pytest.raises(DataError, match=r"6 light.*open_session"):
        open_frames(night)
    assert open_frames(night / "darks").sizes["time"] == 3


def test_a_folder_without_frames_says_what_was_found(tmp_path):
    with pytest.raises(DataError, match="there are no files in it"):
        open_session(tmp_path)
    (tmp_path / "a.fits").write_bytes(b"")
    with pytest.raises(DataError, match=r"no frame can be used \(1 unusable; e.g. a.fits: the file is empty"):
        open_session(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        open_session(tmp_path / "nowhere")
    with pytest.raises(DataError, match="at least one folder"):
        open_session()


def test_headers_are_read_once(night, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(str(path)) or real(path, *a, **k))
    session = open_session(night)
    counts = {path: opened.count(path) for path in opened if path.endswith(".fits")}
    sampled = [path for path, count in counts.items() if count > 1]
    assert len(counts) == 13
    assert len(sampled) <= 4  # one frame per kind is looked at for saturation and pedestal
    assert session["files"].sizes["item"] == 13
