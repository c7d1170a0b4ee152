"""Mixture densities: m(a|s) = sum_k g_k(s) p_k(a|s), exactly.

Since grad log m = sum_k r_k (grad log g_k + grad log p_k) with r_k = g_k p_k / m, a policy-gradient step on m is
responsibility-weighted joint training of the gate and of every expert.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from moe_trader.gating import entropy


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

        With densities it is their Jensen-Shannon divergence, H(m) - sum_k g_k H(p_k), in nats.
        """

    @abstractmethod
    def reweighted(self, weights: Tensor) -> Choice:
        """Return the choice of the same experts under other gate weights, shape ``(batch, K)``."""

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


class CategoricalMixture(Mixture):
    """Discrete actions: the mixture is itself a categorical, so everything is exact.

    :param logits: the experts' scores, shape ``(batch, K, n_actions)``
    """

    def __init__(self, weights: Tensor, logits: Tensor) -> None:
        super().__init__(weights)
        self.logits = logits

    @property
    def expert_log_probs(self) -> Tensor:
        """Log p_k of every action, shape ``(batch, K, n_actions)``."""
        return self._expert_log_probs

    @property
    def log_probs(self) -> Tensor:
        """Log m of every action, shape ``(batch, n_actions)``."""
        return self._log_probs

    @cached_property
    def _expert_log_probs(self) -> Tensor:
        return torch.log_softmax(self.logits, dim=-1)

    @cached_property
    def _log_joint(self) -> Tensor:
        return self._expert_log_probs + torch.log(positive(self.weights)).unsqueeze(-1)  # (batch, K, n_actions)

    @cached_property
    def _log_probs(self) -> Tensor:
        return torch.logsumexp(self._log_joint, dim=1)

    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Gather log p_k of each row's action, ``actions`` of shape ``(batch,)``."""
        return at_actions(self.expert_log_probs, actions)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s)."""
        return self.log_probs.gather(1, actions.view(-1, 1)).squeeze(-1)

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r, by Bayes' rule."""
        return at_actions(self._log_joint - self._log_probs.unsqueeze(1), actions).exp().detach()

    def entropy(self) -> Tensor:
        """Return the exact entropy."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def disagreement(self) -> Tensor:
        """Return the exact divergence."""
        expert_entropy = -(self.expert_log_probs.exp() * self.expert_log_probs).sum(-1)
        return self.entropy() - (self.weights * expert_entropy).sum(-1)

    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return sum_a m(a) H(r(.|a)); ``actions`` are not needed."""
        log_r = self._log_joint - self._log_probs.unsqueeze(1)
        return -(self._log_joint.exp() * log_r).sum((1, 2))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw from m, shape ``(batch,)``."""
        chances = self.log_probs.exp().contiguous()
        return torch.multinomial(chances, 1, replacement=True, generator=generator).squeeze(-1)

    def reweighted(self, weights: Tensor) -> CategoricalMixture:
        """Return the mixture under other weights."""
        return type(self)(weights, self.expert_log_probs)

    def rows(self, part: slice) -> CategoricalMixture:
        """Return the mixture in some of the states."""
        return type(self)(self.weights[part], self.logits[part])

    def mode(self) -> Tensor:
        """Return argmax m, shape ``(batch,)``."""
        return self.log_probs.argmax(dim=-1)

    def expert_modes(self) -> Tensor:
        """Return argmax p_k, shape ``(batch, K)``."""
        return self.expert_log_probs.argmax(dim=-1)


class CategoricalChoice(Choice):
    """Discrete actions without their log-densities, for acting: a decision for one bar is all overhead.

    :param scores: the experts' scores, shape ``(batch, K, n_actions)``
    :param chances: m(a|s), shape ``(batch, n_actions)``; ``None``: computed
    """

    def __init__(self, weights: Tensor, scores: Tensor, chances: Tensor | None = None) -> None:
        super().__init__(weights)
        self._scores = scores
        if chances is None:
            chances = (torch.softmax(scores, -1) * weights.unsqueeze(-1)).sum(1)
        self._chances = chances

    def mode(self) -> Tensor:
        """Return argmax m, shape ``(batch,)``."""
        return self._chances.argmax(-1)

    def expert_modes(self) -> Tensor:
        """Return argmax p_k, shape ``(batch, K)``."""
        return self._scores.argmax(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw from m, shape ``(batch,)``."""
        return torch.multinomial(self._chances, 1, replacement=True, generator=generator).squeeze(-1)

    def disagreement(self) -> Tensor:
        """Return the exact divergence."""
        return CategoricalMixture(self.weights, self._scores).disagreement()

    def reweighted(self, weights: Tensor) -> CategoricalChoice:
        """Return the choice under other weights."""
        return CategoricalChoice(weights, self._scores)

    def rows(self, part: slice) -> CategoricalChoice:
        """Return the choice in some of the states."""
        return CategoricalChoice(self.weights[part], self._scores[part], self._chances[part])


