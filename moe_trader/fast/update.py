"""The gradient of a minibatch of PPO, by compiled code.

For discrete actions, in float32 on a CPU, with losses of the gate in :data:`~moe_trader.fast.losses.GRADIENTS`, it
needs no autograd: each part of the mixture is compiled, with the chain rule between them by hand. In a small minibatch
autograd's bookkeeping costs more than the arithmetic. Elsewhere autograd connects the parts. Either way it is the
gradient of :func:`~moe_trader.mixture.ppo_loss.ppo_loss`, to rounding, which tests pin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from moe_trader.fast import categorical as kernels
from moe_trader.fast import stacked
from moe_trader.fast.gates import route
from moe_trader.fast.losses import GRADIENTS, GateArrays
from moe_trader.fast.objective import fast_objective
from moe_trader.gating import GateLoss
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.ppo_loss import TERMS, Coefficients, ppo_loss
from moe_trader.mixture.stacked import StackedBank

Losses = Mapping[str, tuple[GateLoss, float]]


def can_compile(model: MixtureModel, losses: Iterable[GateLoss]) -> bool:
    """Whether an update with these losses needs no autograd."""
    is_discrete = isinstance(model.action_space, spaces.Discrete)
    return is_discrete and stacked.can_run(model.experts) and all(type(loss) in GRADIENTS for loss in losses)


def ppo_gradient(
    model: MixtureModel, batch: RolloutBufferSamples, normalize_advantage: bool, given: Coefficients, losses: Losses
) -> dict[str, Any]:
    """Leave the gradient of a minibatch's loss in the parameters' ``grad``; return the loss and its terms.

    :param batch: with whole observations
    :param losses: name -> a loss of the gate and its present weight
    """
    if can_compile(model, (loss for loss, _ in losses.values())):
        return _compiled(model, batch, normalize_advantage, given, losses)
    loss, terms = ppo_loss(model, batch, normalize_advantage, given, losses, fast_objective)
    loss.backward()
    return terms


def _compiled(
    model: MixtureModel, batch: RolloutBufferSamples, normalize_advantage: bool, given: Coefficients, losses: Losses
) -> dict[str, float]:
    bank = model.experts
    assert isinstance(bank, StackedBank)
    # Forward: gate and experts.
    routing = route(model.gate, model.seen_by_gate(batch.observations))
    made = stacked.run(bank, model.seen_by_experts(batch.observations))
    weights, scores, values = routing.weights, made.scores.numpy(), made.values.numpy()[:, 0]
    actions, advantages = batch.actions.numpy(), batch.advantages.numpy()
    n = len(actions)
    if normalize_advantage and n > 1:
        advantages = kernels.normalise(advantages)

    # Densities, then the loss and its gradient by log-probability and values.
    p, log_r, d_scores = (np.empty_like(scores) for _ in range(3))
    m, log_m = (np.empty_like(scores[0]) for _ in range(2))
    kernels.densities(weights, scores, p, log_r, m, log_m)
    density = (weights, p, log_r, m, log_m)
    posterior_entropy, d_log_prob = np.empty(n, np.float32), np.empty(n, np.float32)
    d_values, found = np.empty_like(values), np.empty(len(TERMS) + 1)
    rollout = (actions, advantages, batch.old_log_prob.numpy(), batch.returns.numpy())
    kernels.objective(*density, values, *rollout, np.array(given), posterior_entropy, d_log_prob, d_values, found)

    # Losses of the gate.
    d_logits, d_weights = np.zeros_like(routing.logits), np.zeros_like(weights)
    arrays = GateArrays(routing, posterior_entropy, d_logits, d_weights, np.zeros_like(posterior_entropy))
    loss, *parts = found.tolist()
    terms = dict(zip(TERMS, parts, strict=True))
    for name, (gate_loss, weight) in losses.items():
        terms[f"gate_loss/{name}"] = value = GRADIENTS[type(gate_loss)](gate_loss, arrays, weight)
        loss += weight * value

    # Backward: densities, gate, experts.
    d_entropy, d_posterior = -given.entropy / n, arrays.d_posterior_entropy
    kernels.gradients(*density, actions, d_log_prob, d_entropy, d_posterior, d_weights, d_scores)
    routing.send_back(d_logits, d_weights)
    d_run = (torch.from_numpy(d_scores), torch.from_numpy(d_values[:, None]))
    bank.weights.grad = stacked.gradient(bank, made, *d_run, None)
    return terms | {"loss": loss}
