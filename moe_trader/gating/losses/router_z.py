"""The router z-loss: scores that stay small."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from moe_trader.compiled import njit
from moe_trader.gating import Array, GateArrays, GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class RouterZ(ScheduledLoss):
    """Mean squared log-partition of the logits: keeps them bounded (ST-MoE, arXiv 2202.08906)."""

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return E[(logsumexp(logits) - log K)^2]: zero for the uniform gate that training starts from."""
        n_experts = batch.logits.shape[-1]
        partition = torch.logsumexp(batch.logits, dim=-1) - math.log(n_experts)
        return partition.square().mean()

    def add_gradient(self, arrays: GateArrays, weight: float) -> float:
        """Add 2 z softmax(logits) of every state, and return the loss."""
        return float(_add_gradient(arrays.routing.logits, weight, arrays.d_logits))


@njit(cache=True, nogil=True, error_model="numpy")
def _add_gradient(logits: Array, weight: float, d_logits: Array) -> float:
    n_experts, n = logits.shape
    loss = 0.0
    for at in range(n):
        largest, total = logits[0, at], 0.0
        for k in range(1, n_experts):
            largest = max(largest, logits[k, at])
        for k in range(n_experts):
            total += np.exp(logits[k, at] - largest)
        partition = largest + np.log(total / n_experts)
        loss += partition * partition
        for k in range(n_experts):
            d_logits[k, at] += 2 * weight / n * partition * np.exp(logits[k, at] - largest) / total
    return loss / n
