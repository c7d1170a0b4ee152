"""PPO experts under one gate, trained jointly by PPO on the mixture density."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from gymnasium import spaces
from pydantic import Field
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from moe_trader.bounds import WIDEST, Bars, Count, Fraction, LearningRate, NonNegative, Positive, Times, Whole, Widths
from moe_trader.expert import ExpertFamily
from moe_trader.expert.mixture_policy import N_REFERENCE, MixturePolicy
from moe_trader.expert.mixture_ppo import MixturePPO
from moe_trader.expert.rollout import TorchRolloutBuffer
from moe_trader.gating import Gate
from moe_trader.memory import check_memory
from moe_trader.option import ConfigError, option
from moe_trader.sight import View

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


@option
class PPOExperts(ExpertFamily):
    """K PPO experts; every setting is SB3's of the same name unless said otherwise here.

    :param count: K
    :param prefix: experts are called ``prefix_1`` ... ``prefix_K``
    :param n_steps: steps of each lane between updates
    :param final_learning_rate: the learning rate falls linearly to this, which the last update uses
    :param gate_rate_factor: the gate's learning rate over the experts'
    :param expert_value_share: share of the value loss that fits each critic by itself, sum_k r_k (V_k - R)^2; the rest
        fits their mixture. It makes the critic of an exported expert usable
    """

    count: Count
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=40)]
    net_arch: Annotated[Widths, Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    learning_rate: LearningRate
    final_learning_rate: LearningRate
    gate_rate_factor: NonNegative
    n_steps: Bars
    batch_size: Annotated[Whole, Field(ge=2, le=2**31)]
    n_epochs: Times
    gamma: Fraction
    gae_lambda: Fraction
    clip_range: Positive
    normalize_advantage: bool
    ent_coef: NonNegative
    vf_coef: NonNegative
    expert_value_share: Fraction
    max_grad_norm: Positive
    target_kl: Positive | None

    algorithm_name = "PPO"

    def names(self) -> list[str]:
        """Return ``prefix_1`` ... ``prefix_K``."""
        return [f"{self.prefix}_{number}" for number in range(1, self.count + 1)]

    def parameters_each(self, n_columns: int, action_space: spaces.Space) -> int:
        """Return the size of an SB3 actor-critic with a tower each for actor and critic."""
        if isinstance(action_space, spaces.Discrete):
            return _size(n_columns, self.net_arch, int(action_space.n))
        n_numbers = math.prod(action_space.shape or ())
        return _size(n_columns, self.net_arch, n_numbers) + n_numbers  # a log deviation for each

    def algorithm(
        self,
        env: VecEnv | None,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        gate: Gate,
        view: View,
        seed: int,
        device: str,
    ) -> MixturePPO:
        """Return a fresh :class:`MixturePPO`."""
        n_envs = 1 if env is None else env.num_envs
        # Bars by number: rollouts of a few bytes a step. Asked of the class: SB3's wrappers pass on what they wrap.
        refer = getattr(type(env), "referring", None)
        # An observation as narrow as its reference stays whole: nothing to gain, and the two could not be told apart.
        named = None if refer is None or observation_space.shape[0] <= N_REFERENCE else refer(env)
        env = named or env
        if self.batch_size > self.n_steps * n_envs and env is not None:
            raise ConfigError(
                f"expert.batch_size: {self.batch_size} is more than one rollout holds "
                f"(expert.n_steps {self.n_steps} x {n_envs} lanes, trainer.n_envs = {self.n_steps * n_envs})"
            )
        self._check_memory(action_space, view, n_envs, observation_space if env is None else env.observation_space)
        tables = [] if named is None else named.get_attr("tables")[0]
        made = MixturePPO(
            MixturePolicy,
            env,
            expert_value_share=self.expert_value_share,
            names=self.names(),
            seed=seed,
            device=device,
            policy_kwargs=self._mixture_kwargs(gate, view, observation_space, tables),
            rollout_buffer_class=TorchRolloutBuffer,
            _init_setup_model=False,
            **self._hyperparameters(),
        )
        made.observation_space = observation_space if env is None else env.observation_space
        made.action_space, made.n_envs = action_space, n_envs
        made._setup_model()
        return made

    def standalone(self, policy: MixturePolicy, expert: int) -> PPO:
        """Return expert ``expert`` as a plain ``PPO`` with the same hyperparameters."""
        made = PPO(
            "MlpPolicy",
            None,  # type: ignore[arg-type]
            device="cpu",
            policy_kwargs=self._policy_kwargs(),
            _init_setup_model=False,
            **(self._hyperparameters() | {"learning_rate": self.learning_rate}),
        )
        made.observation_space, made.action_space, made.n_envs = policy.expert_space, policy.action_space, 1
        made._setup_model()
        made.policy.load_state_dict(policy.experts[expert].state_dict())
        return made

    def matched_single(self, n_parameters: int, observation_size: int, n_actions: int) -> PPOExperts:
        """Return one expert whose layers are widened alike until its size is nearest ``n_parameters``."""

        def widened(first: int) -> list[int]:
            return [min(max(1, round(first * width / self.net_arch[0])), WIDEST) for width in self.net_arch]

        def distance(first: int) -> int:
            return abs(_size(observation_size, widened(first), n_actions) - n_parameters)

        best = min(range(1, min(64 * self.net_arch[0], WIDEST)), key=distance)
        return dataclasses.replace(self, count=1, prefix="single", net_arch=widened(best))

    def _check_memory(self, action_space: spaces.Space, view: View, n_envs: int, shown: spaces.Space) -> None:
        """Refuse networks and rollouts that do not fit. :raises ConfigError: naming the settings."""
        each = self.parameters_each(len(view.experts), action_space)
        check_memory(
            "expert.count, expert.net_arch",
            f"{self.count:,} experts of {each:,} parameters, their gradient and Adam's two averages",
            4 * 4 * self.count * each,
        )
        size = math.prod(shown.shape or ())
        check_memory(
            "expert.n_steps, trainer.n_envs",
            f"a rollout of {self.n_steps:,} steps in {n_envs:,} lanes that show {size:,} numbers",
            4 * 2 * self.n_steps * n_envs * (size + 6),  # kept twice: as it comes, and for minibatches
        )

    def _hyperparameters(self) -> dict[str, Any]:
        same = "n_steps batch_size n_epochs gamma gae_lambda clip_range normalize_advantage ent_coef vf_coef"
        same += " max_grad_norm target_kl"
        first, last = self.learning_rate, self.final_learning_rate

        def rate(remaining: float) -> float:
            return last + (first - last) * max(remaining, 0.0)  # the last rollout may go beyond the end

        return {name: getattr(self, name) for name in same.split()} | {"learning_rate": rate}

    def _mixture_kwargs(
        self, gate: Gate, view: View, whole: spaces.Box, tables: Sequence[tuple[Any, int]] = ()
    ) -> dict[str, Any]:
        return self._policy_kwargs() | {
            "gate": gate,
            "n_experts": self.count,
            "view": view,
            "gate_rate_factor": self.gate_rate_factor,
            "whole": whole,
            "tables": tables,
        }

    def _policy_kwargs(self) -> dict[str, Any]:
        return {"net_arch": list(self.net_arch), "activation_fn": _ACTIVATIONS[self.activation]}


def _size(n_columns: int, widths: Sequence[int], n_outputs: int) -> int:
    """Return the parameters of two towers with a layer of each width, one ending in a value, one in all outputs."""
    layers = [n_columns, *widths]
    tower = sum((a + 1) * b for a, b in pairwise(layers))
    return 2 * tower + (layers[-1] + 1) * (n_outputs + 1)
