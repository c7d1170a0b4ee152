"""PPO experts under one gate, trained jointly by PPO on the mixture density."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from stable_baselines3 import PPO

from moe_trader.bounds import Positive, Times, Whole
from moe_trader.expert.actor_critics import ActorCriticExperts
from moe_trader.fast.adam import ClippingAdam
from moe_trader.learner.ppo import PPOLearner
from moe_trader.option import ConfigError, option


@option
class PPOExperts(ActorCriticExperts):
    """K PPO experts; settings are SB3's of the same names."""

    batch_size: Annotated[Whole, Field(ge=2, le=2**31)]
    n_epochs: Times
    clip_range: Positive
    target_kl: Positive | None

    sb3_algorithm = PPO
    learner_class = PPOLearner
    minibatch_setting = "expert.batch_size"

    def hyperparameters(self) -> dict[str, Any]:
        """Return PPO's settings."""
        own = ("batch_size", "n_epochs", "clip_range", "target_kl")
        return super().hyperparameters() | {name: getattr(self, name) for name in own}

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
