"""K actor-critics of one shape as one batch of matrices: four experts cost little more than their arithmetic.

The weights of all experts lie in one vector, layer by layer; an expert's own parameters are views of it, so that it
stays a Stable-Baselines3 policy. What is trained is the vector: one leaf, one gradient, one step of the optimiser.
Experts that require no gradient lie in it too; :meth:`StackedBank.frozen_parts` says where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from moe_trader.mixture.actor_critics import ActorCriticBank, ActorCriticOutputs, ModuleBank


class StackedBank(ActorCriticBank):
    """Experts of one shape whose weights are :attr:`weights`, a vector of blocks.

    A block holds the same part of every expert, one expert after the other: the weight matrices of a hidden layer,
    actor and critic side by side, its biases, or a part of one of the heads. So all first layers are one matrix, and
    all of a deeper layer one batch of them. Hidden layers keep the batch in their last dimension. The blocks::

        every hidden layer    weights (2 K, width, width below), biases (2 K, width): actor 1, critic 1, actor 2, ...
        the actors' heads     weights (K, n, width), biases (K, n)
        the critics' heads    weights (K, 1, width), biases (K, 1)
        for Box actions       log_std (K, n)

    :param experts: see :func:`can_stack`; from here on their parameters are views of :attr:`weights`
    """

    weights: nn.Parameter
    activation: nn.Module
    _places: list[tuple[nn.Parameter, int]]  # every parameter, and where its numbers are while it is a view
    views: list[Tensor]
    """The blocks of :attr:`weights`, which the experts' parameters are views of."""

    def __init__(self, experts: Sequence[ActorCriticPolicy]) -> None:
        super().__init__(experts)
        grouped = self._grouped()
        self.shapes = [(len(experts) * len(group), *group[0].shape) for group in grouped[0]]
        self.sizes = [sum(p.numel() for p in group) * len(experts) for group in grouped[0]]  # of every block
        tower = experts[0].mlp_extractor.policy_net
        first, *following = _linears(tower)
        self.widths = np.array([first.in_features, first.out_features, *(layer.out_features for layer in following)])
        self.n_units = 2 * len(experts) * int(self.widths[1:].sum())  # of all hidden layers
        vars(self)["activation"] = tower[1]  # not registered: it is the expert's own module
        self.has_log_std = hasattr(experts[0], "log_std")
        # Not registered: the same numbers are the experts' parameters, under their own names.
        vars(self)["weights"] = nn.Parameter(torch.empty(0, device=first.weight.device))
        self.gather()

    @property
    def n_layers(self) -> int:
        """Hidden layers of a tower."""
        return len(self.widths) - 1

    def gather(self) -> None:
        """Copy the experts' parameters into :attr:`weights` and make them views of it, as after moving to a device."""
        with torch.no_grad():
            blocks = [[p for group in groups for p in group] for groups in zip(*self._grouped(), strict=True)]
            gathered = torch.cat([torch.stack(block).flatten() for block in blocks])
            if torch._has_compatible_shallow_copy_type(self.weights, gathered):  # PyTorch's own rule for moving
                self.weights.data = gathered
            else:
                vars(self)["weights"] = nn.Parameter(gathered)
            self.views = self.blocks(self.weights.data)
            for parameters, views in zip(blocks, self.views, strict=True):
                for parameter, view in zip(parameters, views, strict=True):
                    parameter.data = view
            self._places = [(parameter, parameter.data_ptr()) for block in blocks for parameter in block]

    def current_weights(self) -> nn.Parameter:
        """Return :attr:`weights`, gathered again if an expert's parameters have left them (``load_from_vector``)."""
        if any(parameter.data_ptr() != place for parameter, place in self._places):
            self.gather()
        return self.weights

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # moving to a device gives every parameter a storage of its own
        self.gather()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("views", "_places")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.gather()

    def blocks(self, vector: Tensor) -> list[Tensor]:
        """Return the blocks of :attr:`weights` or of its gradient, each of :attr:`shapes`."""
        return [part.view(shape) for part, shape in zip(vector.split_with_sizes(self.sizes), self.shapes, strict=True)]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one group of one vector."""
        return [{"params": [self.weights], "owners": len(self), "blocks": self.sizes}]

    def frozen_parts(self) -> list[tuple[nn.Parameter, slice]]:
        """Return where the vector holds experts' parameters that require no gradient, neighbours joined."""
        weights = self.current_weights()
        parts: list[slice] = []
        start = 0
        for parameter, _ in self._places:
            stop = start + parameter.numel()
            if not parameter.requires_grad:
                is_next = bool(parts) and parts[-1].stop == start
                parts.append(slice(parts.pop().start if is_next else start, stop))
            start = stop
        return [(weights, part) for part in parts]

    def trained(self) -> list[nn.Parameter]:
        """Return the vector."""
        return [self.current_weights()]

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yield views of the vector's gradient."""
        assert self.weights.grad is not None
        blocks = self.blocks(self.weights.grad)
        for k, (expert, groups) in enumerate(zip(self, self._grouped(), strict=True)):
            names = {id(parameter): name for name, parameter in expert.named_parameters()}
            for group, block in zip(groups, blocks, strict=True):
                for parameter, view in zip(group, block[k * len(group) :], strict=False):
                    yield f"{k}.{names[id(parameter)]}", view

    def forward(self, observations: Tensor) -> ActorCriticOutputs:
        """Evaluate all towers in batched products."""
        weights = self.current_weights()
        blocks = self.blocks(weights)
        observations = self.checked(observations).to(weights.dtype)
        first = torch.addmm(blocks[1].view(-1, 1), blocks[0].flatten(0, 1), observations.T)
        below = self.activation(first).unflatten(0, blocks[1].shape)  # (2 K, width, batch)
        for at in range(2, 2 * self.n_layers, 2):
            below = self.activation(torch.baddbmm(blocks[at + 1].unsqueeze(2), blocks[at], below))
        actors, critics = below.unflatten(0, (-1, 2)).unbind(1)  # (K, width, batch) each
        head = 2 * self.n_layers
        scores = torch.baddbmm(blocks[head + 1].unsqueeze(2), blocks[head], actors)  # (K, n, batch)
        values = torch.baddbmm(blocks[head + 3].unsqueeze(2), blocks[head + 2], critics)  # (K, 1, batch)
        log_std = blocks[-1] if self.has_log_std else None
        return ActorCriticOutputs(scores.permute(2, 0, 1), values.squeeze(1).T, log_std)

    def _grouped(self) -> list[list[list[nn.Parameter]]]:
        """Return each expert's parameters block by block."""
        return [_blocks_of(expert) for expert in self.actor_critics]


