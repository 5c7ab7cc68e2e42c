"""Light of an extended source: one template, convolved once, read at the place where each pixel of an exposure looks.

The template is the source's surface brightness on a grid of its own, convolved in Fourier space with the PSF (its
Gaussians have closed transforms) and with the pixel's square. An exposure reads it with Keys' cubic through the shift
and rotation of the pointing; motion within the exposure is a row of such readings, half a FWHM apart. Two things are
left out: seeing that differs from the scene's PSF, and turning (not moving) within an exposure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from getframes_xr.core.elementary import sine_cosine_of_turns
from getframes_xr.core.kernel import kernel
from getframes_xr.core.window import Window
from getframes_xr.light.rounding import rounded, rounded_position
from getframes_xr.light.sight import Sight, View
from getframes_xr.light.sources.family import Light

Floats = NDArray[np.float64]
_MOST_PIECES = 200


def convolved(brightness: Floats, cell_px: float, sight: Sight, fwhm_px: float, tent_px: float = 0.0) -> Floats:
    """Convolve a surface brightness with the PSF and the pixel.

    Parameters
    ----------
    brightness : float64 (rows, columns) [1/px^2], dark at its borders
    cell_px : size of its cells [px]
    tent_px : side of a square that smooths the brightness beforehand

    Returns
    -------
    float64 (rows, columns) [1/px^2], rounded to 2^-24 of its peak
    """
    rows, columns = brightness.shape
    shape = scipy.fft.next_fast_len(rows), scipy.fft.next_fast_len(columns, real=True)
    ky = np.fft.fftfreq(shape[0], cell_px)[:, None]
    kx = np.fft.rfftfreq(shape[1], cell_px)[None, :]
    k2 = ky**2 + kx**2
    mixture = sight.mixture
    transfer = np.zeros(k2.shape, np.complex128)
    for weight, sigma, dy, dx in zip(mixture.weight, mixture.sigma, mixture.dy, mixture.dx, strict=True):
        phase = -2j * np.pi * (ky * dy + kx * dx) * fwhm_px
        transfer += weight * np.exp(-2.0 * (np.pi * sigma * fwhm_px) ** 2 * k2 + phase)
    transfer *= np.sinc(ky) * np.sinc(kx) * np.sinc(ky * tent_px) * np.sinc(kx * tent_px)
    spread = scipy.fft.irfft2(scipy.fft.rfft2(brightness, shape) * transfer, shape)[:rows, :columns]
    peak = 2.0 ** np.ceil(np.log2(max(float(spread.max()), 1e-300)))
    steps = 2.0**24 / peak
    result: Floats = np.ascontiguousarray(np.round(np.maximum(spread, 0.0) * steps) / steps)
    return result


@dataclass(frozen=True, eq=False)
class TemplateLight(Light):
    """A template around a point of the reference frame.

    Parameters
    ----------
    y, x : where the template's centre lies [px]
    rates : float64 (b,) [photon/s]
    template : float64 (rows, columns) [1/px^2]
    cell_px : size of its cells [px]
    angle_deg : of its x axis, from +x towards +y
    """

    sight: Sight
    y: float
    x: float
    rates: Floats
    template: Floats
    cell_px: float
    angle_deg: float

    def add(self, out: Floats, window: Window, view: View) -> None:
        g = view.geometry
        u, v = self.y - g[2], self.x - g[3]
        y, x = g[2] + g[0] * u + g[1] * v + g[4], g[3] + g[0] * v - g[1] * u + g[5]
        a, b = y - g[11], x - g[12]
        stretch = (a * a + b * b) * (g[13] + g[14] * (a * a + b * b))
        path = np.array([g[6] + g[8] * (x - g[3] - g[5]), g[7] - g[8] * (y - g[2] - g[4])])  # during the exposure
        pieces = 1 + min(_MOST_PIECES, int(np.hypot(*path) / (0.5 * view.fwhm_px)))
        sine, cosine = sine_cosine_of_turns((self.angle_deg + view.angle_deg) / 360.0)
        rates = rounded(self.rates[self.sight.parity] * (view.exposure_s * view.transparency / pieces))
        for piece in range(pieces):
            along = (piece + 0.5) / pieces - 0.5
            place = rounded_position([y + a * stretch + path[0] * along, x + b * stretch + path[1] * along])
            _add_template(
                out, window.y.start, window.x.start, place, sine, cosine, rates, self.template, 1.0 / self.cell_px
            )  # fmt: skip

    def peak_bytes(self, window: Window, view: View) -> int:
        return int(self.template.nbytes)


@kernel(inline="always")
def _keys(f: float) -> tuple[float, float, float, float]:
    """Weights of Keys' cubic (a = -1/2) at -1, 0, 1, 2 for a point f in 0..1 (Keys 1981)."""
    f2 = f * f
    f3 = f2 * f
    return -0.5 * f3 + f2 - 0.5 * f, 1.5 * f3 - 2.5 * f2 + 1.0, -1.5 * f3 + 2.0 * f2 + 0.5 * f, 0.5 * f3 - 0.5 * f2


@kernel
def _add_template(
    out: Floats, y0: int, x0: int, place: Floats, sine: float, cosine: float, rates: Floats, template: Floats,
    cells_per_px: float,
) -> None:  # fmt: skip
    rows, columns = template.shape
    middle_y, middle_x = 0.5 * (rows - 1), 0.5 * (columns - 1)
    far = np.sqrt(middle_y * middle_y + middle_x * middle_x) / cells_per_px + 1.0
    top = max(y0, int(np.floor(place[0] - far)))
    bottom = min(y0 + out.shape[0], int(np.ceil(place[0] + far)) + 1)
    left = max(x0, int(np.floor(place[1] - far)))
    right = min(x0 + out.shape[1], int(np.ceil(place[1] + far)) + 1)
    for y in range(top, bottom):
        dy = y - place[0]
        for x in range(left, right):
            dx = x - place[1]
            ty = (cosine * dy - sine * dx) * cells_per_px + middle_y
            tx = (cosine * dx + sine * dy) * cells_per_px + middle_x
            if ty < 1.0 or tx < 1.0 or ty >= rows - 2.0 or tx >= columns - 2.0:
                continue
            iy, ix = int(ty), int(tx)
            wy = _keys(ty - iy)
            wx = _keys(tx - ix)
            total = 0.0
            for k in range(4):
                row = template[iy - 1 + k]
                total += wy[k] * ((wx[0] * row[ix - 1] + wx[1] * row[ix]) + (wx[2] * row[ix + 1] + wx[3] * row[ix + 2]))
            out[y - y0, x - x0] += max(total, 0.0) * rates[2 * (y & 1) + (x & 1)]
