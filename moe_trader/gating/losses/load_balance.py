"""The load-balancing loss: every expert leads equally often."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_trader.gating import GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class LoadBalance(ScheduledLoss):
    """K sum_k f_k mean g_k - 1, f_k the share of states on which expert k has the largest weight.

    Fedus, Zoph and Shazeer, "Switch transformers" (arXiv 2101.03961), less the constant. The gradient goes through g
    only, and takes weight from experts that lead too often even where they lead by little, which
    :class:`~moe_trader.gating.losses.importance.Importance` does not see. It asks for equal use likewise.
    """

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the loss: 0 for equal importance, K - 1 when one expert has all the weight."""
        importance = batch.weights.mean(dim=0)
        n_experts = len(importance)
        leader = batch.weights.argmax(dim=-1, keepdim=True)
        load = (leader == torch.arange(n_experts, device=leader.device)).to(batch.weights.dtype).mean(0)
        return n_experts * (load * importance).sum() - 1
