"""The sticky gate: a filter over the last bars that expects the market to stay as it is."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from moe_trader.bounds import Bars, BelowOne, Real, Widths
from moe_trader.compiled import njit
from moe_trader.dense.elementary import log32
from moe_trader.dense.softmax import softmax, softmax_back
from moe_trader.gating import Array, Gate, GateLoss, GatingNetwork, Routing, keeps_up
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import option
from moe_trader.sight import Sight

LEAST = 1e-6  # chance of staying and of leaving: keeps logarithms finite


@option
class Sticky(Gate):
    """g = (1 - floor) alpha_T + floor / K, alpha_t ~ exp(l(x_t)) * (A' alpha_(t-1)): a hidden Markov model's filter.

    A = (1 - rho) I + rho (11' - I) / (K - 1) leaves an expert with chance rho a bar, which is learned beside the
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

    def reads(self) -> Sight:
        """Return the bars that the filter runs over."""
        return Sight(rows=self.rows)

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return StickyNetwork(n_features, n_experts, self)


class StickyNetwork(ScoredNetwork):
    """A tanh MLP scores every bar, then the filter runs over them."""

    def __init__(self, n_features: int, n_experts: int, settings: Sticky) -> None:
        super().__init__(n_features, n_experts, settings.hidden_sizes, settings.floor)
        self._n_features = n_features
        self.leaving = nn.Parameter(torch.tensor(-math.log(settings.dwell - 1)))  # rho = sigmoid(leaving)

    def logits(self, features: Tensor) -> Tensor:
        """Return log alpha_T, but for a constant: the newest bar's own scores where the bars before say nothing."""
        bars = features.unflatten(-1, (-1, self._n_features)).transpose(0, 1)  # (rows, batch, n_features)
        scores = super().logits(bars).transpose(1, 2).contiguous()  # (rows, K, batch): the batch runs fastest
        rho = torch.sigmoid(self.leaving).clamp(LEAST, 1 - LEAST)
        filtered: Tensor = _Filter.apply(scores, rho)[0]
        return filtered.T

    def routed(self, logits: Tensor) -> Tensor:
        """Return alpha_T."""
        return torch.softmax(logits, dim=-1)

    def route(self, features: Tensor) -> Routing:
        """Return logits, weights and the way back, all compiled."""
        if not keeps_up(type(self), "route", "logits", "routed", "weights", "forward"):
            return GatingNetwork.route(self, features)
        n_bars = features.shape[-1] // self._n_features
        scores, send_back = self.score(features, n_bars)
        n, n_experts = len(features), len(scores)
        rho = torch.sigmoid(self.leaving.detach())
        a, b = _staying(float(rho.clamp(LEAST, 1 - LEAST)), n_experts)
        alphas = np.empty((n_bars + 1, n_experts, n), np.float32)
        logits = np.empty((n_experts, n), np.float32)
        _filter(scores, a, b, alphas, logits)

        def back(d_logits: Array, d_weights: Array) -> None:
            d_scores, d_z = np.empty_like(scores), np.empty_like(logits)
            softmax_back(alphas[-1], 1 - self.floor, d_weights, d_z)
            d_a, d_b = _filter_back(alphas, a, b, d_z + d_logits, d_scores)
            send_back(d_scores)
            held = LEAST <= rho <= 1 - LEAST
            if self.leaving.requires_grad:
                self.leaving.grad = held * _by_rho(d_a, d_b, n_experts) * rho * (1 - rho)

        weights = (1 - self.floor) * alphas[-1] + np.float32(self.floor / n_experts)
        return Routing(logits, weights, back)


def _staying(rho: Any, n_experts: int) -> tuple[Any, Any]:
    """Return a and b of A' alpha = a alpha + b."""
    b = rho / max(n_experts - 1, 1)  # of one expert there is nothing to learn
    return 1 - rho - b, b


def _by_rho(d_a: Any, d_b: Any, n_experts: int) -> Any:
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
        a, b = _staying(rho, n_experts)
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
        a, b = _staying(rho, alphas.shape[1])
        by_p = (alphas * a).add_(b).reciprocal_()  # 1 / p_t, and soon d p_t
        d_scores = torch.empty_like(alphas)
        for t in range(len(alphas) - 1, -1, -1):
            d_scores[t] = d_z
            d_p = by_p[t].mul_(d_z)
            d_z = torch._softmax_backward_data(d_p * a, alphas[t], 0, alphas.dtype)
        d_b = by_p.sum()
        d_a = (by_p * alphas).sum()
        return d_scores, _by_rho(d_a, d_b, alphas.shape[1])


@njit(cache=True, nogil=True, error_model="numpy")
def _filter(scores: Array, a: float, b: float, alphas: Array, logits: Array) -> None:
    """Write alpha_0 to alpha_T, shape ``(T + 1, K, batch)``, and z_T + log K, from scores of shape ``(K, T batch)``."""
    n_bars, n_experts, n = alphas.shape[0] - 1, alphas.shape[1], alphas.shape[2]
    a_, b_, log_k = np.float32(a), np.float32(b), np.float32(np.log(n_experts))
    alphas[0] = np.float32(1 / n_experts)
    for t in range(n_bars):
        for k in range(n_experts):
            for at in range(n):
                logits[k, at] = log32(alphas[t, k, at] * a_ + b_) + scores[k, t * n + at]
        softmax(logits, 1.0, alphas[t + 1])
    for k in range(n_experts):
        for at in range(n):
            logits[k, at] += log_k


@njit(cache=True, nogil=True, error_model="numpy")
def _filter_back(alphas: Array, a: float, b: float, d_z: Array, d_scores: Array) -> tuple[float, float]:
    """Write the gradient of the scores from that of z_T, which is overwritten; return those of a and b."""
    n_bars, n_experts, n = alphas.shape[0] - 1, alphas.shape[1], alphas.shape[2]
    a_, b_ = np.float32(a), np.float32(b)
    d_a, d_b, d_alpha = 0.0, 0.0, np.empty((n_experts, n), np.float32)
    for t in range(n_bars - 1, -1, -1):
        for k in range(n_experts):
            by_a, by_b = 0.0, 0.0
            for at in range(n):
                d_scores[k, t * n + at] = d_z[k, at]
                d_p = d_z[k, at] / (alphas[t, k, at] * a_ + b_)
                d_alpha[k, at] = d_p * a_
                by_a += d_p * alphas[t, k, at]
                by_b += d_p
            d_a, d_b = d_a + by_a, d_b + by_b
        softmax_back(alphas[t], 1.0, d_alpha, d_z)
    return d_a, d_b
