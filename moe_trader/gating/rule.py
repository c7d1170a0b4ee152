"""The rule gate: each market regime has its expert, by decree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from moe_trader.bounds import BelowOne, Count
from moe_trader.gate_input import GateInput
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.option import ConfigError, option


@option
class Rule(Gate):
    """g = (1 - floor) onehot(experts[z_t]) + floor / K, where z_t is the regime that trailing bars tell.

    ``env.gate_labels`` says how they tell it; where they do not, g = 1 / K. For: what does learning the gate add to
    dividing the market as a trader would? Hard-coded routing sometimes beats the learned: Willi et al., "Mixture of
    experts in a mixture of RL settings" (arXiv 2406.18420). Under PPO: legal, nothing is learned and the weights are a
    function of the bar.

    :param experts: number of the expert (from 1) of each regime, in the labeller's order; ``None``: as many
        neighbouring regimes for each expert
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    experts: Annotated[list[Count], Field(max_length=1_024)] | None
    floor: BelowOne
    losses: dict[str, GateLoss]

    def reads(self) -> GateInput:
        """Return the causal regime of the newest bar."""
        return GateInput(of="causal_regime")

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a network without parameters. :raises ConfigError: when regimes and experts do not fit."""
        return RegimeNetwork(assignment(self.experts, n_features, n_experts), n_experts, self.floor)


def assignment(experts: Sequence[int] | None, n_regimes: int, n_experts: int) -> list[int]:
    """Return the place of each regime's expert, 0 to ``n_experts - 1``.

    :param experts: their numbers, 1 to ``n_experts``; ``None``: neighbouring regimes share one
    :raises ConfigError: when there is not one of them for each regime, or none such
    """
    if experts is None:
        if n_regimes < n_experts:
            raise ConfigError(
                f"expert.count: {n_experts} experts for {n_regimes} regimes leave some without any; use "
                f"expert.count={n_regimes}"
            )
        return [regime * n_experts // n_regimes for regime in range(n_regimes)]
    if len(experts) != n_regimes or max(experts) > n_experts:
        raise ConfigError(
            f"gating.experts: expected {n_regimes} numbers from 1 to {n_experts}, an expert for each regime, got "
            f"{list(experts)}; gating.experts=null divides the regimes evenly"
        )
    return [number - 1 for number in experts]


class RegimeNetwork(GatingNetwork):
    """An expert for each regime.

    :param experts: place of each regime's expert
    """

    projection: Tensor

    def __init__(self, experts: Sequence[int], n_experts: int, floor: float) -> None:
        super().__init__()
        one_hot = nn.functional.one_hot(torch.tensor(experts), n_experts)
        self.register_buffer("projection", one_hot.to(torch.get_default_dtype()))  # (n_regimes, K)
        self.floor = floor

    def logits(self, features: Tensor) -> Tensor:
        """Return 1 for the regime's expert and 0 for the others, and for all while the regime is unknown."""
        return features @ self.projection

    def weights(self, logits: Tensor) -> Tensor:
        """Return 1 - floor for the regime's expert, and the rest evenly."""
        spread = 1 - (1 - self.floor) * logits.sum(-1, keepdim=True)
        return (1 - self.floor) * logits + spread / logits.shape[-1]
