"""What on-policy learners of a mixture share: rollouts, checks, logs, and the state that a checkpoint saves."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from moe_trader.fast.adam import ClippingAdam
from moe_trader.finite import TrainingError
from moe_trader.gating import GateLoss
from moe_trader.learner.divergence import (
    KeptWeights,
    WatchedEnv,
    advice,
    fault_of_rollout,
    fault_of_trace,
    fault_of_weights,
)
from moe_trader.learner.policy import MixturePolicy
from moe_trader.learner.state import LearnerState, load_state, state_of
from moe_trader.mixture.clipping import clip_gradients
from moe_trader.mixture.metrics import mixture_metrics
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.output import OutputError

LARGE_BLOCK = 31 * 2**20  # bytes; glibc learns from blocks below 32 MiB only
STATES_MEASURED = 1_024  # of a rollout, evenly spread, for the mixture's metrics

Terms = dict[str, Any]
"""A minibatch's loss and its terms: numbers, or scalar tensors."""


class OnPolicyLearner(OnPolicyAlgorithm):
    """An SB3 on-policy algorithm on a :class:`~moe_trader.learner.policy.MixturePolicy`.

    Rollouts, advantages and schedules are SB3's own. A learner inherits from this class and from SB3's algorithm, in
    this order, and says in :meth:`_update` which steps an update takes.

    :param names: the experts' names, for the metrics
    :param expert_value_share: share of the value loss that fits each critic by itself
    :param save_agent: writes the agent to a path, for SB3's callbacks that save a model
    """

    policy: MixturePolicy
    save_agent: Callable[[str], None] | None = None

    def __init__(self, *args: Any, names: Sequence[str], expert_value_share: float, **kwargs: Any) -> None:
        self.names, self.expert_value_share = list(names), expert_value_share
        self.metrics: dict[str, float] = {}
        self.update_listeners: list[Callable[[], None]] = []
        self._norm_names = [f"gradient_norm/{name}" for name in (*names, "gate")]
        self._gate_weights: Tensor | None = None
        self._kept: KeptWeights | None = None
        super().__init__(*args, **kwargs)

    @abstractmethod
    def _update(self) -> list[Terms]:
        """Take the steps of an update, and return the terms of each minibatch; the last may not have been stepped."""

    @property
    def model(self) -> MixtureModel:
        """The mixture that is trained."""
        return self.policy.model

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate."""
        return self.policy.gate_learns

    @property
    def _progress(self) -> float:
        return min(1 - self._current_progress_remaining, 1.0)

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> bool:
        """Let the gate adapt, then roll out as SB3 does.

        :raises TrainingError: for rewards, observations and outputs that are not finite
        """
        self.policy.model.gate.adapt(self._progress, self._gate_weights)
        steps = self.num_timesteps // env.num_envs
        watched = WatchedEnv(env, cast("np.ndarray", self._last_obs), steps, self.policy.model.column_names)
        try:
            return super().collect_rollouts(cast("VecEnv", watched), *args, **kwargs)
        except OutputError as error:
            self._diverged(str(error))

    def train(self) -> None:
        """Update gate and experts on the rollout, record what the update did, and call :attr:`update_listeners`.

        :raises TrainingError: for a rollout or an update with numbers that are not finite
        """
        if fault := fault_of_rollout(self.rollout_buffer):
            self._diverged(fault)
        before = KeptWeights(self.policy.model)
        self.policy.set_training_mode(True)
        # Until glibc has seen a block of this size freed, it gives a large minibatch's memory back to the system every
        # time, and the next one fetches it again, page by page.
        torch.empty(LARGE_BLOCK, dtype=torch.uint8)
        self._update_learning_rate(self.policy.optimizer)
        trace = [{name: float(value) for name, value in terms.items()} for terms in self._update()]
        if self._kept is None or fault_of_trace(trace[:1]) is None:  # else the update before this one is at fault
            self._kept = before
        if fault := fault_of_trace(trace) or fault_of_weights(self.policy.model, self.names):
            self._diverged(fault)
        self._record(trace)
        for listener in self.update_listeners:
            listener()

    def _clipped_step(self, terms: Terms) -> bool:
        """Clip the gradients, step, and add each gradient's norm to the terms; return whether all norms are finite."""
        optimizer = self.policy.optimizer
        if isinstance(optimizer, ClippingAdam):
            norms = optimizer.clipped_step(self.max_grad_norm)
        else:
            norms = clip_gradients(optimizer.param_groups, self.max_grad_norm)
            optimizer.step()
        # Numbers where they cost no wait: small tensors kept among large ones would break up the heap.
        is_on_cpu = norms.device.type == "cpu"
        values = norms.tolist() if is_on_cpu else norms.unbind()
        terms |= dict(zip(self._norm_names, values, strict=True))
        return not is_on_cpu or math.isfinite(sum(values))

    def _weighted_losses(self) -> dict[str, tuple[GateLoss, float]]:
        """Return the gate's losses and their present weights, by name."""
        losses = self.policy.model.gate_settings.losses
        return {name: (loss, loss.weight_at(self._progress)) for name, loss in losses.items()}

    def _diverged(self, fault: str) -> NoReturn:
        """Put the weights back that were there before the last update, and raise the error that names the fault."""
        rate = self.policy.optimizer.param_groups[0]["lr"]
        if self._kept is not None:
            self._kept.put_back(self.policy.model)
        self.policy.optimizer.state.clear()
        raise TrainingError(
            f"training diverged at step {self.num_timesteps:,}: {fault}; "
            f"{advice(fault, self.rollout_buffer, rate, self.max_grad_norm)}"
        )

    def _record(self, trace: Sequence[dict[str, float]]) -> None:
        """Log the means over the update's minibatches, and the mixture's state on the rollout.

        :raises TrainingError: when the mixture puts out numbers that are not finite
        """
        for name in dict.fromkeys(name for terms in trace for name in terms):
            group = name if "/" in name else f"train/{name}"
            self.logger.record(group, float(np.mean([terms[name] for terms in trace if name in terms])))
        buffer = self.rollout_buffer
        explained = explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        with torch.no_grad():
            states = buffer.observations.reshape(-1, buffer.observations.shape[-1])
            sample = states[:: max(len(states) // STATES_MEASURED, 1)]
            whole = self.policy.whole_observations(torch.as_tensor(sample, device=self.device))
            try:
                mixture = self.policy.model.choice(whole)
            except OutputError as error:
                self._diverged(str(error))
            self.metrics, self._gate_weights = mixture_metrics(mixture, self.names), mixture.weights
        for name, value in self.metrics.items():
            self.logger.record(name, value)
        for name, (_, weight) in self._weighted_losses().items():
            self.logger.record(f"gate_loss_weight/{name}", weight)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Set every group's rate; SB3's own writes one rate into all of them."""
        rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for group in self.policy.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]

    def state(self) -> LearnerState:
        """Return all that training goes on from, between two updates: see :func:`~moe_trader.learner.state.state_of`.

        :raises ValueError: for an environment that cannot say its state
        """
        return state_of(self)

    def load_state(self, state: LearnerState) -> None:
        """Go on from a state: ``learn(remaining, reset_num_timesteps=False)`` does what the other would have done.

        :raises ValueError: for the state of another kind of learner, naming what differs
        """
        load_state(self, state)

    def save(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Save the agent as a bundle, for SB3's callbacks: at ``path`` without ``.zip``, which they may add.

        :raises ValueError: without an agent
        """
        if self.save_agent is None:
            raise ValueError("this learner belongs to no agent; save the MoEAgent")
        self.save_agent(str(path).removesuffix(".zip"))
