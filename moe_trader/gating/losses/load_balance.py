"""The load-balancing loss: every expert leads equally often."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moe_trader.gating import GateArrays, GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class LoadBalance(ScheduledLoss):
    """K sum_k f_k mean g_k - 1, f_k the share of states on which expert k has the largest weight.

    Fedus, Zoph and Shazeer, "Switch transformers" (arXiv 2101.03961), less the constant. The gradient goes through g
    alone, and takes weight from experts that lead too often even where they lead by little, which
    :class:`~moe_trader.gating.losses.importance.Importance` does not see. It asks for equal use likewise.
    """

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the loss: 0 for equal importance, K - 1 when one expert has all the weight."""
        importance = batch.weights.mean(dim=0)
        n_experts = len(importance)
        leader = batch.weights.argmax(dim=-1, keepdim=True)
        load = (leader == torch.arange(n_experts, device=leader.device)).to(batch.weights.dtype).mean(0)
        return n_experts * (load * importance).sum() - 1

    def add_gradient(self, arrays: GateArrays, weight: float) -> float:
        """Add K f_k, and return the loss."""
        weights = arrays.routing.weights
        n_experts, n = weights.shape
        load = np.bincount(weights.argmax(axis=0), minlength=n_experts) / n
        arrays.d_weights[:] += (weight * n_experts / n * load).astype(np.float32)[:, None]
        return float(n_experts * (load * weights.mean(axis=1)).sum() - 1)
