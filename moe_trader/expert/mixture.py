"""Mixture densities: m(a|s) = sum_k g_k(s) p_k(a|s), exactly.

Since grad log m = sum_k r_k (grad log g_k + grad log p_k) with r_k = g_k p_k / m, a policy-gradient step on m is
responsibility-weighted joint training of the gate and of every expert.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_trader.expert import categorical_kernels as kernels
from moe_trader.gating import entropy


class Mixture(ABC):
    """K action densities under gate weights, for a batch of states.

    :param weights: g, shape ``(batch, K)``, rows summing to 1
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    @abstractmethod
    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Return log p_k(a|s), shape ``(batch, K)``."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Return H(m), nats, shape ``(batch,)``, with a gradient that is right in expectation."""

    @abstractmethod
    def disagreement(self) -> Tensor:
        """Return the Jensen-Shannon divergence of the experts under g, H(m) - sum_k g_k H(p_k), shape ``(batch,)``."""

    @abstractmethod
    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return E_a H(r(.|s, a)), nats, shape ``(batch,)``; exact where actions can be summed out."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action a state, with PyTorch's global generator unless another is given."""

    @abstractmethod
    def reweighted(self, weights: Tensor) -> Mixture:
        """Return the mixture of the same experts under other gate weights, shape ``(batch, K)``."""

    @abstractmethod
    def mode(self) -> Tensor:
        """Return the most likely action of the mixture; where there is no closed form, the best of the experts' own."""

    @abstractmethod
    def expert_modes(self) -> Tensor:
        """Return each expert's most likely action, shape ``(batch, K, ...)``."""

    @abstractmethod
    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s), shape ``(batch,)``."""

    @abstractmethod
    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r_k = g_k p_k(a|s) / m(a|s), shape ``(batch, K)``, to weigh losses with: it carries no gradient."""


def _positive(weights: Tensor) -> Tensor:
    """Keep the logarithm of a weight that rounds to zero finite: one such state would make the gate's gradient NaN."""
    return weights.clamp_min(torch.finfo(weights.dtype).tiny)


class _CategoricalDensity(torch.autograd.Function):
    """log m(a|s), H(m) and the posterior entropy of every state, with their gradient by hand.

    With the joint P = g_k p_k(a), M = sum_k P and r = P / M: d log M / d log P = r, the entropy -sum M log M has the
    gradient -P (log M + 1), and the posterior entropy -sum P log r has -P log r. Autograd would record twenty steps.
    """

    @staticmethod
    def forward(weights: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        log_p = torch.log_softmax(logits.permute(1, 2, 0), dim=1)  # (K, n_actions, batch): the batch runs fastest
        log_joint = log_p + torch.log(_positive(weights.T)).unsqueeze(1)
        log_m = torch.logsumexp(log_joint, dim=0)  # (n_actions, batch)
        log_r = log_joint - log_m
        joint = log_joint.exp()
        entropy, posterior_entropy = -(log_m.exp() * log_m).sum(0), -(joint * log_r).sum((0, 1))
        return log_m, entropy, posterior_entropy, log_p, log_r, joint

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        log_m, _, _, log_p, log_r, joint = output
        ctx.save_for_backward(inputs[0], log_p, log_r, joint, log_m)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(log_r, joint)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        d_log_m: Tensor | None,
        d_entropy: Tensor | None,
        d_posterior: Tensor | None,
        d_log_p: Tensor | None,
        *_: None,
    ) -> tuple[Tensor, Tensor]:
        weights, log_p, log_r, joint, log_m = ctx.saved_tensors
        d_joint = torch.zeros_like(log_p) if d_log_m is None else log_r.exp() * d_log_m
        if d_entropy is not None:
            d_joint = torch.addcmul(d_joint, joint, (log_m + 1) * d_entropy, value=-1)
        if d_posterior is not None:
            d_joint = torch.addcmul(d_joint, joint * log_r, d_posterior, value=-1)
        d_weights = d_joint.sum(1).T / _positive(weights)  # (batch, K)
        if d_log_p is not None:
            d_joint = d_joint + d_log_p
        d_logits = d_joint - log_p.exp() * d_joint.sum(1, keepdim=True)
        return d_weights, d_logits.permute(2, 0, 1)


class CategoricalMixture(Mixture):
    """Discrete actions: the mixture is itself a categorical, so everything is exact.

    :param logits: the experts' scores, shape ``(batch, K, n_actions)``
    """

    def __init__(self, weights: Tensor, logits: Tensor) -> None:
        super().__init__(weights)
        self.logits = logits

    @cached_property
    def _density(self) -> tuple[Tensor, ...]:
        log_m, entropy, posterior_entropy, log_p, log_r, _ = _CategoricalDensity.apply(self.weights, self.logits)
        return log_m.T, entropy, posterior_entropy, log_p.permute(2, 0, 1), log_r.permute(2, 0, 1)

    @property
    def log_probs(self) -> Tensor:
        """Log m of every action, shape ``(batch, n_actions)``."""
        return self._density[0] if torch.is_grad_enabled() else self._log_probs

    @cached_property
    def _log_probs(self) -> Tensor:  # what a rollout asks for, as compiled code has it in an update
        if self.logits.device.type != "cpu" or self.logits.dtype != torch.float32:
            return self._density[0]
        weights, scores = self.weights.T.contiguous().numpy(), self.logits.permute(1, 2, 0).contiguous().numpy()
        p, log_r = np.empty_like(scores), np.empty_like(scores)
        m, log_m = np.empty_like(scores[0]), np.empty_like(scores[0])
        kernels.densities(weights, scores, p, log_r, m, log_m)
        return torch.from_numpy(log_m).T

    @property
    def expert_log_probs(self) -> Tensor:
        """Log p_k of every action, shape ``(batch, K, n_actions)``."""
        return self._density[3]

    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Gather log p_k of each row's action, ``actions`` of shape ``(batch,)``."""
        return _at(self.expert_log_probs, actions)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s)."""
        return self.log_probs.gather(1, actions.view(-1, 1)).squeeze(-1)

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r, by Bayes' rule."""
        return _at(self._density[4], actions).exp().detach()

    def entropy(self) -> Tensor:
        """Return the exact entropy."""
        return self._density[1]

    def disagreement(self) -> Tensor:
        """Return the exact divergence."""
        expert_entropy = -(self.expert_log_probs.exp() * self.expert_log_probs).sum(-1)
        return self.entropy() - (self.weights * expert_entropy).sum(-1)

    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return sum_a m(a) H(r(.|a)); ``actions`` play no part."""
        return self._density[2]

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw from m, shape ``(batch,)``."""
        chances = self.log_probs.exp().contiguous()
        return torch.multinomial(chances, 1, replacement=True, generator=generator).squeeze(-1)

    def reweighted(self, weights: Tensor) -> CategoricalMixture:
        """Return the mixture under other weights."""
        return CategoricalMixture(weights, self.expert_log_probs)

    def mode(self) -> Tensor:
        """Return argmax m, shape ``(batch,)``."""
        return self.log_probs.argmax(dim=-1)

    def expert_modes(self) -> Tensor:
        """Return argmax p_k, shape ``(batch, K)``."""
        return self.expert_log_probs.argmax(dim=-1)


def _at(table: Tensor, actions: Tensor) -> Tensor:
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
        self.log_weights = torch.log(_positive(weights))

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
