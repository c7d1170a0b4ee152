"""K experts evaluated together, as PyTorch modules that stay real Stable-Baselines3 policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, cast

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from moe_trader.mixture.choice import Choice

MakeDiscrete = Callable[[Tensor, Tensor], Choice]
"""From gate weights ``(batch, K)`` and scores ``(batch, K, n_actions)`` to the choice among discrete actions."""


class ExpertBank(nn.ModuleList, ABC):
    """K experts; ``bank[k]`` is expert k, an SB3 policy that can be read, loaded into and taken out.

    A bank evaluates its experts and says what their outputs mean: how they choose actions under gate weights, and what
    their critics expect. Nothing else looks into the outputs but the learner and the kernels made for that bank.

    :param experts: SB3 policies for one flat observation space
    """

    n_inputs: int
    """Numbers of an observation that an expert sees."""

    def __init__(self, experts: Sequence[BasePolicy]) -> None:
        super().__init__(experts)
        space = experts[0].observation_space
        assert isinstance(space, spaces.Box)
        self.n_inputs = int(space.shape[0])

    @abstractmethod
    def forward(self, observations: Tensor) -> Any:
        """Return what every expert puts out, for observations of shape ``(batch, n_inputs)``.

        :raises ValueError: for another shape
        """

    @abstractmethod
    def choice(self, weights: Tensor, outputs: Any, discrete: MakeDiscrete) -> Choice:
        """Return how experts of these outputs choose under gate weights, shape ``(batch, K)``.

        :param discrete: makes the choice from weights and logits, for banks that put out logits of discrete actions
        """

    @abstractmethod
    def values(self, outputs: Any) -> Tensor | None:
        """Return V_k, shape ``(batch, K)``; ``None`` for experts without a critic of states."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups: ``params``, and ``owners``, the number of experts that own each parameter.

        By default a group for each expert. With more than one owner a parameter is a row of blocks; ``blocks`` holds
        their sizes, and each block is divided evenly among the owners, in order.
        """
        return [{"params": list(expert.parameters()), "owners": 1} for expert in self]

    @property
    def frozen(self) -> list[int]:
        """Places of the experts of which no parameter learns."""
        return [k for k, expert in enumerate(self) if not any(one.requires_grad for one in expert.parameters())]

    def freeze(self, frozen: Collection[int]) -> None:
        """Have the experts at these places stand still, and all others learn."""
        for k, expert in enumerate(self):
            expert.requires_grad_(k not in frozen)

    def frozen_parts(self) -> list[tuple[nn.Parameter, slice]]:
        """Return the parts of :meth:`trained` that learn nothing, as slices of parameters of one dimension.

        By default none: autograd gives a parameter that requires no gradient none, and optimisers leave it out.
        """
        return []

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters of :meth:`parameter_groups`, with what was loaded into the experts."""
        return list(self.parameters())

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each expert's gradients under the names of its own parameters, ``0.action_net.weight``."""
        for name, parameter in self.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad

    @property
    def policies(self) -> list[BasePolicy]:
        """The K experts as SB3 policies."""
        return cast("list[BasePolicy]", list(self))

    def checked(self, observations: Tensor) -> Tensor:
        """Return observations as they are. :raises ValueError: unless their shape is ``(batch, n_inputs)``."""
        if observations.ndim != 2 or observations.shape[1] != self.n_inputs:
            raise ValueError(f"experts: expected shape (n, {self.n_inputs}), got {tuple(observations.shape)}")
        return observations
