"""K actor-critics evaluated at once: what makes four experts cost little more than the arithmetic they need.

The weights of all experts lie in one matrix with a row for each expert; an expert's own parameters are views of its
row, so that it stays a Stable-Baselines3 policy that can be read, loaded into and taken out. What is trained is the
matrix: one leaf, one gradient, one step of the optimiser. The gradient is written out by hand: a chain of matrix
products and element-wise steps is faster than the graph that autograd would build of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Stack:
    """The weights of K experts of one shape, ``rows`` of shape ``(K, n_weights)``.

    :param experts: SB3 policies with an MLP for the actor and one for the critic, alike in shape; from here on their
        parameters are views of :attr:`rows`
    """

    def __init__(self, experts: Sequence[ActorCriticPolicy]) -> None:
        self._experts = list(experts)
        self._parameters = [_parameters(expert) for expert in self._experts]
        self._shapes = [parameter.shape for parameter in self._parameters[0]]
        self._offsets = [0]
        for shape in self._shapes:
            self._offsets.append(self._offsets[-1] + shape.numel())
        tower = experts[0].mlp_extractor.policy_net
        self.n_layers = len(_linears(tower))  # hidden layers of a tower
        self.has_log_std = hasattr(experts[0], "log_std")
        self.activation = _ACTIVATIONS[type(tower[1])]
        self.rows = nn.Parameter(torch.empty(0))
        self.gather()

    def gather(self) -> None:
        """Copy the experts' parameters into :attr:`rows`, and make them views of it, as after moving to a device."""
        with torch.no_grad():
            self.rows.data = torch.stack([torch.cat([p.flatten() for p in own]) for own in self._parameters])
            for row, own in zip(self.rows.data, self._parameters, strict=True):
                for parameter, view in zip(own, self._split(row), strict=True):
                    parameter.data = view

    def __deepcopy__(self, memo: dict[int, Any]) -> Stack:
        made = Stack(copy.deepcopy(self._experts, memo))
        memo[id(self.rows)] = made.rows
        return made

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each expert's gradients under the names of its own parameters, ``0.action_net.weight``."""
        assert self.rows.grad is not None
        for k, (expert, row, own) in enumerate(zip(self._experts, self.rows.grad, self._parameters, strict=True)):
            names = {id(parameter): name for name, parameter in expert.named_parameters()}
            for parameter, view in zip(own, self._split(row), strict=True):
                yield f"{k}.{names[id(parameter)]}", view

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return action scores ``(batch, K, n)``, values ``(batch, K)`` and log_std ``(K, n)`` if experts have one.

        In memory the batch runs fastest: what follows then works on long stretches instead of on K x n numbers.
        """
        evaluated: tuple[Tensor, Tensor, Tensor | None] = _Evaluate.apply(self.rows, self, observations)
        return evaluated

    def actor(self) -> Callable[[Tensor], Tensor]:
        """Return a function from observations to action scores, what calling gives to the last bit, but no gradient.

        No critic is run, and the weights are looked up once, here, for whoever asks about one bar after the other.
        """
        rows, activate = self.rows.detach(), self.activation.forward
        first, first_bias = self.block(rows, 0, 2).mT, self.block(rows, 2, 2).unsqueeze(1)
        layers = [self.deeper(rows, layer, 0) for layer in range(1, self.n_layers + 1)]
        hidden_layers = [(bias.unsqueeze(1), weight.mT) for weight, bias in layers[:-1]]
        head, head_bias = layers[-1][0], layers[-1][1].unsqueeze(2)
        width = first.shape[-1] // 2

        def scores(observations: Tensor) -> Tensor:
            inputs = observations.expand(len(rows), *observations.shape)
            hidden = activate(torch.baddbmm(first_bias, inputs, first))[..., :width]  # halves would round otherwise
            for bias, weight in hidden_layers:
                hidden = activate(torch.baddbmm(bias, hidden, weight))
            return torch.baddbmm(head_bias, head, hidden.mT).permute(2, 0, 1)

        return scores

    @property
    def log_std(self) -> Tensor | None:
        """Log standard deviations of the experts' Gaussians, ``(K, n)``, where they have any, without gradient."""
        return self.rows.detach()[:, self._offsets[-2] :] if self.has_log_std else None

    def block(self, rows: Tensor, first: int, n: int = 1) -> Tensor:
        """Return ``n`` neighbouring parameters of every row as one, joined along their first axis."""
        height, *inner = self._shapes[first]
        return rows.as_strided((len(rows), n * height, *inner), (rows.stride(0), *inner, 1), self._offsets[first])

    def _split(self, row: Tensor) -> list[Tensor]:
        return [
            row[start:stop].view(shape)
            for (start, stop), shape in zip(pairwise(self._offsets), self._shapes, strict=True)
        ]

    def forward(self, rows: Tensor, observations: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """Return the first hidden layers joined, and each tower's hidden layers, all ``(K, batch, width)``."""
        activate = self.activation.forward
        weight, bias = self.block(rows, 0, 2), self.block(rows, 2, 2)
        inputs = observations.expand(len(rows), *observations.shape)
        joined = activate(torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2)))
        width = joined.shape[-1] // 2
        towers = [[joined[..., :width]], [joined[..., width:]]]
        for number, tower in enumerate(towers):
            for layer in range(1, self.n_layers):
                weight, bias = self.deeper(rows, layer, number)
                tower.append(activate(torch.baddbmm(bias.unsqueeze(1), tower[-1], weight.transpose(1, 2))))
        return joined, towers

    def deeper(self, rows: Tensor, layer: int, tower: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a hidden layer beyond the first, or of a tower's head (``layer == n_layers``)."""
        at = 4 * layer + 2 * tower
        return self.block(rows, at), self.block(rows, at + 1)


def _linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.children() if isinstance(module, nn.Linear)]


