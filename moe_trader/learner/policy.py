"""What Stable-Baselines3's on-policy loops see of a mixture: an ``ActorCriticPolicy`` that holds a ``MixtureModel``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from moe_trader.finite import checked_observations
from moe_trader.learner.bar_index import N_NUMBERS, BarIndex
from moe_trader.mixture.backend import Backend
from moe_trader.mixture.model import MixtureModel


class MixturePolicy(ActorCriticPolicy):
    """m(a|s) = sum_k g_k(s) p_k(a|s) behind SB3's on-policy interface.

    With one expert it is that expert: same initial weights, same draws, same outputs as SB3's own policy.
    SB3's methods for a rollout (:meth:`forward`, :meth:`evaluate_actions`, :meth:`predict_values`,
    :meth:`obs_to_tensor`) take what the environment shows, which may be bar indices. :meth:`predict` takes whole
    observations.

    :param make_model: makes the mixture, once SB3 has seeded the random generators
    :param backend: computes it
    :param gate_lr_scale: the gate's learning rate over the experts'
    :param tables: see :class:`~moe_trader.learner.bar_index.BarIndex`; empty: the environment shows whole observations
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        make_model: Callable[[], MixtureModel],
        backend: Backend,
        gate_lr_scale: float,
        tables: Sequence[tuple[np.ndarray, int]] = (),
        **kwargs: Any,
    ) -> None:
        self._make_model, self._backend, self.gate_lr_scale, self._tables = make_model, backend, gate_lr_scale, tables
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    model: MixtureModel

    def _build(self, lr_schedule: Schedule) -> None:
        self.model = self._make_model()
        self.model.backend = self._backend
        self.bar_index = BarIndex(self._tables) if self._tables else None
        groups: list[dict[str, Any]] = [{**group, "lr_scale": 1.0} for group in self.model.experts.parameter_groups()]
        groups.append({"params": list(self.model.gate.parameters()), "owners": 1, "lr_scale": self.gate_lr_scale})
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def whole_observations(self, shown: Tensor) -> Tensor:
        """Return what the environment shows as whole observations, shape ``(batch, size)``.

        :raises ValueError: for another shape
        """
        return shown if self.bar_index is None else self.bar_index(shown)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values ``(batch, 1)`` and log m(a|s) ``(batch,)``.

        :raises OutputError: when gate or experts put out numbers that are not finite
        """
        assert isinstance(obs, Tensor)
        output = self.model.evaluate(self.whole_observations(obs)).checked()
        actions = output.mixture.mode() if deterministic else output.mixture.sample()
        return actions, output.values.unsqueeze(-1), output.mixture.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values ``(batch, 1)``, log m(a|s) and H(m), both ``(batch,)``."""
        assert isinstance(obs, Tensor)
        output = self.model.evaluate(self.whole_observations(obs))
        return output.values.unsqueeze(-1), output.mixture.log_prob(actions), output.mixture.entropy()

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return V, shape ``(batch, 1)``."""
        assert isinstance(obs, Tensor)
        return self.model.evaluate(self.whole_observations(obs)).values.unsqueeze(-1)

    def obs_to_tensor(self, observation: Any) -> tuple[Tensor, bool]:
        """Return what the environment shows as a batch, and whether it came as one; a rollout begins with it.

        :raises ValueError: for another shape or type, and for numbers that are not finite, naming the columns
        """
        if self.bar_index is None:
            return self.model.to_tensor(observation)
        found = checked_observations(observation, N_NUMBERS)
        return torch.as_tensor(np.atleast_2d(found), device=self.device), found.ndim > 1

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return :meth:`MixtureModel.act` on whole observations, and ``state``; the signature is SB3's."""
        self.set_training_mode(False)
        if self.bar_index is not None and np.shape(observation)[-1:] == (N_NUMBERS,):
            raise ValueError(
                f"observations: expected shape (n, {self.model.n_columns}), got bar indices, {np.shape(observation)}, "
                "which only the training environment shows; act on whole observations (policy.whole_observations), or "
                "in an environment of its own, such as task.training_env(2, seed=1)"
            )
        return self.model.act(observation, deterministic), state

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate: it has parameters, and a learning rate."""
        return self.gate_lr_scale > 0 and any(one.requires_grad for one in self.model.gate.parameters())
