"""Banks of actor-critics: SB3's ``ActorCriticPolicy``, of any shapes, one after the other."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, cast

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from moe_trader.mixture.bank import ExpertBank, MakeDiscrete
from moe_trader.mixture.choice import Choice
from moe_trader.mixture.gaussian import GaussianMixture


class ActorCriticOutputs(NamedTuple):
    """What K actor-critics put out for a batch of states.

    :param scores: logits of the actions, or means of Gaussians, shape ``(batch, K, n)``
    :param values: V_k, shape ``(batch, K)``; ``None`` where no critic was run
    :param log_std: log standard deviations of Gaussians, shape ``(K, n)``; ``None`` for discrete actions
    """

    scores: Tensor
    values: Tensor | None
    log_std: Tensor | None


class ActorCriticBank(ExpertBank):
    """Actor-critics: categoricals over discrete actions, diagonal Gaussians over Box actions."""

    @abstractmethod
    def forward(self, observations: Tensor) -> ActorCriticOutputs:
        """Evaluate every actor and critic on observations of shape ``(batch, n_inputs)``."""

    def choice(self, weights: Tensor, outputs: ActorCriticOutputs, discrete: MakeDiscrete) -> Choice:
        """Return a mixture of categoricals or of Gaussians."""
        if outputs.log_std is None:
            return discrete(weights, outputs.scores)
        return GaussianMixture(weights, outputs.scores, outputs.log_std)

    def values(self, outputs: ActorCriticOutputs) -> Tensor | None:
        """Return what the critics expect."""
        return outputs.values

    @property
    def actor_critics(self) -> list[ActorCriticPolicy]:
        """The K experts as SB3 actor-critics."""
        return cast("list[ActorCriticPolicy]", list(self))


class ModuleBank(ActorCriticBank):
    """Experts of any shapes."""

    def forward(self, observations: Tensor) -> ActorCriticOutputs:
        """Evaluate expert after expert."""
        observations = self.checked(observations)
        scores, values = [], []
        for expert in self.actor_critics:
            latent_pi, latent_vf = expert.mlp_extractor(expert.extract_features(observations))
            scores.append(expert.action_net(latent_pi))
            values.append(expert.value_net(latent_vf))
        log_std = None
        if hasattr(self[0], "log_std"):
            log_std = torch.stack([expert.log_std for expert in self.actor_critics])
        return ActorCriticOutputs(torch.stack(scores, dim=1), torch.cat(values, dim=-1), log_std)
