"""K experts evaluated together, as PyTorch modules that stay real Stable-Baselines3 policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn


class ExpertOutputs(NamedTuple):
    """What K experts put out for a batch of states.

    :param scores: logits of the actions, or means of Gaussians, shape ``(batch, K, n)``
    :param values: V_k, shape ``(batch, K)``
    :param log_std: log standard deviations of Gaussians, shape ``(K, n)``; ``None`` for discrete actions
    """

    scores: Tensor
    values: Tensor
    log_std: Tensor | None


class ExpertBank(nn.ModuleList, ABC):
    """K experts; ``bank[k]`` is expert k, an SB3 policy that can be read, loaded into and taken out.

    :param experts: SB3 policies for one flat observation space
    """

    n_inputs: int
    """Numbers of an observation that an expert sees."""

    def __init__(self, experts: Sequence[ActorCriticPolicy]) -> None:
        super().__init__(experts)
        space = experts[0].observation_space
        assert isinstance(space, spaces.Box)
        self.n_inputs = int(space.shape[0])

    @abstractmethod
    def forward(self, observations: Tensor) -> ExpertOutputs:
        """Evaluate every expert on observations of shape ``(batch, n_inputs)``. :raises ValueError: for another."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups: ``params``, and ``owners``, how many experts share each parameter evenly.

        With more than one owner, ``blocks`` holds the sizes of the stretches of a parameter, in each of which every
        owner has an equal part, in order.
        """

    @abstractmethod
    def trained(self) -> list[nn.Parameter]:
        """Return the parameters of :meth:`parameter_groups`, with what was loaded into the experts."""

    @abstractmethod
    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each expert's gradients under the names of its own parameters, ``0.action_net.weight``."""

    @property
    def policies(self) -> list[ActorCriticPolicy]:
        """The K experts as SB3 policies."""
        return cast("list[ActorCriticPolicy]", list(self))

    @property
    def log_std(self) -> Tensor | None:
        """Log standard deviations of the experts' Gaussians, ``(K, n)``, without gradient; ``None`` for discrete."""
        if not hasattr(self.policies[0], "log_std"):
            return None
        return torch.stack([expert.log_std.detach() for expert in self.policies])

    def checked(self, observations: Tensor) -> Tensor:
        """Return observations as they are. :raises ValueError: unless their shape is ``(batch, n_inputs)``."""
        if observations.ndim != 2 or observations.shape[1] != self.n_inputs:
            raise ValueError(f"experts: expected shape (n, {self.n_inputs}), got {tuple(observations.shape)}")
        return observations


class ModuleBank(ExpertBank):
    """Experts of any shapes, one after the other: actor-critics of SB3, some of them perhaps frozen."""

    def forward(self, observations: Tensor) -> ExpertOutputs:
        """Evaluate expert after expert."""
        observations = self.checked(observations)
        scores, values = [], []
        for expert in self.policies:
            latent_pi, latent_vf = expert.mlp_extractor(expert.extract_features(observations))
            scores.append(expert.action_net(latent_pi))
            values.append(expert.value_net(latent_vf))
        log_std = None
        if hasattr(self.policies[0], "log_std"):
            log_std = torch.stack([expert.log_std for expert in self.policies])
        return ExpertOutputs(torch.stack(scores, dim=1), torch.cat(values, dim=-1), log_std)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return a group for each expert."""
        return [{"params": list(expert.parameters()), "owners": 1} for expert in self]

    def trained(self) -> list[nn.Parameter]:
        """Return the experts' own parameters."""
        return list(self.parameters())

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the gradients of parameters that have one."""
        for name, parameter in self.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad
