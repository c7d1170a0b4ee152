"""The entmax gate: a softmax that can say no, differentiably."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_trader.bounds import BelowOne, Real, Widths
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import option


@option
class Entmax(Gate):
    """g = (1 - floor) alpha-entmax(logits) + floor / K: weights that reach zero before the floor is added.

    alpha-entmax(z) maximises p.z plus Tsallis' alpha-entropy of p; alpha = 2 is sparsemax, the nearest point of the
    simplex. For: bars that few experts answer for, with a gradient that is exact. Peters, Niculae and Martins, "Sparse
    sequence-to-sequence models" (arXiv 1905.05702); Martins and Astudillo, "From softmax to sparsemax" (arXiv
    1602.02068). Under PPO: legal, it has no state and no jumps. Keep a floor: an expert of weight zero learns nothing.

    :param alpha: 1.5 or 2 (sparsemax); larger is sparser
    :param hidden_sizes: widths of the hidden layers; empty: a linear gate
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    alpha: Annotated[Real, Field(ge=1, le=2)]
    hidden_sizes: Widths
    floor: BelowOne
    losses: dict[str, GateLoss]

    def __post_init__(self) -> None:
        if self.alpha not in (1.5, 2.0):
            raise ValueError(f"alpha: expected 1.5 or 2 (sparsemax), got {self.alpha}")

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return EntmaxNetwork(n_features, n_experts, self)


class EntmaxNetwork(ScoredNetwork):
    """A tanh MLP followed by :class:`Entmax`'s formula."""

    def __init__(self, n_features: int, n_experts: int, settings: Entmax) -> None:
        super().__init__(n_features, n_experts, settings.hidden_sizes, settings.floor)
        self._transform = sparsemax if settings.alpha == 2.0 else entmax15

    def routed(self, logits: Tensor) -> Tensor:
        """Return alpha-entmax(logits)."""
        return self._transform(logits)


def sparsemax(logits: Tensor) -> Tensor:
    """Return max(z - tau, 0), where tau makes each row sum to 1."""
    weights: Tensor = _Sparse.apply(logits, 2.0)[0]
    return weights


def entmax15(logits: Tensor) -> Tensor:
    """Return max(z / 2 - tau, 0)^2, where tau makes each row sum to 1."""
    weights: Tensor = _Sparse.apply(logits, 1.5)[0]
    return weights


class _Sparse(torch.autograd.Function):
    """Both transforms by sorting; with s = p^(2 - alpha) on the support, the Jacobian is diag(s) - s s' / sum(s)."""

    @staticmethod
    def forward(logits: Tensor, alpha: Annotated[Real, Field(ge=1, le=2)]) -> tuple[Tensor, Tensor]:
        z = logits - logits.max(dim=-1, keepdim=True).values
        rank = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
        if alpha == 2.0:
            descending = z.sort(dim=-1, descending=True).values
            tau = (descending.cumsum(-1) - 1) / rank
        else:
            z = z / 2
            descending = z.sort(dim=-1, descending=True).values
            mean = descending.cumsum(-1) / rank
            spread = rank * (descending.square().cumsum(-1) / rank - mean.square())
            tau = mean - ((1 - spread) / rank).clamp_min(0).sqrt()
        support = (tau < descending).sum(-1, keepdim=True).clamp_min(1)
        p = (z - tau.gather(-1, support - 1)).clamp_min(0)
        weights = p if alpha == 2.0 else p.square()
        s = (p > 0).to(p.dtype) if alpha == 2.0 else p
        return weights / weights.sum(-1, keepdim=True), s  # rounding alone keeps it from 1

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_weights: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (s,) = ctx.saved_tensors
        pulled = d_weights * s
        return pulled - s * (pulled.sum(-1, keepdim=True) / s.sum(-1, keepdim=True)), None
