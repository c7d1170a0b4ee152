"""The importance loss: every expert used equally, by gate weight."""

from __future__ import annotations

from torch import Tensor

from moe_trader.gating import GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class Importance(ScheduledLoss):
    """Squared coefficient of variation of the experts' importances, K sum_k (mean g_k)^2 - 1.

    Shazeer et al., "Outrageously large neural networks" (arXiv 1701.06538). It brings dead experts back, but asks for
    equal use, which regimes that are not equally frequent do not give: let it fade (``final_weight: 0``).
    """

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the squared variation: 0 for equal use, K - 1 when one expert has all the weight."""
        importance = batch.weights.mean(dim=0)
        return len(importance) * importance.square().sum() - 1
