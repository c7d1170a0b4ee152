"""Parts of a loss that on-policy learners of a mixture share: the critics', and what the gate's losses see."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_trader.gating import GateBatch
from moe_trader.mixture.choice import Mixture
from moe_trader.mixture.output import MixtureOutput


def value_loss(mixture: Mixture, values: Tensor, returns: Tensor, actions: Tensor, expert_share: float) -> Tensor:
    """Return the mean squared error of the critics, a scalar; it trains neither gate nor actors.

    :param values: V_k, shape ``(batch, K)``
    :param returns: shape ``(batch,)``
    :param actions: as taken in the rollout
    :param expert_share: share of sum_k r_k (V_k - R)^2, which fits each critic by itself; the rest is
        (sum_k g_k V_k - R)^2, with g held fixed
    """
    errors = values - returns.unsqueeze(-1)  # (batch, K)
    own = (mixture.responsibilities(actions) * errors.square()).sum(-1).mean()
    joint = (mixture.weights.detach() * errors).sum(-1).square().mean()
    return expert_share * own + (1 - expert_share) * joint


def on_policy_batch(output: MixtureOutput, posterior_entropy: Tensor, actions: Tensor, advantages: Tensor) -> GateBatch:
    """Return a minibatch of an on-policy learner, for gate losses.

    :param output: of the mixture
    :param actions: as taken in the rollout, shape ``(batch,)`` or ``(batch, dim)``
    :param advantages: of these actions, as the policy loss uses them, shape ``(batch,)``
    """
    return GateBatch(
        output.gate_logits,
        output.mixture,
        posterior_entropy,
        lambda: expert_advantages(output.mixture, actions, advantages),
        output.previous_weights,
    )


@torch.no_grad()
def expert_advantages(mixture: Mixture, actions: Tensor, advantages: Tensor) -> Tensor:
    """Return the advantage of following each expert, estimated from the action taken, shape ``(batch, K)``.

    A p_k(a|s) / m(a|s): its mean over a ~ m is sum_a p_k(a|s) A(s, a). A is in units of its root mean square. The ratio
    is truncated at K, which it cannot exceed under equal weights; a rare expert's ratio would hide all others
    (IMPALA truncates likewise, arXiv 1802.01561).
    """
    ratio = (mixture.expert_log_prob(actions) - mixture.log_prob(actions).unsqueeze(-1)).exp()
    gain = advantages / (advantages.square().mean().sqrt() + 1e-8)
    return gain.unsqueeze(-1) * ratio.clamp_max(ratio.shape[-1])
