"""The minimum importance: no expert starves, and none has to be used as much as another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moe_trader.bounds import Fraction
from moe_trader.compiled import njit
from moe_trader.gating import Array, GateArrays, GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class MinimumImportance(ScheduledLoss):
    """Hinge on each expert's importance: sum_k max(0, m - mean g_k)^2 / m^2 with m = share / K.

    :param share: smallest importance that costs nothing, as a share of 1 / K
    """

    share: Fraction

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the hinge; zero once every expert has its minimum."""
        importance = batch.weights.mean(dim=0)
        least = self.share / len(importance)
        if least == 0:
            return importance.sum() * 0.0
        return (torch.relu(least - importance) / least).square().sum()

    def add_gradient(self, arrays: GateArrays, weight: float) -> float:
        """Add -2 (m - mean g_k) / m^2 for experts below their minimum, and return the loss."""
        least = self.share / len(arrays.routing.weights)
        return float(_add_gradient(arrays.routing.weights, least, weight, arrays.d_weights)) if least else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _add_gradient(weights: Array, least: float, weight: float, d_weights: Array) -> float:
    n_experts, n = weights.shape
    loss = 0.0
    for k in range(n_experts):
        missing = (least - weights[k].sum() / n) / least
        if missing > 0:
            loss += missing * missing
            d_weights[k] -= np.float32(2 * weight * missing / (least * n))
    return loss
