"""A loss for gates that change their mind too often."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from moe_trader.gating import GateBatch, GateLoss
from moe_trader.option import option


@option
class Switching(GateLoss):
    """E 1/2 sum_k |g_k(x_t) - g_k(x_(t-1))|: the gate's total variation from each bar to the next, 0 to 1.

    Minibatches are shuffled, so both bars come from one observation. Fewer switches cost slower reactions: look at
    ``switch_rate`` and ``routing_lag`` together.

    :param weight: of the term in the training loss
    """

    compares_bars: ClassVar[bool] = True

    weight: Annotated[float, Field(ge=0)]

    def weight_at(self, progress: float) -> float:
        """Return the constant weight."""
        return self.weight

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the mean total variation. :raises ValueError: without the weights at the bar before."""
        if batch.previous_weights is None:
            raise ValueError("expected the gate's weights at the bar before each, GateBatch.previous_weights, got none")
        return 0.5 * (batch.weights - batch.previous_weights).abs().sum(-1).mean()
