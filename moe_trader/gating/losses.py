"""Losses that keep every expert alive and make the gate say something.

They are minimised together with the policy loss. Load balancing to uniform is not among them: real market regimes are
not equally frequent, and a uniform load would have to split the common ones.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from moe_trader.gating import GateBatch, GateLoss, entropy
from moe_trader.option import option

Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@option
class RouterZ(GateLoss):
    """Mean squared log-partition of the logits: keeps them bounded (ST-MoE, arXiv 2202.08906).

    :param weight: of the term in the training loss
    """

    weight: Weight

    def weight_at(self, progress: float) -> float:
        """Return the constant weight."""
        return self.weight

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return E[(logsumexp(logits) - log K)^2]: zero for the uniform gate that training starts from."""
        n_experts = batch.logits.shape[-1]
        partition = torch.logsumexp(batch.logits, dim=-1) - math.log(n_experts)
        return partition.square().mean()


@option
class MinimumImportance(GateLoss):
    """Hinge on each expert's importance: sum_k max(0, m - mean g_k)^2 / m^2 with m = share / K.

    :param weight: of the term in the training loss
    :param share: smallest importance that costs nothing, as a share of 1 / K
    """

    weight: Weight
    share: Fraction

    def weight_at(self, progress: float) -> float:
        """Return the constant weight."""
        return self.weight

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the hinge; zero once every expert has its minimum."""
        importance = batch.weights.mean(dim=0)
        least = self.share / len(importance)
        if least == 0:
            return importance.sum() * 0.0
        return (torch.relu(least - importance) / least).square().sum()


@option
class Information(GateLoss):
    """Minus the information that state and action carry about the expert: -[H(mean g) - E H(r)].

    It rewards balanced use, sharp gates and experts that act differently, all in one term (the mutual information
    I(K; S, A) of HiREPS, PMLR 22:273, 2012, and adInfoHRL, arXiv 1901.01365).

    :param weight: of the term in the training loss once it is ramped in
    :param ramp_start: fraction of training at which it begins to count
    :param ramp_end: fraction of training from which it counts in full
    """

    weight: Weight
    ramp_start: Fraction
    ramp_end: Fraction

    def __post_init__(self) -> None:
        if self.ramp_start > self.ramp_end:
            raise ValueError(f"expected ramp_start <= ramp_end, got {self.ramp_start} and {self.ramp_end}")

    def weight_at(self, progress: float) -> float:
        """Return the weight, ramped in linearly."""
        if progress >= self.ramp_end:
            return self.weight
        if progress <= self.ramp_start:
            return 0.0
        return self.weight * (progress - self.ramp_start) / (self.ramp_end - self.ramp_start)

    def __call__(self, batch: GateBatch) -> Tensor:
        """Return -[H(mean g) - E H(r)] in nats."""
        return batch.posterior_entropy.mean() - entropy(batch.weights.mean(dim=0))
