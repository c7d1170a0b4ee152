"""The mixture as an SB3 ``ActorCriticPolicy`` whose parts are K real SB3 policies and a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from moe_trader.expert.adam import ClippingAdam
from moe_trader.expert.mixture import CategoricalMixture, GaussianMixture, Mixture
from moe_trader.expert.stack import Stack
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
    :param whole: space of a whole observation, where ``observation_space`` may be that of what stands for it
    :param windows: feature rows ``(n_bars, n_features)`` and the length of a window: what an observation that names its
        bar is read out of (:class:`~moe_trader.env.trading_vec_env.ReferringVecEnv`); ``None``: they are always whole
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
        whole: spaces.Box,
        windows: tuple[np.ndarray, int] | None,
        **kwargs: Any,
    ) -> None:
        self._gate_settings, self._n_experts, self._gate_rate_factor = gate, n_experts, gate_rate_factor
        self._gate_columns = list(gate_columns)
        self._windows = windows
        super().__init__(whole, action_space, lr_schedule, **kwargs)

    feature_rows: Tensor
    gate_columns: Tensor
    optimizer: ClippingAdam
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
        rows, self._window = (np.zeros((0, 0), np.float32), 0) if self._windows is None else self._windows
        self.register_buffer("feature_rows", torch.from_numpy(rows), persistent=False)
        with torch.random.fork_rng(devices=[]):  # the gate's initialisation leaves later draws as they were
            self.gate = self._gate_settings.network(len(self._gate_columns), self._n_experts)
            _check_gate(self.gate, len(self._gate_columns), self._n_experts)
        self.stack = Stack(self.actor_critics)
        groups = [
            {
                "params": [self.stack.weights],
                "rate_factor": 1.0,
                "owners": self._n_experts,
                "blocks": self.stack.sizes,
            },
            {"params": list(self.gate.parameters()), "rate_factor": self._gate_rate_factor, "owners": 1},
        ]
        self.optimizer = ClippingAdam(groups, lr=lr_schedule(1), fused=True, **self.optimizer_kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # moving to a device gives every parameter a storage of its own
        self.stack.gather()
        return self

    @property
    def actor_critics(self) -> list[ActorCriticPolicy]:
        """The K experts as what they are: SB3 policies."""
        return cast("list[ActorCriticPolicy]", list(self.experts))

    def mix(self, observations: Tensor) -> MixtureOutput:
        """Run the gate and every expert on observations of shape ``(batch, size)``, or on what stands for them."""
        observations = self.whole_observations(observations)
        logits = self.gate.logits(observations.index_select(-1, self.gate_columns))
        weights = self.gate.weights(logits)
        scores, expert_values, log_std = self.stack(observations)
        mixture = CategoricalMixture(weights, scores) if log_std is None else GaussianMixture(weights, scores, log_std)
        return MixtureOutput(mixture, logits, expert_values)

    def gate_weights(self, observations: Tensor) -> Tensor:
        """Run the gate alone, ``(batch, K)``."""
        weights: Tensor = self.gate(self.whole_observations(observations).index_select(-1, self.gate_columns))
        return weights

    def whole_observations(self, observations: Tensor) -> Tensor:
        """Read observations that name their bar, ``(batch, 3)``, out of the feature rows."""
        assert self.observation_space.shape is not None
        if observations.shape[-1] == self.observation_space.shape[0]:
            return observations.float()
        n_bars, n_features = self.feature_rows.shape
        windows = self.feature_rows.as_strided(
            (n_bars - self._window + 1, self._window * n_features), (n_features, 1)
        )  # (n_windows, window * n_features): rows overlap, nothing is copied
        last = observations[:, 0].long() - (self._window - 1)
        return torch.cat([windows.index_select(0, last), observations[:, 1:]], dim=1)

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
