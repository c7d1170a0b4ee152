"""The mixture as one would first write it on Stable-Baselines3: a Python loop, autograd, whole observations.

The tests hold the fast path to it, minibatch for minibatch; `benchmarks/training.py` measures against it.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from moe_trader.expert.mixture import GaussianMixture, Mixture
from moe_trader.expert.mixture_policy import MixturePolicy
from moe_trader.expert.mixture_ppo import MixturePPO
from moe_trader.expert.output import MixtureOutput
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from moe_trader.expert.ppo import PPOExperts
from moe_trader.gating import Gate, GateBatch, entropy
from moe_trader.sight import View


class PlainCategorical(Mixture):
    """The categorical mixture in log space, differentiated by autograd."""

    def __init__(self, weights: Tensor, logits: Tensor) -> None:
        super().__init__(weights)
        self.expert_log_probs = torch.log_softmax(logits, dim=-1)  # (batch, K, n_actions)
        self.log_joint = weights.log().unsqueeze(-1) + self.expert_log_probs
        self.distribution = torch.distributions.Categorical(logits=torch.logsumexp(self.log_joint, dim=1))

    def expert_log_prob(self, actions: Tensor) -> Tensor:
        index = actions.long().view(-1, 1, 1).expand(-1, self.weights.shape[1], 1)
        return self.expert_log_probs.gather(2, index).squeeze(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.distribution.log_prob(actions)

    def responsibilities(self, actions: Tensor) -> Tensor:
        return torch.softmax(self.weights.log() + self.expert_log_prob(actions), dim=-1).detach()

    def entropy(self) -> Tensor:
        return self.distribution.entropy()

    def disagreement(self) -> Tensor:
        own = -(self.expert_log_probs.exp() * self.expert_log_probs).sum(-1)
        return self.entropy() - (self.weights * own).sum(-1)

    def posterior_entropy(self, actions: Tensor) -> Tensor:
        log_m = self.distribution.logits
        responsibilities = (self.log_joint - log_m.unsqueeze(1)).exp()
        return (log_m.exp() * entropy(responsibilities.transpose(1, 2))).sum(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        assert generator is None
        return self.distribution.sample()

    def reweighted(self, weights: Tensor) -> PlainCategorical:
        return PlainCategorical(weights, self.expert_log_probs)

    def mode(self) -> Tensor:
        return self.distribution.probs.argmax(dim=-1)

    def expert_modes(self) -> Tensor:
        return self.expert_log_probs.argmax(dim=-1)


class PlainPolicy(MixturePolicy):
    """A loop over the experts; every parameter is a leaf of its own in the optimiser."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        groups = [
            {"params": list(self.experts.parameters()), "rate_factor": 1.0},
            {"params": list(self.gate.parameters()), "rate_factor": self._gate_rate_factor},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=lr_schedule(1), eps=1e-5)

    def mix(self, observations: Tensor, compare: bool = False, vector: Tensor | None = None) -> MixtureOutput:
        assert not compare
        logits = self.gate.logits(observations.index_select(-1, self.gate_columns))
        scores, values = [], []
        for expert in self.actor_critics:
            latent_pi, latent_vf = expert.mlp_extractor(expert.extract_features(self.seen_by_experts(observations)))
            scores.append(expert.action_net(latent_pi))
            values.append(expert.value_net(latent_vf))
        weights, stacked = self.gate.weights(logits), torch.stack(scores, dim=1)
        if isinstance(self.action_space, spaces.Discrete):
            mixture: Mixture = PlainCategorical(weights, stacked)
        else:
            log_std = torch.stack([expert.log_std for expert in self.actor_critics])
            mixture = GaussianMixture(weights, stacked, log_std)
        return MixtureOutput(mixture, logits, torch.cat(values, dim=-1))


class PlainPPO(MixturePPO):
    """PPO's update in SB3's own words, with the mixture's losses added."""

    def train(self) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)
        stopped = False
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                actions = batch.actions
                if isinstance(self.action_space, spaces.Discrete):
                    actions = actions.long().flatten()
                output = self.policy.mix(batch.observations)
                mixture = output.mixture
                advantages = batch.advantages
                if self.normalize_advantage and len(advantages) > 1:
                    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
                log_ratio = mixture.log_prob(actions) - batch.old_log_prob
                ratio = torch.exp(log_ratio)
                clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
                policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
                errors = (output.expert_values - batch.returns.unsqueeze(-1)).square()
                expert_value_loss = (mixture.responsibilities(actions) * errors).sum(-1).mean()
                joint_value_loss = (output.values - batch.returns).square().mean()
                share = self.expert_value_share
                value_loss = share * expert_value_loss + (1 - share) * joint_value_loss
                loss = policy_loss - self.ent_coef * mixture.entropy().mean() + self.vf_coef * value_loss
                gate_batch = GateBatch(
                    output.gate_logits, mixture, mixture.posterior_entropy(actions), actions, advantages
                )
                for gate_loss in self.policy._gate_settings.losses.values():
                    progress = min(1 - self._current_progress_remaining, 1.0)
                    loss = loss + gate_loss.weight_at(progress) * gate_loss(gate_batch)
                with torch.no_grad():
                    approx_kl = ((ratio - 1) - log_ratio).mean().item()
                if self.target_kl is not None and approx_kl > 1.5 * self.target_kl:
                    stopped = True
                    break
                self.policy.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
            self._n_updates += 1
            if stopped:
                break


def plain_mixture(expert: PPOExperts, gate: Gate, env: VecEnv, view: View, seed: int) -> PlainPPO:
    """Return the plain mixture with the settings and the initial weights of a :class:`MixturePPO` of the same seed."""
    return PlainPPO(
        PlainPolicy,
        env,
        expert_value_share=expert.expert_value_share,
        names=expert.names(),
        seed=seed,
        device="cpu",
        rollout_buffer_class=RolloutBuffer,
        policy_kwargs=expert._mixture_kwargs(gate, view, env.observation_space),
        **expert._hyperparameters(),
    )
