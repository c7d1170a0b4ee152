"""Gradients of the gate's losses, compiled, for updates without autograd.

They stand for exactly the losses of :data:`GRADIENTS`: a subclass may compute something else, and is left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_trader.compiled import njit
from moe_trader.fast.gates import Array, Routing
from moe_trader.gating import GateLoss
from moe_trader.gating.losses.importance import Importance
from moe_trader.gating.losses.information import Information
from moe_trader.gating.losses.load_balance import LoadBalance
from moe_trader.gating.losses.minimum_importance import MinimumImportance
from moe_trader.gating.losses.router_z import RouterZ


@dataclass(frozen=True)
class GateArrays:
    """What a loss reads and adds its gradient to: arrays of float32 in which the batch runs fastest.

    :param routing: the gate's logits and weights
    :param posterior_entropy: as in :class:`~moe_trader.gating.GateBatch`, shape ``(batch,)``
    :param d_logits: gradient of the training loss by the logits so far, shape ``(n_experts, batch)``
    :param d_weights: the same by the gate weights, shape ``(n_experts, batch)``
    :param d_posterior_entropy: the same by the posterior entropy, shape ``(batch,)``
    """

    routing: Routing
    posterior_entropy: Array
    d_logits: Array
    d_weights: Array
    d_posterior_entropy: Array


def _importance(loss: Importance, arrays: GateArrays, weight: float) -> float:
    """Add 2 K mean g_k."""
    n_experts, n = arrays.routing.weights.shape
    importance = arrays.routing.weights.mean(axis=1)
    arrays.d_weights[:] += (2 * weight * n_experts / n * importance)[:, None]
    return float(n_experts * (importance**2).sum() - 1)


def _load_balance(loss: LoadBalance, arrays: GateArrays, weight: float) -> float:
    """Add K f_k."""
    weights = arrays.routing.weights
    n_experts, n = weights.shape
    load = np.bincount(weights.argmax(axis=0), minlength=n_experts) / n
    arrays.d_weights[:] += (weight * n_experts / n * load).astype(np.float32)[:, None]
    return float(n_experts * (load * weights.mean(axis=1)).sum() - 1)


def _information(loss: Information, arrays: GateArrays, weight: float) -> float:
    """Add log(mean g_k) + 1 to the weights' gradient, and 1 to the posterior entropy's."""
    weights, posterior = arrays.routing.weights, arrays.posterior_entropy
    return float(_add_information(weights, posterior, weight, arrays.d_weights, arrays.d_posterior_entropy))


def _minimum_importance(loss: MinimumImportance, arrays: GateArrays, weight: float) -> float:
    """Add -2 (m - mean g_k) / m^2 for experts below their minimum m."""
    least = loss.share / len(arrays.routing.weights)
    if not least:
        return 0.0
    return float(_add_minimum_importance(arrays.routing.weights, least, weight, arrays.d_weights))


def _router_z(loss: RouterZ, arrays: GateArrays, weight: float) -> float:
    """Add 2 z softmax(logits) of every state."""
    return float(_add_router_z(arrays.routing.logits, weight, arrays.d_logits))


GRADIENTS: dict[type[GateLoss], Callable[[Any, GateArrays, float], float]] = {
    Importance: _importance,
    Information: _information,
    LoadBalance: _load_balance,
    MinimumImportance: _minimum_importance,
    RouterZ: _router_z,
}
"""Class of a loss -> a function that adds ``weight`` times its gradient to the arrays and returns the loss."""


@njit(cache=True, nogil=True, error_model="numpy")
def _add_information(weights: Array, posterior: Array, weight: float, d_weights: Array, d_posterior: Array) -> float:
    n_experts, n = weights.shape
    loss = posterior.sum() / n
    d_posterior += np.float32(weight / n)
    for k in range(n_experts):
        importance = max(weights[k].sum() / n, float(np.finfo(np.float32).tiny))
        loss += importance * np.log(importance)
        d_weights[k] += np.float32(weight / n * (np.log(importance) + 1))
    return loss


@njit(cache=True, nogil=True, error_model="numpy")
def _add_minimum_importance(weights: Array, least: float, weight: float, d_weights: Array) -> float:
    n_experts, n = weights.shape
    loss = 0.0
    for k in range(n_experts):
        missing = (least - weights[k].sum() / n) / least
        if missing > 0:
            loss += missing * missing
            d_weights[k] -= np.float32(2 * weight * missing / (least * n))
    return loss


@njit(cache=True, nogil=True, error_model="numpy")
def _add_router_z(logits: Array, weight: float, d_logits: Array) -> float:
    n_experts, n = logits.shape
    loss = 0.0
    for at in range(n):
        largest, total = logits[0, at], 0.0
        for k in range(1, n_experts):
            largest = max(largest, logits[k, at])
        for k in range(n_experts):
            total += np.exp(logits[k, at] - largest)
        partition = largest + np.log(total / n_experts)
        loss += partition * partition
        for k in range(n_experts):
            d_logits[k, at] += 2 * weight / n * partition * np.exp(logits[k, at] - largest) / total
    return loss / n
