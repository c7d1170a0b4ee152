"""The softmax gate: every expert has a say at every bar."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.option import option


@option
class Softmax(Gate):
    """g = (1 - floor) softmax(logits / temperature) + floor / K.

    :param hidden_sizes: widths of the hidden layers; empty: a linear gate
    :param temperature: above 1 softer, below 1 sharper
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    hidden_sizes: list[PositiveInt]
    temperature: PositiveFloat
    floor: Annotated[float, Field(ge=0, lt=1)]
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return SoftmaxNetwork(n_features, n_experts, self.hidden_sizes, self.temperature, self.floor)


class SoftmaxNetwork(GatingNetwork):
    """A tanh MLP followed by :class:`Softmax`'s formula."""

    def __init__(
        self, n_features: int, n_experts: int, hidden_sizes: list[int], temperature: float, floor: float
    ) -> None:
        super().__init__()
        sizes = [n_features, *hidden_sizes]
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.Tanh()]
        last = nn.Linear(sizes[-1], n_experts)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)
        self.temperature, self.floor = temperature, floor

    def logits(self, features: Tensor) -> Tensor:
        """Return the scores before the temperature, shape ``(batch, n_experts)``."""
        scores: Tensor = self.net(features)
        return scores

    def weights(self, logits: Tensor) -> Tensor:
        """Return gate weights, each at least ``floor / n_experts``."""
        soft = torch.softmax(logits / self.temperature, dim=-1)
        return (1 - self.floor) * soft + self.floor / logits.shape[-1]
