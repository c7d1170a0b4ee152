"""What K experts do together: a choice among actions, and where they have densities, m(a|s) = sum_k g_k(s) p_k(a|s).

Since grad log m = sum_k r_k (grad log g_k + grad log p_k) with r_k = g_k p_k / m, a policy-gradient step on m is
responsibility-weighted joint training of the gate and of every expert.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Choice(ABC):
    """K experts' actions under gate weights, for a batch of states: what any family can answer.

    :param weights: g, shape ``(batch, K)``, rows summing to 1
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    @abstractmethod
    def mode(self) -> Tensor:
        """Return the most likely action, ``(batch, ...)``; without a closed form, the best of the experts' own."""

    @abstractmethod
    def expert_modes(self) -> Tensor:
        """Return each expert's most likely action, shape ``(batch, K, ...)``."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action a state, with PyTorch's global generator unless another is given."""

    @abstractmethod
    def disagreement(self) -> Tensor:
        """Return how differently the experts act under g, shape ``(batch,)``: 0 where all act the same way.

        With densities it is their Jensen-Shannon divergence, H(m) - sum_k g_k H(p_k), in nats. It has a gradient by the
        experts' outputs, which the loss ``diversity`` needs.
        """

    @abstractmethod
    def reweighted(self, weights: Tensor) -> Choice:
        """Return the choice of the same experts under other gate weights, shape ``(batch, K)``."""

    @abstractmethod
    def outputs(self) -> list[Tensor]:
        """Return the experts' numbers that it is made of, each ``(batch, K, ...)`` or ``(1, K, ...)``."""

    @abstractmethod
    def rows(self, part: slice) -> Choice:
        """Return the choice in some of the states."""


class Mixture(Choice):
    """A choice with an action density m(a|s) = sum_k g_k(s) p_k(a|s)."""

    @abstractmethod
    def reweighted(self, weights: Tensor) -> Mixture:
        """Return the mixture of the same experts under other gate weights, shape ``(batch, K)``."""

    @abstractmethod
    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s), shape ``(batch,)``."""

    @abstractmethod
    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Return log p_k(a|s), shape ``(batch, K)``."""

    @abstractmethod
    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r_k = g_k p_k(a|s) / m(a|s), shape ``(batch, K)``, to weigh losses with: it carries no gradient."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Return H(m), nats, shape ``(batch,)``, with a gradient that is right in expectation."""

    @abstractmethod
    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return E_a H(r(.|s, a)), nats, shape ``(batch,)``; exact where actions can be summed out."""


def positive(weights: Tensor) -> Tensor:
    """Keep the logarithm of a weight that rounds to zero finite: one such state would make the gate's gradient NaN."""
    return weights.clamp_min(torch.finfo(weights.dtype).tiny)
