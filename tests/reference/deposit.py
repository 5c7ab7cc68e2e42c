"""The deposit written again, from the formula, in float64: samples one after the other, no blocks, no tiles."""

from __future__ import annotations

import math

import numpy as np

BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def deposit(frames, rows, columns, first=None, kappa=4.0, tolerance=4.0):
    """Sums per band over a canvas window.

    frames : list of dicts with image (y, x), keep (y, x) bool, band (y, x) int, move, transparency, sky (y, x),
    weight (band), variance V' (band)
    rows, columns : (start, stop) of the canvas
    first : (band, y, x) on the same window, or None for no rejection

    Returns (band, y, x) arrays: sum w q v, sum w q, sum (w q)^2, sum (w q)^2 V', sum q; and the number of samples
    rejected.
    """
    bands = max(int(frame["band"].max()) for frame in frames) + 1
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    sums = np.zeros((5, bands, height, width))
    rejected = 0
    for frame in frames:
        for y, x in zip(*np.nonzero(frame["keep"]), strict=True):
            b = frame["band"][y, x]
            at_y, at_x = frame["move"] @ (y + frame.get("y0", 0), x + frame.get("x0", 0), 1)
            v = (frame["image"][y, x] - frame["sky"][y, x]) / frame["transparency"]
            j, i = math.floor(at_y), math.floor(at_x)
            shares = {
                (j + dj, i + di): (1 - abs(at_y - j - dj)) * (1 - abs(at_x - i - di)) for dj in (0, 1) for di in (0, 1)
            }
            if first is not None and rows[0] < j < rows[1] - 2 and columns[0] < i < columns[1] - 2:
                r = sum(q * first[b, p - rows[0], s - columns[0]] for (p, s), q in shares.items())
                nj = j - rows[0] + (at_y - j >= 0.5)
                ni = i - columns[0] + (at_x - i >= 0.5)
                patch = first[b, nj - 1 : nj + 2, ni - 1 : ni + 2]
                noise = math.sqrt(frame["variance"][b] + max(r, 0) / frame["transparency"]) if r == r else 0
                if r == r and abs(v - r) > kappa * noise + tolerance * (np.nanmax(patch) - np.nanmin(patch)):
                    rejected += 1
                    continue
            w, variance = frame["weight"][b], frame["variance"][b]
            for (p, s), q in shares.items():
                if rows[0] <= p < rows[1] and columns[0] <= s < columns[1]:
                    sums[:, b, p - rows[0], s - columns[0]] += (
                        w * q * v, w * q, (w * q) ** 2, (w * q) ** 2 * variance, q,
                    )  # fmt: skip
    return sums, rejected


def widen(values, power=1):
    """Convolve the last two axes with the binomial (to a power)."""
    kernel = BINOMIAL**power
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)])
    out = np.zeros_like(values)
    for dj in range(3):
        for di in range(3):
            out += kernel[dj, di] * padded[..., dj : dj + values.shape[-2], di : di + values.shape[-1]]
    return out


def frames_of(night):
    """The frames of a ``tests.reduce.night`` for ``deposit``."""
    grid, moves = night.frames.grid, night.moves
    names = list(moves["band"].values)
    y = grid.y.indices()[:, None] + 0 * grid.x.indices()
    x = grid.x.indices()[None, :] + 0 * grid.y.indices()[:, None]
    if grid.cfa:
        letters = {"R": "red", "G": "green", "B": "blue"}
        table = np.array([[names.index(letters[grid.cfa[2 * j + i]]) for i in (0, 1)] for j in (0, 1)])
        band = table[y % 2, x % 2]
    else:
        band = np.zeros(y.shape, int)
    centre = moves.attrs["centre_px"]
    out = []
    for k in range(moves.sizes["time"]):
        plane = moves["sky"].values[k]
        t = float(moves["transparency"][k])
        sky = plane[band, 0] + plane[band, 1] * (y - centre[0]) + plane[band, 2] * (x - centre[1])
        out.append(
            {
                "image": night.frames.arrays["image"][k].astype(float),
                "keep": (night.frames.arrays["flags"][k] & ~np.uint16(2)) == 0,
                "band": band,
                "move": moves["transform"].values[k],
                "transparency": t,
                "sky": sky,
                "weight": moves["weight"].values[k],
                "variance": moves["variance"].values[k] / t**2,
                "y0": grid.y.start,
                "x0": grid.x.start,
            }
        )
    return out
