"""Philox4x32-10: random words that are a function of a counter and a key, and of nothing else.

Ten rounds of two 32-bit multiplications and key additions turn the counter (four words) into four random
words (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). Here the counter is a
place: ``(space << 30 | item >> 2, line, frame, stream)``; one block serves four neighbouring items of a line.
For pixels (``space`` = 0) the item is x and the line is y, both uint32, so item >> 2 leaves two bits for the
space: values that belong to a frame, a row or an event never share a counter with a pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from getframes_xr.core.kernel import kernel

PIXELS, FRAMES, ROWS, EVENTS = 0, 1, 2, 3  # what a word belongs to: the counter's space

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_STEP_0 = np.uint32(0x9E3779B9)  # golden ratio
_STEP_1 = np.uint32(0xBB67AE85)  # sqrt(3) - 1


@kernel(inline="always")
def philox(
    c0: np.uint32, c1: np.uint32, c2: np.uint32, c3: np.uint32, k0: np.uint32, k1: np.uint32
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Turn a counter (four uint32) and a key (two uint32) into four random uint32."""
    for _ in range(10):
        product_0 = _MULTIPLIER_0 * np.uint64(c0)
        product_1 = _MULTIPLIER_1 * np.uint64(c2)
        c0 = np.uint32(np.uint32(product_1 >> _SHIFT) ^ c1 ^ k0)
        c1 = np.uint32(product_1 & _MASK)
        c2 = np.uint32(np.uint32(product_0 >> _SHIFT) ^ c3 ^ k1)
        c3 = np.uint32(product_0 & _MASK)
        k0 = np.uint32(k0 + _STEP_0)
        k1 = np.uint32(k1 + _STEP_1)
    return c0, c1, c2, c3


@kernel(inline="always")
def one_word(key_0: int, key_1: int, stream: int, frame: int, line: int, item: int, space: int) -> np.uint32:
    """Give the word of one item; for the few items a row's loop has to come back to."""
    block = np.uint32((np.int64(space) << 30) | (np.int64(item) >> 2))
    w0, w1, w2, w3 = philox(
        block, np.uint32(line), np.uint32(frame), np.uint32(stream), np.uint32(key_0), np.uint32(key_1)
    )
    place = np.int64(item) & 3
    if place == 0:
        return w0
    if place == 1:
        return w1
    if place == 2:
        return w2
    return w3


@kernel
def words_row(
    key_0: int,
    key_1: int,
    stream: int,
    frame: int,
    line: int,
    start: int,
    space: int,
    out: NDArray[np.uint32],
) -> None:
    """Fill a row with the words of the items ``start .. start + out.size`` of one line.

    Parameters
    ----------
    key_0, key_1, stream, frame, line, start, space : int64
        Key, and the place: each but `space` in 0 .. 2^32 - 1 (the caller has checked).
    out : uint32 (n,)
        The words; any start gives the same words for the same items.
    """
    n = out.size
    k0, k1 = np.uint32(key_0), np.uint32(key_1)
    c1, c2, c3 = np.uint32(line), np.uint32(frame), np.uint32(stream)
    head = min((4 - (start & 3)) & 3, n)
    for i in range(head):
        out[i] = one_word(key_0, key_1, stream, frame, line, start + i, space)
    first = (np.int64(space) << 30) | ((start + head) >> 2)
    blocks = (n - head) // 4
    body = out[head : head + 4 * blocks]
    for i in range(blocks):
        w0, w1, w2, w3 = philox(np.uint32(first + i), c1, c2, c3, k0, k1)
        body[4 * i] = w0
        body[4 * i + 1] = w1
        body[4 * i + 2] = w2
        body[4 * i + 3] = w3
    for i in range(head + 4 * blocks, n):
        out[i] = one_word(key_0, key_1, stream, frame, line, start + i, space)
