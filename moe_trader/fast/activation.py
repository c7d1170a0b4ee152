"""Activations of a layer for compiled code, with the bias before and the gradient after."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_trader.compiled import njit

Array = np.ndarray[Any, Any]

TANH, RELU = range(2)

# The rational approximation of tanh that Eigen and XLA use, x P(x^2) / Q(x^2), coefficients from the highest power
# down: right to 4e-7, at a tenth of tanh's price
_LARGEST = np.float32(7.90531110763549805)  # beyond it tanh rounds to one
_P = np.array(
    [
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ],
    dtype=np.float32,
)
_Q = np.array([1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03], np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def activate(kind: int, layer: Array, bias: Array) -> None:
    """Add ``bias``, shape ``(rows,)``, to ``layer``, shape ``(rows, batch)``, and activate."""
    for row in range(layer.shape[0]):
        added = bias[row]
        if kind == RELU:
            for at in range(layer.shape[1]):
                x = layer[row, at] + added
                layer[row, at] = np.float32(0) if x < 0 else x  # NaN stays NaN
            continue
        for at in range(layer.shape[1]):
            x = layer[row, at] + added
            x = -_LARGEST if x < -_LARGEST else x  # NaN stays NaN
            x = _LARGEST if x > _LARGEST else x
            square = x * x
            p = (
                ((((_P[0] * square + _P[1]) * square + _P[2]) * square + _P[3]) * square + _P[4]) * square + _P[5]
            ) * square + _P[6]
            q = ((_Q[0] * square + _Q[1]) * square + _Q[2]) * square + _Q[3]
            layer[row, at] = x * p / q


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})  # else it would add one by one
def activate_back(kind: int, d: Array, layer: Array, d_bias: Array) -> None:
    """Turn ``d``, the gradient of an activated ``layer``, into that of what came in, and write that of the bias."""
    one = np.float32(1)
    for row in range(d.shape[0]):
        total = np.float32(0)
        for at in range(d.shape[1]):
            y = layer[row, at]
            slope = (one if y > 0 else np.float32(0)) if kind == RELU else one - y * y
            value = d[row, at] * slope
            d[row, at] = value
            total += value
        d_bias[row] = total
