"""An expert family: advantage-weighted regression on the mixture density (arXiv 1910.00177), on rollouts of its own."""

from typing import Any

import torch
from stable_baselines3 import A2C

from moe_trader.bounds import Bars, Count, Fraction, LearningRate, NonNegative, Positive, Widths
from moe_trader.expert.actor_critics import ActorCriticExperts
from moe_trader.gating import with_gate_losses
from moe_trader.learner.on_policy import OnPolicyLearner, Terms
from moe_trader.mixture.on_policy import on_policy_batch, value_loss
from moe_trader.option import option


class AWRLearner(OnPolicyLearner, A2C):
    """SB3's rollouts; one step on exp(A / beta), at most 20, times log m(a|s)."""

    beta = 1.0

    def _update(self) -> list[Terms]:
        (batch,) = self.rollout_buffer.get(batch_size=None)
        output = self.model.evaluate(self.policy.whole_observations(batch.observations))
        mixture, actions = output.mixture, batch.actions
        factor = (batch.advantages / self.beta).exp().clamp_max(20)
        policy_loss = -(factor * mixture.log_prob(actions)).mean()
        critic_loss = value_loss(mixture, output.critics, batch.returns, actions, self.expert_value_share)
        gate_batch = on_policy_batch(output, mixture.posterior_entropy(actions), actions, batch.advantages)
        loss, terms = with_gate_losses(policy_loss + self.vf_coef * critic_loss, gate_batch, self._weighted_losses())

        self.policy.optimizer.zero_grad()
        loss.backward()
        found: Terms = {"policy_loss": policy_loss.detach(), "value_loss": critic_loss.detach(), **terms}
        self._clipped_step(found)
        self._n_updates += 1
        return [found]


@option
class AWRExperts(ActorCriticExperts):
    """K experts trained by advantage-weighted regression."""

    count: Count
    net_arch: Widths
    learning_rate: LearningRate
    n_steps: Bars
    gamma: Fraction
    vf_coef: NonNegative
    max_grad_norm: Positive

    sb3_algorithm = A2C
    learner_class = AWRLearner
    minibatch_setting = "expert.n_steps x trainer.n_envs"
    prefix, activation, gate_lr_scale, ent_coef, expert_value_share = "awr", "tanh", 1.0, 0.0, 0.5

    @property
    def final_learning_rate(self) -> float:
        """Return the rate, which stays."""
        return self.learning_rate

    def hyperparameters(self) -> dict[str, Any]:
        """Return those of SB3's A2C."""
        return {name: getattr(self, name) for name in ("n_steps", "gamma", "vf_coef", "max_grad_norm")}

    def optimizer(self, is_fast: bool) -> dict[str, Any]:
        """Return Adam."""
        return {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {}}

    def minibatch(self, n_envs: int) -> int:
        """Return the states of a rollout."""
        return self.n_steps * n_envs
