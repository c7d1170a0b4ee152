"""What gates with a network of their own share: an MLP that scores the experts, and a floor under each weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from moe_trader.gating import GatingNetwork


class ScoredNetwork(GatingNetwork):
    """g = (1 - floor) routed(logits) + floor / K, logits from a tanh MLP.

    :param hidden_sizes: widths of the hidden layers; empty: linear
    :param floor: share of the weight that is spread evenly, so that no expert starves
    """

    def __init__(self, n_features: int, n_experts: int, hidden_sizes: Sequence[int], floor: float) -> None:
        super().__init__()
        sizes = [n_features, *hidden_sizes]
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.Tanh()]
        last = nn.Linear(sizes[-1], n_experts)
        nn.init.zeros_(last.weight)  # every expert starts with the same weight
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)
        self.floor = floor

    def logits(self, features: Tensor) -> Tensor:
        """Return the experts' scores, shape ``(batch, n_experts)``."""
        scores: Tensor = self.net(features)
        return scores

    def weights(self, logits: Tensor) -> Tensor:
        """Return gate weights, each at least ``floor / n_experts``."""
        return torch.add(self.floor / logits.shape[-1], self.routed(logits), alpha=1 - self.floor)

    @abstractmethod
    def routed(self, logits: Tensor) -> Tensor:
        """Return weights before the floor, shape ``(batch, n_experts)``, rows summing to 1."""
