"""The router z-loss: scores that stay small."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moe_trader.gating import GateBatch
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
