"""Numbers that belong to a place: keys, streams, windows in windows, ranges, events."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from getframes_xr.core.draws import Draws, events_of_frame, key_of, stream_word
from getframes_xr.core.errors import DataError
from getframes_xr.core.kernel import kernel
from getframes_xr.core.philox import EVENTS, FRAMES, PIXELS, ROWS, philox, words_row
from getframes_xr.core.window import Span
from tests.reference import draws as reference

KEY = (11, 22)
STREAM = stream_word(5, 1)


@kernel
def one_block(counter, key):
    c0, c1, c2, c3 = (
        np.uint32(counter[0]),
        np.uint32(counter[1]),
        np.uint32(counter[2]),
        np.uint32(counter[3]),
    )
    return philox(c0, c1, c2, c3, np.uint32(key[0]), np.uint32(key[1]))


KNOWN_ANSWERS = [  # Random123 distribution, kat_vectors, philox4x32 10
    ((0,) * 4, (0,) * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter, key, answer):
    words = np.array([counter, counter], np.int64), np.array(key, np.int64)
    assert " ".join(f"{int(word):08x}" for word in one_block(words[0][0], words[1])) == answer
    assert " ".join(f"{int(word):08x}" for word in reference.philox(counter, key)) == answer


def test_words_equal_the_reference_at_the_corners_of_the_range():
    top = 2**32
    for frame, y, x in itertools.product((0, 3, top - 1), (0, top - 2), (0, 41, top - 9)):
        strip = Draws((7, top - 1), [frame], range(y, y + 2), range(x, x + 9), 0xFFFFFF00)
        expected = reference.words((7, top - 1), frame, np.arange(y, y + 2), np.arange(x, x + 9), 0xFFFFFF03)
        assert np.array_equal(strip.words(draw=3)[0], expected)


LAWS = {
    "words": lambda strip, mean: strip.words(1),
    "uniform": lambda strip, mean: strip.uniform(),
    "normal": lambda strip, mean: strip.normal(2),
    "exponential": lambda strip, mean: strip.exponential(),
    "poisson": lambda strip, mean: strip.poisson(mean),
    "poisson32": lambda strip, mean: strip.poisson(mean.astype(np.float32)),
    "gamma": lambda strip, mean: strip.gamma(mean / 4, 3.0),
    "binomial": lambda strip, mean: strip.binomial(np.floor(mean * 9), 0.4),
}
FRAMES_OF_STRIP, ROWS_OF_STRIP, COLUMNS_OF_STRIP = np.array([2, 9, 5]), 3, 1100


def mean_of(frames, y, x):
    """Means 0..~40 that differ from pixel to pixel and cross every branch; a function of place."""
    f, j, i = np.meshgrid(frames, y, x, indexing="ij")
    return ((f * 7 + j * 131 + i * 17) % 401) ** 2 / 4000.0


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_window_in_a_window_has_the_same_bytes(law, data):
    y0, x0 = 2_000_000, 37
    y, x = range(y0, y0 + ROWS_OF_STRIP), range(x0, x0 + COLUMNS_OF_STRIP)
    whole = LAWS[law](Draws(KEY, FRAMES_OF_STRIP, y, x, STREAM), mean_of(FRAMES_OF_STRIP, y, x))
    t = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
    j = sorted(data.draw(st.lists(st.integers(0, ROWS_OF_STRIP), min_size=2, max_size=2)))
    i = sorted(data.draw(st.lists(st.integers(0, COLUMNS_OF_STRIP), min_size=2, max_size=2)))
    inner_y, inner_x = range(y0 + j[0], y0 + j[1]), range(x0 + i[0], x0 + i[1])
    frames = FRAMES_OF_STRIP[t]
    part = LAWS[law](Draws(KEY, frames, inner_y, inner_x, STREAM), mean_of(frames, inner_y, inner_x))
    assert part.tobytes() == whole[t, j[0] : j[1], i[0] : i[1]].tobytes()


def test_threads_get_the_same_bytes():
    def one(y):
        return Draws(KEY, [4], range(y, y + 8), range(300), STREAM).normal().tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(0, 64, 8))) == [one(y) for y in range(0, 64, 8)]


PLACES = {  # each differs from the first in one thing only
    "itself": (KEY, 3, 0, 0, STREAM, 0),
    "frame": (KEY, 4, 0, 0, STREAM, 0),
    "row": (KEY, 3, 1, 0, STREAM, 0),
    "column": (KEY, 3, 0, 1, STREAM, 0),
    "block of columns": (KEY, 3, 0, 4, STREAM, 0),
    "draw": (KEY, 3, 0, 0, STREAM, 1),
    "ordinal": (KEY, 3, 0, 0, stream_word(5, 2), 0),
    "stage": (KEY, 3, 0, 0, stream_word(6, 1), 0),
    "low key": ((12, 22), 3, 0, 0, STREAM, 0),
    "high key": ((11, 23), 3, 0, 0, STREAM, 0),
    "camera": (key_of(1, "camera 1", "light"), 3, 0, 0, STREAM, 0),
    "other camera": (key_of(1, "camera 2", "light"), 3, 0, 0, STREAM, 0),
    "kind of frame": (key_of(1, "camera 1", "dark"), 3, 0, 0, STREAM, 0),
    "seed": (key_of(2, "camera 1", "light"), 3, 0, 0, STREAM, 0),
    "fixed pattern": (key_of("camera 1", "fixed"), 0, 0, 0, STREAM, 0),
}


def test_numbers_of_different_places_are_independent():
    n_rows, n_columns = 250, 400
    deviates = {}
    for name, (key, frame, y, x, stream, draw) in PLACES.items():
        strip = Draws(key, [frame], range(y, y + n_rows), range(x, x + n_columns), stream)
        deviates[name] = strip.normal(draw).ravel().astype(np.float64)
    table = np.corrcoef(np.array(list(deviates.values())))
    correlations = table[np.triu_indices(len(PLACES), 1)]
    # 105 pairs, each of sigma 1/sqrt(n): 4.5 sigma is met by chance once in 1400 runs (and the numbers are fixed)
    assert abs(correlations).max() < 4.5 / np.sqrt(n_rows * n_columns)


@pytest.mark.parametrize("lag", [(0, 1), (1, 0), (0, 2), (0, 4), (1, 1), (1, -1)])
def test_neighbouring_pixels_are_independent(lag):
    z = Draws(KEY, [8], range(700), range(1000), STREAM).normal()[0].astype(np.float64)
    pairs = z[: z.shape[0] - lag[0]], np.roll(z, -lag[1], axis=1)[lag[0] :]
    for power in (1, 2):  # the squares as well: equal sizes of unlike sign would hide from the first
        r = np.corrcoef(pairs[0].ravel() ** power, pairs[1].ravel() ** power)[0, 1]
        assert abs(r) < 4.5 / np.sqrt(z.size)


def test_every_bit_of_the_words_is_as_often_one_as_zero():
    words = Draws(KEY, [0], range(1000), range(1000), STREAM).words()
    ones = np.array([np.count_nonzero(words & np.uint32(1 << bit)) for bit in range(32)])
    assert abs(ones - words.size / 2).max() < 4.5 * np.sqrt(words.size) / 2


def test_the_key_is_the_start_of_a_blake2b_digest_of_length_prefixed_parts():
    parts = [b"number:7", b"camera 1", b"light"]
    code = hashlib.blake2b(b"".join(len(p).to_bytes(8, "little") + p for p in parts), digest_size=8).digest()
    assert key_of(7, "camera 1", "light") == tuple(np.frombuffer(code, "<u4").tolist())


def test_keys_of_different_parts_differ():
    keys = [
        key_of(1),
        key_of("1"),
        key_of(-1),
        key_of(2**80),
        key_of(1, "ab", "c"),
        key_of(1, "a", "bc"),
        key_of(1, "abc"),
        key_of(1, "abc", ""),
        key_of("number:1"),
        key_of("text:1"),
        key_of("\ud800"),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(np.int32(1)) == key_of(1)


@pytest.mark.parametrize("seed", [1.5, None, True, b"1"])
def test_a_seed_that_is_neither_number_nor_text_is_refused(seed):
    with pytest.raises(DataError, match="a seed is any int or str"):
        key_of(seed)


def test_a_part_of_the_key_that_is_no_text_is_refused():
    with pytest.raises(DataError, match="got the part 3"):
        key_of(1, 3)


def test_the_stream_word_packs_number_ordinal_and_draw():
    assert stream_word(0x1234, 0x56, 0x78) == 0x12345678


@pytest.mark.parametrize("parts", [(65536, 0, 0), (-1, 0, 0), (1, 256, 0), (1, 0, 256), (1, 0, -1)])
def test_a_stream_word_out_of_range_is_refused(parts):
    with pytest.raises(DataError, match="is outside 0"):
        stream_word(*parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": [-1]}, r"frame=-1 is outside"),
        ({"frames": [2**32]}, r"frame=4294967296 is outside"),
        ({"frames": np.array([2**63], np.uint64)}, "outside"),
        ({"frames": [1.0]}, "frames must be integers"),
        ({"frames": [[1]]}, "frames must be integers on one axis"),
        ({"y": range(-1, 5)}, r"y=-1 is outside"),
        ({"x": range(5, 2**32 + 1)}, r"x=4294967296 is outside"),
        ({"x": Span(-5, 2)}, r"x=-5 is outside"),
        ({"x": slice(0, 4, 2)}, "has a step"),
        ({"y": slice(None, 4)}, "no start or no stop"),
        ({"y": slice(0.5, 4)}, "no integer"),
        ({"key": (2**32, 0)}, "key="),
        ({"stream": 2**32}, "stream="),
        ({"stream": stream_word(1, 0, 2)}, "already names draw 2"),
    ],
)
def test_a_place_that_is_no_place_is_refused_never_cast(change, message):
    place = {"key": KEY, "frames": [0], "y": range(4), "x": range(4), "stream": STREAM} | change
    with pytest.raises(DataError, match=message):
        Draws(**place)


def test_draw_numbers_out_of_range_are_refused():
    strip = Draws(KEY, [0], range(2), range(2), STREAM)
    for call in (
        lambda: strip.normal(256),
        lambda: strip.uniform(-1),
        lambda: strip.gamma(1.0, draw=240),
        lambda: strip.binomial(5, 0.5, draw=225),
    ):
        with pytest.raises(DataError, match="is outside 0"):
            call()


def test_arrays_that_do_not_fit_the_strip_are_refused():
    strip = Draws(KEY, [0, 1], range(3), range(4), STREAM)
    with pytest.raises(DataError, match="does not fit the strip"):
        strip.poisson(np.ones((2, 3, 5)))
    with pytest.raises(DataError, match="does not fit the strip"):
        strip.poisson(np.array(["many"]))
    for out in (np.empty((2, 3, 4)), np.empty((2, 3, 5), np.float32), np.empty((2, 3, 8), np.float32)[:, :, ::2]):
        with pytest.raises(DataError, match="out must be"):
            strip.normal(out=out)


def test_means_broadcast_and_may_be_overwritten_in_place():
    strip = Draws(KEY, [0, 1], range(3), range(700), STREAM)
    column = np.array([2.0, 20.0, 200.0])[:, None]
    full = np.ascontiguousarray(np.broadcast_to(column, strip.shape), np.float32)
    expected = strip.poisson(column)
    assert np.array_equal(strip.poisson(full), expected)
    kept = full.copy()
    kept.flags.writeable = False
    assert np.array_equal(strip.poisson(kept), expected)
    assert strip.poisson(full, out=full) is full
    assert np.array_equal(full, expected)


def test_an_empty_strip_gives_empty_numbers():
    strip = Draws(KEY, np.array([], int), range(5), Span(7, 7), STREAM)
    assert strip.normal().shape == (0, 5, 0)
    assert strip.poisson(3.0).shape == (0, 5, 0)
    assert strip.per_row().shape == (0, 5)


def test_numbers_of_frames_rows_columns_and_events_share_no_counter_with_pixels():
    space_words = []
    for space in (PIXELS, FRAMES, ROWS, EVENTS):
        words = np.empty(4096, np.uint32)
        words_row(1, 2, STREAM, 0, 0, 0, space, words)
        assert np.array_equal(words, reference.words((1, 2), 0, [0], np.arange(4096), STREAM, space)[0])
        space_words.append(words)
    # 4 x 4096 words: the chance of one equal pair among 2^32 is 0.03 (and the numbers are fixed)
    assert len(np.unique(np.concatenate(space_words))) == 4 * 4096


def test_numbers_per_frame_row_and_column_do_not_depend_on_the_strip():
    whole = Draws(KEY, [5, 6], range(100), range(200), STREAM)
    part = Draws(KEY, [6], range(40, 50), range(60, 90), STREAM)
    assert np.array_equal(part.per_frame(8), whole.per_frame(11)[1:, :8])
    assert np.array_equal(part.per_row("uniform"), whole.per_row("uniform")[1:, 40:50])
    assert np.array_equal(part.per_row(item=3), whole.per_row(item=3)[1:, 40:50])
    assert np.array_equal(part.per_column(), whole.per_column()[1:, 60:90])
    assert not np.array_equal(part.per_row(item=3), part.per_row(item=4))
    assert whole.per_row().shape == (2, 100)
    with pytest.raises(DataError, match="known: normal, uniform"):
        part.per_frame(2, kind="gauss")


def test_events_belong_to_frame_and_number_whatever_else_is_asked():
    few = events_of_frame(KEY, 7, STREAM, 40.0, 3)
    more = events_of_frame(KEY, 7, STREAM, 90.0, 5)
    assert few.shape[0] < more.shape[0]
    assert np.array_equal(few, more[: few.shape[0], :3])
    assert not np.array_equal(few[:20], events_of_frame(KEY, 8, STREAM, 40.0, 3)[:20])
    assert ((more > 0) & (more < 1)).all()


def test_counts_of_events_are_poisson_and_their_numbers_uniform():
    mean, n_frames = 6.0, 3000
    lists = [events_of_frame(KEY, frame, STREAM, mean, 2) for frame in range(n_frames)]
    counts = np.array([len(events) for events in lists])
    assert abs(counts.mean() - mean) < 4.5 * np.sqrt(mean / n_frames)
    # variance of a Poisson sample variance: (mean + 2 mean^2) / n
    assert abs(counts.var() - mean) < 4.5 * np.sqrt((mean + 2 * mean**2) / n_frames)
    numbers = np.concatenate(lists)
    assert abs(numbers.mean(axis=0) - 0.5).max() < 4.5 / np.sqrt(12 * len(numbers))
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 4.5 / np.sqrt(len(numbers))


@pytest.mark.parametrize("mean", [-1.0, np.nan, np.inf, 1e8])
def test_a_mean_number_of_events_that_cannot_be_drawn_is_refused(mean):
    with pytest.raises(DataError, match="mean number of events"):
        events_of_frame(KEY, 0, STREAM, mean, 2)


def test_draws_can_be_sent_to_another_process():
    strip = Draws(KEY, [1, 2], range(3), range(4), STREAM)
    assert np.array_equal(pickle.loads(pickle.dumps(strip)).normal(), strip.normal())
