"""What gates with a network of their own share: an MLP that scores the experts, and a floor under each weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from moe_trader.dense.activation import TANH, activate, activate_back
from moe_trader.dense.product import multiply, room_for, transpose
from moe_trader.gating import Array, GatingNetwork, Routing, keeps_up


class ScoredNetwork(GatingNetwork):
    """g = (1 - floor) routed(logits) + floor / K, logits from a tanh MLP.

    :param hidden_sizes: widths of the hidden layers; empty: linear
    :param floor: share of the weight that is spread evenly, so that no expert starves
    """

    def __init__(self, n_features: int, n_experts: int, hidden_sizes: Sequence[int], floor: float) -> None:
        super().__init__()
        sizes = [n_features, *hidden_sizes]
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.Tanh()]
        last = nn.Linear(sizes[-1], n_experts)
        nn.init.zeros_(last.weight)  # every expert starts with the same weight
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)
        self.floor = floor

    def logits(self, features: Tensor) -> Tensor:
        """Return the experts' scores, shape ``(batch, n_experts)``."""
        scores: Tensor = self.net(features)
        return scores

    def weights(self, logits: Tensor) -> Tensor:
        """Return gate weights, each at least ``floor / n_experts``."""
        return torch.add(self.floor / logits.shape[-1], self.routed(logits), alpha=1 - self.floor)

    @abstractmethod
    def routed(self, logits: Tensor) -> Tensor:
        """Return weights before the floor, shape ``(batch, n_experts)``, rows summing to 1."""

    def route(self, features: Tensor) -> Routing:
        """Return logits, weights and the way back: compiled through the MLP, and as :meth:`weigh` does behind it.

        A network that scores or weighs otherwise than the class that was compiled is left to autograd.
        """
        alike = all(isinstance(one, nn.Tanh if place % 2 else nn.Linear) for place, one in enumerate(self.net))
        if not (alike and keeps_up(type(self), "route", "logits", "forward")):
            return super().route(features)
        logits, send_back = self.score(features)
        is_own = keeps_up(type(self), "weigh", "routed", "weights")
        weights, back = self.weigh(logits) if is_own else ScoredNetwork.weigh(self, logits)
        return Routing(logits, weights, lambda d_logits, d_weights: send_back(d_logits + back(d_weights)))

    def weigh(self, logits: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return the weights, and a function from their gradient to that of the logits, all ``(n_experts, batch)``.

        By autograd, unless overridden by compiled code.
        """
        leaf = torch.from_numpy(logits).T
        weights = self.weights(leaf.requires_grad_() if torch.is_grad_enabled() else leaf)

        def back(d_weights: Array) -> Array:
            (gradient,) = torch.autograd.grad(weights, leaf, torch.from_numpy(d_weights.T))
            return gradient.numpy().T

        return np.ascontiguousarray(weights.detach().numpy().T), back

    def score(self, features: Tensor, n_bars: int = 1) -> tuple[Array, Callable[[Array], None]]:
        """Return the MLP's scores of every bar, and a function that takes their gradient to the parameters' ``grad``.

        :param features: shape ``(batch, n_bars * n_features)``
        :return: scores of shape ``(n_experts, n_bars * batch)``, bar by bar
        :raises ValueError: for another shape
        """
        linears = [module for module in self.net if isinstance(module, nn.Linear)]
        width = linears[0].in_features
        if features.ndim != 2 or features.shape[1] != n_bars * width:
            raise ValueError(f"gate: expected shape (n, {n_bars * width}), got {tuple(features.shape)}")
        rows, n = features.detach().float().contiguous().numpy(), len(features)
        bars = [(rows[:, bar * width : (bar + 1) * width], slice(bar * n, (bar + 1) * n)) for bar in range(n_bars)]
        arrays = [(linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears]
        used, room = slice(n_bars * n), room_for(n_bars * n)
        layers: list[Array] = [np.zeros((width, room), np.float32)]
        for seen, place in bars:
            transpose(seen, layers[0][:, place])
        for number, (weight, bias) in enumerate(arrays, start=1):
            layer = np.empty((len(weight), room), np.float32)
            multiply(weight, layers[-1], layer, False)
            if number < len(arrays):
                activate(TANH, layer, bias)
            else:
                layer += bias[:, None]
            layers.append(layer)

        def send_back(d_scores: Array) -> None:
            d = np.zeros((len(d_scores), room), np.float32)
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
