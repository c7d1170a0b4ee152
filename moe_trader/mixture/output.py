"""What a mixture says about a batch of states."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_trader.mixture.choice import Choice, Mixture


class OutputError(ValueError):
    """Gate or experts put out a number that is not finite: no action can be chosen."""


@dataclass(frozen=True)
class MixtureOutput:
    """Everything the mixture says about a batch of states.

    :param choice: among actions
    :param gate_logits: shape ``(batch, K)``
    :param expert_values: V_k, shape ``(batch, K)``; ``None`` for experts without a critic of states
    :param previous_weights: gate weights one bar earlier, shape ``(batch, K)``, if they were asked for
    """

    choice: Choice
    gate_logits: Tensor
    expert_values: Tensor | None
    previous_weights: Tensor | None = None

    @property
    def mixture(self) -> Mixture:
        """The choice as an action density, which on-policy learners need."""
        assert isinstance(self.choice, Mixture)
        return self.choice

    @property
    def critics(self) -> Tensor:
        """V_k, shape ``(batch, K)``, which on-policy learners need."""
        assert self.expert_values is not None
        return self.expert_values

    @property
    def values(self) -> Tensor:
        """V = sum_k g_k V_k, shape ``(batch,)``.

        The gate is held fixed: it has to pick good actions, and must not be drawn towards experts whose critics happen
        to fit the returns.
        """
        return (self.choice.weights.detach() * self.critics).sum(-1)

    def checked(self) -> MixtureOutput:
        """Return it as it is.

        :raises OutputError: unless gate and experts put out finite numbers only; it names those that do not
        """
        weights = self.choice.weights
        parts = [weights, *self.choice.outputs()]
        if self.expert_values is not None:
            parts.append(self.expert_values)
        if not math.isfinite(sum(float(part.detach().sum()) for part in parts)):
            whose = {"the gate": parts[:1]}
            whose |= {f"expert {k + 1}": [one[:, k] for one in parts[1:]] for k in range(weights.shape[1])}
            broken = [who for who, own in whose.items() if not all(torch.isfinite(one).all() for one in own)]
            if broken:  # else finite numbers too large to be added up
                raise OutputError(f"outputs of {', '.join(broken)} are not finite")
        return self
