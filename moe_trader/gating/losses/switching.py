"""The switching loss: a gate that changes little from bar to bar."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from moe_trader.gating import GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class Switching(ScheduledLoss):
    """E 1/2 sum_k |g_k(x_t) - g_k(x_(t-1))|: the gate's total variation from each bar to the next, 0 to 1.

    Minibatches are shuffled, so both bars come from one observation. Fewer switches cost slower reactions: look at
    ``switch_rate`` and ``routing_lag`` together.
    """

    compares_bars: ClassVar[bool] = True

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the mean total variation. :raises ValueError: without the weights at the bar before."""
        if batch.previous_weights is None:
            raise ValueError("expected the gate's weights at the bar before each, GateBatch.previous_weights, got none")
        return 0.5 * (batch.weights - batch.previous_weights).abs().sum(-1).mean()
