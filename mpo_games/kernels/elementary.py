"""`exp` and `log` as straight-line code: a compiled loop over an array takes eight at a time.

Compiled as they stand: their sums may not be reassociated. Both are exact to an ulp or two.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LOG2_E = 1.4426950408889634
# log(2) in two parts, the first with so few bits that its products with whole numbers are exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0
"""1.5 * 2^52: added, it pushes the fraction out; the bits that stay are the whole number."""
_SMALLEST = -708.0
"""Below, `exp` is 0 (it would be within a factor of 5 of the smallest normal number)."""
_SQRT_HALF = 0x3FE6A09E667F3BCD
"""The bits of 1 / sqrt(2)."""


@njit(fastmath={"contract"}, error_model="numpy")
def exp(x: float) -> float:
    """`e^x` for `x <= 700`; 0 below -708; NaN stays NaN."""
    y = _SMALLEST if x < _SMALLEST else x
    shifted = y * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    # Taylor's series on |r| <= log(2) / 2.
    p = 1.0 / 6227020800.0 * r + 1.0 / 479001600.0
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
    p = (p * r) * r + r
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return 0.0 if x < _SMALLEST else (p + 1.0) * power


@njit(fastmath={"contract"}, error_model="numpy")
def log(x: float) -> float:
    """The natural logarithm of a positive normal number; NaN stays NaN."""
    bits = np.float64(x).view(np.int64)
    n = (bits - _SQRT_HALF) >> 52
    f = np.int64(bits - (n << 52)).view(np.float64) - 1.0
    # log((1 + s) / (1 - s)) = 2 s + s^3 2/3 + ..., by fdlibm's minimax polynomial.
    s = f / (2.0 + f)
    s2 = s * s
    p = 1.479819860511658591e-01 * s2 + 1.531383769920937332e-01
    p = p * s2 + 1.818357216161805012e-01
    p = p * s2 + 2.222219843214978396e-01
    p = p * s2 + 2.857142874366239149e-01
    p = p * s2 + 3.999999999940941908e-01
    p = p * s2 + 6.666666666666735130e-01
    half = 0.5 * f * f
    power = np.float64(n)
    y = power * _LN2_HIGH - ((half - (s * (half + p * s2) + power * _LN2_LOW)) - f)
    return y if x == x else x