def bank_of(experts: Sequence[ActorCriticPolicy]) -> ActorCriticBank:
    """Return the experts as a bank: stacked where they have the same shapes, one by one otherwise."""
    return StackedBank(experts) if can_stack(experts) else ModuleBank(experts)


def can_stack(experts: Sequence[ActorCriticPolicy]) -> bool:
    """Whether experts have MLPs of one shape for actor and critic, and one activation."""
    kinds = []
    for expert in experts:
        towers = [expert.mlp_extractor.policy_net, expert.mlp_extractor.value_net]
        layers = [[type(module) for module in tower] for tower in towers]
        is_mlp = layers[0] == layers[1] and layers[0][::2] == [nn.Linear] * (len(layers[0]) // 2)
        if not is_mlp:
            return False
        kinds.append((layers[0], [(name, p.shape) for name, p in expert.named_parameters()]))
        if not layers[0] or len(set(layers[0][1::2])) != 1:
            return False
        if any(actor.weight.shape != critic.weight.shape for actor, critic in zip(*map(_linears, towers), strict=True)):
            return False
    return all(kind == kinds[0] for kind in kinds)


def _linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.children() if isinstance(module, nn.Linear)]


def _blocks_of(expert: ActorCriticPolicy) -> list[list[nn.Parameter]]:
    """Return an expert's parameters block by block: those of a layer of both towers lie side by side."""
    towers = [_linears(net) for net in (expert.mlp_extractor.policy_net, expert.mlp_extractor.value_net)]
    hidden = []
    for actor, critic in zip(*towers, strict=True):
        hidden += [[actor.weight, critic.weight], [actor.bias, critic.bias]]
    heads = [[parameter] for head in (expert.action_net, expert.value_net) for parameter in (head.weight, head.bias)]
    log_std = [[expert.log_std]] if hasattr(expert, "log_std") else []
    return [*hidden, *heads, *log_std]