def at_actions(table: Tensor, actions: Tensor) -> Tensor:
    """Return ``table``, shape ``(batch, K, n_actions)``, at each state's action: shape ``(batch, K)``."""
    return table.gather(2, actions.view(-1, 1, 1).expand(-1, table.shape[1], 1)).squeeze(-1)


class GaussianMixture(Mixture):
    """Box actions: experts are diagonal Gaussians, unsquashed as in SB3.

    :param means: shape ``(batch, K, dim)``
    :param log_std: shape ``(K, dim)``
    """

    def __init__(self, weights: Tensor, means: Tensor, log_std: Tensor) -> None:
        super().__init__(weights)
        self.means, self.log_std = means, log_std
        self.log_weights = torch.log(positive(weights))

    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Return the Gaussian log densities of ``actions``, shape ``(batch, dim)`` in, ``(batch, K)`` out."""
        return self._log_density(actions.unsqueeze(1))

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s)."""
        return torch.logsumexp(self.log_weights + self.expert_log_prob(actions), dim=-1)

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r, by Bayes' rule."""
        return torch.softmax(self.log_weights + self.expert_log_prob(actions), dim=-1).detach()

    def entropy(self) -> Tensor:
        """Return sum_k g_k H(p_k) plus the estimated :meth:`disagreement`."""
        expert_entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)  # (K,)
        return (self.weights * expert_entropy).sum(-1) + self.disagreement()

    def disagreement(self) -> Tensor:
        """Return sum_k g_k log(p_k / m) at one reparameterised draw of every expert: unbiased, stratified over k."""
        n_experts = self.weights.shape[1]
        if n_experts == 1:  # exactly zero, and no noise is drawn, so that one expert trains as plain SB3 does
            return torch.zeros_like(self.weights[:, 0])
        draws = self.means + self.log_std.exp() * torch.randn_like(self.means)  # (batch, K, dim)
        density = self._log_density(draws.unsqueeze(2), self.means.unsqueeze(1))  # (batch, drawn from, expert)
        mixture = torch.logsumexp(self.log_weights.unsqueeze(1) + density, dim=-1)  # (batch, drawn from)
        own = torch.diagonal(density, dim1=1, dim2=2)
        return (self.weights * (own - mixture)).sum(-1)

    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return H(r(.|s, a)) at the given actions: one draw of the expectation, its gradient right on average too.

        The draw depends on what is trained, so the gradient is that of H(r) plus (H(r) - a baseline) times that of
        log m(a|s), which adds nothing to the value.
        """
        log_joint = self.log_weights + self.expert_log_prob(actions)
        log_m = torch.logsumexp(log_joint, dim=-1)
        drawn = entropy(torch.softmax(log_joint, dim=-1))
        return drawn + (drawn - drawn.mean()).detach() * (log_m - log_m.detach())

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw an expert, then its action, shape ``(batch, dim)``."""
        means, log_std = self.means[:, 0], self.log_std[0]
        if self.weights.shape[1] > 1:
            chosen = torch.multinomial(self.weights, 1, generator=generator).squeeze(-1)
            means = self.means[torch.arange(len(chosen), device=chosen.device), chosen]
            log_std = self.log_std[chosen]
        return torch.normal(means, log_std.exp().expand_as(means), generator=generator)

    def reweighted(self, weights: Tensor) -> GaussianMixture:
        """Return the mixture under other weights."""
        return GaussianMixture(weights, self.means, self.log_std)

    def rows(self, part: slice) -> GaussianMixture:
        """Return the mixture in some of the states."""
        return GaussianMixture(self.weights[part], self.means[part], self.log_std)

    def mode(self) -> Tensor:
        """Return the mean with the highest mixture density among experts that have a weight, shape ``(batch, dim)``.

        A mixture of Gaussians has no closed form for its mode; it lies near one of the means.
        """
        density = self._log_density(self.means.unsqueeze(2), self.means.unsqueeze(1))
        at_means = torch.logsumexp(self.log_weights.unsqueeze(1) + density, dim=-1)  # (batch, K)
        best = at_means.masked_fill(self.weights == 0, -torch.inf).argmax(dim=-1)
        return self.means[torch.arange(len(best), device=best.device), best]

    def expert_modes(self) -> Tensor:
        """Return the means, shape ``(batch, K, dim)``."""
        return self.means

    def _log_density(self, points: Tensor, means: Tensor | None = None) -> Tensor:
        means = self.means if means is None else means
        z = (points - means) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
