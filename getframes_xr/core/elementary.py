"""Exponential, logarithm, error function, sine and cosine that give the same bytes on every machine.

libm and NumPy choose their code by CPU, so their last bits differ between machines. These kernels use + - * /
sqrt, comparisons, floor and literal constants only, and LLVM vectorises the loops that call them.
Ranges are reduced as usual (two-part ln 2, mantissa split at sqrt(1/2), quarter turns), then a polynomial
follows: ``log32`` a fit of degree 7 (coefficients: own minimax fit, relative error 1e-7), the float64
functions Taylor or atanh series cut below 1 ulp. ``erf64``: Taylor series below 2.25, continued fraction of
erfc above (Abramowitz & Stegun 7.1.5, 7.1.14). Arguments outside the stated domain give garbage, never a
trap.
"""

from __future__ import annotations

import numpy as np

from getframes_xr.core.kernel import kernel

_ONE_BITS_32 = np.int32(0x3F3504F3)  # bits of float32 sqrt(1/2)
_LN2_32 = np.float32(0.6931471805599453)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    np.float32(float.fromhex(text))
    for text in (
        "0x1.555552p-2", "-0x1.0000c8p-2", "0x1.99a14cp-3", "-0x1.54d54ep-3",
        "0x1.22dc4cp-3", "-0x1.09abe4p-3", "0x1.04591ap-3", "-0x1.4bd6fcp-4",
    )
)  # fmt: skip

_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 33 bits, so that k * _LN2_HIGH is exact for |k| < 2^20
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_INVERSE_LN2 = float.fromhex("0x1.71547652b82fep+0")
_SQRT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)
_TWO_OVER_SQRT_PI = float.fromhex("0x1.20dd750429b6dp+0")
_INVERSE_SQRT_PI = float.fromhex("0x1.20dd750429b6dp-1")
_TWO_PI = float.fromhex("0x1.921fb54442d18p+2")


@kernel(inline="always")
def log32(value: np.float32) -> np.float32:
    """Natural logarithm of a positive normal float32; relative error about 1e-7."""
    bits = np.float32(value).view(np.int32)
    shifted = np.int32(bits - _ONE_BITS_32)
    exponent = np.int32(shifted >> np.int32(23))
    mantissa = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)
    z = mantissa - np.float32(1.0)
    p = _L7
    p = p * z + _L6
    p = p * z + _L5
    p = p * z + _L4
    p = p * z + _L3
    p = p * z + _L2
    p = p * z + _L1
    p = p * z + _L0
    z2 = z * z
    return np.float32(exponent) * _LN2_32 + (z - np.float32(0.5) * z2 + z2 * z * p)


@kernel(inline="always")
def log64(value: float) -> float:
    """Natural logarithm of a positive normal float64; error below 2 ulp."""
    bits = np.float64(value).view(np.int64)
    exponent = np.int64(bits - _SQRT_HALF_BITS) >> np.int64(52)
    mantissa = np.int64(bits - (exponent << np.int64(52))).view(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    w = s * s
    p = 1.0 / 23.0
    p = p * w + 1.0 / 21.0
    p = p * w + 1.0 / 19.0
    p = p * w + 1.0 / 17.0
    p = p * w + 1.0 / 15.0
    p = p * w + 1.0 / 13.0
    p = p * w + 1.0 / 11.0
    p = p * w + 1.0 / 9.0
    p = p * w + 1.0 / 7.0
    p = p * w + 1.0 / 5.0
    p = p * w + 1.0 / 3.0
    k = np.float64(exponent)
    return k * _LN2_HIGH + (2.0 * s + (2.0 * s * w * p + k * _LN2_LOW))


@kernel(inline="always")
def exp64(value: float) -> float:
    """Exponential of a float64, the argument clamped to -708..709; error below 2 ulp."""
    x = min(max(value, -708.0), 709.0)
    k = np.floor(x * _INVERSE_LN2 + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    half = np.int64(k) >> np.int64(1)  # two steps: 2^k itself may lie outside the normal range
    rest = np.int64(k) - half
    low = np.int64((half + np.int64(1023)) << np.int64(52)).view(np.float64)
    high = np.int64((rest + np.int64(1023)) << np.int64(52)).view(np.float64)
    result: float = p * low * high
    return result


@kernel
def erf64(value: float) -> float:
    """Error function of a float64; absolute error below 1e-15."""
    x = abs(value)
    if x > 6.0:
        result = 1.0
    elif x < 2.25:
        w = x * x
        term = x
        result = x
        for n in range(1, 60):  # exp(-x^2) form: all terms positive, no cancellation
            term = term * (2.0 * w) / (2.0 * n + 1.0)
            result = result + term
            if term < 1e-18 * result:
                break
        result = result * _TWO_OVER_SQRT_PI * exp64(-w)
    else:
        fraction = x
        for n in range(60, 0, -1):
            fraction = x + 0.5 * n / fraction
        result = 1.0 - exp64(-x * x) * _INVERSE_SQRT_PI / fraction
    return result if value >= 0.0 else -result


@kernel
def sine_cosine_of_turns(turns: float) -> tuple[float, float]:
    """Sine and cosine of an angle in turns (1 = a full circle, |turns| < 2^50); error below 3e-16."""
    quarter = np.floor(turns * 4.0 + 0.5)
    r = (turns - quarter * 0.25) * _TWO_PI
    w = r * r
    s = -1.0 / 1307674368000.0
    s = s * w + 1.0 / 6227020800.0
    s = s * w - 1.0 / 39916800.0
    s = s * w + 1.0 / 362880.0
    s = s * w - 1.0 / 5040.0
    s = s * w + 1.0 / 120.0
    s = s * w - 1.0 / 6.0
    s = r + r * w * s
    c = 1.0 / 20922789888000.0
    c = c * w - 1.0 / 87178291200.0
    c = c * w + 1.0 / 479001600.0
    c = c * w - 1.0 / 3628800.0
    c = c * w + 1.0 / 40320.0
    c = c * w - 1.0 / 720.0
    c = c * w + 1.0 / 24.0
    c = c * w - 0.5
    c = 1.0 + w * c
    place = np.int64(quarter) & np.int64(3)
    if place == 1:
        return c, -s
    if place == 2:
        return -s, -c
    if place == 3:
        return -c, s
    return s, c
