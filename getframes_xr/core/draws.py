"""Random numbers that belong to a place: the value of a draw follows from key, frame, y, x and stream alone.

``key_of(seed, serial, kind)`` is the first 8 bytes of a blake2b digest, so a dark and a light of one seed, or
two cameras, share nothing; a camera's fixed pattern uses ``key_of(serial, "fixed")`` at frame 0. The stream
word says what a number is for: a stage's number << 16 | its ordinal among the camera's stages of that kind <<
8 | draw. `Draws` hands a stage finished numbers for one strip; any window of a strip gives the same bytes as
the strip. The generator and the laws live in `philox`, `normal`, `poisson`, `gamma`, `binomial`; their row
kernels are re-exported here for loops that make a row at a time.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from getframes_xr.core.binomial import BINOMIAL_DRAWS, binomial_row
from getframes_xr.core.elementary import log64
from getframes_xr.core.errors import DataError
from getframes_xr.core.gamma import GAMMA_DRAWS, gamma_row
from getframes_xr.core.kernel import kernel
from getframes_xr.core.normal import normal_row, uniform_row
from getframes_xr.core.philox import EVENTS, FRAMES, PIXELS, ROWS, words_row
from getframes_xr.core.poisson import poisson_row

__all__ = [
    "BINOMIAL_DRAWS",
    "GAMMA_DRAWS",
    "Draws",
    "binomial_row",
    "events_of_frame",
    "gamma_row",
    "key_of",
    "normal_row",
    "poisson_row",
    "stream_word",
    "uniform_row",
    "words_row",
]

Key: TypeAlias = tuple[int, int]
Words: TypeAlias = NDArray[np.uint32]
Floats: TypeAlias = NDArray[np.float32]
Frames: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["normal", "uniform"]

_WORD = 2**32
_PER_FRAME, _PER_COLUMN, _PER_EVENT_COUNT = 0, 1, 2  # lines of the space FRAMES


class Extent(Protocol):
    """Anything with a start and a stop: `Span`, `range`, `slice`."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...


