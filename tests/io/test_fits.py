"""The FITS window reader against files that astropy wrote."""

import gzip
import os
import pickle
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from getframes_xr.core.errors import DataError
from getframes_xr.core.window import Span, Window
from getframes_xr.face.frames_in import producer_of
from getframes_xr.io import fits_pixels
from getframes_xr.io.fits import Cards, bytes_read, read_header, scan, scan_all
from getframes_xr.io.fits_pixels import CACHE, DecodedCache, FitsSource, read_image
from getframes_xr.io.frames import open_frames, producer_from

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def pixels(dtype, shape, seed=7):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


def write(path, array, cards=None, **options):
    unit = fits.PrimaryHDU(array)
    unit.header.update(cards or {})
    unit.writeto(path, overwrite=True, **options)
    return str(path)


def night(folder, n=5, shape=(40, 64), dtype="u2"):
    folder.mkdir(exist_ok=True)
    cube = pixels(dtype, (n, *shape))
    for i, frame in enumerate(cube):
        write(folder / f"frame_{i}.fits", frame, {"DATE-OBS": f"2026-01-01T00:00:{10 + i}", "EXPTIME": 1.0})
    return cube


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_comes_back_as_astropy_reads_it(tmp_path, dtype):
    array = pixels(dtype, (23, 31))
    path = write(tmp_path / "a.fits", array)
    found = read_image(path)
    assert found.dtype == array.dtype and found.dtype.isnative
    assert found.tobytes() == array.tobytes()


