"""The top-k gate: a few experts at a time."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from moe_trader.bounds import BelowOne, NonNegative, Whole, Widths
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import ConfigError, option


@option
class TopK(Gate):
    """g = (1 - floor) softmax over the k largest of logits + bias + floor / K; the bias chooses, but does not weigh.

    Without gradient, the bias of an expert rises by ``balance_rate`` after each update in which it was chosen less
    often than k / K, and falls if more often: balance that does not pull at the policy. Shazeer et al. (arXiv
    1701.06538); Wang et al., "Auxiliary-loss-free load balancing" (arXiv 2408.15664). For: bars that k experts answer
    for. Under PPO: legal, as the bias stands still from the start of a rollout to the end of its updates; a choice that
    changes within an update makes the density jump there, which PPO's clipping takes. k = 1 is refused: its
    weights would be constant, and the gate would learn nothing.

    :param k: experts at a time, two or more
    :param balance_rate: step of the bias; 0: no balancing
    :param hidden_sizes: widths of the hidden layers; empty: a linear gate
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    k: Annotated[Whole, Field(ge=2, le=1_024)]
    balance_rate: NonNegative
    hidden_sizes: Widths
    floor: BelowOne
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network. :raises ConfigError: for more experts at a time than there are."""
        if self.k > n_experts > 1:
            raise ConfigError(f"gating.k: {self.k} experts at a time, but expert.count is {n_experts}; lower gating.k")
        return TopKNetwork(n_features, n_experts, self)


class TopKNetwork(ScoredNetwork):
    """A tanh MLP followed by :class:`TopK`'s formula."""

    bias: Tensor

    def __init__(self, n_features: int, n_experts: int, settings: TopK) -> None:
        super().__init__(n_features, n_experts, settings.hidden_sizes, settings.floor)
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        last.reset_parameters()  # equal scores would choose the same k experts everywhere
        self._k, self._balance_rate = min(settings.k, n_experts), settings.balance_rate
        self.register_buffer("bias", torch.zeros(n_experts))

    def adapt(self, progress: float, weights: Tensor | None) -> None:
        """Move the bias towards equal choice."""
        if weights is not None:
            chosen = (weights > 1.001 * self.floor / weights.shape[1]).to(weights.dtype).mean(0)
            self.bias += self._balance_rate * torch.sign(self._k / weights.shape[1] - chosen)

    def routed(self, logits: Tensor) -> Tensor:
        """Return softmax(logits) among the chosen."""
        chosen = (logits + self.bias).topk(self._k, dim=-1).indices
        closed = torch.full_like(logits, -torch.inf).scatter(-1, chosen, 0.0)
        return torch.softmax(logits + closed, dim=-1)
