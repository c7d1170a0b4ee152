"""Gradients clipped by their joint norm, with the norm of each expert's part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def clip_gradients(param_groups: Iterable[dict[str, Any]], max_norm: float) -> Tensor:
    """Scale gradients so that their joint L2 norm is at most ``max_norm``, as SB3 does.

    :param param_groups: of an optimiser; ``owners`` and ``blocks`` as in
        :meth:`~moe_trader.mixture.bank.ExpertBank.parameter_groups`
    :return: the L2 norm of every owner's gradient before, group by group
    """
    squares, gradients = [], []
    for group in param_groups:
        n_owners = group["owners"]
        found = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        gradients += found
        blocks = [block for one in found for block in one.flatten().split(group.get("blocks", one.numel()))]
        parts = [part for block in blocks for part in block.split(len(block) // n_owners)]
        if parts:
            squares.append(torch.stack(torch._foreach_norm(parts)).view(-1, n_owners).square().sum(0))
        else:
            squares.append(torch.zeros(n_owners))
    device = gradients[0].device if gradients else torch.device("cpu")
    norms = torch.cat([one.to(device) for one in squares]).sqrt_()
    factor = max_norm / (torch.linalg.vector_norm(norms) + 1e-6)
    if gradients:
        torch._foreach_mul_(gradients, factor.clamp_max_(1.0))
    return norms
