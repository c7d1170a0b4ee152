"""Gates that learn nothing: what a learned one must beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moe_trader.bounds import Positive
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.option import option


@option
class Uniform(Gate):
    """g = 1 / K: an ensemble. For: telling what experts are worth without a gate. Under PPO: legal.

    :param losses: name -> term added to the training loss
    """

    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a network without parameters."""
        return FixedNetwork(torch.zeros(n_features, n_experts))


@option
class Random(Gate):
    """g = softmax(sharpness x W), W drawn once, with orthonormal columns, and never trained.

    For: telling what specialising at all is worth, whatever the gate: the market is divided among the experts at
    random, and stays divided. Roller et al., "Hash layers" (arXiv 2106.04426) route likewise. Under PPO: legal, since
    the weights are a function of the bar; noise drawn at every look would not be.

    :param sharpness: larger is nearer to one expert a bar
    :param losses: name -> term added to the training loss
    """

    sharpness: Positive
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a network whose projection follows PyTorch's seed."""
        return FixedNetwork(self.sharpness * nn.init.orthogonal_(torch.empty(n_features, n_experts)))


class FixedNetwork(GatingNetwork):
    """softmax of a linear map that is saved with the agent and not trained."""

    projection: Tensor

    def __init__(self, projection: Tensor) -> None:
        super().__init__()
        self.register_buffer("projection", projection)

    def logits(self, features: Tensor) -> Tensor:
        """Return features times the projection."""
        return features @ self.projection

    def weights(self, logits: Tensor) -> Tensor:
        """Return softmax(logits)."""
        return torch.softmax(logits, dim=-1)
