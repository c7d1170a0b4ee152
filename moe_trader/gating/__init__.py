"""The gating room: from market features to the weight of each expert, and the losses that keep a gate useful."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from moe_trader.gate_input import NEWEST_BAR, GateInput
from moe_trader.option import ConfigError


class GatingNetwork(nn.Module, ABC):
    """What a gate reads of an observation -> gate weights ``(batch, n_experts)``, rows summing to 1.

    It reads the market features of one bar, ``(batch, n_gate_features)``, or what else :meth:`Gate.reads` says: several
    bars side by side, oldest first, or regimes. Weights are a function of one row of the batch: a gate that looks
    across the batch would show one bar to another.
    """

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Return unnormalised scores, shape ``(batch, n_experts)``."""

    @abstractmethod
    def weights(self, logits: Tensor) -> Tensor:
        """Return positive gate weights from logits, shape ``(batch, n_experts)``, rows summing to 1."""

    def adapt(self, progress: float, weights: Tensor | None) -> None:
        """Change what no gradient reaches; called before each rollout, and never again until its updates are done.

        PPO compares densities across a rollout and its updates: a gate that changed in between would be off-policy.
        What it changes must be a registered buffer, so that it is saved, and so that a copy of the gate, as the target
        of an off-policy learner, can take it over.

        :param progress: fraction of training done
        :param weights: gate weights on a sample of the last rollout's states, shape ``(n, n_experts)``; ``None`` before
            the first
        """
        return

    def forward(self, features: Tensor) -> Tensor:
        """Return gate weights."""
        return self.weights(self.logits(features))


class ExpertChoice(Protocol):
    """What a gate loss may ask of the experts' actions: :class:`moe_trader.mixture.choice.Choice`."""

    weights: Tensor

    def disagreement(self) -> Tensor:
        """Return how differently the experts act under g, shape ``(batch,)``."""

    def reweighted(self, weights: Tensor) -> ExpertChoice:
        """Return the choice of the same experts under other gate weights, shape ``(batch, n_experts)``."""


@dataclass(frozen=True)
class GateBatch:
    """What a gate loss may look at, for one minibatch, under on- and off-policy learners.

    :param logits: the gate's scores, shape ``(batch, n_experts)``
    :param choice: the experts' actions under the gate weights
    :param posterior_entropy: E_a H(r(.|s, a)) in nats, where r_k = g_k p_k(a|s) / m(a|s): how much doubt an action
        leaves about which expert chose it; shape ``(batch,)``. Without action densities it is H(g)
    :param advantage_of_each: returns :attr:`expert_advantages`, which are computed when a loss asks for them
    :param previous_weights: g at the bar before, shape ``(batch, n_experts)``; ``None`` unless a loss compares bars
    """

    logits: Tensor
    choice: ExpertChoice
    posterior_entropy: Tensor
    advantage_of_each: Callable[[], Tensor]
    previous_weights: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """g, the gate weights, shape ``(batch, n_experts)``."""
        return self.choice.weights

    @cached_property
    def expert_advantages(self) -> Tensor:
        """Advantage of following each expert, shape ``(batch, n_experts)``, without gradient.

        On-policy it is estimated from the action taken, A p_k(a|s) / m(a|s), with A in units of its root mean square
        and the ratio truncated at K (as in IMPALA, arXiv 1802.01561). Off-policy it is Q(s, a_k) - sum_j g_j Q(s, a_j).
        """
        return self.advantage_of_each()


class GateLoss(ABC):
    """A term added to the training loss: an entry of ``gating.losses``."""

    trains_experts: ClassVar[bool] = False
    """Whether its gradient reaches the experts too, not only the gate."""
    compares_bars: ClassVar[bool] = False
    """Whether it reads :attr:`GateBatch.previous_weights`."""

    @abstractmethod
    def weight_at(self, progress: float) -> float:
        """Return the term's weight when a fraction ``progress`` in [0, 1] of training is done."""

    @abstractmethod
    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the unweighted loss, a scalar."""


class Gate(ABC):
    """Settings of a gate: an option of ``conf/gating``."""

    losses: Mapping[str, GateLoss]

    @abstractmethod
    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network.

        :param n_features: columns of one bar; an environment that is not ours shows one bar to every gate
        """

    def reads(self) -> GateInput:
        """Return what the network reads of an observation: the newest bar of the gate's features, unless overridden."""
        return NEWEST_BAR

    def caveat(self) -> str | None:
        """Return what one must know before believing the gate's results; ``None``: nothing."""
        return None

    def compares_bars(self) -> bool:
        """Whether one of the losses compares the weights of neighbouring bars."""
        return any(loss.compares_bars for loss in self.losses.values())

    def gate_input(self) -> GateInput:
        """Return what an environment must show the gate: what it reads, and one bar more where bars are compared."""
        reads = self.reads()
        return dataclasses.replace(reads, rows=reads.rows + self.compares_bars())


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy of each row in nats, shape ``(batch,)``; zero weights count as zero, gradients stay finite."""
    return -(weights * torch.log(weights.clamp_min(torch.finfo(weights.dtype).tiny))).sum(-1)


def with_gate_losses(
    loss: Tensor, batch: GateBatch, losses: Mapping[str, tuple[GateLoss, float]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a training loss plus the gate's weighted losses, and each of these, unweighted, as ``gate_loss/NAME``.

    :param losses: name -> loss and its present weight
    :raises ConfigError: for a loss that returns anything but a scalar tensor
    """
    terms = {}
    for name, (gate_loss, weight) in losses.items():
        value = gate_loss(batch)
        if not (isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()):
            kind = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:80]
            raise ConfigError(
                f"gating.losses.{name}: expected {type(gate_loss).__name__} to return a scalar tensor, got {kind}"
            )
        loss = loss + weight * value
        terms[f"gate_loss/{name}"] = value.detach()
    return loss, terms
