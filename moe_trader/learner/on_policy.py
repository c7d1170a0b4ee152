"""What on-policy learners of a mixture share: rollouts, checks of an update, and the weights kept from before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from moe_trader.finite import TrainingError
from moe_trader.learner.divergence import (
    KeptWeights,
    WatchedEnv,
    advice,
    fault_of_rollout,
    fault_of_trace,
    fault_of_weights,
)
from moe_trader.learner.mixture_learner import STATES_MEASURED, MixtureLearner, Terms
from moe_trader.learner.policy import MixturePolicy
from moe_trader.mixture.frozen import FrozenParts
from moe_trader.mixture.output import OutputError

LARGE_BLOCK = 31 * 2**20  # bytes; glibc learns from blocks below 32 MiB only


class OnPolicyLearner(MixtureLearner, OnPolicyAlgorithm):
    """An SB3 on-policy algorithm on a :class:`~moe_trader.learner.policy.MixturePolicy`.

    Rollouts, advantages and schedules are SB3's own. A learner says in :meth:`_update` which steps an update takes.

    :param expert_value_share: share of the value loss that fits each critic by itself
    """

    policy: MixturePolicy

    def __init__(self, *args: Any, expert_value_share: float, **kwargs: Any) -> None:
        self.expert_value_share = expert_value_share
        self._rollout_from: int | None = None  # steps taken when the rollout began that is collected or learned from
        self._kept: KeptWeights | None = None
        super().__init__(*args, **kwargs)

    @abstractmethod
    def _update(self) -> list[Terms]:
        """Take the steps of an update, and return the terms of each minibatch; the last may not have been stepped."""

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate: it has parameters, and a learning rate."""
        return self.policy.gate_learns

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> bool:
        """Let the gate adapt, then roll out as SB3 does.

        :raises TrainingError: for rewards, observations and outputs that are not finite
        """
        self.model.gate.adapt(self._progress, self._gate_weights)
        steps = self.num_timesteps // env.num_envs
        self._rollout_from = self.num_timesteps
        watched = WatchedEnv(env, cast("np.ndarray", self._last_obs), steps, self.model.column_names)
        try:
            return super().collect_rollouts(watched, *args, **kwargs)
        except OutputError as error:
            self._diverged(str(error))

    def dump_logs(self, iteration: int = 0) -> None:
        """Write a row of the log. Iterations count from the first step of training, not from this call of ``learn``."""
        super().dump_logs(self.num_timesteps // (self.n_steps * self.n_envs))

    def train(self) -> None:
        """Update gate and experts on the rollout, record what the update did, and call :attr:`update_listeners`.

        :raises TrainingError: for a rollout or an update with numbers that are not finite
        """
        if fault := fault_of_rollout(self.rollout_buffer):
            self._diverged(fault)
        before = KeptWeights(self.model)
        self._frozen = FrozenParts(self.model.experts.frozen_parts())
        self.policy.set_training_mode(True)
        # Until glibc has seen a block of this size freed, it gives a large minibatch's memory back to the system every
        # time, and the next one fetches it again, page by page.
        torch.empty(LARGE_BLOCK, dtype=torch.uint8)
        self._update_learning_rate(self.policy.optimizer)
        trace = [{name: float(value) for name, value in terms.items()} for terms in self._update()]
        if self._kept is None or fault_of_trace(trace[:1]) is None:  # else the update before this one is at fault
            self._kept = before
        if fault := fault_of_trace(trace) or fault_of_weights(self.model, self.names):
            self._diverged(fault)
        self._record(trace)
        self._rollout_from = None
        self._announce()

    def _record(self, trace: Sequence[dict[str, float]]) -> None:
        """Log what the update did, and the mixture's state on the rollout.

        :raises TrainingError: when the mixture puts out numbers that are not finite
        """
        self._record_terms(trace)
        buffer = self.rollout_buffer
        explained = explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        states = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        sample = torch.as_tensor(states[:: max(len(states) // STATES_MEASURED, 1)], device=self.device)
        try:
            self._record_mixture(self.policy.whole_observations(sample))
        except OutputError as error:
            self._diverged(str(error))

    def _diverged(self, fault: str) -> NoReturn:
        """Put the weights back that were there before the last update, and raise the error that names the fault."""
        rate = self.policy.optimizer.param_groups[0]["lr"]
        if self._kept is not None:
            self._kept.put_back(self.model)
        self.policy.optimizer.state.clear()
        raise TrainingError(
            f"training diverged at step {self.num_timesteps:,}: {fault}; "
            f"{advice(fault, self.rollout_buffer, rate, self.max_grad_norm)}"
        )

    def own_state(self) -> dict[str, Tensor]:
        """Return the weights from before the last update, which a diverged rollout would bring back.

        :raises ValueError: within a rollout
        """
        if self._rollout_from not in (None, self.num_timesteps):
            raise ValueError(
                "state: a rollout is being collected or learned from; take the state in an update listener, or in a "
                "callback's _on_rollout_start"
            )
        if self._kept is None:
            return {}
        experts = {f"kept.experts.{k}": one for k, one in enumerate(self._kept.experts)}
        return experts | {f"kept.gate.{name}": one for name, one in self._kept.gate.items()}

    def load_own_state(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self._kept = None
        if not tensors:
            return
        kept = KeptWeights(self.model)
        kept.experts = [tensors[f"kept.experts.{k}"].to(self.device) for k in range(len(kept.experts))]
        kept.gate = {name: tensors[f"kept.gate.{name}"] for name in kept.gate}
        self._kept = kept
