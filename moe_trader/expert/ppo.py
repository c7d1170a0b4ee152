"""PPO experts under one gate, trained jointly by PPO on the mixture density."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from moe_trader.expert import ExpertFamily
from moe_trader.expert.mixture_policy import N_REFERENCE, MixturePolicy
from moe_trader.expert.mixture_ppo import MixturePPO
from moe_trader.expert.rollout import TorchRolloutBuffer
from moe_trader.gating import Gate
from moe_trader.option import ConfigError, option
from moe_trader.sight import View

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]

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

    count: PositiveInt
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    net_arch: Annotated[list[PositiveInt], Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    learning_rate: PositiveFloat
    final_learning_rate: PositiveFloat
    gate_rate_factor: NonNegative
    n_steps: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    n_epochs: PositiveInt
    gamma: Fraction
    gae_lambda: Fraction
    clip_range: PositiveFloat
    normalize_advantage: bool
    ent_coef: NonNegative
    vf_coef: NonNegative
    expert_value_share: Fraction
    max_grad_norm: PositiveFloat
    target_kl: PositiveFloat | None

    algorithm_name = "PPO"

    def names(self) -> list[str]:
        """Return ``prefix_1`` ... ``prefix_K``."""
        return [f"{self.prefix}_{number}" for number in range(1, self.count + 1)]

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

        def size(widths: Iterable[int]) -> int:
            layers = [observation_size, *widths]
            trunk = sum((a + 1) * b for a, b in pairwise(layers))
            return 2 * trunk + (layers[-1] + 1) * (n_actions + 1)

        def widened(first: int) -> list[int]:
            return [max(1, round(first * width / self.net_arch[0])) for width in self.net_arch]

        best = min(range(1, 64 * self.net_arch[0]), key=lambda first: abs(size(widened(first)) - n_parameters))
        return dataclasses.replace(self, count=1, prefix="single", net_arch=widened(best))

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
