"""Mixtures over discrete actions: themselves categoricals, so that everything is exact."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from moe_trader.mixture.choice import Choice, Mixture, positive


class CategoricalMixture(Mixture):
    """Discrete actions: the mixture is itself a categorical, so everything is exact.

    :param logits: the experts' scores, shape ``(batch, K, n_actions)``
    """

    def __init__(self, weights: Tensor, logits: Tensor) -> None:
        super().__init__(weights)
        self.logits = logits

    @cached_property
    def expert_log_probs(self) -> Tensor:
        """Log p_k of every action, shape ``(batch, K, n_actions)``."""
        return torch.log_softmax(self.logits, dim=-1)

    @cached_property
    def _log_joint(self) -> Tensor:
        return self.expert_log_probs + torch.log(positive(self.weights)).unsqueeze(-1)  # (batch, K, n_actions)

    @cached_property
    def log_probs(self) -> Tensor:
        """Log m of every action, shape ``(batch, n_actions)``."""
        return torch.logsumexp(self._log_joint, dim=1)

    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Gather log p_k of each row's action, ``actions`` of shape ``(batch,)``."""
        return at_actions(self.expert_log_probs, actions)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s)."""
        return self.log_probs.gather(1, actions.view(-1, 1)).squeeze(-1)

    def responsibilities(self, actions: Tensor) -> Tensor:
        """Return r, by Bayes' rule."""
        return at_actions(self._log_joint - self.log_probs.unsqueeze(1), actions).exp().detach()

    def entropy(self) -> Tensor:
        """Return the exact entropy."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def disagreement(self) -> Tensor:
        """Return the exact divergence."""
        expert_entropy = -(self.expert_log_probs.exp() * self.expert_log_probs).sum(-1)
        return self.entropy() - (self.weights * expert_entropy).sum(-1)

    def posterior_entropy(self, actions: Tensor) -> Tensor:
        """Return sum_a m(a) H(r(.|a)); ``actions`` are not needed."""
        log_r = self._log_joint - self.log_probs.unsqueeze(1)
        return -(self._log_joint.exp() * log_r).sum((1, 2))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw from m, shape ``(batch,)``."""
        chances = self.log_probs.exp().contiguous()
        return torch.multinomial(chances, 1, replacement=True, generator=generator).squeeze(-1)

    def reweighted(self, weights: Tensor) -> CategoricalMixture:
        """Return the mixture under other weights."""
        return type(self)(weights, self.expert_log_probs)

    def outputs(self) -> list[Tensor]:
        """Return the experts' scores."""
        return [self.logits]

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

    def outputs(self) -> list[Tensor]:
        """Return the experts' scores."""
        return [self._scores]

    def rows(self, part: slice) -> CategoricalChoice:
        """Return the choice in some of the states."""
        return CategoricalChoice(self.weights[part], self._scores[part], self._chances[part])


def at_actions(table: Tensor, actions: Tensor) -> Tensor:
    """Return ``table``, shape ``(batch, K, n_actions)``, at each state's action: shape ``(batch, K)``."""
    return table.gather(2, actions.view(-1, 1, 1).expand(-1, table.shape[1], 1)).squeeze(-1)
