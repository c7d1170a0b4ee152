"""The GRU gate: a recurrent network over the last bars."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moe_trader.bounds import Bars, BelowOne, Width
from moe_trader.gate_input import GateInput
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import option


@option
class Gru(Gate):
    """g = (1 - floor) softmax(W h_T) + floor / K, h_T of a GRU that goes over the newest ``rows`` bars from h_0 = 0.

    Cho et al., "Learning phrase representations using RNN encoder-decoder" (arXiv 1406.1078). For: what the course of
    the features says beyond the newest of them. Under PPO: legal, the weights are a function of the bars in the
    observation; a state carried from bar to bar would have to be stored with the rollout.

    :param rows: bars that the GRU goes over
    :param hidden_size: numbers in h
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    rows: Bars
    hidden_size: Width
    floor: BelowOne
    losses: dict[str, GateLoss]

    def reads(self) -> GateInput:
        """Return the bars that the GRU goes over."""
        return GateInput(rows=self.rows)

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return GruNetwork(n_features, n_experts, self)


class GruNetwork(ScoredNetwork):
    """A GRU, and a linear layer on its last state."""

    def __init__(self, n_features: int, n_experts: int, settings: Gru) -> None:
        super().__init__(settings.hidden_size, n_experts, (), settings.floor)
        self._n_features = n_features
        self.gru = nn.GRU(n_features, settings.hidden_size)

    def logits(self, features: Tensor) -> Tensor:
        """Return the experts' scores after the newest bar."""
        bars = features.unflatten(-1, (-1, self._n_features)).transpose(0, 1)  # (rows, batch, n_features)
        _, last = self.gru(bars)
        return super().logits(last[0])

    def routed(self, logits: Tensor) -> Tensor:
        """Return softmax(logits)."""
        return torch.softmax(logits, dim=-1)