def key_of(seed: int | str, *parts: str) -> Key:
    """Make the generator's key from a seed and what else noise must not be shared with.

    Parameters
    ----------
    seed : int or str
        Any; the number 1 and the text "1" are different seeds.
    *parts : str
        For frames: camera serial, kind of frame. For fixed pattern: ``key_of(serial, "fixed")``.

    Returns
    -------
    tuple of two int in 0 .. 2^32 - 1

    Raises
    ------
    DataError : the seed is neither int nor str, or a part is no str
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (_seed_text(seed), *parts):
        if not isinstance(part, str):
            raise DataError(f"key_of takes a seed and texts, got the part {part!r}")
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    code = digest.digest()
    return int.from_bytes(code[:4], "little"), int.from_bytes(code[4:], "little")


def _seed_text(seed: int | str) -> str:
    if isinstance(seed, str):
        return "text:" + seed
    try:
        if isinstance(seed, (bool, np.bool_)):
            raise TypeError
        return f"number:{operator.index(seed)}"
    except TypeError:
        raise DataError(f"a seed is any int or str, got {seed!r}; write it as text") from None


def stream_word(number: int, ordinal: int = 0, draw: int = 0) -> int:
    """Pack what a number is for: ``number << 16 | ordinal << 8 | draw``.

    Parameters
    ----------
    number : int in 0 .. 65535
        The stage's own stream number.
    ordinal : int in 0 .. 255
        Which of the camera's stages of that kind.
    draw : int in 0 .. 255
        Which draw of the stage; `Draws` adds it itself.

    Raises
    ------
    DataError : one of them is out of range
    """
    for name, value, end in (("number", number, 65536), ("ordinal", ordinal, 256), ("draw", draw, 256)):
        if not 0 <= value < end:
            raise DataError(f"stream {name} {value} is outside 0..{end - 1}")
    return number << 16 | ordinal << 8 | draw


class Draws:
    """Finished random numbers for one strip of one or more frames.

    Parameters
    ----------
    key : tuple of two int
        From `key_of`.
    frames : int (t,)
        Frame numbers (not positions); fixed pattern uses frame 0.
    y, x : Extent
        Absolute rows and columns, half open.
    stream : int
        From `stream_word`, with draw 0.

    Raises
    ------
    DataError : a key word, frame, row or column is no integer in 0 .. 2^32 - 1 (nothing is ever cast), or the
        stream word names a draw
    """

    __slots__ = ("_frames", "_key", "_stream", "_x", "_y")

    def __init__(self, key: Key, frames: ArrayLike, y: Extent, x: Extent, stream: int) -> None:
        self._key = (_word("key", key[0]), _word("key", key[1]))
        self._frames = _frame_numbers(frames)
        self._y, self._x = _extent("y", y), _extent("x", x)
        self._stream = _word("stream", stream)
        if self._stream & 255:
            raise DataError(f"stream {stream:#x} already names draw {stream & 255}; give stream_word(number, ordinal)")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (time, y, x) of a strip of numbers."""
        return len(self._frames), self._y[1] - self._y[0], self._x[1] - self._x[0]

    def words(self, draw: int = 0) -> Words:
        """Give raw random words, uint32 (time, y, x)."""
        words: Words = self._fill(_words_block, np.empty(self.shape, np.uint32), draw)
        return words

    def uniform(self, draw: int = 0, out: Floats | None = None) -> Floats:
        """Give uniform deviates, float32 (time, y, x), centres of 2^23 equal cells of (0, 1)."""
        numbers: Floats = self._fill(_uniform_block, self._out(out), draw)
        return numbers

    def normal(self, draw: int = 0, out: Floats | None = None) -> Floats:
        """Give standard normal deviates, float32 (time, y, x)."""
        numbers: Floats = self._fill(_normal_block, self._out(out), draw)
        return numbers

    def exponential(self, draw: int = 0, out: Floats | None = None) -> Floats:
        """Give exponential deviates of mean 1, float32 (time, y, x)."""
        numbers: Floats = self._fill(_exponential_block, self._out(out), draw)
        return numbers

    def poisson(self, mean: ArrayLike, draw: int = 0, out: Floats | None = None) -> Floats:
        """Give Poisson counts.

        Parameters
        ----------
        mean : float32 or float64, broadcastable to (time, y, x) [counts]
            NaN and negative means give 0.
        draw : int
            Which draw of the stage; one draw number is used.
        out : float32 (time, y, x), optional
            Written and returned; may be `mean` itself.

        Returns
        -------
        float32 (time, y, x) [counts], exact integers below 2^24
        """
        numbers: Floats = self._fill(_poisson_block, self._out(out), draw, self._given(mean))
        return numbers

    def gamma(self, shape: ArrayLike, scale: float = 1.0, draw: int = 0, out: Floats | None = None) -> Floats:
        """Give gamma deviates of mean ``shape * scale``, float32 (time, y, x).

        `shape` broadcasts to (time, y, x); NaN and values <= 0 give 0.
        `GAMMA_DRAWS` draw numbers are used, from `draw` on.
        """
        given = self._given(shape)
        numbers: Floats = self._fill(_gamma_block, self._out(out), draw, given, float(scale), occupies=GAMMA_DRAWS)
        return numbers

    def binomial(self, trials: ArrayLike, probability: ArrayLike, draw: int = 0, out: Floats | None = None) -> Floats:
        """Give counts of successes, float32 (time, y, x).

        `trials` and `probability` (clamped to 0..1) broadcast to (time, y, x).
        `BINOMIAL_DRAWS` draw numbers are used, from `draw` on.
        """
        n, p = self._given(trials), self._given(probability, np.float64)
        numbers: Floats = self._fill(_binomial_block, self._out(out), draw, n, p, occupies=BINOMIAL_DRAWS)
        return numbers

    def per_frame(self, n: int = 1, kind: Kind = "normal", draw: int = 0) -> Floats:
        """Give `n` numbers of each frame (common mode, amplifiers), float32 (time, n); no pixel has them."""
        return self._line(FRAMES, _PER_FRAME, 0, n, kind, draw)

    def per_column(self, kind: Kind = "normal", draw: int = 0) -> Floats:
        """Give one number of each frame and column, float32 (time, x)."""
        return self._line(FRAMES, _PER_COLUMN, self._x[0], self._x[1] - self._x[0], kind, draw)

    def per_row(self, kind: Kind = "normal", draw: int = 0, item: int = 0) -> Floats:
        """Give one number of each frame and row, float32 (time, y); `item` tells a row's amplifiers apart."""
        number = _law(kind)
        words = np.empty((len(self._frames), self._y[1] - self._y[0], 1), np.uint32)
        stream = self._draw(draw, 1)
        _words_of_lines(*self._key, stream, self._frames, self._y[0], _item(item), ROWS, words)
        out = np.empty(words.shape, np.float32)
        number(words.reshape(-1), out.reshape(-1))
        return out[:, :, 0]

    def _line(self, space: int, line: int, start: int, n: int, kind: Kind, draw: int) -> Floats:
        number = _law(kind)
        words = np.empty((len(self._frames), 1, n), np.uint32)
        _words_of_lines(*self._key, self._draw(draw, 1), self._frames, line, start, space, words)
        out = np.empty(words.shape, np.float32)
        number(words.reshape(-1), out.reshape(-1))
        return out[:, 0, :]

    def _fill(self, block: Callable[..., Any], out: Any, draw: int, *arrays: Any, occupies: int = 1) -> Any:
        stream = self._draw(draw, occupies)
        if out.size:
            block(*self._key, stream, self._frames, self._y[0], self._x[0], *arrays, out)
        return out

    def _draw(self, draw: int, occupies: int) -> int:
        if not 0 <= draw <= 256 - occupies:
            raise DataError(f"draw {draw} is outside 0..{256 - occupies} (this law uses {occupies} draw numbers)")
        return self._stream + operator.index(draw)

    def _out(self, out: Floats | None) -> Floats:
        if out is None:
            return np.empty(self.shape, np.float32)
        if out.shape != self.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise DataError(f"out must be C-contiguous float32 {self.shape}, got {out.dtype} {out.shape}")
        return out

    def _given(self, values: ArrayLike, dtype: type | None = None) -> NDArray[Any]:
        array = np.asarray(values)
        if dtype is None:
            dtype = np.float32 if array.dtype == np.float32 else np.float64
        try:
            wide: NDArray[Any] = np.broadcast_to(np.asarray(array, dtype), self.shape)
        except (ValueError, TypeError) as error:
            raise DataError(f"{array.dtype} {array.shape} does not fit the strip {self.shape}: {error}") from error
        given = np.ascontiguousarray(wide).view()
        given.flags.writeable = False  # always, so that Numba compiles one version only
        return given


