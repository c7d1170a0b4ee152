"""The softmax gate: every expert has a say at every bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from numba import njit
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from moe_trader.dense.elementary import exp32
from moe_trader.gating import Array, Gate, GateLoss, GatingNetwork
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

    hidden_sizes: list[PositiveInt]
    temperature: PositiveFloat
    floor: Annotated[float, Field(ge=0, lt=1)]
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

    def weigh(self, logits: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return weights and the way back, compiled."""
        routed, temperature = np.empty_like(logits), float(self.temperature)
        softmax(logits, temperature, routed)

        def back(d_weights: Array) -> Array:
            d_logits = np.empty_like(logits)
            softmax_back(routed, (1 - self.floor) / temperature, d_weights, d_logits)
            return d_logits

        return (1 - self.floor) * routed + np.float32(self.floor / len(logits)), back


@njit(cache=True, nogil=True, error_model="numpy")
def softmax(logits: Array, temperature: float, routed: Array) -> None:
    """Write the softmax of ``logits / temperature``: shapes ``(n_experts, batch)``."""
    n_experts, n = logits.shape
    factor = np.float32(1 / temperature)
    largest, total = logits[0].copy(), np.zeros(n, np.float32)
    for k in range(1, n_experts):
        for at in range(n):
            largest[at] = logits[k, at] if logits[k, at] > largest[at] else largest[at]
    for k in range(n_experts):
        for at in range(n):
            routed[k, at] = exp32((logits[k, at] - largest[at]) * factor)
            total[at] += routed[k, at]
    for k in range(n_experts):
        for at in range(n):
            routed[k, at] /= total[at]


@njit(cache=True, nogil=True, error_model="numpy")
def softmax_back(routed: Array, factor: float, d_routed: Array, d_logits: Array) -> None:
    """Write ``factor`` times what the softmax makes of the gradient of ``routed``."""
    n_experts, n = routed.shape
    factor_, mean = np.float32(factor), np.zeros(n, np.float32)
    for k in range(n_experts):
        for at in range(n):
            mean[at] += routed[k, at] * d_routed[k, at]
    for k in range(n_experts):
        for at in range(n):
            d_logits[k, at] = factor_ * routed[k, at] * (d_routed[k, at] - mean[at])
