"""The information term: sharp gates, balanced use and experts that act differently."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from moe_trader.gating import GateBatch, entropy
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class Information(ScheduledLoss):
    """Minus the information that state and action carry about the expert: -[H(mean g) - E H(r)].

    It rewards balanced use, sharp gates and experts that act differently, all in one term (the mutual information
    I(K; S, A) of HiREPS, PMLR 22:273, 2012, and adInfoHRL, arXiv 1901.01365).
    """

    trains_experts: ClassVar[bool] = True

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return -[H(mean g) - E H(r)] in nats."""
        return batch.posterior_entropy.mean() - entropy(batch.weights.mean(dim=0))