def events_of_frame(
    key: Key, frame: int, stream: int, mean: float, n_numbers: int, draw: int = 0
) -> NDArray[np.float64]:
    """Draw the events of one frame (cosmic tracks, trails): how many, and the uniforms of each.

    Parameters
    ----------
    key : tuple of two int
    frame : int in 0 .. 2^32 - 1
    stream : int
        From `stream_word`, with draw 0.
    mean : float >= 0
        Mean number of events in the whole frame, whatever the window; at most 1e7.
    n_numbers : int
        Uniforms wanted per event. Event e keeps its numbers when `mean` or `n_numbers` grows.
    draw : int
        Which list of the stage.

    Returns
    -------
    float64 (events, n_numbers), each (w + 1/2) 2^-32, strictly inside (0, 1)

    Raises
    ------
    DataError : frame or stream out of range; mean negative, NaN or above 1e7
    """
    if not 0.0 <= mean <= 1e7:
        raise DataError(f"the mean number of events per frame is {mean}, allowed 0..1e7")
    draws = Draws(key, [frame], range(0), range(0), stream)
    word_stream = draws._draw(draw, 1)
    frames = draws._frames
    count_word = np.empty((1, 1, 1), np.uint32)
    _words_of_lines(*draws._key, word_stream, frames, _PER_EVENT_COUNT, 0, FRAMES, count_word)
    count = np.empty(1, np.float32)
    poisson_row(count_word.reshape(-1), np.array([mean], np.float64), count)
    words = np.empty((1, int(count[0]), n_numbers), np.uint32)
    _words_of_lines(*draws._key, word_stream, frames, 0, 0, EVENTS, words)
    numbers: NDArray[np.float64] = (words[0] + 0.5) * 2.0**-32
    return numbers


