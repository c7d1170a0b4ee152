"""The gating room: from market features to the weight of each expert, and the losses that keep a gate useful."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from moe_trader.sight import PLAIN_SIGHT, Sight

Array = np.ndarray[Any, Any]


@functools.cache
def keeps_up(of: type, compiled: str, *plain: str) -> bool:
    """Whether a class's compiled method still says what the plain ones say: no class further down changed those."""

    def owner(name: str) -> int:
        return next(place for place, one in enumerate(of.__mro__) if name in vars(one))

    return all(owner(compiled) <= owner(name) for name in plain)


@dataclass(frozen=True)
class Routing:
    """What a gate makes of a minibatch, for compiled code: arrays of float32 in which the batch runs fastest.

    :param logits: shape ``(n_experts, batch)``
    :param weights: shape ``(n_experts, batch)``
    :param send_back: takes the gradients of both, and leaves those of the gate's parameters in their ``grad``
    """

    logits: Array
    weights: Array
    send_back: Callable[[Array, Array], None]


class GatingNetwork(nn.Module, ABC):
    """What a gate reads of an observation -> gate weights ``(batch, n_experts)``, rows summing to 1.

    It reads the market features of one bar, ``(batch, n_gate_features)``, or what else :meth:`Gate.reads` says: several
    bars side by side, oldest first, or regimes. Weights are a function of one row of the batch alone: a gate that looks
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
        What it changes must be a registered buffer, so that it is saved.

        :param progress: fraction of training done
        :param weights: gate weights on a sample of the last rollout's states, shape ``(n, n_experts)``; ``None`` before
            the first
        """
        return

    def forward(self, features: Tensor) -> Tensor:
        """Return gate weights."""
        return self.weights(self.logits(features))

    def route(self, features: Tensor) -> Routing:
        """Return logits, weights and the way back of the gradient: by autograd, unless overridden by compiled code.

        There is no way back where autograd records nothing.

        :param features: as for :meth:`logits`, of float32 on a CPU
        """
        logits = self.logits(features)
        weights = self.weights(logits)

        def send_back(d_logits: Array, d_weights: Array) -> None:
            ends = [(end, d) for end, d in ((logits, d_logits), (weights, d_weights)) if end.requires_grad]
            if ends:
                torch.autograd.backward([end for end, _ in ends], [torch.from_numpy(d.T) for _, d in ends])

        arrays = [np.ascontiguousarray(one.detach().numpy().T) for one in (logits, weights)]
        return Routing(arrays[0], arrays[1], send_back)


class ActionDensity(Protocol):
    """What a gate loss may ask of the experts' actions: :class:`moe_trader.expert.mixture.Mixture`."""

    weights: Tensor

    def expert_log_prob(self, actions: Tensor) -> Tensor:
        """Return log p_k(a|s), shape ``(batch, n_experts)``."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log m(a|s), shape ``(batch,)``."""

    def disagreement(self) -> Tensor:
        """Return the Jensen-Shannon divergence of the experts under g, nats, shape ``(batch,)``."""

    def reweighted(self, weights: Tensor) -> ActionDensity:
        """Return the mixture of the same experts under other gate weights."""


@dataclass(frozen=True)
class GateBatch:
    """What a gate loss may look at, for one minibatch; nothing else is computed before a loss asks.

    :param logits: the gate's scores, shape ``(batch, n_experts)``
    :param mixture: the experts' action densities under the gate weights
    :param posterior_entropy: E_a H(r(.|s, a)) in nats, where r_k = g_k p_k(a|s) / m(a|s): how much doubt an action
        leaves about who chose it; shape ``(batch,)``
    :param actions: as taken in the rollout, shape ``(batch,)`` or ``(batch, dim)``
    :param advantages: of these actions, as the policy loss uses them, shape ``(batch,)``
    :param previous_weights: g at the bar before, shape ``(batch, n_experts)``; ``None`` unless a loss compares bars
    """

    logits: Tensor
    mixture: ActionDensity
    posterior_entropy: Tensor
    actions: Tensor
    advantages: Tensor
    previous_weights: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """g, the gate weights, shape ``(batch, n_experts)``."""
        return self.mixture.weights


@dataclass(frozen=True)
class GateArrays:
    """What a loss with a gradient of its own looks at, and adds to: arrays in which the batch runs fastest.

    :param routing: the gate's logits and weights
    :param posterior_entropy: as in :class:`GateBatch`
    :param d_logits: the gradient so far of the training loss by the logits, shape ``(n_experts, batch)``
    :param d_weights: ... by the gate weights, shape ``(n_experts, batch)``
    :param d_posterior_entropy: ... by the posterior entropy, shape ``(batch,)``
    """

    routing: Routing
    posterior_entropy: Array
    d_logits: Array
    d_weights: Array
    d_posterior_entropy: Array


class GateLoss(ABC):
    """A term added to the training loss: an entry of ``gating.losses``."""

    trains_experts: ClassVar[bool] = False
    """Whether its gradient reaches the experts too, and not the gate alone."""
    compares_bars: ClassVar[bool] = False
    """Whether it reads :attr:`GateBatch.previous_weights`."""

    @abstractmethod
    def weight_at(self, progress: float) -> float:
        """Return the term's weight when a fraction ``progress`` in [0, 1] of training is done."""

    @abstractmethod
    def __call__(self, batch: GateBatch) -> Tensor:
        """Return the unweighted loss, a scalar."""

    def add_gradient(self, arrays: GateArrays, weight: float) -> float:
        """Add ``weight`` times the loss's gradient to ``arrays`` and return the loss; optional.

        A gate whose losses all have it trains without autograd, at a fraction of the price.
        """
        raise NotImplementedError


class Gate(ABC):
    """Settings of a gate: an option of ``conf/gating``."""

    losses: Mapping[str, GateLoss]

    @abstractmethod
    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network.

        :param n_features: columns of one bar; an environment that is not ours shows one bar to every gate
        """

    def reads(self) -> Sight:
        """Return what the network reads of an observation: the newest bar of the gate's features, unless overridden."""
        return PLAIN_SIGHT

    def caveat(self) -> str | None:
        """Return what one must know before believing the gate's results; ``None``: nothing."""
        return None

    def compares_bars(self) -> bool:
        """Whether one of the losses compares the weights of neighbouring bars."""
        return any(loss.compares_bars for loss in self.losses.values())

    def sight(self) -> Sight:
        """Return what an environment must show the gate: what it reads, and one bar more where bars are compared."""
        reads = self.reads()
        return dataclasses.replace(reads, rows=reads.rows + self.compares_bars())


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy of each row in nats, shape ``(batch,)``; zero weights count as zero, gradients stay finite."""
    return -(weights * torch.log(weights.clamp_min(torch.finfo(weights.dtype).tiny))).sum(-1)
