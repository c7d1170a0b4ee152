"""Softmax over the first dimension, for compiled code: the batch runs fastest."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_trader.compiled import njit
from moe_trader.fast.elementary import exp32

Array = np.ndarray[Any, Any]


@njit(cache=True, nogil=True, error_model="numpy")
def softmax(logits: Array, temperature: float, routed: Array) -> None:
    """Write the softmax of ``logits / temperature``: shapes ``(n, batch)``."""
    n_experts, n = logits.shape
    factor = np.float32(1 / temperature)
    largest, total = logits[0].copy(), np.zeros(n, np.float32)
    for k in range(1, n_experts):
        for at in range(n):
            largest[at] = logits[k, at] if logits[k, at] > largest[at] else largest[at]
    for k in range(n_experts):
        for at in range(n):
            routed[k, at] = exp32((logits[k, at] - largest[at]) * factor)
            total[at] += routed[k, at]
    for k in range(n_experts):
        for at in range(n):
            routed[k, at] /= total[at]


@njit(cache=True, nogil=True, error_model="numpy")
def softmax_back(routed: Array, factor: float, d_routed: Array, d_logits: Array) -> None:
    """Write ``factor`` times what the softmax makes of the gradient of ``routed``."""
    n_experts, n = routed.shape
    factor_, mean = np.float32(factor), np.zeros(n, np.float32)
    for k in range(n_experts):
        for at in range(n):
            mean[at] += routed[k, at] * d_routed[k, at]
    for k in range(n_experts):
        for at in range(n):
            d_logits[k, at] = factor_ * routed[k, at] * (d_routed[k, at] - mean[at])
