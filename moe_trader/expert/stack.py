"""K actor-critics evaluated at once: what makes four experts cost little more than the arithmetic they need.

The weights of all experts lie in one vector, layer by layer; an expert's own parameters are views of it, so that it
stays a Stable-Baselines3 policy that can be read, loaded into and taken out. What is trained is the vector: one leaf,
one gradient, one step of the optimiser. The gradient is written out by hand: a chain of matrix products and
element-wise steps is faster than the graph that autograd would build of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from moe_trader.expert.activation import ACTIVATIONS
from moe_trader.expert.products import product, products


class Stack:
    """The weights of K experts of one shape: ``weights``, a vector of blocks.

    A block holds what is alike in all experts, one expert after the other: the weight matrices of a hidden layer, actor
    and critic side by side, its biases, or what belongs to one of the heads. So all first layers are one matrix, and
    all of a deeper layer one batch of them. Hidden layers keep the batch in their last dimension.

    :param experts: SB3 policies with an MLP for the actor and one for the critic, alike in shape; from here on their
        parameters are views of :attr:`weights`
    """

    def __init__(self, experts: Sequence[ActorCriticPolicy]) -> None:
        self._experts = list(experts)
        self._grouped = [_grouped(expert) for expert in self._experts]
        self._shapes = [(len(experts) * len(group), *group[0].shape) for group in self._grouped[0]]
        self.sizes = [sum(p.numel() for p in group) * len(experts) for group in self._grouped[0]]  # of every block
        tower = experts[0].mlp_extractor.policy_net
        self.n_layers = len(_linears(tower))  # hidden layers of a tower
        self.has_log_std = hasattr(experts[0], "log_std")
        self.activation = ACTIVATIONS[type(tower[1])]
        self.weights = nn.Parameter(torch.empty(0))
        self.gather()

    def gather(self) -> None:
        """Copy the experts' parameters into :attr:`weights`, and make them views of it, as after moving to a device."""
        with torch.no_grad():
            alike = [[p for group in groups for p in group] for groups in zip(*self._grouped, strict=True)]
            self.weights.data = torch.cat([torch.stack(block).flatten() for block in alike])
            self._blocks = self.blocks(self.weights.data)
            for parameters, block in zip(alike, self._blocks, strict=True):
                for parameter, view in zip(parameters, block, strict=True):
                    parameter.data = view

    def __deepcopy__(self, memo: dict[int, Any]) -> Stack:
        made = Stack(copy.deepcopy(self._experts, memo))
        memo[id(self.weights)] = made.weights
        return made

    def blocks(self, vector: Tensor) -> list[Tensor]:
        """Return the blocks of :attr:`weights` or of its gradient, shapes ``(K x alike in an expert, ...)``."""
        return [part.view(shape) for part, shape in zip(vector.split_with_sizes(self.sizes), self._shapes, strict=True)]

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each expert's gradients under the names of its own parameters, ``0.action_net.weight``."""
        assert self.weights.grad is not None
        blocks = self.blocks(self.weights.grad)
        for k, (expert, groups) in enumerate(zip(self._experts, self._grouped, strict=True)):
            names = {id(parameter): name for name, parameter in expert.named_parameters()}
            for group, block in zip(groups, blocks, strict=True):
                for parameter, view in zip(group, block[k * len(group) :], strict=False):
                    yield f"{k}.{names[id(parameter)]}", view

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return action scores ``(batch, K, n)``, values ``(batch, K)`` and log_std ``(K, n)`` if experts have one.

        In memory the batch runs fastest: what follows then works on long stretches instead of on K x n numbers.
        """
        evaluated: tuple[Tensor, Tensor, Tensor | None] = Evaluation.apply(self.weights, self, observations)
        return evaluated

    def actor(self) -> Callable[[Tensor], Tensor]:
        """Return a function from observations to action scores, what calling gives to the last bit, but no gradient.

        No critic is run beyond the first layer, and the weights are looked up once, here, for whoever asks about one
        bar after the other.
        """
        blocks, at = self._blocks, 2 * self.n_layers
        first, first_bias, shape = blocks[0].flatten(0, 1), blocks[1].flatten(), blocks[1].shape
        deeper = [(blocks[layer][0::2], blocks[layer + 1][0::2].flatten()) for layer in range(2, at, 2)]
        head, head_bias = blocks[at], blocks[at + 1].unsqueeze(2)

        def scores(observations: Tensor) -> Tensor:
            layer = product(first, observations)
            self.activation.forward(layer, first_bias)
            layer = layer.view(*shape, -1)[0::2]  # the actors
            for weight, bias in deeper:
                layer = products(weight, layer.transpose(1, 2))
                self.activation.forward(layer.flatten(0, 1), bias)
            return torch.baddbmm(head_bias, head, layer).permute(2, 0, 1)

        return scores

    @property
    def log_std(self) -> Tensor | None:
        """Log standard deviations of the experts' Gaussians, ``(K, n)``, where they have any, without gradient."""
        return self._blocks[-1] if self.has_log_std else None

    def hidden(self, observations: Tensor) -> list[Tensor]:
        """Return the hidden layers, each ``(2 K, width, batch)``, every expert's actor before its critic."""
        blocks = self._blocks
        layers = [product(blocks[0].flatten(0, 1), observations).view(*blocks[1].shape, -1)]
        for at in range(0, 2 * self.n_layers, 2):
            if at:
                layers.append(products(blocks[at], layers[-1].transpose(1, 2)))
            self.activation.forward(layers[-1].flatten(0, 1), blocks[at + 1].flatten())
        return layers