def test_scaled_integers_become_floats_with_nan_where_blank(tmp_path):
    stored = np.arange(-50, 50, dtype=np.int16).reshape(10, 10)
    unit = fits.PrimaryHDU(stored)
    unit.header["BSCALE"], unit.header["BZERO"], unit.header["BLANK"] = 0.25, 7.5, -3
    path = str(tmp_path / "a.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unit.writeto(path)
    raw = np.frombuffer(Path(path).read_bytes()[2880:], ">i2")[:100]
    cards = fits.getheader(path)
    found = read_image(path)
    expected = np.where(raw == cards["BLANK"], np.nan, raw * cards["BSCALE"] + cards["BZERO"]).reshape(10, 10)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.fixture(scope="module")
def stored_in_all_ways(tmp_path_factory):
    """One u16 image as plain, scaled, gzip, bzip2 and tile-compressed files."""
    folder = tmp_path_factory.mktemp("ways")
    array = pixels("u2", (61, 97)) // 8
    plain = write(folder / "a.fits", array)
    write(folder / "a.fits.gz", array)
    write(folder / "a.fits.bz2", array)
    fits.CompImageHDU(array, compression_type="RICE_1").writeto(folder / "a.fits.fz")
    (folder / "named_plain.fits").write_bytes(gzip.compress(Path(plain).read_bytes()))
    return array, [
        str(folder / name) for name in ("a.fits", "a.fits.gz", "a.fits.bz2", "a.fits.fz", "named_plain.fits")
    ]


@settings(max_examples=60)
@given(data=st.data())
def test_a_window_is_the_cut_of_the_whole_for_every_way_of_storing(stored_in_all_ways, data):
    array, paths = stored_in_all_ways
    path = data.draw(st.sampled_from(paths))
    y = sorted(data.draw(st.tuples(st.integers(0, 61), st.integers(0, 61))))
    x = sorted(data.draw(st.tuples(st.integers(0, 97), st.integers(0, 97))))
    source = FitsSource.of(scan(path))
    out = np.empty((y[1] - y[0], x[1] - x[0]), np.uint16)
    source.read(Span(*y), Span(*x), out)
    np.testing.assert_array_equal(out, array[y[0] : y[1], x[0] : x[1]])


def test_strips_smaller_than_the_window_join_without_a_seam(tmp_path, monkeypatch):
    array = pixels("u2", (50, 40))
    source = FitsSource.of(scan(write(tmp_path / "a.fits", array)))
    monkeypatch.setattr(fits_pixels, "STRIP_BYTES", 7 * 40 * 2)
    out = np.empty((45, 33), np.uint16)
    source.read(Span(2, 47), Span(5, 38), out)
    np.testing.assert_array_equal(out, array[2:47, 5:38])


def test_bytes_read_are_counted_to_the_byte(tmp_path):
    path = write(tmp_path / "a.fits", pixels("u2", (64, 128)))
    source = FitsSource.of(scan(path))

    def cost(y, x):
        before = bytes_read()
        source.read(y, x, np.empty((len(y), len(x)), np.uint16))
        return bytes_read() - before

    assert cost(Span(3, 13), Span(0, 128)) == 10 * 128 * 2  # full rows
    assert cost(Span(3, 13), Span(8, 40)) == 10 * 128 * 2  # wide enough: full rows in one call
    assert cost(Span(3, 13), Span(8, 20)) == 10 * 12 * 2  # narrow: only its own columns
    before, threads = bytes_read(), [threading.Thread(target=cost, args=(Span(0, 64), Span(0, 128))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bytes_read() - before == 8 * 64 * 128 * 2


def test_a_header_scan_reads_only_the_first_blocks(tmp_path):
    path = write(tmp_path / "a.fits", pixels("u2", (600, 600)))
    before = bytes_read()
    scan(path)
    assert bytes_read() - before <= 4 * 2880


def test_cards_are_parsed_as_astropy_parses_them(tmp_path):
    header = fits.Header()
    header["INT"], header["FLT"], header["EXPO"] = 42, -1.5e-7, (2.5, "seconds / frame")
    header["TXT"], header["QUOTE"], header["YES"] = "it / is", "O'Hara's 'eye'", True
    header["EMPTY"], header["LONG"] = "", "x" * 60
    header["DUP"] = "first"
    header.append(("DUP", "second"))
    path = write(tmp_path / "a.fits", pixels("u1", (4, 4)))
    fits.PrimaryHDU(pixels("u1", (4, 4)), header).writeto(path, overwrite=True)
    cards = scan(path).cards
    assert cards.number("INT") == 42 and cards.number("FLT") == -1.5e-7 and cards.number("EXPO") == 2.5
    assert cards.comment("EXPO") == "seconds / frame"
    assert cards.text("TXT") == "it / is" and cards.text("QUOTE") == "O'Hara's 'eye'" and cards.text("YES") == "T"
    assert cards.text("EMPTY") is None and cards.text("LONG") == "x" * 60 and cards.text("DUP") == "first"
    assert cards.text("NOTHERE") is None and "INT" in cards and "NOTHERE" not in cards


def test_a_number_may_have_a_fortran_exponent():
    raw = b"".join(card.ljust(80).encode() for card in ("D_EXP   =                1.5D2", "WORD    = 'abc'"))
    assert Cards(raw).number("D_EXP") == 150.0 and Cards(raw).number("WORD") is None


def test_an_extension_is_found_by_index_name_and_version(tmp_path):
    path = str(tmp_path / "mef.fits")
    one, two = pixels("i2", (5, 6)), pixels("f4", (7, 8))
    fits.HDUList(
        [fits.PrimaryHDU(), fits.ImageHDU(one, name="SCI", ver=1), fits.ImageHDU(two, name="SCI", ver=2)]
    ).writeto(path)
    assert scan(path).hdu == 1 and len(scan_all(path)) == 2
    np.testing.assert_array_equal(read_image(path, 2), two)
    np.testing.assert_array_equal(read_image(path, "sci"), one)
    np.testing.assert_array_equal(read_image(path, ("SCI", 2)), two)
    with pytest.raises(DataError, match="no HDU 'ERR'"):
        scan(path, "ERR")
    with pytest.raises(DataError, match="holds no image"):
        scan(path, 0)


def test_an_extension_inherits_cards_of_the_primary_but_not_its_shape(tmp_path):
    primary = fits.PrimaryHDU()
    primary.header["DATE-OBS"] = "2026-01-02T03:04:05"
    path = str(tmp_path / "a.fits")
    fits.HDUList([primary, fits.ImageHDU(pixels("u2", (4, 5)), name="SCI")]).writeto(path)
    image = scan(path)
    assert image.layout.shape == (4, 5) and image.cards.text("DATE-OBS") == "2026-01-02T03:04:05"


def test_the_whole_header_is_there_for_those_who_ask(tmp_path):
    header = fits.Header()
    header["LONGTXT"] = "y" * 150
    header["HIERARCH ESO DET GAIN"] = 1.25
    path = write(tmp_path / "a.fits", pixels("u1", (4, 4)))
    fits.PrimaryHDU(pixels("u1", (4, 4)), header).writeto(path, overwrite=True)
    found = read_header(path)
    assert found["LONGTXT"] == "y" * 150 and found["ESO DET GAIN"] == 1.25


@pytest.mark.parametrize("cut", [0, 100, 2000, 2880, 2880 + 777])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_file_cut_short_is_refused_by_name(tmp_path, cut, packed):
    whole = Path(write(tmp_path / "a.fits", pixels("u2", (40, 40)))).read_bytes()
    path = tmp_path / f"cut.fits{packed}"
    if packed:
        packed_bytes = gzip.compress(whole)
        path.write_bytes(packed_bytes[: min(max(1, cut), len(packed_bytes) - 30)])
    else:
        path.write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"cut\.fits"):
        scan(path)


def test_a_file_that_shrinks_after_opening_is_an_error_not_wrong_pixels(tmp_path):
    night(tmp_path / "n", 2)
    frames = open_frames(tmp_path / "n")
    os.truncate(tmp_path / "n" / "frame_1.fits", 2880 + 100)
    frames.adu[0].values  # noqa: B018
    with pytest.raises(DataError, match="frame_1.fits: was changed"):
        frames.adu[1].values  # noqa: B018


def test_an_unpadded_file_and_one_with_trailing_bytes_are_read(tmp_path):
    array = pixels("u2", (40, 40))
    whole = Path(write(tmp_path / "a.fits", array)).read_bytes()
    (tmp_path / "nopad.fits").write_bytes(whole[: 2880 + array.nbytes])
    (tmp_path / "more.fits").write_bytes(whole + b"junk" * 33)
    for name in ("nopad.fits", "more.fits"):
        np.testing.assert_array_equal(read_image(tmp_path / name), array)


# The cache of decoded files


def test_the_cache_never_holds_more_than_its_limit_and_drops_the_oldest():
    cache = DecodedCache(limit=1000)
    for key in "abcde":
        cache.get(key, lambda: np.zeros(40, np.float64))
        assert cache.nbytes <= 1000
    made = []
    cache.get("e", lambda: made.append("e") or np.zeros(40))
    cache.get("a", lambda: made.append("a") or np.zeros(40))
    assert made == ["a"]
    cache.get("large", lambda: np.zeros(1000))
    assert cache.nbytes <= 1000


def test_two_threads_decode_a_file_once():
    cache, made, go = DecodedCache(), [], threading.Event()

    def make():
        go.wait(2)
        made.append(1)
        return np.zeros(4)

    threads = [threading.Thread(target=cache.get, args=("k", make)) for _ in range(6)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_windows_of_a_compressed_file_read_it_once(stored_in_all_ways):
    _, paths = stored_in_all_ways
    source = FitsSource.of(scan(paths[3]))
    CACHE.clear()
    before = bytes_read()
    for start in range(0, 60, 10):
        source.read(Span(start, start + 10), Span(0, 97), np.empty((10, 97), np.uint16))
    assert bytes_read() - before == os.path.getsize(paths[3])


# Frames


def test_opening_frames_runs_no_task(tmp_path, refuses_to_compute):
    night(tmp_path / "n")
    assert open_frames(tmp_path / "n").adu.chunks is not None


def test_frames_keep_their_type_and_times(tmp_path):
    cube = night(tmp_path / "n")
    frames = open_frames(tmp_path / "n")
    assert frames.adu.dtype == np.uint16 and frames.adu.dims == ("time", "y", "x")
    np.testing.assert_array_equal(frames.adu.values, cube)
    assert list(frames.frame.values) == [0, 1, 2, 3, 4]
    assert str(frames.start.values[2]).startswith("2026-01-01T00:00:12.000")
    assert frames.time.values[2] - frames.start.values[2] == np.timedelta64(500, "ms")


def test_frames_are_in_order_of_time_whatever_the_order_given(tmp_path):
    night(tmp_path / "n")
    paths = [str(tmp_path / "n" / f"frame_{i}.fits") for i in (3, 0, 4, 1, 2, 0)]
    frames = open_frames(paths)
    assert list(frames.file.values) == [f"frame_{i}.fits" for i in range(5)]
    assert frames.identical(open_frames(str(tmp_path / "n" / "*.fits")))


@given(data=st.data())
def test_a_produced_window_is_the_cut_of_a_larger_one(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "law"
    if not folder.exists():
        night(folder)
    producer, _ = producer_from(folder)
    spans = []
    for size in (5, 40, 64):
        bounds = sorted(data.draw(st.lists(st.integers(0, size), min_size=4, max_size=4)))
        spans.append((Span(bounds[0], bounds[3]), Span(bounds[1], bounds[2])))
    outer, inner = (Window(*(pair[i] for pair in spans)) for i in (0, 1))
    whole = producer.produce(outer, ["adu"]).view(inner)["adu"]
    assert producer.produce(inner, ["adu"])["adu"].tobytes() == whole.tobytes()


def test_a_colour_cube_is_a_frame_with_bands_and_any_other_cube_is_frames(tmp_path):
    colour, pair = pixels("u2", (3, 12, 14)), pixels("u2", (2, 12, 14))
    frames = open_frames(write(tmp_path / "rgb.fits", colour))
    assert frames.adu.dims == ("time", "band", "y", "x") and list(frames.band.values) == ["red", "green", "blue"]
    np.testing.assert_array_equal(frames.adu[0, :, 3:9, 1:13].values, colour[:, 3:9, 1:13])
    frames = open_frames(write(tmp_path / "pair.fits", pair))
    np.testing.assert_array_equal(frames.adu.values, pair)
    assert list(frames.file.values) == ["pair.fits[0]", "pair.fits[1]"]


def test_files_of_different_types_share_the_type_that_holds_both(tmp_path):
    a, b = pixels("u2", (8, 9)), pixels("i2", (8, 9))
    write(tmp_path / "a.fits", a)
    write(tmp_path / "b.fits", b)
    frames = open_frames(str(tmp_path / "*.fits"))
    assert frames.adu.dtype == np.int32
    np.testing.assert_array_equal(frames.adu.values, np.stack([a.astype(np.int32), b]))


def test_a_producer_of_files_pickles_small_and_keeps_its_token(tmp_path):
    night(tmp_path / "n")
    producer, _ = producer_from(tmp_path / "n")
    again = pickle.loads(pickle.dumps(producer))
    assert again == producer and len(pickle.dumps(producer)) < 6000
    os.utime(tmp_path / "n" / "frame_3.fits", ns=(1, 1))
    assert producer_from(tmp_path / "n")[0] != producer


def forecast_cases(folder):
    array = pixels("u2", (300, 400))
    plain = write(folder / "a.fits", array)
    scaled = fits.PrimaryHDU((array // 2).astype(np.int16))
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 3.0
    scaled.writeto(folder / "s.fits")
    write(folder / "a.fits.gz", array)
    fits.CompImageHDU(array // 8).writeto(folder / "a.fits.fz")
    full, cut, narrow = (Span(0, 300), Span(0, 400)), (Span(20, 200), Span(30, 300)), (Span(0, 300), Span(7, 20))
    for path in (plain, str(folder / "s.fits"), str(folder / "a.fits.gz"), str(folder / "a.fits.fz")):
        for y, x in (full, cut, narrow):
            yield path, Window(Span(0, 1), y, x)


def test_forecast_bytes_cover_what_a_window_needs(tmp_path):
    for path, window in forecast_cases(tmp_path):
        producer, _ = producer_from(path)
        producer.produce(window, producer.planes)  # imports and compilation
        CACHE.clear()
        tracemalloc.start()
        producer.produce(window, producer.planes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= producer.peak_bytes(window, producer.planes) + 400_000, (path, window)  # small Python objects


# Refusals


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: (p / "text.fits").write_text("hello"), r"text.fits.*not a FITS file"),
        (lambda p: (p / "none.fits").write_bytes(b""), r"none.fits.*empty"),
        (lambda p: (p / "z.fits.Z").write_bytes(b"\x1f\x9d12345"), r"z.fits.Z.*LZW"),
        (lambda p: fits.HDUList([fits.PrimaryHDU()]).writeto(p / "no.fits"), r"no.fits.*no image"),
        (lambda p: write(p / "line.fits", pixels("u2", (9,))), r"line.fits.*shape \(9,\)"),
    ],
)
def test_what_is_no_frame_is_refused_with_its_name_and_reason(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(DataError, match=words):
        open_frames(str(next(tmp_path.iterdir())))


def test_frames_of_two_shapes_are_refused_and_open_session_named(tmp_path):
    write(tmp_path / "a.fits", pixels("u2", (8, 9)))
    write(tmp_path / "b.fits", pixels("u2", (9, 9)))
    with pytest.raises(DataError, match=r"several shapes.*open_session"):
        open_frames(tmp_path)


def test_nothing_there_is_said_plainly(tmp_path):
    with pytest.raises(DataError, match="no FITS frames"):
        open_frames(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        open_frames(tmp_path / "missing.fits")
    with pytest.raises(DataError, match="no match"):
        open_frames(str(tmp_path / "*.fits"))
    with pytest.raises(DataError, match="empty list"):
        open_frames([])


def test_an_axis_of_length_zero_allocates_nothing(tmp_path):
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    2",
             "NAXIS1  =            777777701", "NAXIS2  =                    0", "END"]  # fmt: skip
    (tmp_path / "zero.fits").write_bytes("".join(card.ljust(80) for card in cards).encode().ljust(2880))
    tracemalloc.start()
    with pytest.raises(DataError, match="length 0"):
        open_frames(str(tmp_path / "zero.fits"))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert read_image(tmp_path / "zero.fits", 0).shape == (0, 777777701)


# The xarray engine


SELECTIONS = [
    {"time": slice(0, 5)},
    {"time": [4, 2], "y": [7, 3, 30], "x": slice(10, 60, 7)},
    {"time": 3, "y": 5, "x": 6},
    {"time": slice(4, 0, -2), "y": slice(35, 2, -3), "x": slice(None, None, -1)},
    {"time": 2, "y": slice(0, 0)},
    {"time": [1, 1, 0], "x": [-1, -2]},
    {"time": np.array([], int)},
]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("chunks", [None, {}], ids=["unloaded", "dask"])
def test_the_xarray_engine_selects_as_numpy_does(tmp_path, selection, chunks):
    cube = night(tmp_path / "n")
    opened = xr.open_dataset(str(tmp_path / "n"), engine="getframes_fits", chunks=chunks)
    expected = xr.DataArray(cube, dims=("time", "y", "x")).isel(selection)
    found = opened.adu.isel(selection)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found.values, expected.values)


def test_the_xarray_engine_prefers_bands_of_full_rows_and_drops_variables(tmp_path):
    night(tmp_path / "n")
    files = sorted(str(p) for p in (tmp_path / "n").iterdir())
    opened = xr.open_dataset(files[0], engine="getframes_fits")
    assert opened.adu.encoding["preferred_chunks"] == {"time": 1, "y": 40, "x": 64}
    assert opened.adu.attrs["units"] == "adu" and "frame" in opened.coords
    assert not xr.open_dataset(files[0], engine="getframes_fits", drop_variables="adu").data_vars


# Plain copies of compressed sessions


def two_nights(tmp_path, offset=800):
    """Two folders whose files have equal names, sizes and times, as from an archive that keeps none."""
    for name, level in (("a", 100), ("b", 100 + offset)):
        (tmp_path / name).mkdir()
        for k in range(3):
            path = write(tmp_path / name / f"f{k}.fits", np.full((90, 120), level + k, np.uint16), {"EXPTIME": 1.0})
            os.utime(path, ns=(10**18, 10**18))
    return open_frames(str(tmp_path / "a")), open_frames(str(tmp_path / "b"))


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_equal_name_size_and_time_are_told_apart(tmp_path, packed):
    one, two = two_nights(tmp_path)
    if packed:
        for name in ("a", "b"):
            for path in (tmp_path / name).iterdir():
                raw = path.read_bytes()
                path.with_suffix(".fits.gz").write_bytes(gzip.compress(raw, 0, mtime=0))
                path.unlink()
                os.utime(path.with_suffix(".fits.gz"), ns=(10**18, 10**18))
        one, two = (open_frames(str(tmp_path / name)) for name in ("a", "b"))
    import dask

    import getframes_xr as gx

    first, second = dask.compute(gx.master(one).image.mean(), gx.master(two).image.mean())
    assert (float(first), float(second)) == (101.0, 901.0)


def test_a_moved_folder_holds_the_same_frames(tmp_path):
    one, _ = two_nights(tmp_path)
    before = producer_of(one["adu"]).token()
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    assert producer_of(open_frames(str(tmp_path / "elsewhere"))["adu"]).token() == before


def test_a_change_of_one_sampled_byte_is_another_file_though_size_and_time_stay(tmp_path):
    path = write(tmp_path / "f.fits", np.zeros((90, 120), np.uint16), {"EXPTIME": 1.0})
    stamp = os.stat(path).st_mtime_ns
    before = producer_of(open_frames(path)["adu"]).token()
    with open(path, "r+b") as file:
        file.seek(2880 + 10)
        file.write(b"\x01")
    os.utime(path, ns=(stamp, stamp))
    assert producer_of(open_frames(path)["adu"]).token() != before
