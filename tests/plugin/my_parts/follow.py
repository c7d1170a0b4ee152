"""A loss of the gate: weight to the experts whose actions had the larger advantage."""

from torch import Tensor

from moe_trader.gating import GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class Follow(ScheduledLoss):
    """-E sum_k g_k A_k, with A_k the advantage of following expert k."""

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the loss, a scalar."""
        return -(batch.weights * batch.expert_advantages).sum(-1).mean()
