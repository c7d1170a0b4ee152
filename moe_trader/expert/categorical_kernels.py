"""The categorical mixture's PPO loss and its gradient, compiled: a pass over the minibatch each way.

With the joint P = g_k p_k(a), M = sum_k P and r = P / M: d log M / d log P = r, the entropy -sum M log M has the
gradient -P (log M + 1), and the posterior entropy -sum P log r has -P log r.

Shapes everywhere: gate weights ``(batch, K)``; scores, log_p and log_r ``(K, n_actions, batch)``; log_m ``(n_actions,
batch)``; values ``(K, batch)``; what is said of a state ``(batch,)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]

LOSS, POLICY_LOSS, VALUE_LOSS, ENTROPY_LOSS, APPROX_KL, CLIP_FRACTION = range(6)
CLIP_RANGE, ENTROPY, VALUE, EXPERT_VALUE_SHARE = range(4)


@njit(cache=True, nogil=True, error_model="numpy")
def densities(weights: Array, scores: Array, log_p: Array, log_r: Array, log_m: Array) -> None:
    """Write log p_k(a), log r_k(a) and log M(a) of every state."""
    n_experts, n_actions, n = scores.shape
    tiny = np.finfo(weights.dtype).tiny
    zero = weights.dtype.type(0)
    for at in range(n):
        for k in range(n_experts):
            largest, total = scores[k, 0, at], zero
            for action in range(1, n_actions):
                largest = max(largest, scores[k, action, at])
            for action in range(n_actions):
                total += np.exp(scores[k, action, at] - largest)
            normaliser = largest + np.log(total)
            weight = weights[at, k]
            log_weight = np.log(tiny if weight < tiny else weight)
            for action in range(n_actions):
                log_p[k, action, at] = scores[k, action, at] - normaliser
                log_r[k, action, at] = log_p[k, action, at] + log_weight
        for action in range(n_actions):
            largest, total = log_r[0, action, at], zero
            for k in range(1, n_experts):
                largest = max(largest, log_r[k, action, at])
            for k in range(n_experts):
                total += np.exp(log_r[k, action, at] - largest)
            log_m[action, at] = largest + np.log(total)
            for k in range(n_experts):
                log_r[k, action, at] -= log_m[action, at]


@njit(cache=True, nogil=True, error_model="numpy")
def objective(
    weights: Array,
    log_r: Array,
    log_m: Array,
    values: Array,
    actions: Array,
    advantages: Array,
    old_log_prob: Array,
    returns: Array,
    given: Array,
    posterior_entropy: Array,
    d_log_prob: Array,
    d_values: Array,
    stated: Array,
) -> None:
    """Write the loss and its parts, each state's posterior entropy, and the loss's gradient as far as it is known.

    :param given: :class:`~moe_trader.expert.objective.Coefficients`
    :param stated: the loss and its parts, columns :data:`LOSS` ...
    """
    n_experts, n_actions, n = log_r.shape
    share, clip_range = given[EXPERT_VALUE_SHARE], given[CLIP_RANGE]
    stated[:] = 0.0
    for at in range(n):
        entropy, posterior = 0.0, 0.0
        for action in range(n_actions):
            m, doubt = np.exp(log_m[action, at]), 0.0
            entropy -= m * log_m[action, at]
            for k in range(n_experts):
                doubt -= np.exp(log_r[k, action, at]) * log_r[k, action, at]
            posterior += m * doubt
        posterior_entropy[at] = posterior
        stated[ENTROPY_LOSS] -= entropy

        taken = actions[at]
        log_ratio = np.float64(log_m[taken, at]) - old_log_prob[at]  # a tie with the clipped ratio must be one
        ratio = np.exp(log_ratio)
        clipped = min(max(ratio, 1 - clip_range), 1 + clip_range)
        gain, clipped_gain = advantages[at] * ratio, advantages[at] * clipped
        d_log_prob[at] = 0.0 if clipped_gain < gain else -gain / n
        stated[POLICY_LOSS] -= clipped_gain if clipped_gain < gain else gain
        stated[APPROX_KL] += ratio - 1 - log_ratio
        stated[CLIP_FRACTION] += clipped != ratio

        joint_error = 0.0
        for k in range(n_experts):
            joint_error += weights[at, k] * (values[k, at] - returns[at])
        stated[VALUE_LOSS] += (1 - share) * joint_error * joint_error
        for k in range(n_experts):
            error = values[k, at] - returns[at]
            pull = share * np.exp(log_r[k, taken, at]) * error
            stated[VALUE_LOSS] += pull * error
            d_values[k, at] = 2 * given[VALUE] / n * (pull + (1 - share) * weights[at, k] * joint_error)
    stated /= n
    stated[LOSS] = stated[POLICY_LOSS] + given[ENTROPY] * stated[ENTROPY_LOSS] + given[VALUE] * stated[VALUE_LOSS]


@njit(cache=True, nogil=True, error_model="numpy")
def gradients(
    weights: Array,
    log_p: Array,
    log_r: Array,
    log_m: Array,
    actions: Array,
    d_log_prob: Array,
    d_entropy: float,
    d_posterior: Array,
    d_weights: Array,
    d_scores: Array,
) -> None:
    """Write the gradient of gate weights and scores from that of log M(action), entropy and posterior entropy."""
    n_experts, n_actions, n = log_p.shape
    tiny = np.finfo(weights.dtype).tiny
    for at in range(n):
        for k in range(n_experts):
            d_log_weight = weights.dtype.type(0)
            for action in range(n_actions):
                r = np.exp(log_r[k, action, at])
                joint = r * np.exp(log_m[action, at])
                d = -joint * (d_entropy * (log_m[action, at] + 1) + d_posterior[at] * log_r[k, action, at])
                if action == actions[at]:
                    d += r * d_log_prob[at]
                d_scores[k, action, at] = d
                d_log_weight += d
            for action in range(n_actions):
                d_scores[k, action, at] -= np.exp(log_p[k, action, at]) * d_log_weight
            d_weights[at, k] = d_log_weight / max(weights[at, k], tiny)
