"""The importance loss: every expert used equally, by gate weight."""

from __future__ import annotations

from torch import Tensor

from moe_trader.gating import GateArrays, GateBatch
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

    def add_gradient(self, arrays: GateArrays, weight: float) -> float:
        """Add 2 K mean g_k, and return the loss."""
        n_experts, n = arrays.routing.weights.shape
        importance = arrays.routing.weights.mean(axis=1)
        arrays.d_weights[:] += (2 * weight * n_experts / n * importance)[:, None]
        return float(n_experts * (importance**2).sum() - 1)
