"""The information term: sharp gates, balanced use and experts that act differently."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from moe_trader.compiled import njit
from moe_trader.gating import Array, GateArrays, GateBatch, entropy
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

    def add_gradient(self, arrays: GateArrays, weight: float) -> float:
        """Add log(mean g_k) + 1 to the weights' gradient and 1 to the posterior entropy's, and return the loss."""
        given = (arrays.routing.weights, arrays.posterior_entropy, weight)
        return float(_add_gradient(*given, arrays.d_weights, arrays.d_posterior_entropy))


@njit(cache=True, nogil=True, error_model="numpy")
def _add_gradient(weights: Array, posterior: Array, weight: float, d_weights: Array, d_posterior: Array) -> float:
    n_experts, n = weights.shape
    loss = posterior.sum() / n
    d_posterior += np.float32(weight / n)
    for k in range(n_experts):
        importance = max(weights[k].sum() / n, float(np.finfo(np.float32).tiny))
        loss += importance * np.log(importance)
        d_weights[k] += np.float32(weight / n * (np.log(importance) + 1))
    return loss
