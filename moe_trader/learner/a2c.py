"""A2C on the mixture density: one step on the whole rollout.

Paper: https://arxiv.org/abs/1602.01783. :meth:`A2CLearner._update` follows SB3's ``A2C.train`` (with one expert the
weights agree to rounding, which a test pins) and adds a loss for each critic and the gate's losses.
"""

from __future__ import annotations

from stable_baselines3 import A2C
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from moe_trader.gating import with_gate_losses
from moe_trader.learner.mixture_learner import Terms
from moe_trader.learner.on_policy import OnPolicyLearner
from moe_trader.mixture.on_policy import on_policy_batch, value_loss


class A2CLearner(OnPolicyLearner, A2C):
    """SB3's A2C on a :class:`~moe_trader.learner.policy.MixturePolicy`."""

    def _update(self) -> list[Terms]:
        (batch,) = self.rollout_buffer.get(batch_size=None)
        whole = self.policy.whole_observations(batch.observations)
        self.policy.optimizer.zero_grad()
        loss, terms = self.loss(batch._replace(observations=whole))
        loss.backward()
        self._clipped_step(terms)
        self._n_updates += 1
        return [terms]

    def loss(self, batch: RolloutBufferSamples) -> tuple[Tensor, Terms]:
        """Return the loss of a rollout, for autograd, and its terms.

        :param batch: with whole observations
        """
        output = self.model.evaluate_for_update(batch.observations)
        mixture, actions, advantages = output.mixture, batch.actions, batch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        policy_loss = -(advantages * mixture.log_prob(actions)).mean()
        entropy_loss = -mixture.entropy().mean()
        critic_loss = value_loss(mixture, output.critics, batch.returns, actions, self.expert_value_share)
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * critic_loss

        posterior_entropy = mixture.posterior_entropy(actions)
        gate_batch = on_policy_batch(output, posterior_entropy, actions, advantages)
        loss, gate_terms = with_gate_losses(loss, gate_batch, self._weighted_losses())
        terms = {"policy_loss": policy_loss, "value_loss": critic_loss, "entropy_loss": entropy_loss, "loss": loss}
        return loss, {name: value.detach() for name, value in (terms | gate_terms).items()}
