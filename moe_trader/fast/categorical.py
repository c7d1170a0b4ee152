"""The categorical mixture's PPO loss and its gradient, compiled: every loop runs along the batch, in vectors.

With the joint P = g_k p_k(a), M = sum_k P and r = P / M: d log M / d log P = r, the entropy -sum M log M has the
gradient -P (log M + 1), and the posterior entropy -sum P log r has -P log r.

Shapes everywhere: gate weights ``(K, batch)``; scores, p and log_r ``(K, n_actions, batch)``; m and log_m ``(n_actions,
batch)``; values ``(K, batch)``; what is said of a state ``(batch,)``. All are of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_trader.compiled import njit
from moe_trader.fast.elementary import exp32, log32

Array = np.ndarray[Any, Any]

LOSS, POLICY_LOSS, VALUE_LOSS, ENTROPY_LOSS, APPROX_KL, CLIP_FRACTION = range(6)
CLIP_RANGE, ENTROPY, VALUE, EXPERT_VALUE_SHARE = range(4)

_TINY = np.finfo(np.float32).tiny  # what rounds to zero counts as this: its logarithm must be finite
_ZERO, _ONE = np.float32(0), np.float32(1)


@njit(cache=True, nogil=True, error_model="numpy")
def normalise(advantages: Array) -> Array:
    """Return them with mean 0 and standard deviation 1, as Stable-Baselines3 does."""
    n = len(advantages)
    mean, total = 0.0, 0.0
    for at in range(n):
        mean += advantages[at] / n
    for at in range(n):
        total += (advantages[at] - mean) ** 2
    return ((advantages - mean) / (np.sqrt(total / (n - 1)) + 1e-8)).astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _choices(scores: Array, p: Array, log_total: Array) -> None:
    """Write one expert's probabilities, and log sum exp of its scores: shapes ``(n_actions, batch)``, ``(batch,)``."""
    n_actions, n = scores.shape
    largest, total = scores[0].copy(), np.zeros(n, np.float32)
    for action in range(1, n_actions):
        for at in range(n):
            largest[at] = scores[action, at] if scores[action, at] > largest[at] else largest[at]
    for action in range(n_actions):
        for at in range(n):
            p[action, at] = exp32(scores[action, at] - largest[at])
            total[at] += p[action, at]
    for action in range(n_actions):
        for at in range(n):
            p[action, at] /= total[at]
    for at in range(n):
        log_total[at] = log32(total[at]) + largest[at]


@njit(cache=True, nogil=True, error_model="numpy")
def densities(weights: Array, scores: Array, p: Array, log_r: Array, m: Array, log_m: Array) -> None:
    """Write p_k(a), log r_k(a), M(a) and log M(a) of every state."""
    n_experts, n_actions, n = scores.shape
    log_total = np.empty(n, np.float32)
    m[:] = 0
    for k in range(n_experts):
        _choices(scores[k], p[k], log_total)
        for at in range(n):
            weight = weights[k, at]
            log_total[at] -= log32(_TINY if weight < _TINY else weight)
        for action in range(n_actions):
            for at in range(n):
                m[action, at] += p[k, action, at] * weights[k, at]
                log_r[k, action, at] = scores[k, action, at] - log_total[at]
    for action in range(n_actions):
        for at in range(n):
            m[action, at] = _TINY if m[action, at] < _TINY else m[action, at]
            log_m[action, at] = log32(m[action, at])
        for k in range(n_experts):
            for at in range(n):
                log_r[k, action, at] -= log_m[action, at]


@njit(cache=True, nogil=True, error_model="numpy")
def objective(
    weights: Array,
    p: Array,
    log_r: Array,
    m: Array,
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

    :param given: :class:`~moe_trader.mixture.ppo_loss.Coefficients`
    :param stated: the loss and its parts, columns :data:`LOSS` ...
    """
    n_experts, n_actions, n = p.shape
    share, clip_range = given[EXPERT_VALUE_SHARE], given[CLIP_RANGE]
    stated[:] = 0.0
    posterior_entropy[:] = 0
    taken, joint_error = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for action in range(n_actions):
        entropy = 0.0
        for at in range(n):
            entropy += m[action, at] * log_m[action, at]
            taken[at] = log_m[action, at] if actions[at] == action else taken[at]
        stated[ENTROPY_LOSS] += entropy
        for k in range(n_experts):
            for at in range(n):
                posterior_entropy[at] -= weights[k, at] * p[k, action, at] * log_r[k, action, at]

    for at in range(n):
        log_ratio = np.float64(taken[at]) - old_log_prob[at]  # a tie with the clipped ratio must be one
        ratio = np.exp(log_ratio)
        clipped = min(max(ratio, 1 - clip_range), 1 + clip_range)
        gain, clipped_gain = advantages[at] * ratio, advantages[at] * clipped
        d_log_prob[at] = 0.0 if clipped_gain < gain else -gain / n
        stated[POLICY_LOSS] -= clipped_gain if clipped_gain < gain else gain
        stated[APPROX_KL] += ratio - 1 - log_ratio
        stated[CLIP_FRACTION] += clipped != ratio

    for k in range(n_experts):
        for at in range(n):
            joint_error[at] += weights[k, at] * (values[k, at] - returns[at])
    factor = np.float32(2 * given[VALUE] / n)
    own_share, joint_share = np.float32(share), np.float32(1 - share)
    for k in range(n_experts):
        own_loss = 0.0
        for at in range(n):
            responsibility = _ZERO
            for action in range(n_actions):
                r = weights[k, at] * p[k, action, at] / m[action, at]
                responsibility = r if actions[at] == action else responsibility
            error = values[k, at] - returns[at]
            pull = own_share * responsibility * error
            own_loss += pull * error
            d_values[k, at] = factor * (pull + joint_share * weights[k, at] * joint_error[at])
        stated[VALUE_LOSS] += own_loss
    for at in range(n):
        stated[VALUE_LOSS] += (1 - share) * joint_error[at] * joint_error[at]
    stated /= n
    stated[LOSS] = stated[POLICY_LOSS] + given[ENTROPY] * stated[ENTROPY_LOSS] + given[VALUE] * stated[VALUE_LOSS]


@njit(cache=True, nogil=True, error_model="numpy")
def gradients(
    weights: Array,
    p: Array,
    log_r: Array,
    m: Array,
    log_m: Array,
    actions: Array,
    d_log_prob: Array,
    d_entropy: float,
    d_posterior: Array,
    d_weights: Array,
    d_scores: Array,
) -> None:
    """Write the scores' gradient, and add the weights', from that of log M(action), entropy and posterior entropy."""
    n_experts, n_actions, n = p.shape
    by_entropy = np.float32(d_entropy)
    total = np.empty(n, np.float32)
    for k in range(n_experts):
        total[:] = 0
        for action in range(n_actions):
            for at in range(n):
                joint = weights[k, at] * p[k, action, at]
                d = -joint * (by_entropy * (log_m[action, at] + _ONE) + d_posterior[at] * log_r[k, action, at])
                d += joint / m[action, at] * d_log_prob[at] if actions[at] == action else _ZERO
                d_scores[k, action, at] = d
                total[at] += d
        for action in range(n_actions):
            for at in range(n):
                d_scores[k, action, at] -= p[k, action, at] * total[at]
        for at in range(n):
            weight = weights[k, at]
            d_weights[k, at] += total[at] / (_TINY if weight < _TINY else weight)
