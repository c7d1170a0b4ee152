"""Gating networks, compiled: forward, and the gradient back to their parameters without autograd.

The kernels stand for exactly the classes of :data:`ROUTES`; any other network, a subclass too, is run by autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moe_trader.compiled import njit
from moe_trader.fast.activation import TANH, activate, activate_back
from moe_trader.fast.elementary import log32
from moe_trader.fast.product import multiply, padded_columns, transpose
from moe_trader.fast.softmax import softmax, softmax_back
from moe_trader.gating import GatingNetwork
from moe_trader.gating.annealed import AnnealedNetwork
from moe_trader.gating.ensemble import EnsembleNetwork
from moe_trader.gating.entmax import EntmaxNetwork
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.gating.softmax import SoftmaxNetwork
from moe_trader.gating.sticky import LEAST, StickyNetwork, gradient_by_rho, staying
from moe_trader.gating.top_k import TopKNetwork

Array = np.ndarray[Any, Any]
Back = Callable[[Array], Array]
"""From the gradient of the weights to that of the logits, both ``(n_experts, batch)``."""


@dataclass(frozen=True)
class Routing:
    """What a gate makes of a minibatch: arrays of float32 in which the batch runs fastest.

    :param logits: shape ``(n_experts, batch)``
    :param weights: shape ``(n_experts, batch)``
    :param send_back: takes the gradients of both, and leaves those of the gate's parameters in their ``grad``
    """

    logits: Array
    weights: Array
    send_back: Callable[[Array, Array], None]


def route(gate: GatingNetwork, features: Tensor) -> Routing:
    """Return logits, weights and the way back of the gradient; there is none where autograd records nothing.

    :param features: as for :meth:`GatingNetwork.logits`, of float32 on a CPU
    :raises ValueError: for another width
    """
    if type(gate) is EnsembleNetwork:
        return _route_ensemble(gate, features)
    compiled = ROUTES.get(type(gate))
    if compiled is None or not _is_tanh_mlp(gate):
        return _route_by_autograd(gate, features)
    return compiled(gate, features)


def _is_tanh_mlp(gate: GatingNetwork) -> bool:
    """Whether the layers are still those that the class made."""
    layers: Any = gate.net
    return all(isinstance(layer, nn.Tanh if place % 2 else nn.Linear) for place, layer in enumerate(layers))


def _route_by_autograd(gate: GatingNetwork, features: Tensor) -> Routing:
    logits = gate.logits(features)
    weights = gate.weights(logits)

    def send_back(d_logits: Array, d_weights: Array) -> None:
        ends = [(end, d) for end, d in ((logits, d_logits), (weights, d_weights)) if end.requires_grad]
        if ends:
            torch.autograd.backward([end for end, _ in ends], [torch.from_numpy(d.T) for _, d in ends])

    arrays = [np.ascontiguousarray(one.detach().numpy().T) for one in (logits, weights)]
    return Routing(arrays[0], arrays[1], send_back)


def _route_ensemble(gate: EnsembleNetwork, features: Tensor) -> Routing:
    parts = [route(member, features) for member in gate.networks]
    n = len(parts)

    def send_back(d_logits: Array, d_weights: Array) -> None:
        for part, *gradients in zip(parts, np.split(d_logits, n), np.split(d_weights / n, n), strict=True):
            part.send_back(*gradients)

    logits, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "weights"))
    return Routing(logits, weights / np.float32(n), send_back)


def _route_softmax(gate: SoftmaxNetwork, features: Tensor) -> Routing:
    logits, send_back = score(gate, features)
    routed, temperature = np.empty_like(logits), float(gate.temperature)
    softmax(logits, temperature, routed)
    weights = (1 - gate.floor) * routed + np.float32(gate.floor / len(logits))

    def back(d_weights: Array) -> Array:
        d_logits = np.empty_like(logits)
        softmax_back(routed, (1 - gate.floor) / temperature, d_weights, d_logits)
        return d_logits

    return Routing(logits, weights, lambda d_logits, d_weights: send_back(d_logits + back(d_weights)))


def _route_scored(gate: ScoredNetwork, features: Tensor) -> Routing:
    """Run the MLP by compiled code, and what makes weights of its scores by autograd."""
    logits, send_back = score(gate, features)
    leaf = torch.from_numpy(logits).T
    weights = gate.weights(leaf.requires_grad_() if torch.is_grad_enabled() else leaf)

    def back(d_weights: Array) -> Array:
        (gradient,) = torch.autograd.grad(weights, leaf, torch.from_numpy(d_weights.T))
        return gradient.numpy().T

    array = np.ascontiguousarray(weights.detach().numpy().T)
    return Routing(logits, array, lambda d_logits, d_weights: send_back(d_logits + back(d_weights)))


def _route_sticky(gate: StickyNetwork, features: Tensor) -> Routing:
    n_bars = features.shape[-1] // gate.n_features
    scores, send_back = score(gate, features, n_bars)
    n, n_experts = len(features), len(scores)
    rho = torch.sigmoid(gate.leaving.detach())
    a, b = staying(float(rho.clamp(LEAST, 1 - LEAST)), n_experts)
    alphas = np.empty((n_bars + 1, n_experts, n), np.float32)
    logits = np.empty((n_experts, n), np.float32)
    _filter(scores, a, b, alphas, logits)

    def back(d_logits: Array, d_weights: Array) -> None:
        d_scores, d_z = np.empty_like(scores), np.empty_like(logits)
        softmax_back(alphas[-1], 1 - gate.floor, d_weights, d_z)
        d_a, d_b = _filter_back(alphas, a, b, d_z + d_logits, d_scores)
        send_back(d_scores)
        is_inside = LEAST <= rho <= 1 - LEAST
        if gate.leaving.requires_grad:
            gate.leaving.grad = is_inside * gradient_by_rho(d_a, d_b, n_experts) * rho * (1 - rho)

    weights = (1 - gate.floor) * alphas[-1] + np.float32(gate.floor / n_experts)
    return Routing(logits, weights, back)


ROUTES: dict[type[GatingNetwork], Callable[[Any, Tensor], Routing]] = {
    AnnealedNetwork: _route_softmax,
    EntmaxNetwork: _route_scored,
    SoftmaxNetwork: _route_softmax,
    StickyNetwork: _route_sticky,
    TopKNetwork: _route_scored,
}
"""Class of a network -> how compiled code runs it."""


def score(gate: ScoredNetwork, features: Tensor, n_bars: int = 1) -> tuple[Array, Callable[[Array], None]]:
    """Return the MLP's scores of every bar, and a function that takes their gradient to the parameters' ``grad``.

    :param features: shape ``(batch, n_bars * n_features)``
    :return: scores of shape ``(n_experts, n_bars * batch)``, bar by bar
    :raises ValueError: for another shape
    """
    linears = [module for module in gate.net if isinstance(module, nn.Linear)]
    width = linears[0].in_features
    if features.ndim != 2 or features.shape[1] != n_bars * width:
        raise ValueError(f"gate: expected shape (n, {n_bars * width}), got {tuple(features.shape)}")
    rows, n = features.detach().float().contiguous().numpy(), len(features)
    bars = [(rows[:, bar * width : (bar + 1) * width], slice(bar * n, (bar + 1) * n)) for bar in range(n_bars)]
    arrays = [(linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears]
    used, columns = slice(n_bars * n), padded_columns(n_bars * n)
    layers: list[Array] = [np.zeros((width, columns), np.float32)]
    for seen, place in bars:
        transpose(seen, layers[0][:, place])
    for number, (weight, bias) in enumerate(arrays, start=1):
        layer = np.empty((len(weight), columns), np.float32)
        multiply(weight, layers[-1], layer, False)
        if number < len(arrays):
            activate(TANH, layer, bias)
        else:
            layer += bias[:, None]
        layers.append(layer)

    def send_back(d_scores: Array) -> None:
        d = np.zeros((len(d_scores), columns), np.float32)
        d[:, used] = d_scores
        d_bias = d_scores.sum(1)
        for at in reversed(range(len(linears))):
            weight = arrays[at][0]
            d_weight = np.empty(weight.shape, np.float32)
            if at:
                below = np.empty(layers[at].shape[::-1], np.float32)
                transpose(layers[at], below)
                multiply(d, below, d_weight, False)
            else:
                for seen, place in bars:
                    multiply(d[:, place], seen, d_weight, place.start > 0)
            for parameter, d_parameter in ((linears[at].weight, d_weight), (linears[at].bias, d_bias)):
                if parameter.requires_grad:
                    parameter.grad = torch.from_numpy(d_parameter)
            if at:
                d_below, d_bias = np.empty_like(layers[at]), np.empty(len(layers[at]), np.float32)
                multiply(weight.T, d, d_below, False)
                activate_back(TANH, d_below, layers[at], d_bias)
                d = d_below

    return np.ascontiguousarray(layers[-1][:, used]), send_back


@njit(cache=True, nogil=True, error_model="numpy")
def _filter(scores: Array, a: float, b: float, alphas: Array, logits: Array) -> None:
    """Write alpha_0 to alpha_T, shape ``(T + 1, K, batch)``, and z_T + log K, from scores of shape ``(K, T batch)``."""
    n_bars, n_experts, n = alphas.shape[0] - 1, alphas.shape[1], alphas.shape[2]
    a_, b_, log_k = np.float32(a), np.float32(b), np.float32(np.log(n_experts))
    alphas[0] = np.float32(1 / n_experts)
    for t in range(n_bars):
        for k in range(n_experts):
            for at in range(n):
                logits[k, at] = log32(alphas[t, k, at] * a_ + b_) + scores[k, t * n + at]
        softmax(logits, 1.0, alphas[t + 1])
    for k in range(n_experts):
        for at in range(n):
            logits[k, at] += log_k


@njit(cache=True, nogil=True, error_model="numpy")
def _filter_back(alphas: Array, a: float, b: float, d_z: Array, d_scores: Array) -> tuple[float, float]:
    """Write the gradient of the scores from that of z_T, which is overwritten; return those of a and b."""
    n_bars, n_experts, n = alphas.shape[0] - 1, alphas.shape[1], alphas.shape[2]
    a_, b_ = np.float32(a), np.float32(b)
    d_a, d_b, d_alpha = 0.0, 0.0, np.empty((n_experts, n), np.float32)
    for t in range(n_bars - 1, -1, -1):
        for k in range(n_experts):
            by_a, by_b = 0.0, 0.0
            for at in range(n):
                d_scores[k, t * n + at] = d_z[k, at]
                d_p = d_z[k, at] / (alphas[t, k, at] * a_ + b_)
                d_alpha[k, at] = d_p * a_
                by_a += d_p * alphas[t, k, at]
                by_b += d_p
            d_a, d_b = d_a + by_a, d_b + by_b
        softmax_back(alphas[t], 1.0, d_alpha, d_z)
    return d_a, d_b
