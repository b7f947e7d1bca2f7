"""`exp` and `log` as straight-line code, so that a compiled loop over an array is vectorised.

Numba vectorises `math.exp` and `math.log` only where Intel's SVML is installed. The two functions
here call nothing, so the compiler evaluates several of them at a time on any machine. Both are
within two ulps of NumPy's.
"""

from __future__ import annotations

import numpy as np

from mpo_games.kernels.caching import njit

_LOG2_E = 1.4426950408889634
# log(2) in two parts. The first has so few bits that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0
"""1.5 * 2^52. Doubles of this size have no fraction bits, so adding it rounds to a whole number,
which then stands in the lowest bits of the sum."""
_SMALLEST = -708.0
"""`exp` of anything below is 0: there `e^x` nears the smallest normal number, 2.2e-308."""
_SQRT_HALF = 0x3FE6A09E667F3BCD
"""The bits of 1 / sqrt(2)."""


# No "reassoc", here or in `log`: it would simplify (y + _ROUND) - _ROUND to y.
@njit(fastmath={"contract"}, error_model="numpy")
def exp(x: float) -> float:
    """`e^x` for `x <= 700`. It is 0 below -708, and NaN stays NaN.

    `x = n log 2 + r` with a whole number `n` and `|r| <= log(2) / 2`, so `e^x = 2^n e^r`.
    """
    # The comparisons are False for NaN, which therefore passes through.
    y = _SMALLEST if x < _SMALLEST else x
    shifted = y * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    # Taylor's series of e^r - 1; the first term left out, r^14 / 14!, is below 5e-18.
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
    # The lowest bits of `shifted` are n, and n + 1023 in the exponent's bits is 2^n.
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return 0.0 if x < _SMALLEST else (p + 1.0) * power


@njit(fastmath={"contract"}, error_model="numpy")
def log(x: float) -> float:
    """The natural logarithm of a positive normal number. NaN stays NaN.

    `x = 2^n (1 + f)` with `1 + f` between `sqrt(1/2)` and `sqrt(2)`, so
    `log x = n log 2 + log(1 + f)`.
    """
    # Counted from sqrt(1/2), so that |f| is small and the polynomial short.
    bits = np.float64(x).view(np.int64)
    n = (bits - _SQRT_HALF) >> 52
    f = np.int64(bits - (n << 52)).view(np.float64) - 1.0
    # log((1 + s) / (1 - s)) = 2 s + 2/3 s^3 + ..., here by fdlibm's minimax polynomial.
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
    # From the smallest terms to the largest, so that rounding errors stay small.
    y = power * _LN2_HIGH - ((half - (s * (half + p * s2) + power * _LN2_LOW)) - f)
    # The bits of NaN were read as a number above; `x == x` is False for NaN alone.
    return y if x == x else x
