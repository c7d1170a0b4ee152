"""The minimum importance: no expert starves, and none has to be used as much as another."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_trader.bounds import Fraction
from moe_trader.gating import GateBatch
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
