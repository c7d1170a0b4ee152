"""Adam that clips as it steps: the norm of the gradients, and the step, each in one pass through memory.

Paper: https://arxiv.org/abs/1412.6980. In float32 on a CPU both are compiled; elsewhere they are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

Array = np.ndarray[Any, Any]


class ClippingAdam(torch.optim.Adam):
    """:class:`torch.optim.Adam` with a step on scaled gradients; its state is Adam's own."""

    @torch.no_grad()
    def scaled_step(self, factor: Tensor) -> None:
        """Step on the gradients times ``factor``, a scalar."""
        trained = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not all(_compiled_for(p) for _, p in trained):
            torch._foreach_mul_([p.grad for _, p in trained], factor)
            self.step()
            return
        scale = float(factor)
        for group, parameter in trained:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            (first, second), n = group["betas"], float(state["step"])
            _step(
                *(_flat(one) for one in (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])),
                scale,
                first,
                second,
                group["lr"] / (1 - first**n),
                group["eps"],
                (1 - second**n) ** -0.5,
            )


def squared_norms(gradient: Tensor, sizes: Sequence[int], n_owners: int) -> Tensor:
    """Return each owner's share of a gradient's squared L2 norm, shape ``(n_owners,)``.

    :param gradient: blocks of ``sizes`` numbers, one after the other, in each of which every owner has an equal stretch
    """
    if _compiled_for(gradient):
        squares = np.zeros(n_owners, np.float32)
        _add_squares(_flat(gradient), np.array(sizes), squares)
        return torch.from_numpy(squares)
    blocks = gradient.flatten().split(list(sizes))
    return torch.stack([block.view(n_owners, -1).square().sum(1) for block in blocks]).sum(0)


def _compiled_for(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()


def _flat(tensor: Tensor) -> Array:
    flat: Array = tensor.detach().numpy().reshape(-1)
    return flat


@njit(cache=True, nogil=True, error_model="numpy")
def _step(
    parameter: Array,
    gradient: Array,
    mean: Array,
    square: Array,
    scale: float,
    first: float,
    second: float,
    rate: float,
    eps: float,
    correction: float,
) -> None:
    """Take Adam's step; ``rate`` is corrected for the mean's bias, ``correction`` for that of the root of the square."""
    kept, gained, scale32 = np.float32(second), np.float32(1 - second), np.float32(scale)
    towards, rate32 = np.float32(1 - first), np.float32(rate)
    eps32, correction32 = np.float32(eps), np.float32(correction)
    for at in range(parameter.size):
        g = gradient[at] * scale32
        mean[at] += (g - mean[at]) * towards
        square[at] = square[at] * kept + gained * g * g
        parameter[at] -= rate32 * mean[at] / (np.sqrt(square[at]) * correction32 + eps32)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})  # else it would add one by one
def _add_squares(gradient: Array, sizes: Array, squares: Array) -> None:
    start = 0
    for size in sizes:
        stretch = size // len(squares)
        for owner in range(len(squares)):
            total = np.float32(0)
            for at in range(start, start + stretch):
                total += gradient[at] * gradient[at]
            squares[owner] += total
            start += stretch
