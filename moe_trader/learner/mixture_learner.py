"""What every learner of a mixture shares: names, metrics, the gate's losses, the clipped step, logs, and its state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from torch import Tensor
from torch.optim import Optimizer

from moe_trader.fast.adam import ClippingAdam
from moe_trader.gating import GateLoss
from moe_trader.learner.state import LearnerState, load_state, state_of
from moe_trader.mixture.clipping import clip_gradients
from moe_trader.mixture.frozen import FrozenParts
from moe_trader.mixture.metrics import mixture_metrics
from moe_trader.mixture.model import MixtureModel

STATES_MEASURED = 1_024  # at most, evenly spread, for the mixture's metrics

Terms = dict[str, Any]
"""A minibatch's loss and its terms: numbers, or scalar tensors."""


class MixtureLearner(BaseAlgorithm):
    """An SB3 algorithm whose policy holds a :class:`~moe_trader.mixture.model.MixtureModel` as ``policy.model``.

    A learner inherits from a subclass of this one and from SB3's algorithm, in this order.

    :param names: the experts' names, for the metrics
    """

    counters: ClassVar[tuple[str, ...]] = (
        "num_timesteps",
        "_num_timesteps_at_start",
        "_total_timesteps",
        "_current_progress_remaining",
        "_n_updates",
        "_episode_num",
    )
    """Attributes that a state holds: plain numbers."""
    max_grad_norm: float
    save_agent: Callable[[str], None] | None = None
    """Writes the agent to a path, for SB3's callbacks that save a model."""

    def __init__(self, *args: Any, names: Sequence[str], **kwargs: Any) -> None:
        self.names = list(names)
        self.metrics: dict[str, float] = {}
        self.update_listeners: list[Callable[[], None]] = []
        self._norm_names = [f"gradient_norm/{name}" for name in (*names, "gate")]
        self._gate_weights: Tensor | None = None
        self._frozen = FrozenParts([])
        super().__init__(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the logger behind: a copy must not write to the same files."""
        return {**vars(self), "_logger": Logger(None, [])}

    @property
    def model(self) -> MixtureModel:
        """The mixture that is trained."""
        model = self.policy.model
        assert isinstance(model, MixtureModel)
        return model

    @property
    @abstractmethod
    def gate_learns(self) -> bool:
        """Whether training can change the gate: it has parameters, and a learning rate."""

    def optimizers(self) -> dict[str, Optimizer]:
        """Return the optimisers, by the name under which a state holds their moments."""
        return {"optimizer": self.policy.optimizer}

    @property
    def _progress(self) -> float:
        return min(1 - self._current_progress_remaining, 1.0)

    def _weighted_losses(self) -> dict[str, tuple[GateLoss, float]]:
        """Return the gate's losses and their present weights, by name."""
        losses = self.model.gate_settings.losses
        return {name: (loss, loss.weight_at(self._progress)) for name, loss in losses.items()}

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Set every group's rate; SB3's own writes one rate into all of them."""
        rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for optimizer in self.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]

    def _clipped_step(self, terms: Terms) -> bool:
        """Clip the gradients, step, and add each gradient's norm to the terms; return whether all norms are finite.

        Frozen experts stand still, and their norm is 0.
        """
        optimizer = self.policy.optimizer
        self._frozen.clear_gradients()
        if isinstance(optimizer, ClippingAdam):
            norms = optimizer.clipped_step(self.max_grad_norm)
        else:
            norms = clip_gradients(optimizer.param_groups, self.max_grad_norm)
            optimizer.step()
        self._frozen.put_back()
        # Numbers where they cost no wait: small tensors kept among large ones would break up the heap.
        is_on_cpu = norms.device.type == "cpu"
        values = norms.tolist() if is_on_cpu else norms.unbind()
        terms |= dict(zip(self._norm_names, values, strict=True))
        return not is_on_cpu or math.isfinite(sum(values))

    def _record_terms(self, trace: Sequence[dict[str, float]]) -> None:
        """Log the means over an update's minibatches, and the weights of the gate's losses."""
        for name in dict.fromkeys(name for terms in trace for name in terms):
            group = name if "/" in name else f"train/{name}"
            self.logger.record(group, float(np.mean([terms[name] for terms in trace if name in terms])))
        for name, (_, weight) in self._weighted_losses().items():
            self.logger.record(f"gate_loss_weight/{name}", weight)

    @torch.no_grad()
    def _record_mixture(self, states: Tensor) -> None:
        """Log the mixture's metrics on whole observations, shape ``(n, size)``, and keep the gate's weights.

        :raises OutputError: when gate or experts put out numbers that are not finite
        """
        choice = self.model.choice(states)
        self.metrics, self._gate_weights = mixture_metrics(choice, self.names), choice.weights
        for name, value in self.metrics.items():
            self.logger.record(name, value)

    def _announce(self) -> None:
        """Call :attr:`update_listeners`: an update is done and :attr:`metrics` are new."""
        for listener in self.update_listeners:
            listener()

    def state(self) -> LearnerState:
        """Return all that training goes on from, between two updates: see :func:`~moe_trader.learner.state.state_of`.

        :raises ValueError: before training has begun, and for an environment that cannot say its state
        """
        return state_of(self)

    def load_state(self, state: LearnerState, total_timesteps: int | None = None) -> None:
        """Go on from a state: ``learn(remaining, reset_num_timesteps=False)`` does what the other would have done.

        :param total_timesteps: of the whole training, where it is another than the other's: schedules then stand where
            they would stand at this step of it
        :raises ValueError: for the state of another kind of learner, naming what differs
        """
        load_state(self, state)
        if total_timesteps is not None:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)

    def own_state(self) -> dict[str, Tensor]:
        """Return what else a learner goes on from, such as a replay buffer or a target network."""
        return {}

    def load_own_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what :meth:`own_state` returned."""

    def save(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Save the agent as a bundle, for SB3's callbacks: at ``path`` without ``.zip``, which they may add.

        :raises ValueError: without an agent
        """
        if self.save_agent is None:
            raise ValueError("this learner belongs to no agent; save the MoEAgent")
        self.save_agent(str(path).removesuffix(".zip"))