def _word(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{name}={value!r} is no integer; noise is keyed by integers") from None
    if not 0 <= number < _WORD:
        raise DataError(f"{name}={number} is outside 0..{_WORD - 1}, where noise is keyed")
    return number


def _item(value: Any) -> int:
    return _word("item", value)


def _frame_numbers(frames: ArrayLike) -> NDArray[np.int64]:
    given = np.atleast_1d(np.asarray(frames))
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise DataError(f"frames must be integers on one axis, got {given.dtype} {given.shape}")
    if given.size:
        _word("frame", given.min())
        _word("frame", given.max())
    return np.ascontiguousarray(given, np.int64)


def _extent(name: str, extent: Extent) -> tuple[int, int]:
    start, stop = extent.start, extent.stop
    if getattr(extent, "step", None) not in (None, 1):
        raise DataError(f"{name}={extent!r} has a step; a strip has none")
    if start is None or stop is None:
        raise DataError(f"{name}={extent!r} has no start or no stop; give both")
    if stop <= start:
        return 0, 0
    return _word(name, start), _word(name, stop - 1) + 1


def _law(kind: Kind) -> Callable[..., None]:
    laws: dict[str, Callable[..., None]] = {"normal": normal_row, "uniform": uniform_row}
    if kind not in laws:
        raise DataError(f"kind={kind!r} is unknown; known: {', '.join(sorted(laws))}")
    return laws[kind]


@kernel
def _words_of_lines(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    line: int,
    start: int,
    space: int,
    out: Words,
) -> None:
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            words_row(key_0, key_1, stream, frames[t], line + j, start, space, out[t, j])


@kernel
def _words_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    out: Words,
) -> None:
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            words_row(key_0, key_1, stream, frames[t], y + j, x, PIXELS, out[t, j])


@kernel
def _uniform_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    out: Floats,
) -> None:
    words = np.empty(out.shape[2], np.uint32)
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            words_row(key_0, key_1, stream, frames[t], y + j, x, PIXELS, words)
            uniform_row(words, out[t, j])


@kernel
def _normal_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    out: Floats,
) -> None:
    words = np.empty(out.shape[2], np.uint32)
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            words_row(key_0, key_1, stream, frames[t], y + j, x, PIXELS, words)
            normal_row(words, out[t, j])


@kernel
def _exponential_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    out: Floats,
) -> None:
    words = np.empty(out.shape[2], np.uint32)
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            words_row(key_0, key_1, stream, frames[t], y + j, x, PIXELS, words)
            row = out[t, j]
            for i in range(row.size):
                row[i] = np.float32(-log64((np.float64(words[i]) + 0.5) * 2.0**-32))


@kernel
def _poisson_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    mean: NDArray[np.floating],
    out: Floats,
) -> None:
    words = np.empty(out.shape[2], np.uint32)
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            words_row(key_0, key_1, stream, frames[t], y + j, x, PIXELS, words)
            poisson_row(words, mean[t, j], out[t, j])


@kernel
def _gamma_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    shape: NDArray[np.floating],
    scale: float,
    out: Floats,
) -> None:
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            gamma_row(key_0, key_1, stream, frames[t], y + j, x, shape[t, j], scale, out[t, j])


@kernel
def _binomial_block(
    key_0: int,
    key_1: int,
    stream: int,
    frames: Frames,
    y: int,
    x: int,
    trials: NDArray[np.floating],
    probability: NDArray[np.float64],
    out: Floats,
) -> None:
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            binomial_row(key_0, key_1, stream, frames[t], y + j, x, trials[t, j], probability[t, j], out[t, j])
