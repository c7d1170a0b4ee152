"""The sticky gate: a filter over the last bars that expects the market to stay as it is."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from moe_trader.bounds import Bars, BelowOne, Real, Widths
from moe_trader.gate_input import GateInput
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import option

LEAST = 1e-6  # chance of staying and of leaving: keeps logarithms finite


@option
class Sticky(Gate):
    """g = (1 - floor) alpha_T + floor / K, alpha_t ~ exp(l(x_t)) * (A' alpha_(t-1)): a hidden Markov model's filter.

    A = (1 - rho) I + rho (11' - I) / (K - 1) leaves an expert with chance rho a bar, which is learned with the
    scores l(x_t) of an MLP; the filter runs over the newest ``rows`` bars, from alpha_0 = 1 / K. Rabiner, "A tutorial
    on hidden Markov models" (1989). For: regimes that last, where one bar's features say little. Under PPO: legal, the
    weights are a function of the bars in the observation.

    :param rows: bars that the filter runs over
    :param dwell: 1 / rho before training: bars for which an expert is expected to stay in charge
    :param hidden_sizes: widths of the hidden layers; empty: linear scores
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    rows: Bars
    dwell: Annotated[Real, Field(gt=1, le=1e9)]
    hidden_sizes: Widths
    floor: BelowOne
    losses: dict[str, GateLoss]

    def reads(self) -> GateInput:
        """Return the bars that the filter runs over."""
        return GateInput(rows=self.rows)

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return StickyNetwork(n_features, n_experts, self)


class StickyNetwork(ScoredNetwork):
    """A tanh MLP scores every bar, then the filter runs over them."""

    def __init__(self, n_features: int, n_experts: int, settings: Sticky) -> None:
        super().__init__(n_features, n_experts, settings.hidden_sizes, settings.floor)
        self.n_features = n_features
        self.leaving = nn.Parameter(torch.tensor(-math.log(settings.dwell - 1)))  # rho = sigmoid(leaving)

    def logits(self, features: Tensor) -> Tensor:
        """Return log alpha_T, but for a constant: the newest bar's own scores where the bars before say nothing."""
        bars = features.unflatten(-1, (-1, self.n_features)).transpose(0, 1)  # (rows, batch, n_features)
        scores = super().logits(bars).transpose(1, 2).contiguous()  # (rows, K, batch): the batch runs fastest
        rho = torch.sigmoid(self.leaving).clamp(LEAST, 1 - LEAST)
        filtered: Tensor = _Filter.apply(scores, rho)[0]
        return filtered.T

    def routed(self, logits: Tensor) -> Tensor:
        """Return alpha_T."""
        return torch.softmax(logits, dim=-1)


def staying(rho: Any, n_experts: int) -> tuple[Any, Any]:
    """Return a and b of A' alpha = a alpha + b."""
    b = rho / max(n_experts - 1, 1)  # of one expert there is nothing to learn
    return 1 - rho - b, b


def gradient_by_rho(d_a: Any, d_b: Any, n_experts: int) -> Any:
    """Return the gradient by rho from those by a and b."""
    others = max(n_experts - 1, 1)
    return d_b / others - d_a * (1 + 1 / others)


class _Filter(torch.autograd.Function):
    """The forward filter and its gradient: autograd would record five small steps a bar.

    With p_t = A' alpha_(t-1) = a alpha_(t-1) + b, z_t = l_t + log p_t and alpha_t = softmax(z_t).
    """

    @staticmethod
    def forward(scores: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Return z_T + log K, shape ``(K, batch)``, and alpha_0 to alpha_(T-1), from scores ``(T, K, batch)``."""
        n_experts = scores.shape[1]
        a, b = staying(rho, n_experts)
        alphas = [torch.full_like(scores[0], 1 / n_experts)]
        for bar in scores[:-1]:
            alphas.append(torch.softmax((alphas[-1] * a + b).log() + bar, dim=0))
        return (alphas[-1] * a + b).log() + scores[-1] + math.log(n_experts), torch.stack(alphas)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the way back needs."""
        ctx.save_for_backward(inputs[1], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_z: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of scores and rho."""
        rho, alphas = ctx.saved_tensors
        a, b = staying(rho, alphas.shape[1])
        by_p = (alphas * a).add_(b).reciprocal_()  # 1 / p_t, and soon d p_t
        d_scores = torch.empty_like(alphas)
        for t in range(len(alphas) - 1, -1, -1):
            d_scores[t] = d_z
            d_p = by_p[t].mul_(d_z)
            d_z = torch._softmax_backward_data(d_p * a, alphas[t], 0, alphas.dtype)
        d_b = by_p.sum()
        d_a = (by_p * alphas).sum()
        return d_scores, gradient_by_rho(d_a, d_b, alphas.shape[1])
