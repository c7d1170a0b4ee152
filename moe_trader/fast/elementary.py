"""exp and log of float32 for compiled loops, which a compiler can turn into vectors: right to 2e-7 of the result.

The polynomials are those of Cephes (Moshier, netlib.org/cephes). Numba's own call a function for every number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from moe_trader.compiled import njit


def _reader(read: types.Type, as_: types.Type, made: ir.Type) -> Any:
    """Return a function, for compiled code, that reads the bits of one type as another's."""

    def reinterpreted(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
            return builder.bitcast(given[0], made)

        return as_(read), generate

    return intrinsic(reinterpreted)


_as_bits = _reader(types.float32, types.int32, ir.IntType(32))
_as_float = _reader(types.int32, types.float32, ir.FloatType())

_F = np.float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = _F(1.44269504088896341), _F(0.693359375), _F(-2.12194440e-4)
_LEAST, _MOST = _F(-87.3), _F(88.3)
_E0, _E1, _E2 = _F(1.9875691500e-4), _F(1.3981999507e-3), _F(8.3334519073e-3)
_E3, _E4, _E5 = _F(4.1665795894e-2), _F(1.6666665459e-1), _F(5.0000001201e-1)
_L0, _L1, _L2 = _F(7.0376836292e-2), _F(-1.1514610310e-1), _F(1.1676998740e-1)
_L3, _L4, _L5 = _F(-1.2420140846e-1), _F(1.4249322787e-1), _F(-1.6668057665e-1)
_L6, _L7, _L8 = _F(2.0000714765e-1), _F(-2.4999993993e-1), _F(3.3333331174e-1)
_ONE, _HALF, _ROOT = _F(1), _F(0.5), _F(0.707106781186547524)


@njit(inline="always")
def exp32(x: np.float32) -> np.float32:
    """Return e^x; below -87.3 that of -87.3, 1e-38, and above 88.3 that of 88.3. NaN stays NaN."""
    x = _LEAST if x < _LEAST else x
    x = _MOST if x > _MOST else x
    power = np.floor(x * _LOG2_E + _HALF)
    rest = x - power * _LN2_HIGH - power * _LN2_LOW
    curve = ((((_E0 * rest + _E1) * rest + _E2) * rest + _E3) * rest + _E4) * rest + _E5
    return (curve * rest * rest + rest + _ONE) * _as_float(np.int32((np.int32(power) + np.int32(127)) << np.int32(23)))


@njit(inline="always")
def log32(x: np.float32) -> np.float32:
    """Return the natural logarithm of a positive, normal number (at least 1.2e-38). NaN stays NaN."""
    bits = _as_bits(x)
    power = np.float32((bits >> np.int32(23)) - np.int32(126))
    part = _as_float(np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)))  # in [0.5, 1)
    low = part < _ROOT
    power = power - _ONE if low else power
    y = part + part - _ONE if low else part - _ONE
    square = y * y
    curve = (((_L0 * y + _L1) * y + _L2) * y + _L3) * y + _L4
    curve = (((curve * y + _L5) * y + _L6) * y + _L7) * y + _L8
    found = y * square * curve + power * _LN2_LOW - _HALF * square + y + power * _LN2_HIGH
    return found if x == x else x
