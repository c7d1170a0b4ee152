"""An expert family: advantage-weighted regression on the mixture density (arXiv 1910.00177), on rollouts of its own."""

from stable_baselines3 import A2C

from moe_trader.expert.a2c import A2CExperts
from moe_trader.gating import with_gate_losses
from moe_trader.learner.mixture_learner import Terms
from moe_trader.learner.on_policy import OnPolicyLearner
from moe_trader.mixture.on_policy import on_policy_batch, value_loss
from moe_trader.option import option


class AWRLearner(OnPolicyLearner, A2C):
    """SB3's rollouts; one step on exp(A / beta), at most 20, times log m(a|s)."""

    beta = 1.0

    def _update(self) -> list[Terms]:
        (batch,) = self.rollout_buffer.get(batch_size=None)
        output = self.model.evaluate_for_update(self.policy.whole_observations(batch.observations))
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
class AWRExperts(A2CExperts):
    """K experts of A2C's settings, trained by advantage-weighted regression."""

    learner_class = AWRLearner