def _linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.children() if isinstance(module, nn.Linear)]


def _grouped(expert: ActorCriticPolicy) -> list[list[nn.Parameter]]:
    """Return an expert's parameters block by block: those of a layer of both towers lie side by side."""
    towers = zip(
        *(_linears(net) for net in (expert.mlp_extractor.policy_net, expert.mlp_extractor.value_net)), strict=True
    )
    hidden = [
        list(pair) for actor, critic in towers for pair in ((actor.weight, critic.weight), (actor.bias, critic.bias))
    ]
    heads = [[parameter] for head in (expert.action_net, expert.value_net) for parameter in (head.weight, head.bias)]
    return [*hidden, *heads, *([[expert.log_std]] if hasattr(expert, "log_std") else [])]


class Evaluation(torch.autograd.Function):
    """Forward and backward through every tower of every expert."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, stack: Stack, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return scores, values and log_std, as :meth:`Stack.__call__` says."""
        observations = observations.contiguous()  # here and for the backward pass
        hidden = stack.hidden(observations)
        blocks, at = stack._blocks, 2 * stack.n_layers
        scores, values = (
            torch.baddbmm(blocks[at + 2 * number + 1].unsqueeze(2), blocks[at + 2 * number], hidden[-1][number::2])
            for number in range(2)
        )  # (K, n, batch)
        ctx.stack, ctx.hidden = stack, hidden
        ctx.save_for_backward(weights, observations)
        log_std = blocks[-1].clone() if stack.has_log_std else None
        return scores.permute(2, 0, 1), values.squeeze(1).T, log_std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor, d_values: Tensor, d_log_std: Tensor | None) -> tuple[Tensor, None, None]:
        """Return the gradient of the weights, written block by block."""
        stack: Stack = ctx.stack
        weights, observations = ctx.saved_tensors
        blocks, gradient = stack._blocks, torch.empty_like(weights)
        d_blocks = stack.blocks(gradient)
        d = torch.empty_like(ctx.hidden[-1])
        outputs = (d_scores.permute(1, 2, 0), d_values.T.unsqueeze(1))  # (K, n, batch)
        for number, d_output in enumerate(outputs):
            tower, at = ctx.hidden[-1][number::2], 2 * (stack.n_layers + number)
            torch.bmm(d_output, tower.transpose(1, 2), out=d_blocks[at])
            torch.sum(d_output, dim=2, out=d_blocks[at + 1])
            torch.bmm(blocks[at].transpose(1, 2), d_output, out=d[number::2])
        for layer in reversed(range(stack.n_layers)):
            stack.activation.backward(d, ctx.hidden[layer])
            torch.sum(d, dim=2, out=d_blocks[2 * layer + 1])
            if layer:
                products(d, ctx.hidden[layer - 1], out=d_blocks[2 * layer])
                d = products(blocks[2 * layer].transpose(1, 2), d.transpose(1, 2))
        d_blocks[0].flatten(0, 1).copy_(product(d.flatten(0, 1), observations.T))
        if d_log_std is not None:
            d_blocks[-1].copy_(d_log_std)
        return gradient, None, None
