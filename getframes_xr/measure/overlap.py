"""Exact area of a circle inside a pixel, with + - * / sqrt alone.

    G(x, y) = area of the disc inside [0, x] x [0, y]      (odd in x and in y)
    pixel   = G(x1, y1) - G(x0, y1) - G(x1, y0) + G(x0, y0)

For x, y >= 0, with x cut at r:  G = x y inside the circle; else, c = sqrt(r^2 - y^2) (0 where y > r):
G = y c + H(x) - H(c),  H(x) = (x sqrt(r^2 - x^2) + r^2 asin(x / r)) / 2.
The arc tangent is reduced to |z| <= tan(pi / 12) and summed as its Taylor series (error below 1e-16).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from getframes_xr.core.kernel import kernel

_HALF_PI = 1.5707963267948966
_SIXTH_PI = 0.5235987755982989
_ROOT_3 = 1.7320508075688772


@kernel
def arc_tangent(value: float) -> float:
    """Arc tangent of any finite number; error below 2e-16."""
    z = abs(value)
    inverse = z > 1.0
    if inverse:
        z = 1.0 / z
    offset = 0.0
    if z > 0.2679491924311227:
        z = (z * _ROOT_3 - 1.0) / (z + _ROOT_3)
        offset = _SIXTH_PI
    w = z * z
    p = 0.0
    for k in range(13, -1, -1):
        p = 1.0 / (2 * k + 1) - w * p
    angle = offset + z * p
    if inverse:
        angle = _HALF_PI - angle
    return -angle if value < 0.0 else angle


@kernel
def _under_arc(x: float, radius: float) -> Any:
    """Integral of sqrt(r^2 - s^2) for s from 0 to x, 0 <= x <= r."""
    height = np.sqrt(max(radius * radius - x * x, 0.0))
    angle = _HALF_PI if height == 0.0 else arc_tangent(x / height)
    return 0.5 * (x * height + radius * radius * angle)


@kernel
def _corner(x: float, y: float, radius: float) -> Any:
    sign = 1.0
    if x < 0.0:
        x, sign = -x, -sign
    if y < 0.0:
        y, sign = -y, -sign
    x = min(x, radius)
    if x * x + y * y <= radius * radius:
        return sign * x * y
    if y >= radius:
        return sign * _under_arc(x, radius)
    cut = np.sqrt(radius * radius - y * y)
    return sign * (y * cut + _under_arc(x, radius) - _under_arc(cut, radius))


@kernel
def overlap(dy: float, dx: float, radius: float) -> float:
    """Share of the unit pixel whose centre lies (dy, dx) from the circle's centre that is inside the circle, 0 .. 1."""
    ay, ax = abs(dy), abs(dx)
    far = (ay + 0.5) * (ay + 0.5) + (ax + 0.5) * (ax + 0.5)
    if far <= radius * radius:
        return 1.0
    ny, nx = max(ay - 0.5, 0.0), max(ax - 0.5, 0.0)
    if ny * ny + nx * nx >= radius * radius:
        return 0.0
    y0, y1, x0, x1 = ay - 0.5, ay + 0.5, ax - 0.5, ax + 0.5
    area = _corner(x1, y1, radius) - _corner(x0, y1, radius) - _corner(x1, y0, radius) + _corner(x0, y0, radius)
    return float(min(max(area, 0.0), 1.0))
