"""Gate and experts evaluated by compiled code where it can, as in plain PyTorch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from moe_trader.fast import stacked
from moe_trader.fast.densities import FastCategorical
from moe_trader.fast.gates import route
from moe_trader.mixture.backend import Backend
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.stacked import StackedBank


class FastBackend(Backend):
    """The results of :class:`Backend` to rounding. A row's result does not depend on the other rows of the batch."""

    discrete = FastCategorical

    def route(self, model: MixtureModel, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Run the gate by compiled code where autograd does not record and actions are discrete."""
        is_discrete = isinstance(model.action_space, spaces.Discrete)
        if torch.is_grad_enabled() or not (is_discrete and stacked.can_run(model.experts)):
            return super().route(model, seen)
        routing = route(model.gate, seen)
        return torch.from_numpy(routing.logits).T, torch.from_numpy(routing.weights).T

    def evaluate(self, model: MixtureModel, seen: Tensor) -> Any:
        """Run every tower by compiled code, with or without gradient."""
        if not stacked.can_run(model.experts):
            return super().evaluate(model, seen)
        assert isinstance(model.experts, StackedBank)
        return stacked.evaluate(model.experts, seen)

    def actor(self, model: MixtureModel) -> Callable[[Tensor], Any]:
        """Run no critic."""
        if not stacked.can_run(model.experts):
            return super().actor(model)
        assert isinstance(model.experts, StackedBank)
        return stacked.actor(model.experts)
