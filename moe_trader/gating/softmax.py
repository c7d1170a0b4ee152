"""The softmax gate: every expert has a say at every bar."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numba import njit
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from moe_trader.dense.activation import TANH, activate, differentiate
from moe_trader.dense.product import multiply, transpose
from moe_trader.gating import Array, Gate, GateLoss, GatingNetwork, Routing
from moe_trader.gating.scored import ScoredNetwork
from moe_trader.option import option


@option
class Softmax(Gate):
    """g = (1 - floor) softmax(logits / temperature) + floor / K.

    For: the default; the exact policy gradient reaches every expert at every bar. Jacobs, Jordan, Nowlan and Hinton,
    "Adaptive mixtures of local experts" (1991). Under PPO: legal, it has no state.

    :param hidden_sizes: widths of the hidden layers; empty: a linear gate
    :param temperature: above 1 softer, below 1 sharper
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    hidden_sizes: list[PositiveInt]
    temperature: PositiveFloat
    floor: Annotated[float, Field(ge=0, lt=1)]
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a fresh network whose weights are all 1 / K: its last layer starts at zero."""
        return SoftmaxNetwork(n_features, n_experts, self.hidden_sizes, self.temperature, self.floor)


class SoftmaxNetwork(ScoredNetwork):
    """A tanh MLP followed by :class:`Softmax`'s formula."""

    temperature: float | Tensor

    def __init__(
        self, n_features: int, n_experts: int, hidden_sizes: list[int], temperature: float | Tensor, floor: float
    ) -> None:
        super().__init__(n_features, n_experts, hidden_sizes, floor)
        if isinstance(temperature, Tensor):
            self.register_buffer("temperature", temperature)
        else:
            self.temperature = temperature

    def routed(self, logits: Tensor) -> Tensor:
        """Return softmax(logits / temperature)."""
        return torch.softmax(logits / self.temperature, dim=-1)

    def route(self, features: Tensor) -> Routing:
        """Return logits, weights and the way back, all compiled."""
        linears = [module for module in self.net if isinstance(module, nn.Linear)]
        arrays = [(linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears]
        if features.ndim != 2 or features.shape[1] != linears[0].in_features:
            raise ValueError(f"gate: expected shape (n, {linears[0].in_features}), got {tuple(features.shape)}")
        rows, n, share = features.contiguous().numpy(), len(features), 1 - self.floor
        layers: list[Array] = [np.empty(rows.shape[::-1], np.float32)]
        transpose(rows, layers[0])
        for number, (weight, bias) in enumerate(arrays, start=1):
            layer = np.empty((len(weight), n), np.float32)
            multiply(weight, layers[-1], layer, False)
            if number < len(arrays):
                activate(TANH, layer, bias)
            else:
                layer += bias[:, None]
            layers.append(layer)
        logits, routed, temperature = layers[-1], np.empty_like(layers[-1]), float(self.temperature)
        _softmax(logits, temperature, routed)

        def send_back(d_logits: Array, d_weights: Array) -> None:
            d = np.empty_like(logits)
            _softmax_back(routed, share / temperature, d_weights, d_logits, d)
            d_bias = d.sum(1)
            for at in reversed(range(len(linears))):
                weight, below = arrays[at][0], rows
                if at:
                    below = np.empty(layers[at].shape[::-1], np.float32)
                    transpose(layers[at], below)
                d_weight = np.empty(weight.shape, np.float32)
                multiply(d, below, d_weight, False)
                linears[at].weight.grad, linears[at].bias.grad = torch.from_numpy(d_weight), torch.from_numpy(d_bias)
                if at:
                    d_below, d_bias = np.empty_like(layers[at]), np.empty(len(layers[at]), np.float32)
                    multiply(weight.T, d, d_below, False)
                    differentiate(TANH, d_below, layers[at], d_bias)
                    d = d_below

        return Routing(logits, share * routed + np.float32(self.floor / len(logits)), send_back)


@njit(cache=True, nogil=True, error_model="numpy")
def _softmax(logits: Array, temperature: float, routed: Array) -> None:
    n_experts, n = logits.shape
    for at in range(n):
        largest, total = logits[0, at], 0.0
        for k in range(1, n_experts):
            largest = max(largest, logits[k, at])
        for k in range(n_experts):
            routed[k, at] = np.exp((logits[k, at] - largest) / np.float32(temperature))
            total += routed[k, at]
        for k in range(n_experts):
            routed[k, at] /= total


@njit(cache=True, nogil=True, error_model="numpy")
def _softmax_back(routed: Array, factor: float, d_weights: Array, d_logits: Array, d: Array) -> None:
    """Write the gradient by the logits: ``d_logits``, and ``factor`` times what comes through the softmax."""
    n_experts, n = routed.shape
    for at in range(n):
        mean = 0.0
        for k in range(n_experts):
            mean += routed[k, at] * d_weights[k, at]
        for k in range(n_experts):
            d[k, at] = d_logits[k, at] + factor * routed[k, at] * (d_weights[k, at] - mean)
