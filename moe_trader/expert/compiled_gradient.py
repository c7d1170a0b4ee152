"""The gradient of a minibatch without autograd: each part of the mixture compiled, the chain rule between them by hand.

It is what ``MixturePPO._loss`` and autograd give, to rounding, which a test pins; for discrete actions, in float32 on a
CPU, with losses of the gate that know their own gradient. In a small minibatch autograd's bookkeeping costs more than
the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from moe_trader.expert import categorical_kernels as kernels
from moe_trader.expert.mixture_policy import MixturePolicy
from moe_trader.expert.objective import STATED, Coefficients
from moe_trader.gating import GateArrays, GateLoss, keeps_up


def can_compile(policy: MixturePolicy, losses: Mapping[str, GateLoss]) -> bool:
    """Whether :func:`compiled_gradient` can train the policy with these losses."""
    known = [type(loss) for loss in losses.values()]
    return policy.is_compiled and all(
        one.add_gradient is not GateLoss.add_gradient and keeps_up(one, "add_gradient", "__call__") for one in known
    )


def compiled_gradient(
    policy: MixturePolicy,
    batch: RolloutBufferSamples,
    normalize_advantage: bool,
    given: Coefficients,
    losses: Mapping[str, tuple[GateLoss, float]],
) -> dict[str, float]:
    """Leave the gradient of a minibatch's loss in the parameters' ``grad``, and return the loss and its terms.

    :param batch: with whole observations
    :param losses: name -> a loss of the gate and its weight
    """
    routing = policy.gate.route(policy.seen_by_gate(batch.observations))
    run = policy.stack.run(policy.seen_by_experts(batch.observations))
    weights, scores, values = routing.weights, run.scores.numpy(), run.values.numpy()[:, 0]
    actions, advantages = batch.actions.numpy(), batch.advantages.numpy()
    n = len(actions)
    if normalize_advantage and n > 1:
        advantages = kernels.normalise(advantages)

    p, log_r, d_scores = (np.empty_like(scores) for _ in range(3))
    m, log_m = (np.empty_like(scores[0]) for _ in range(2))
    kernels.densities(weights, scores, p, log_r, m, log_m)
    density = (weights, p, log_r, m, log_m)
    posterior_entropy, d_log_prob = np.empty(n, np.float32), np.empty(n, np.float32)
    d_values, stated = np.empty_like(values), np.empty(len(STATED) + 1)
    told = (actions, advantages, batch.old_log_prob.numpy(), batch.returns.numpy(), np.array(given))
    kernels.objective(*density, values, *told, posterior_entropy, d_log_prob, d_values, stated)

    arrays = GateArrays(
        routing,
        posterior_entropy,
        np.zeros_like(routing.logits),
        np.zeros_like(weights),
        np.zeros_like(posterior_entropy),
    )
    loss, *parts = stated.tolist()
    terms = dict(zip(STATED, parts, strict=True))
    for name, (gate_loss, weight) in losses.items():
        terms[f"gate_loss/{name}"] = value = gate_loss.add_gradient(arrays, weight)
        loss += weight * value

    d_entropy, d_posterior = -given.entropy / n, arrays.d_posterior_entropy
    kernels.gradients(*density, actions, d_log_prob, d_entropy, d_posterior, arrays.d_weights, d_scores)
    routing.send_back(arrays.d_logits, arrays.d_weights)
    d_run = (torch.from_numpy(d_scores), torch.from_numpy(d_values[:, None]))
    policy.stack.weights.grad = policy.stack.gradient(run, *d_run, None)
    return terms | {"loss": loss}
