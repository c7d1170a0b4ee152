"""Training on finite numbers only: rollouts are checked as they are made, a diverged update is undone.

The weights from before an update are kept until the new ones gave finite numbers: in a whole rollout, and in the first
minibatch learned from it. Where they do not, the old ones are put back, and
:class:`~moe_trader.finite.TrainingError` names the quantity, the step and what to lower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import nn

from moe_trader.finite import TrainingError, as_float32, named_columns
from moe_trader.mixture.model import MixtureModel

LARGE_REWARD = 1e6  # from here on a divergence is blamed on the rewards


class WatchedEnv(VecEnvWrapper):
    """The environment of a rollout; its rewards and observations must be finite, as under SB3's ``VecCheckNan``.

    :param venv: the environment
    :param last: the observations that the rollout begins with, shape ``(n_envs, size)``
    :param steps: steps that each environment has taken so far in this training
    :param names: of the columns of an observation, as far as they are known
    :raises TrainingError: here and in every step, naming environment, step and columns
    """

    def __init__(self, venv: VecEnv, last: np.ndarray, steps: int, names: Sequence[str]) -> None:
        super().__init__(venv)
        self._steps, self._names = steps, names
        self._check_observations(last, range(len(last)))

    def reset(self) -> np.ndarray:
        """Reset every environment."""
        observations = cast("np.ndarray", self.venv.reset())
        self._check_observations(observations, range(len(observations)))
        return observations

    def step_wait(self) -> Any:
        """Step every environment, and check what comes back."""
        stepped = self.venv.step_wait()
        observations, rewards, dones, infos = cast("tuple[np.ndarray, np.ndarray, np.ndarray, Any]", stepped)
        self._steps += 1
        rewards = as_float32(rewards)
        if not np.isfinite(rewards).all():
            one = int(np.isfinite(rewards).argmin())
            self._refuse(one, f"the reward is {rewards[one]}")
        self._check_observations(observations, range(len(observations)))
        if dones.any():
            ended = [
                one for one in np.flatnonzero(dones).tolist() if infos[one].get("terminal_observation") is not None
            ]
            self._check_observations(np.array([infos[one]["terminal_observation"] for one in ended]), ended)
        return stepped

    def _check_observations(self, observations: np.ndarray, envs: Sequence[int]) -> None:
        observations = as_float32(observations)
        if not np.isfinite(observations).all():
            row, column = np.argwhere(~np.isfinite(observations))[0]
            columns = np.flatnonzero(~np.isfinite(observations[row])).tolist()
            names = self._names if len(self._names) <= observations.shape[1] else ()  # one that names a bar has fewer
            what = f"the observation has {observations[row, column]} in {named_columns(columns, names)}"
            self._refuse(int(envs[row]), what)

    def _refuse(self, env: int, what: str) -> None:
        way_out = "check env.initial_equity, env.costs and env.reward" if self._names else "correct the environment"
        raise TrainingError(f"environment {env}, step {self._steps}: {what}, expected finite numbers; {way_out}")


class KeptWeights:
    """A copy of what training changes of a mixture: the experts' weights and the gate's state."""

    def __init__(self, model: MixtureModel) -> None:
        self.experts = [one.detach().clone() for one in model.experts.trained()]
        self.gate = {name: one.clone() for name, one in model.gate.state_dict().items()}

    def put_back(self, model: MixtureModel) -> None:
        """Give the mixture the weights it had."""
        with torch.no_grad():
            for parameter, kept in zip(model.experts.trained(), self.experts, strict=True):
                parameter.copy_(kept)
        model.gate.load_state_dict(self.gate)


def fault_of_trace(trace: Sequence[Mapping[str, float]]) -> str | None:
    """Return which quantity of an update was the first that is not finite, and where; ``None`` if all are.

    :param trace: the terms of the loss, then the gradients' norms, of every minibatch
    """
    for number, terms in enumerate(trace, start=1):
        for name, value in terms.items():
            if not math.isfinite(value):
                return f"{name if '/' in name else f'train/{name}'} is {value} in minibatch {number} of the update"
    return None


def fault_of_weights(model: MixtureModel, names: Sequence[str]) -> str | None:
    """Return which experts, or the gate, have weights that are not finite; ``None`` if all are."""
    parameters = [*model.experts.trained(), *model.gate.parameters()]
    if math.isfinite(sum(float(one.detach().sum()) for one in parameters)):
        return None
    parts: dict[str, nn.Module] = {**dict(zip(names, model.experts, strict=True)), "gate": model.gate}
    broken = [name for name, part in parts.items() if not all(torch.isfinite(p).all() for p in part.parameters())]
    return f"weights of {', '.join(broken)} are not finite" if broken else None


def fault_of_rollout(buffer: RolloutBuffer) -> str | None:
    """Return which of a rollout's arrays is not finite; ``None`` if all are."""
    arrays = {"value": buffer.values, "log-probability": buffer.log_probs, "advantage": buffer.advantages}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            step, env = np.argwhere(~np.isfinite(array))[0]
            return f"the {name} of environment {env} is {array[step, env]} in step {step + 1} of the rollout"
    return None


def advice(fault: str, buffer: RolloutBuffer, rate: float, max_grad_norm: float) -> str:
    """Return what to lower against a fault."""
    largest, lower_rate = float(np.abs(buffer.rewards).max()), f"expert.learning_rate (now {rate:g})"
    if fault.startswith("gate_loss/"):
        return f"lower gating.losses.{fault.split()[0].split('/')[1]}.weight"
    if fault.startswith(("train/loss ", "gradient_norm/")) and largest <= LARGE_REWARD:  # its terms are finite
        return f"lower expert.ent_coef, expert.vf_coef, the weights of gating.losses or {lower_rate}"
    if largest > LARGE_REWARD and largest >= np.abs(buffer.values).max():
        return f"scale the rewards, which reach {largest:g}"
    return f"lower {lower_rate} or expert.max_grad_norm (now {max_grad_norm:g})"
