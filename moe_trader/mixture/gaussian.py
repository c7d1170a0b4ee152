"""Mixtures of diagonal Gaussians over Box actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moe_trader.gating import entropy
from moe_trader.mixture.choice import Mixture, positive


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

    def outputs(self) -> list[Tensor]:
        """Return means, and deviations or their inverses, whichever are larger."""
        return [self.means, self.log_std.abs().exp().unsqueeze(0)]

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
