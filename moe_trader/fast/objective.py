"""PPO's objective with its gradient by hand: autograd would record some forty small steps for it."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_trader.mixture.choice import Mixture
from moe_trader.mixture.ppo_loss import Coefficients


class FastObjective(torch.autograd.Function):
    """PPO's clipped objective, entropy bonus and value losses: the loss and the terms, a vector.

    Responsibilities and gate weights weigh the value losses; the value trains neither the gate nor the actors.
    """

    @staticmethod
    def forward(
        log_prob: Tensor,  # (batch,)
        entropy: Tensor,  # (batch,)
        values: Tensor,  # (batch, K)
        weights: Tensor,  # (batch, K)
        responsibilities: Tensor,  # (batch, K)
        advantages: Tensor,  # (batch,)
        old_log_prob: Tensor,  # (batch,)
        returns: Tensor,  # (batch,)
        given: Coefficients,
    ) -> tuple[Tensor, ...]:
        """Return the loss and its parts, and the gradients by log_prob and values."""
        n, share = len(log_prob), given.expert_value_share
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        gain = advantages * ratio
        clipped_ratio = ratio.clamp(1 - given.clip_range, 1 + given.clip_range)
        clipped_gain = advantages * clipped_ratio
        policy_loss = -torch.minimum(gain, clipped_gain).mean()
        entropy_loss = -entropy.mean()
        weights, errors = weights.T, values.T - returns  # (K, batch): the batch runs fastest
        pull = responsibilities.T * errors
        joint_errors = (weights * errors).sum(0)
        value_loss = ((pull * errors).sum() * share + joint_errors.square().sum() * (1 - share)) / n

        d_log_prob = gain.masked_fill(clipped_gain < gain, 0.0) * (-1 / n)
        d_values = (pull * share + weights * joint_errors * (1 - share)) * (2 * given.value / n)
        loss = policy_loss + given.entropy * entropy_loss + given.value * value_loss
        approx_kl = (ratio - 1 - log_ratio).mean()
        clip_fraction = (clipped_ratio != ratio).to(ratio.dtype).mean()
        stated = torch.stack([policy_loss, value_loss, entropy_loss, approx_kl, clip_fraction])
        return loss, stated, d_log_prob, d_values.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the gradient."""
        _, *kept = output
        ctx.save_for_backward(*kept[1:])
        ctx.mark_non_differentiable(*kept)
        ctx.entropy = -inputs[-1].entropy / len(inputs[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return what was kept."""
        d_log_prob, d_values = ctx.saved_tensors
        d_entropy = (ctx.entropy * d_loss).expand_as(d_log_prob)
        return d_log_prob * d_loss, d_entropy, d_values * d_loss, None, None, None, None, None, None


def fast_objective(
    mixture: Mixture, values: Tensor, batch: RolloutBufferSamples, advantages: Tensor, given: Coefficients
) -> tuple[Tensor, Tensor]:
    """Return what :func:`~moe_trader.mixture.ppo_loss.ppo_objective` returns, to rounding."""
    actions, weights = batch.actions, mixture.weights.detach()
    log_prob, responsibilities = mixture.log_prob(actions), mixture.responsibilities(actions)
    constants = (advantages, batch.old_log_prob, batch.returns, given)
    loss, terms, *_ = FastObjective.apply(log_prob, mixture.entropy(), values, weights, responsibilities, *constants)
    return loss, terms
