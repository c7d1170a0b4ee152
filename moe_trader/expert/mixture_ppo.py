"""PPO on the mixture density.

Paper: https://arxiv.org/abs/1707.06347. Rollouts, advantages and schedules are SB3's own; :meth:`MixturePPO.train`
follows SB3's ``PPO.train`` step by step (with one expert the weights agree to rounding, which a test pins) and adds
what a mixture needs: a loss for each critic, the gate's losses, and the norms that say who is being trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from moe_trader.expert.compiled_gradient import can_compile, compiled_gradient
from moe_trader.expert.divergence import (
    KeptWeights,
    WatchedEnv,
    advice,
    fault_of_rollout,
    fault_of_trace,
    fault_of_weights,
)
from moe_trader.expert.metrics import mixture_metrics
from moe_trader.expert.mixture_policy import MixturePolicy
from moe_trader.expert.objective import STATED, Coefficients, mixture_objective
from moe_trader.expert.output import OutputError
from moe_trader.finite import TrainingError
from moe_trader.gating import GateBatch, GateLoss
from moe_trader.option import ConfigError

LARGE_BLOCK = 31 * 2**20  # bytes; glibc learns from blocks below 32 MiB alone
STATES_MEASURED = 1_024  # of a rollout, evenly spread, for the mixture's metrics


class MixturePPO(PPO):
    """SB3's PPO on a :class:`~moe_trader.expert.mixture_policy.MixturePolicy`.

    :param expert_value_share: see :class:`~moe_trader.expert.ppo.PPOExperts`
    :param names: the experts' names, for the metrics
    """

    policy: MixturePolicy

    def __init__(self, *args: Any, expert_value_share: float, names: Sequence[str], **kwargs: Any) -> None:
        self.expert_value_share = expert_value_share
        self.names = list(names)
        self._norm_names = [f"gradient_norm/{name}" for name in (*names, "gate")]
        self.metrics: dict[str, float] = {}
        self._gate_weights: Tensor | None = None
        self._kept: KeptWeights | None = None
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> bool:
        """Let the gate adapt, then roll out as SB3 does.

        :raises TrainingError: for rewards, observations and outputs that are not finite
        """
        self.policy.gate.adapt(self._progress, self._gate_weights)
        steps = self.num_timesteps // env.num_envs
        watched = WatchedEnv(env, cast("np.ndarray", self._last_obs), steps, self.policy.column_names)
        try:
            return super().collect_rollouts(cast("VecEnv", watched), *args, **kwargs)
        except OutputError as error:
            self._diverged(str(error))

    @property
    def _progress(self) -> float:
        return min(1 - self._current_progress_remaining, 1.0)

    def _diverged(self, fault: str) -> NoReturn:
        """Put the weights back that were there before the last update, and raise the error that names the fault."""
        rate = self.policy.optimizer.param_groups[0]["lr"]
        if self._kept is not None:
            self._kept.put_back(self.policy)
        self.policy.optimizer.forget()
        raise TrainingError(
            f"training diverged at step {self.num_timesteps:,}: {fault}; "
            f"{advice(fault, self.rollout_buffer, rate, self.max_grad_norm)}"
        )

    def train(self) -> None:
        """Update gate and experts on the rollout, and record what the update did.

        :raises TrainingError: for a rollout or an update with numbers that are not finite
        """
        if fault := fault_of_rollout(self.rollout_buffer):
            self._diverged(fault)
        before = KeptWeights(self.policy)
        self.policy.set_training_mode(True)
        # Until glibc has seen a block of this size freed, it gives a large minibatch's memory back to the system every
        # time, and the next one fetches it anew, page by page.
        torch.empty(LARGE_BLOCK, dtype=torch.uint8)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        trace: list[dict[str, Any]] = []
        stopped = False
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                whole = self.policy.whole_observations(batch.observations)
                terms = self.differentiate(batch._replace(observations=whole), clip_range)
                trace.append(terms)
                if self.target_kl is not None and terms["approx_kl"] > 1.5 * self.target_kl:
                    stopped = True
                    break
                norms = self.policy.optimizer.clipped_step(self.max_grad_norm)
                # Numbers where they cost no wait: small tensors kept among large ones would break up the heap.
                values = norms.tolist() if norms.device.type == "cpu" else norms.unbind()
                terms |= dict(zip(self._norm_names, values, strict=True))
                if norms.device.type == "cpu" and not math.isfinite(sum(values)):
                    stopped = True
                    break
            self._n_updates += 1
            if stopped:
                break
        trace = [{name: float(value) for name, value in terms.items()} for terms in trace]
        if self._kept is None or fault_of_trace(trace[:1]) is None:  # else the update before this one is at fault
            self._kept = before
        if fault := fault_of_trace(trace) or fault_of_weights(self.policy, self.names):
            self._diverged(fault)
        self._record(trace, clip_range)

    def differentiate(self, batch: RolloutBufferSamples, clip_range: float) -> dict[str, Any]:
        """Leave the gradient of a minibatch's loss in the parameters' ``grad``, and return the loss and its terms.

        :param batch: with whole observations
        """
        self.policy.optimizer.zero_grad()
        if can_compile(self.policy, self.policy._gate_settings.losses):
            given = self._coefficients(clip_range), self._weighted_losses()
            return compiled_gradient(self.policy, batch, self.normalize_advantage, *given)
        loss, terms = self.loss(batch, clip_range)
        loss.backward()
        return terms

    def loss(self, batch: RolloutBufferSamples, clip_range: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a minibatch of whole observations, for autograd, and its terms."""
        gate = self.policy._gate_settings
        output = self.policy.mix(batch.observations, compare=gate.compares_bars())
        advantages = batch.advantages  # (batch,)
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        loss, posterior_entropy, stated = mixture_objective(
            output.mixture, output.expert_values, batch, advantages, self._coefficients(clip_range)
        )
        terms = dict(zip(STATED, stated.detach().unbind(), strict=True))
        gate_batch = GateBatch(
            output.gate_logits,
            output.mixture,
            posterior_entropy,
            batch.actions,
            advantages,
            output.previous_weights,
        )
        for name, (gate_loss, weight) in self._weighted_losses().items():
            value = gate_loss(gate_batch)
            if not (isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()):
                kind = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:80]
                raise ConfigError(
                    f"gating.losses.{name}: expected {type(gate_loss).__name__} to return a scalar tensor, got {kind}"
                )
            loss = loss + weight * value
            terms[f"gate_loss/{name}"] = value.detach()
        terms["loss"] = loss.detach()
        return loss, terms

    def _coefficients(self, clip_range: float) -> Coefficients:
        return Coefficients(clip_range, self.ent_coef, self.vf_coef, self.expert_value_share)

    def _weighted_losses(self) -> dict[str, tuple[GateLoss, float]]:
        """Return the gate's losses and their present weights, by name."""
        losses = self.policy._gate_settings.losses
        return {name: (loss, loss.weight_at(self._progress)) for name, loss in losses.items()}

    def _record(self, trace: Sequence[dict[str, float]], clip_range: float) -> None:
        """Log the means over the update's minibatches, and the mixture's state on the rollout.

        :raises TrainingError: when the mixture puts out numbers that are not finite
        """
        for name in dict.fromkeys(name for terms in trace for name in terms):
            group = name if "/" in name else f"train/{name}"
            self.logger.record(group, float(np.mean([terms[name] for terms in trace if name in terms])))
        buffer = self.rollout_buffer
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        )
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        with torch.no_grad():
            states = buffer.observations.reshape(-1, buffer.observations.shape[-1])
            sample = states[:: max(len(states) // STATES_MEASURED, 1)]
            whole = self.policy.whole_observations(torch.as_tensor(sample, device=self.device))
            try:
                mixture = self.policy.mix(whole).checked().mixture
            except OutputError as error:
                self._diverged(str(error))
            self.metrics, self._gate_weights = mixture_metrics(mixture, self.names), mixture.weights
        for name, value in self.metrics.items():
            self.logger.record(name, value)
        for name, gate_loss in self.policy._gate_settings.losses.items():
            self.logger.record(f"gate_loss_weight/{name}", gate_loss.weight_at(self._progress))

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Set every group's rate; SB3's own writes one rate into all of them."""
        rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for group in self.policy.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
