"""PPO on the mixture density.

Paper: https://arxiv.org/abs/1707.06347. :meth:`PPOLearner._update` follows SB3's ``PPO.train`` step by step (with one
expert the weights agree to rounding, which a test pins) and adds what a mixture needs: a loss for each critic, the
gate's losses, and the gradient's norm of each expert.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from moe_trader.fast.backend import FastBackend
from moe_trader.fast.update import ppo_gradient
from moe_trader.learner.mixture_learner import Terms
from moe_trader.learner.on_policy import OnPolicyLearner
from moe_trader.mixture.ppo_loss import Coefficients, ppo_loss


class PPOLearner(OnPolicyLearner, PPO):
    """SB3's PPO on a :class:`~moe_trader.learner.policy.MixturePolicy`."""

    def _update(self) -> list[Terms]:
        trace: list[Terms] = []
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        self.logger.record("train/clip_range", clip_range)
        for _ in range(self.n_epochs):
            goes_on = True
            for batch in self.rollout_buffer.get(self.batch_size):
                whole = self.policy.whole_observations(batch.observations)
                terms = self.differentiate(batch._replace(observations=whole), clip_range)
                trace.append(terms)
                is_far = self.target_kl is not None and terms["approx_kl"] > 1.5 * self.target_kl
                goes_on = not is_far and self._clipped_step(terms)
                if not goes_on:
                    break
            self._n_updates += 1
            if not goes_on:
                break
        return trace

    def differentiate(self, batch: RolloutBufferSamples, clip_range: float) -> dict[str, Any]:
        """Leave the gradient of a minibatch's loss in the parameters' ``grad``, and return the loss and its terms.

        :param batch: with whole observations
        """
        self.policy.optimizer.zero_grad()
        model = self.policy.model
        given = Coefficients(clip_range, self.ent_coef, self.vf_coef, self.expert_value_share)
        rest = (self.normalize_advantage, given, self._weighted_losses())
        if isinstance(model.backend, FastBackend):
            return ppo_gradient(model, batch, *rest)
        loss, terms = ppo_loss(model, batch, *rest)
        loss.backward()
        return dict(terms)
