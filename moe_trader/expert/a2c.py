"""A2C experts under one gate, trained jointly by A2C on the mixture density."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import A2C

from moe_trader.bounds import Positive
from moe_trader.expert.actor_critics import ActorCriticExperts
from moe_trader.learner.a2c import A2CLearner
from moe_trader.option import option


@option
class A2CExperts(ActorCriticExperts):
    """K A2C experts; settings are SB3's of the same names."""

    rms_prop_eps: Positive

    step_factor = 1.5  # one step an update: 600,000 on the synthetic market, where PPO takes 400,000
    sb3_algorithm = A2C
    learner_class = A2CLearner
    minibatch_setting = "expert.n_steps x trainer.n_envs"

    def optimizer(self, is_fast: bool) -> dict[str, Any]:
        """Return SB3's RMSprop; A2C has no compiled step."""
        kwargs = {"alpha": 0.99, "eps": self.rms_prop_eps, "weight_decay": 0}
        return {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": kwargs}

    def minibatch(self, n_envs: int) -> int:
        """Return the states in a rollout."""
        return self.n_steps * n_envs
