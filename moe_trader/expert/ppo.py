"""PPO experts under one gate, trained jointly by PPO on the mixture density."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from stable_baselines3 import PPO

from moe_trader.bounds import Bars, Count, Fraction, LearningRate, NonNegative, Positive, Times, Whole, Widths
from moe_trader.expert.actor_critics import ActorCriticExperts
from moe_trader.fast.adam import ClippingAdam
from moe_trader.learner.ppo import PPOLearner
from moe_trader.option import ConfigError, option

_SAME = (
    "n_steps batch_size n_epochs gamma gae_lambda clip_range normalize_advantage ent_coef vf_coef max_grad_norm "
    "target_kl"
)


@option
class PPOExperts(ActorCriticExperts):
    """K PPO experts; every setting is SB3's of the same name unless said otherwise here.

    :param count: K
    :param prefix: experts are called ``prefix_1`` ... ``prefix_K``
    :param n_steps: steps of each env between updates
    :param final_learning_rate: the learning rate falls linearly to this, which the last update uses
    :param gate_lr_scale: the gate's learning rate over the experts'
    :param expert_value_share: share of the value loss that fits each critic by itself, sum_k r_k (V_k - R)^2; the rest
        fits their mixture. It makes the critic of an exported expert usable
    """

    count: Count
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=40)]
    net_arch: Annotated[Widths, Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    learning_rate: LearningRate
    final_learning_rate: LearningRate
    gate_lr_scale: NonNegative
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

    sb3_algorithm = PPO
    learner_class = PPOLearner
    minibatch_setting = "expert.batch_size"

    def hyperparameters(self) -> dict[str, Any]:
        """Return PPO's settings."""
        return {name: getattr(self, name) for name in _SAME.split()}

    def optimizer(self, is_fast: bool) -> dict[str, Any]:
        """Return Adam with SB3's epsilon for PPO."""
        if is_fast:
            return {"optimizer_class": ClippingAdam, "optimizer_kwargs": {"eps": 1e-5, "fused": True}}
        return {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"eps": 1e-5}}

    def minibatch(self, n_envs: int) -> int:
        """Return ``batch_size``. :raises ConfigError: where a rollout holds fewer states."""
        if self.batch_size > self.n_steps * n_envs:
            raise ConfigError(
                f"expert.batch_size: {self.batch_size} is more than one rollout holds "
                f"(expert.n_steps {self.n_steps} x {n_envs} envs, trainer.n_envs = {self.n_steps * n_envs})"
            )
        return self.batch_size
