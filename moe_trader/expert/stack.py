"""K actor-critics evaluated at once: what makes four experts cost little more than the arithmetic they need.

The weights of all experts lie in one vector, layer by layer; an expert's own parameters are views of it, so that it
stays a Stable-Baselines3 policy that can be read, loaded into and taken out. What is trained is the vector: one leaf,
one gradient, one step of the optimiser. In float32 on a CPU the towers and their gradient are compiled code; elsewhere
they are PyTorch's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from moe_trader.dense.activation import RELU, TANH
from moe_trader.dense.product import room_for
from moe_trader.expert import towers

KINDS: dict[type[nn.Module], int] = {nn.Tanh: TANH, nn.ReLU: RELU}


class Stack:
    """The weights of K experts of one shape: ``weights``, a vector of blocks.

    A block holds what is alike in all experts, one expert after the other: the weight matrices of a hidden layer, actor
    and critic side by side, its biases, or what belongs to one of the heads. So all first layers are one matrix, and
    all of a deeper layer one batch of them. Hidden layers keep the batch in their last dimension. The blocks::

        every hidden layer    weights (2 K, width, width below), biases (2 K, width): actor 1, critic 1, actor 2, ...
        the actors' heads     weights (K, n, width), biases (K, n)
        the critics' heads    weights (K, 1, width), biases (K, 1)
        for Box actions       log_std (K, n)

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
        first, *following = _linears(tower)
        self._widths = np.array([first.in_features, first.out_features, *(layer.out_features for layer in following)])
        self.has_log_std = hasattr(experts[0], "log_std")
        self._kind = KINDS[type(tower[1])]
        self.weights = nn.Parameter(torch.empty(0, device=first.weight.device))
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
        self._array: Any = self.weights.data.numpy() if self.is_compiled else None

    def followed(self) -> nn.Parameter:
        """Return :attr:`weights`, gathered anew where an expert has left them, as SB3's ``load_from_vector`` does."""
        if self._grouped[0][0][0].data_ptr() != self._blocks[0].data_ptr():
            self.gather()
        return self.weights

    @property
    def is_compiled(self) -> bool:
        """Whether its arithmetic is compiled code's: in float32 on a CPU; it is PyTorch's elsewhere."""
        return self.weights.device.type == "cpu" and self.weights.dtype == torch.float32

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made of the rest."""
        return {name: value for name, value in vars(self).items() if name not in ("_blocks", "_array")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.gather()

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

        :param observations: shape ``(batch, n_inputs)``
        :raises ValueError: for observations of another shape
        """
        if self.is_compiled:
            evaluated: tuple[Tensor, Tensor, Tensor | None] = Evaluation.apply(self.followed(), self, observations)
            return evaluated
        return self._by_pytorch(observations)

    def run(self, observations: Tensor) -> Run:
        """Run every tower on observations of shape ``(batch, n_inputs)`` by compiled code; autograd records nothing.

        :raises ValueError: for another shape
        """
        self.followed()
        observations, n = self._checked(observations), len(observations)
        hidden = torch.empty(2 * len(self._experts) * int(self._widths[1:].sum()), room_for(n))
        scores, values = (torch.empty(*self._shapes[2 * self.n_layers + 2 * head][:2], n) for head in range(2))
        arrays = (one.numpy() for one in (observations, hidden, scores, values))
        towers.run(self._kind, self._array, self._widths, *arrays)
        return Run(observations, hidden, scores, values)

    def gradient(self, run: Run, d_scores: Tensor, d_values: Tensor, d_log_std: Tensor | None) -> Tensor:
        """Return the gradient of :attr:`weights` from those of a run's scores, values and log_std."""
        assert d_scores.shape == run.scores.shape, (d_scores.shape, run.scores.shape)
        assert d_values.shape == run.values.shape, (d_values.shape, run.values.shape)
        gradient = torch.empty_like(self.weights, requires_grad=False)
        given = (run.observations, run.hidden, d_scores.contiguous(), d_values.contiguous(), gradient)
        towers.run_back(self._kind, self._array, self._widths, *(one.numpy() for one in given))
        if d_log_std is not None:
            self.blocks(gradient)[-1].copy_(d_log_std)
        return gradient

    def actor(self) -> Callable[[Tensor], Tensor]:
        """Return a function from observations to action scores, what calling gives to the last bit, but no gradient.

        No critic is run.
        """
        if not self.is_compiled:
            return torch.no_grad()(lambda observations: self(observations)[0])
        n_units, shape = 2 * len(self._experts) * int(self._widths[1:].sum()), self._shapes[2 * self.n_layers][:2]

        def scores(observations: Tensor) -> Tensor:
            n = len(observations)
            hidden, made = torch.empty(n_units, room_for(n)), torch.empty(*shape, n)
            arrays = (one.numpy() for one in (self._checked(observations), hidden, made))
            towers.act(self._kind, self._array, self._widths, *arrays)
            return made.permute(2, 0, 1)

        return scores

    @property
    def log_std(self) -> Tensor | None:
        """Log standard deviations of the experts' Gaussians, ``(K, n)``, where they have any, without gradient."""
        return self._blocks[-1] if self.has_log_std else None

    def _checked(self, observations: Tensor) -> Tensor:
        """Return them as compiled code takes them, which checks nothing itself."""
        if observations.ndim != 2 or observations.shape[1] != self._widths[0]:
            raise ValueError(f"experts: expected shape (n, {self._widths[0]}), got {tuple(observations.shape)}")
        return observations.to(self.weights.dtype).contiguous()

    def _by_pytorch(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate in PyTorch's steps, on any device."""
        weights = self.followed()
        blocks, activated = self.blocks(weights), torch.tanh if self._kind == TANH else torch.relu
        first = torch.addmm(blocks[1].view(-1, 1), blocks[0].flatten(0, 1), observations.to(weights.dtype).T)
        below = activated(first).unflatten(0, blocks[1].shape)
        for at in range(2, 2 * self.n_layers, 2):
            below = activated(torch.baddbmm(blocks[at + 1].unsqueeze(2), blocks[at], below))
        (actors, critics), at = below.unflatten(0, (-1, 2)).unbind(1), 2 * self.n_layers
        scores = torch.baddbmm(blocks[at + 1].unsqueeze(2), blocks[at], actors)  # (K, n, batch)
        values = torch.baddbmm(blocks[at + 3].unsqueeze(2), blocks[at + 2], critics)  # (K, 1, batch)
        return scores.permute(2, 0, 1), values.squeeze(1).T, blocks[-1] if self.has_log_std else None


@dataclass(frozen=True)
class Run:
    """What every tower made of a batch: the batch runs fastest in memory.

    :param observations: shape ``(batch, n_inputs)``
    :param hidden: every unit's output, layer by layer: a row for each unit, and a column for each state
    :param scores: of the actions, shape ``(K, n, batch)``
    :param values: shape ``(K, 1, batch)``
    """

    observations: Tensor
    hidden: Tensor
    scores: Tensor
    values: Tensor


def _linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.children() if isinstance(module, nn.Linear)]


