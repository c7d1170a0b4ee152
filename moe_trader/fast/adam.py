"""Adam that clips as it steps: the norm of the gradients, and the step, each in one pass through memory.

Paper: https://arxiv.org/abs/1412.6980. In float32 on a CPU both are compiled; elsewhere they are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_trader.compiled import njit
from moe_trader.mixture.clipping import clip_gradients

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Leaf:
    """A parameter as the kernels take it: views of its memory and of its state."""

    parameter: Tensor
    address: int
    group: dict[str, Any]
    owners: slice
    blocks: Array
    state: dict[str, Any]
    values: Array
    mean: Array
    square: Array

    def is_current(self, states: Mapping[Tensor, Any]) -> bool:
        """Whether parameter and state are still where they were."""
        return self.parameter.data_ptr() == self.address and states.get(self.parameter) is self.state


class ClippingAdam(torch.optim.Adam):
    """:class:`torch.optim.Adam` with :meth:`clipped_step`; its state is Adam's own.

    A group's parameters may have several owners, whose norms are kept apart; ``owners`` and ``blocks`` are those of
    :meth:`~moe_trader.mixture.bank.ExpertBank.parameter_groups`.
    """

    _leaves: list[_Leaf] | None = None  # made at the first step; not copied, and not saved

    @torch.no_grad()
    def clipped_step(self, max_norm: float) -> Tensor:
        """Step on the gradients scaled so that their joint L2 norm is at most ``max_norm``, as SB3 does.

        :return: the L2 norm of every owner's gradient before, group by group
        """
        if not all(_is_compiled_for(p) for group in self.param_groups for p in group["params"]):
            norms = clip_gradients(self.param_groups, max_norm)
            self.step()
            return norms
        if self._leaves is None or not all(leaf.is_current(self.state) for leaf in self._leaves):
            self._leaves = self._made_leaves()
        trained = [(leaf, _flat(leaf.parameter.grad)) for leaf in self._leaves if leaf.parameter.grad is not None]
        squares = np.zeros(sum(group["owners"] for group in self.param_groups))
        for leaf, gradient in trained:
            _add_squares(gradient, leaf.blocks, squares[leaf.owners])
        factor = max_norm / (squares.sum() ** 0.5 + 1e-6)
        factor = 1.0 if factor > 1 else factor  # NaN stays NaN
        for leaf, gradient in trained:
            leaf.state["step"] += 1
            (first, second), n = leaf.group["betas"], float(leaf.state["step"])
            rate, root = leaf.group["lr"] / (1 - first**n), (1 - second**n) ** -0.5
            _step(gradient, leaf.values, leaf.mean, leaf.square, factor, first, second, rate, root, leaf.group["eps"])
        return torch.from_numpy(np.sqrt(squares, dtype=np.float32, casting="same_kind"))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; PyTorch's own also opens and closes a record for its profiler, for every minibatch."""
        assert set_to_none, "gradients are replaced, not added to"
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _made_leaves(self) -> list[_Leaf]:
        leaves, first = [], 0
        for group in self.param_groups:
            owners = slice(first, first := first + group["owners"])
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state |= {"step": torch.zeros(()), **{name: torch.zeros_like(parameter) for name in _MOMENTS}}
                blocks = np.array(group.get("blocks", [parameter.numel()]))
                arrays = (_flat(one) for one in (parameter, *(state[name] for name in _MOMENTS)))
                leaves.append(_Leaf(parameter, parameter.data_ptr(), group, owners, blocks, state, *arrays))
        return leaves

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._leaves = None  # they would go on with what was there before
        super().__setstate__(state)


_MOMENTS = ("exp_avg", "exp_avg_sq")


def _is_compiled_for(parameter: Tensor) -> bool:
    return parameter.device.type == "cpu" and parameter.dtype == torch.float32 and parameter.is_contiguous()


def _flat(tensor: Tensor) -> Array:
    flat: Array = tensor.detach().numpy().reshape(-1)
    return flat


@njit(cache=True, nogil=True, error_model="numpy")
def _step(
    gradient: Array,
    parameter: Array,
    mean: Array,
    square: Array,
    factor: float,
    first: float,
    second: float,
    rate: float,
    root: float,
    eps: float,
) -> None:
    """Take Adam's step on the gradient times ``factor``.

    :param rate: learning rate, corrected for the bias of the mean
    :param root: corrects the root of the mean square for its bias
    """
    factor_, kept, gained = np.float32(factor), np.float32(second), np.float32(1 - second)
    towards, rate_, root_, eps_ = np.float32(1 - first), np.float32(rate), np.float32(root), np.float32(eps)
    for at in range(parameter.size):
        g = gradient[at] * factor_
        mean[at] += (g - mean[at]) * towards
        square[at] = square[at] * kept + gained * g * g
        parameter[at] -= rate_ * mean[at] / (np.sqrt(square[at]) * root_ + eps_)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})  # else it would add one by one
def _add_squares(gradient: Array, blocks: Array, squares: Array) -> None:
    start = 0
    for block in blocks:
        size = block // len(squares)
        for owner in range(len(squares)):
            stretch, total = gradient[start : start + size], np.float32(0)
            for at in range(len(stretch)):
                total += stretch[at] * stretch[at]
            squares[owner] += total
            start += size
