"""A2C experts under one gate, trained jointly by A2C on the mixture density."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from stable_baselines3 import A2C

from moe_trader.bounds import Bars, Count, Fraction, LearningRate, NonNegative, Positive, Widths
from moe_trader.expert.actor_critics import ActorCriticExperts
from moe_trader.learner.a2c import A2CLearner
from moe_trader.option import option

_SAME = "n_steps gamma gae_lambda normalize_advantage ent_coef vf_coef max_grad_norm"


@option
class A2CExperts(ActorCriticExperts):
    """K A2C experts; every setting is SB3's of the same name unless said otherwise here.

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
    gamma: Fraction
    gae_lambda: Fraction
    normalize_advantage: bool
    ent_coef: NonNegative
    vf_coef: NonNegative
    expert_value_share: Fraction
    max_grad_norm: Positive
    rms_prop_eps: Positive

    sb3_algorithm = A2C
    learner_class = A2CLearner
    minibatch_setting = "expert.n_steps x trainer.n_envs"

    def hyperparameters(self) -> dict[str, Any]:
        """Return A2C's settings."""
        return {name: getattr(self, name) for name in _SAME.split()}

    def optimizer(self, is_fast: bool) -> dict[str, Any]:
        """Return SB3's RMSprop; A2C has no compiled step."""
        kwargs = {"alpha": 0.99, "eps": self.rms_prop_eps, "weight_decay": 0}
        return {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": kwargs}

    def minibatch(self, n_envs: int) -> int:
        """Return the states in a rollout."""
        return self.n_steps * n_envs