def _grouped(expert: ActorCriticPolicy) -> list[list[nn.Parameter]]:
    """Return an expert's parameters block by block: those of a layer of both towers lie side by side."""
    towers_ = zip(
        *(_linears(net) for net in (expert.mlp_extractor.policy_net, expert.mlp_extractor.value_net)), strict=True
    )
    hidden = [
        list(pair) for actor, critic in towers_ for pair in ((actor.weight, critic.weight), (actor.bias, critic.bias))
    ]
    heads = [[parameter] for head in (expert.action_net, expert.value_net) for parameter in (head.weight, head.bias)]
    return [*hidden, *heads, *([[expert.log_std]] if hasattr(expert, "log_std") else [])]


class Evaluation(torch.autograd.Function):
    """A run of the stack, for autograd."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, stack: Stack, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return scores, values and log_std, as :meth:`Stack.__call__` says."""
        ctx.stack, ctx.run = stack, (run := stack.run(observations))
        ctx.save_for_backward(weights)  # notices PyTorch's changes of the vector, not those of an expert's view
        log_std = None if stack.log_std is None else stack.log_std.clone()
        return run.scores.permute(2, 0, 1), run.values.squeeze(1).T, log_std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor, d_values: Tensor, d_log_std: Tensor | None) -> tuple[Tensor, None, None]:
        """Return the gradient of the weights."""
        assert ctx.saved_tensors
        gradient = ctx.stack.gradient(ctx.run, d_scores.permute(1, 2, 0), d_values.T.unsqueeze(1), d_log_std)
        return gradient, None, None