def _parameters(expert: ActorCriticPolicy) -> list[nn.Parameter]:
    """Return an expert's parameters in the order of its row: the first layers of both towers lie side by side."""
    actor, critic = (_linears(net) for net in (expert.mlp_extractor.policy_net, expert.mlp_extractor.value_net))
    first = [actor[0].weight, critic[0].weight, actor[0].bias, critic[0].bias]
    towers = zip([*actor[1:], expert.action_net], [*critic[1:], expert.value_net], strict=True)
    rest = [parameter for layers in towers for layer in layers for parameter in (layer.weight, layer.bias)]
    return [*first, *rest, *([expert.log_std] if hasattr(expert, "log_std") else [])]  # type: ignore[list-item]


class _Activation:
    """An activation in place, and the gradient of its input from that of its output and the output."""

    def __init__(self, forward: Callable[[Tensor], Tensor], backward: Callable[..., Tensor]) -> None:
        self.forward, self.backward = forward, backward


def _tanh(x: Tensor) -> Tensor:
    """Return tanh in place as 2 sigmoid(2x) - 1: on a CPU PyTorch computes it at a quarter of tanh's price."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0) if x.device.type == "cpu" else x.tanh_()


_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.Tanh: _Activation(_tanh, torch.ops.aten.tanh_backward.grad_input),
    nn.ReLU: _Activation(
        torch.relu_,
        lambda grad, output, grad_input: torch.ops.aten.threshold_backward.grad_input(
            grad, output, 0.0, grad_input=grad_input
        ),
    ),
}


class _Evaluate(torch.autograd.Function):
    """Forward and backward through every tower of every expert."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, stack: Stack, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        joined, towers = stack.forward(rows, observations)
        outputs = []
        for number, tower in enumerate(towers):
            weight, bias = stack.deeper(rows, stack.n_layers, number)
            outputs.append(torch.baddbmm(bias.unsqueeze(2), weight, tower[-1].transpose(1, 2)))  # (K, n, batch)
        ctx.stack, ctx.joined, ctx.towers = stack, joined, towers
        ctx.save_for_backward(rows, observations)
        scores, values = outputs[0].permute(2, 0, 1), outputs[1].squeeze(1).T
        return scores, values, rows[:, -scores.shape[-1] :].clone() if stack.has_log_std else None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor, d_values: Tensor, d_log_std: Tensor | None) -> tuple[Tensor, None, None]:
        stack: Stack = ctx.stack
        rows, observations = ctx.saved_tensors
        gradient = torch.empty_like(rows)
        d_joined = torch.empty_like(ctx.joined)
        width = d_joined.shape[-1] // 2
        d_towers = (d_joined[..., :width], d_joined[..., width:])
        for number, d_output in enumerate((d_scores, d_values.unsqueeze(-1))):
            tower, d = ctx.towers[number], d_output.transpose(0, 1)  # (K, batch, n)
            for layer in range(stack.n_layers, 0, -1):
                d_weight, d_bias = stack.deeper(gradient, layer, number)
                torch.bmm(d.transpose(1, 2), tower[layer - 1], out=d_weight)
                torch.sum(d, dim=1, out=d_bias)
                d_hidden = torch.bmm(d, stack.deeper(rows, layer, number)[0])
                into = d_towers[number] if layer == 1 else d_hidden
                d = stack.activation.backward(d_hidden, tower[layer - 1], grad_input=into)
        inputs = observations.expand(len(rows), *observations.shape)
        torch.bmm(d_joined.transpose(1, 2), inputs, out=stack.block(gradient, 0, 2))
        torch.sum(d_joined, dim=1, out=stack.block(gradient, 2, 2))
        if stack.has_log_std:
            assert d_log_std is not None
            gradient[:, -d_log_std.shape[-1] :] = d_log_std
        return gradient, None, None
