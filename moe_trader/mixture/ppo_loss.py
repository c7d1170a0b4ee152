"""PPO's loss on a mixture, in plain PyTorch.

Paper: https://arxiv.org/abs/1707.06347.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from moe_trader.gating import GateLoss, with_gate_losses
from moe_trader.mixture.choice import Mixture
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.on_policy import on_policy_batch, value_loss


class Coefficients(NamedTuple):
    """Factors of the loss's parts; see :class:`~moe_trader.expert.ppo.PPOExperts`."""

    clip_range: float
    entropy: float
    value: float
    expert_value_share: float


TERMS = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")


class Objective(Protocol):
    """The loss of a minibatch, without the gate's own losses."""

    def __call__(
        self, mixture: Mixture, values: Tensor, batch: RolloutBufferSamples, advantages: Tensor, given: Coefficients
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and :data:`TERMS` as a vector without gradient.

        :param values: V_k, shape ``(batch, K)``
        :param advantages: normalised if they are to be, shape ``(batch,)``
        """


def ppo_objective(
    mixture: Mixture, values: Tensor, batch: RolloutBufferSamples, advantages: Tensor, given: Coefficients
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped objective on log m(a|s), entropy bonus and value losses; see :class:`Objective`.

    Gate weights and responsibilities weigh the value losses; the value loss trains neither gate nor actors.
    """
    log_ratio = mixture.log_prob(batch.actions) - batch.old_log_prob
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - given.clip_range, 1 + given.clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    entropy_loss = -mixture.entropy().mean()

    critic_loss = value_loss(mixture, values, batch.returns, batch.actions, given.expert_value_share)
    loss = policy_loss + given.entropy * entropy_loss + given.value * critic_loss
    approx_kl = (ratio - 1 - log_ratio).mean()
    clip_fraction = (clipped != ratio).to(ratio.dtype).mean()
    return loss, torch.stack([policy_loss, critic_loss, entropy_loss, approx_kl, clip_fraction]).detach()


def ppo_loss(
    model: MixtureModel,
    batch: RolloutBufferSamples,
    normalize_advantage: bool,
    given: Coefficients,
    losses: Mapping[str, tuple[GateLoss, float]],
    objective: Objective = ppo_objective,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a minibatch, for autograd, and its terms.

    :param batch: with whole observations
    :param losses: name -> a loss of the gate and its present weight
    """
    output = model.evaluate_for_update(batch.observations)
    advantages = batch.advantages  # (batch,)
    if normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    loss, terms = objective(output.mixture, output.critics, batch, advantages, given)
    posterior_entropy = output.mixture.posterior_entropy(batch.actions)
    gate_batch = on_policy_batch(output, posterior_entropy, batch.actions, advantages)
    loss, gate_terms = with_gate_losses(loss, gate_batch, losses)
    return loss, {**dict(zip(TERMS, terms.unbind(), strict=True)), **gate_terms, "loss": loss.detach()}
