"""The softmax gate: every expert has a say at every bar."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_trader.bounds import BelowOne, Scale, Widths
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import option


@option
class Softmax(Gate):
    """g = (1 - floor) softmax(logits / temperature) + floor / K.

    For: the default; the exact policy gradient reaches every expert at every bar. Jacobs, Jordan, Nowlan and Hinton,
    "Adaptive mixtures of local experts" (1991). Under PPO: legal, it has no state.

    :param hidden_sizes: widths of the hidden layers; empty: a linear gate
    :param temperature: above 1 softer, below 1 sharper
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    hidden_sizes: Widths
    temperature: Scale
    floor: BelowOne
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return SoftmaxNetwork(n_features, n_experts, self.hidden_sizes, self.temperature, self.floor)


class SoftmaxNetwork(ScoredNetwork):
    """A tanh MLP followed by :class:`Softmax`'s formula."""

    temperature: float | Tensor

    def __init__(
        self, n_features: int, n_experts: int, hidden_sizes: list[int], temperature: float | Tensor, floor: float
    ) -> None:
        super().__init__(n_features, n_experts, hidden_sizes, floor)
        if isinstance(temperature, Tensor):
            self.register_buffer("temperature", temperature)
        else:
            self.temperature = temperature

    def routed(self, logits: Tensor) -> Tensor:
        """Return softmax(logits / temperature)."""
        return torch.softmax(logits / self.temperature, dim=-1)
