"""How a mixture is computed: here in plain PyTorch, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from moe_trader.mixture.bank import ExpertOutputs
from moe_trader.mixture.categorical import CategoricalMixture

if TYPE_CHECKING:
    from moe_trader.mixture.model import MixtureModel


class Backend:
    """Evaluates gate and experts; :class:`moe_trader.fast.backend.FastBackend` does the same by compiled code."""

    categorical: type[CategoricalMixture] = CategoricalMixture

    def route(self, model: MixtureModel, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate's logits and weights, ``(batch, K)`` each, for what it reads."""
        logits = model.gate.logits(seen)
        return logits, model.gate.weights(logits)

    def evaluate(self, model: MixtureModel, seen: Tensor) -> ExpertOutputs:
        """Evaluate every expert on what it sees, shape ``(batch, n_inputs)``."""
        outputs: ExpertOutputs = model.experts(seen)
        return outputs

    def actor(self, model: MixtureModel) -> Callable[[Tensor], Tensor]:
        """Return a function from what experts see to their scores ``(batch, K, n)``, without gradient."""
        return torch.no_grad()(lambda seen: model.experts(seen).scores)
