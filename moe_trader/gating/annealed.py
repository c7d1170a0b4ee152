"""The annealed gate: a softmax that sharpens while it learns."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_trader.bounds import BelowOne, Scale, Widths
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.softmax import SoftmaxNetwork
from moe_trader.option import option


@option
class Annealed(Gate):
    """g = (1 - floor) softmax(logits / T) + floor / K, where T moves from one temperature to another over training.

    T = initial^(1 - p) final^p after a fraction p of training. For: exploring all experts first, and a gate that has
    made up its mind at the end; Nie et al., "EvoMoE" (arXiv 2112.14397) anneal from dense to sparse alike. Under PPO:
    legal, because T stands still from the start of a rollout to the end of its updates. It is saved with the agent.

    :param hidden_sizes: widths of the hidden layers; empty: a linear gate
    :param initial_temperature: at the start of training
    :param final_temperature: at its end
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    hidden_sizes: Widths
    initial_temperature: Scale
    final_temperature: Scale
    floor: BelowOne
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network at the initial temperature."""
        return AnnealedNetwork(n_features, n_experts, self)


class AnnealedNetwork(SoftmaxNetwork):
    """The softmax gate's network at :class:`Annealed`'s temperature, which is saved with it."""

    temperature: Tensor

    def __init__(self, n_features: int, n_experts: int, settings: Annealed) -> None:
        super().__init__(
            n_features, n_experts, settings.hidden_sizes, torch.tensor(settings.initial_temperature), settings.floor
        )
        self._ends = settings.initial_temperature, settings.final_temperature

    def adapt(self, progress: float, weights: Tensor | None) -> None:
        """Set the temperature."""
        first, last = self._ends
        self.temperature.fill_(first * (last / first) ** progress)
