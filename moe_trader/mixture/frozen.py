"""Parts of trained parameters that stand still, such as the frozen experts of a stack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FrozenParts:
    """Keeps parts of parameters as they are through the steps of an optimiser.

    Without their gradient, the norm that clips is that of the rest; a step then moves them only by averages that an
    optimiser has from before they were frozen, and is undone.

    :param parts: parameters of one dimension, and which of their numbers stand still
    """

    def __init__(self, parts: Sequence[tuple[nn.Parameter, slice]]) -> None:
        self._parts = [(parameter, part, parameter.detach()[part].clone()) for parameter, part in parts]

    def clear_gradients(self) -> None:
        """Set their gradients to zero; call it before gradients are clipped."""
        for parameter, part, _ in self._parts:
            gradient: Tensor | None = parameter.grad
            if gradient is not None:
                gradient[part] = 0

    @torch.no_grad()
    def put_back(self) -> None:
        """Give them the numbers they had; call it after a step."""
        for parameter, part, kept in self._parts:
            parameter[part] = kept
