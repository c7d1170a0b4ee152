"""The mixture as an SB3 ``ActorCriticPolicy`` whose parts are K real SB3 policies and a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from moe_trader.expert.mixture import CategoricalMixture, GaussianMixture, Mixture
from moe_trader.gating import Gate, GatingNetwork
from moe_trader.option import ConfigError


@dataclass(frozen=True)
class MixtureOutput:
    """Everything the mixture says about a batch of states.

    :param mixture: action density
    :param gate_logits: shape ``(batch, K)``
    :param expert_values: V_k, shape ``(batch, K)``
    """

    mixture: Mixture
    gate_logits: Tensor
    expert_values: Tensor

    @property
    def values(self) -> Tensor:
        """V = sum_k g_k V_k, shape ``(batch,)``.

        The gate is held fixed: it has to pick good actions, and must not be drawn towards experts whose critics happen
        to fit the returns.
        """
        return (self.mixture.weights.detach() * self.expert_values).sum(-1)


class MixturePolicy(ActorCriticPolicy):
    """m(a|s) = sum_k g_k(s) p_k(a|s) behind SB3's on-policy interface.

    With one expert it is that expert: same initial weights, same draws, same outputs as SB3's own policy.

    :param gate: settings of the gating network
    :param n_experts: K
    :param gate_columns: columns of a flat observation that the gate sees
    :param gate_rate_factor: the gate's learning rate over the experts'
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        gate: Gate,
        n_experts: int,
        gate_columns: Sequence[int],
        gate_rate_factor: float,
        **kwargs: Any,
    ) -> None:
        self._gate_settings, self._n_experts, self._gate_rate_factor = gate, n_experts, gate_rate_factor
        self._gate_columns = list(gate_columns)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    gate_columns: Tensor
    experts: nn.ModuleList

    def _build(self, lr_schedule: Schedule) -> None:
        self.experts = nn.ModuleList(
            ActorCriticPolicy(
                self.observation_space,
                self.action_space,
                lr_schedule,
                net_arch=self.net_arch,
                activation_fn=self.activation_fn,
                ortho_init=self.ortho_init,
                log_std_init=self.log_std_init,
            )
            for _ in range(self._n_experts)
        )
        self.register_buffer("gate_columns", torch.tensor(self._gate_columns, dtype=torch.long), persistent=False)
        with torch.random.fork_rng(devices=[]):  # the gate's initialisation leaves later draws as they were
            self.gate = self._gate_settings.network(len(self._gate_columns), self._n_experts)
            _check_gate(self.gate, len(self._gate_columns), self._n_experts)
        groups = [
            {"params": list(self.experts.parameters()), "rate_factor": 1.0},
            {"params": list(self.gate.parameters()), "rate_factor": self._gate_rate_factor},
        ]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    @property
    def actor_critics(self) -> list[ActorCriticPolicy]:
        """The K experts as what they are: SB3 policies."""
        return cast("list[ActorCriticPolicy]", list(self.experts))

    def mix(self, observations: Tensor) -> MixtureOutput:
        """Run the gate and every expert on observations of shape ``(batch, size)``."""
        observations = observations.float()
        logits = self.gate.logits(observations.index_select(-1, self.gate_columns))
        weights = self.gate.weights(logits)
        scores, values = [], []
        for expert in self.actor_critics:
            latent_pi, latent_vf = expert.mlp_extractor(expert.extract_features(observations))
            scores.append(expert.action_net(latent_pi))
            values.append(expert.value_net(latent_vf))
        expert_values = torch.cat(values, dim=-1)  # (batch, K)
        return MixtureOutput(self.density(weights, torch.stack(scores, dim=1)), logits, expert_values)

    def density(self, weights: Tensor, scores: Tensor) -> Mixture:
        """Join the experts' action scores ``(batch, K, n)`` under gate weights ``(batch, K)``."""
        if isinstance(self.action_space, spaces.Discrete):
            return CategoricalMixture(weights, scores)
        return GaussianMixture(weights, scores, torch.stack([expert.log_std for expert in self.actor_critics]))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values ``(batch, 1)`` and log m(a|s) ``(batch,)``."""
        assert isinstance(obs, Tensor)
        output = self.mix(obs)
        actions = output.mixture.mode() if deterministic else output.mixture.sample()
        return actions, output.values.unsqueeze(-1), output.mixture.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values ``(batch, 1)``, log m(a|s) and H(m), both ``(batch,)``."""
        assert isinstance(obs, Tensor)
        output = self.mix(obs)
        return output.values.unsqueeze(-1), output.mixture.log_prob(actions), output.mixture.entropy()

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return V, shape ``(batch, 1)``."""
        assert isinstance(obs, Tensor)
        return self.mix(obs).values.unsqueeze(-1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        mixture = self.mix(observation).mixture
        return mixture.mode() if deterministic else mixture.sample()

    def reweight(self, observations: Tensor, weights: Tensor) -> Mixture:
        """Return the mixture these experts would be under other gate weights, shape ``(batch, K)``."""
        mixture = self.mix(observations).mixture
        if isinstance(mixture, CategoricalMixture):
            return CategoricalMixture(weights, mixture.expert_log_probs)
        assert isinstance(mixture, GaussianMixture)
        return GaussianMixture(weights, mixture.means, mixture.log_std)

    def n_parameters(self) -> int:
        """Return how many numbers are trained; over one expert the gate has nothing to learn, and does not count."""
        parts = [self.experts] if self._n_experts == 1 else [self.experts, self.gate]
        return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _check_gate(gate: GatingNetwork, n_features: int, n_experts: int) -> None:
    """Hold a gate to its contract before anything is trained. :raises ConfigError: when its weights are none."""
    with torch.no_grad():
        weights = gate(torch.randn(3, n_features))
    if weights.shape != (3, n_experts) or not torch.allclose(weights.sum(-1), torch.ones(3), atol=1e-5):
        raise ConfigError(
            f"gating: {type(gate).__name__} must give {n_experts} weights that sum to 1 for each row of features, "
            f"got shape {tuple(weights.shape)} and sums {weights.sum(-1).tolist()}"
        )
    if (weights < 0).any():
        raise ConfigError(f"gating: {type(gate).__name__} gives negative weights")
