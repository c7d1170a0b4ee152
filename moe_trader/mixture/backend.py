"""How a mixture is computed: here in plain PyTorch, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moe_trader.mixture.bank import MakeDiscrete
from moe_trader.mixture.categorical import CategoricalMixture

if TYPE_CHECKING:
    from moe_trader.mixture.model import MixtureModel


class Backend:
    """Evaluates gate and experts; :class:`moe_trader.fast.backend.FastBackend` does the same by compiled code."""

    discrete: MakeDiscrete = CategoricalMixture
    """Makes the mixture over discrete actions."""

    def route(self, model: MixtureModel, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate's logits and weights, ``(batch, K)`` each, for what it reads."""
        logits = model.gate.logits(seen)
        return logits, model.gate.weights(logits)

    def evaluate(self, model: MixtureModel, seen: Tensor) -> Any:
        """Return what the experts put out for what they see, shape ``(batch, n_inputs)``."""
        return model.experts(seen)

    def actor(self, model: MixtureModel) -> Callable[[Tensor], Any]:
        """Return a function from what experts see to their outputs, without gradient; critics need not be run."""
        return torch.no_grad()(model.experts)
