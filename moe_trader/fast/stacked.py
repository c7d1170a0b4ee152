"""A stack of experts run by compiled code: forward, backward, and the actors without critics; float32 on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from moe_trader.fast import towers
from moe_trader.fast.activation import RELU, TANH
from moe_trader.fast.product import padded_columns
from moe_trader.mixture.actor_critics import ActorCriticOutputs
from moe_trader.mixture.bank import ExpertBank
from moe_trader.mixture.stacked import StackedBank

KINDS: dict[type[nn.Module], int] = {nn.Tanh: TANH, nn.ReLU: RELU}


def can_run(bank: ExpertBank) -> bool:
    """Whether compiled code can run the experts: stacked, tanh or ReLU, in float32 on a CPU."""
    if type(bank) is not StackedBank or type(bank.activation) not in KINDS:
        return False
    return bank.weights.device.type == "cpu" and bank.weights.dtype == torch.float32


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


def run(bank: StackedBank, observations: Tensor) -> Run:
    """Run every tower on observations of shape ``(batch, n_inputs)``; autograd records nothing.

    :raises ValueError: for another shape
    """
    observations, n = _checked(bank, observations), len(observations)
    hidden = torch.empty(bank.n_units, padded_columns(n))
    scores, values = (torch.empty(*bank.shapes[2 * bank.n_layers + 2 * head][:2], n) for head in range(2))
    arrays = (one.numpy() for one in (observations, hidden, scores, values))
    towers.run(*_compiled_form(bank), *arrays)
    return Run(observations, hidden, scores, values)


def gradient(bank: StackedBank, made: Run, d_scores: Tensor, d_values: Tensor, d_log_std: Tensor | None) -> Tensor:
    """Return the gradient of the bank's weights from those of a run's scores, values and log_std."""
    assert d_scores.shape == made.scores.shape, (d_scores.shape, made.scores.shape)
    assert d_values.shape == made.values.shape, (d_values.shape, made.values.shape)
    found = torch.empty_like(bank.weights, requires_grad=False)
    arrays = (made.observations, made.hidden, d_scores.contiguous(), d_values.contiguous(), found)
    towers.run_back(*_compiled_form(bank), *(one.numpy() for one in arrays))
    if d_log_std is not None:
        bank.blocks(found)[-1].copy_(d_log_std)
    return found


def actor(bank: StackedBank) -> Callable[[Tensor], ActorCriticOutputs]:
    """Return a function from observations to outputs, equal to :func:`run` to the last bit, that runs no critic."""
    form, shape = _compiled_form(bank), bank.shapes[2 * bank.n_layers][:2]
    log_std = bank.views[-1] if bank.has_log_std else None

    def outputs(observations: Tensor) -> ActorCriticOutputs:
        n = len(observations)
        hidden, made = torch.empty(bank.n_units, padded_columns(n)), torch.empty(*shape, n)
        arrays = (one.numpy() for one in (_checked(bank, observations), hidden, made))
        towers.act(*form, *arrays)
        return ActorCriticOutputs(made.permute(2, 0, 1), None, log_std)

    return outputs


def _compiled_form(bank: StackedBank) -> tuple[int, Any, Any]:
    """Return activation, weights and widths as the kernels take them."""
    weights = bank.current_weights().detach().numpy()
    return KINDS[type(bank.activation)], weights, bank.widths


def _checked(bank: StackedBank, observations: Tensor) -> Tensor:
    """Return observations as compiled code takes them, which checks nothing itself."""
    return bank.checked(observations).to(torch.float32).contiguous()


class Evaluation(torch.autograd.Function):
    """A run of the stack, for autograd."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, bank: StackedBank, observations: Tensor) -> tuple[Tensor, ...]:
        """Return scores, values and log_std of :class:`ActorCriticOutputs`."""
        ctx.bank, ctx.run = bank, (made := run(bank, observations))
        ctx.save_for_backward(weights)  # notices PyTorch's changes of the vector, not those of an expert's view
        log_std = bank.views[-1].clone() if bank.has_log_std else None
        return made.scores.permute(2, 0, 1), made.values.squeeze(1).T, log_std  # type: ignore[return-value]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor, d_values: Tensor, d_log_std: Tensor | None) -> tuple[Tensor, None, None]:
        """Return the gradient of the weights."""
        assert ctx.saved_tensors
        d_run = d_scores.permute(1, 2, 0), d_values.T.unsqueeze(1)
        return gradient(ctx.bank, ctx.run, *d_run, d_log_std), None, None


def evaluate(bank: StackedBank, observations: Tensor) -> ActorCriticOutputs:
    """Evaluate the experts, for autograd."""
    return ActorCriticOutputs(*Evaluation.apply(bank.current_weights(), bank, observations))
