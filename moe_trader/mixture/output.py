"""What a mixture says about a batch of states."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_trader.mixture.categorical import CategoricalMixture
from moe_trader.mixture.choice import Mixture
from moe_trader.mixture.gaussian import GaussianMixture


class OutputError(ValueError):
    """Gate or experts put out a number that is not finite: no action can be chosen."""


@dataclass(frozen=True)
class MixtureOutput:
    """Everything the mixture says about a batch of states.

    :param mixture: action density
    :param gate_logits: shape ``(batch, K)``
    :param expert_values: V_k, shape ``(batch, K)``
    :param previous_weights: gate weights one bar earlier, shape ``(batch, K)``, if they were asked for
    """

    mixture: Mixture
    gate_logits: Tensor
    expert_values: Tensor
    previous_weights: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """V = sum_k g_k V_k, shape ``(batch,)``.

        The gate is held fixed: it has to pick good actions, and must not be drawn towards experts whose critics happen
        to fit the returns.
        """
        return (self.mixture.weights.detach() * self.expert_values).sum(-1)

    def checked(self) -> MixtureOutput:
        """Return it as it is.

        :raises OutputError: unless gate and experts put out finite numbers only; it names those that do not
        """
        mixture, parts = self.mixture, [self.mixture.weights, self.expert_values]
        if isinstance(mixture, GaussianMixture):
            parts += [mixture.means, mixture.log_std.abs().exp().unsqueeze(0)]
        elif isinstance(mixture, CategoricalMixture):
            parts.append(mixture.logits)
        if not math.isfinite(sum(float(part.detach().sum()) for part in parts)):
            whose = {"the gate": parts[:1]}
            whose |= {f"expert {k + 1}": [one[:, k] for one in parts[1:]] for k in range(mixture.weights.shape[1])}
            broken = [who for who, own in whose.items() if not all(torch.isfinite(one).all() for one in own)]
            if broken:  # else finite numbers too large to be added up
                raise OutputError(f"outputs of {', '.join(broken)} are not finite")
        return self
