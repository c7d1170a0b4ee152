"""The diversity loss: experts that act differently."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from moe_trader.bounds import Positive
from moe_trader.gating import GateBatch
from moe_trader.gating.losses import ScheduledLoss
from moe_trader.option import option


@option
class Diversity(ScheduledLoss):
    """Hinge on the experts' disagreement: max(0, delta - E_s JS), JS = H(m) - sum_k g_k H(p_k).

    JS is the Jensen-Shannon divergence of the action densities p_k under the gate weights g (Lin, IEEE Trans. Inf.
    Theory 37:145, 1991). g is held fixed: JS cannot exceed the entropy of g, so that a gate could meet the loss by
    becoming soft instead of the experts by becoming different. The hinge is on the mean over states: where all experts
    do well to act the same way, they may.

    :param delta: disagreement that costs nothing, in nats; it cannot exceed log K
    """

    trains_experts: ClassVar[bool] = True

    delta: Positive

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the hinge in nats; zero once experts disagree by ``delta``."""
        held = batch.choice.reweighted(batch.weights.detach())
        return torch.relu(self.delta - held.disagreement().mean())
