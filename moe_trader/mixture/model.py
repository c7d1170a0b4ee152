"""Gate and experts as one PyTorch module, without optimiser or algorithm: all that acting and evaluation need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from moe_trader.finite import checked_observations
from moe_trader.gate_input import ObservationLayout
from moe_trader.gating import Gate, GatingNetwork
from moe_trader.mixture.backend import Backend
from moe_trader.mixture.bank import ExpertBank
from moe_trader.mixture.categorical import CategoricalChoice
from moe_trader.mixture.choice import Choice
from moe_trader.mixture.output import MixtureOutput, OutputError
from moe_trader.option import ConfigError


class MixtureModel(nn.Module):
    """m(a|s) = sum_k g_k(s) p_k(a|s): a gate, K experts, and which columns of an observation each of them sees.

    Its tensors are ``gate.*`` and ``experts.K.*``, the latter under the names that SB3 gives them.

    :param gate: settings of the gating network
    :param experts: makes the K experts for a space of what each sees
    :param layout: which columns of a whole, flat observation the gate and each expert see
    :param observation_space: of whole observations
    :param action_space: of the environment
    :raises ConfigError: for a gate whose weights are not ``(batch, K)``, non-negative, with rows that sum to 1
    """

    gate_columns: Tensor
    expert_columns: Tensor
    column_names: Sequence[str] = ()
    """Names of the first columns of a whole observation, as far as they are known, for messages."""

    def __init__(
        self,
        gate: Gate,
        experts: Callable[[spaces.Box], ExpertBank],
        layout: ObservationLayout,
        observation_space: spaces.Box,
        action_space: spaces.Space,
    ) -> None:
        super().__init__()
        self.gate_settings, self.layout, self.action_space = gate, layout, action_space
        self.observation_space = observation_space
        self.backend = Backend()
        seen = list(layout.experts)
        low, high = observation_space.low[seen], observation_space.high[seen]
        self.experts = experts(spaces.Box(low, high, dtype=observation_space.dtype))
        for name, columns in (("gate_columns", layout.gate), ("expert_columns", layout.experts)):
            self.register_buffer(name, torch.tensor(columns, dtype=torch.long), persistent=False)
        with torch.random.fork_rng(devices=[]):  # the gate's initialisation leaves later draws as they were
            self.gate = gate.network(layout.n_gate_features, self.n_experts)
            probe = torch.randn(3, self._n_read)
            if gate.reads().of != "features":
                probe = (probe == probe.amax(-1, keepdim=True)).float()  # as regimes come
            _check_gate(self.gate, probe, self.n_experts)

    @property
    def n_experts(self) -> int:
        """K."""
        return len(self.experts)

    @property
    def n_columns(self) -> int:
        """Numbers in a whole observation."""
        return int(self.observation_space.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the experts' weights are."""
        return next(self.experts.parameters()).device

    def n_parameters(self) -> int:
        """Return how many parameters there are, frozen or not; over one expert the gate does not count."""
        parts: list[nn.Module] = [self.experts] if self.n_experts == 1 else [self.experts, self.gate]
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    def to_tensor(self, observations: Any) -> tuple[Tensor, bool]:
        """Return whole observations as a batch on the model's device, and whether they came as one.

        :raises ValueError: for another shape or type, and for numbers that are not finite, naming the columns
        """
        found = checked_observations(observations, self.n_columns, self.column_names)
        return torch.as_tensor(np.atleast_2d(found), device=self.device), found.ndim > 1

    def gate_weights(self, observations: Tensor) -> Tensor:
        """Run only the gate on whole observations, shape ``(batch, size)``; return ``(batch, K)``.

        :raises ValueError: for another shape
        :raises OutputError: when the weights are not finite
        """
        weights = self.backend.route(self, self.seen_by_gate(self._checked(observations)))[1]
        if not math.isfinite(float(weights.sum())):
            raise OutputError("outputs of the gate are not finite")
        return weights

    def choice(self, observations: Tensor, weights: Tensor | None = None) -> Choice:
        """Return how the experts choose among actions under the gate's weights, or under others, ``(batch, K)``.

        :raises ValueError: for observations of another shape than ``(batch, size)``
        :raises OutputError: when gate or experts put out numbers that are not finite
        """
        choice = self.evaluate(observations).checked().choice
        return choice if weights is None else choice.reweighted(weights)

    def act(self, observations: Any, deterministic: bool) -> np.ndarray:
        """Return an action for one whole observation, or for each of a batch, as an environment gets them.

        :param deterministic: the most likely action; otherwise a draw, with PyTorch's global generator
        :raises ValueError: as :meth:`to_tensor`
        :raises OutputError: when gate or experts put out numbers that are not finite
        """
        whole, is_batch = self.to_tensor(observations)
        with torch.no_grad():
            choice = self.choice(whole)
            actions = self.executed(choice.mode() if deterministic else choice.sample())
        return actions if is_batch else actions.squeeze(axis=0)

    def expert_actions(self, observations: Tensor) -> Tensor:
        """Return each expert's most likely action, ``(batch, K, ...)``, before :meth:`executed`; see :meth:`choice`."""
        return self.choice(observations).expert_modes()

    def evaluate(self, observations: Tensor, compare: bool = False) -> MixtureOutput:
        """Run the gate and every expert on whole observations of shape ``(batch, size)``.

        :param compare: also run the gate on the bar before, for losses that compare bars
        :raises ValueError: for another shape
        """
        observations = self._checked(observations)
        logits, weights = self.backend.route(self, self.seen_by_gate(observations))
        before = self.backend.route(self, self.seen_by_gate(observations, before=True))[1] if compare else None
        outputs = self.backend.evaluate(self, self.seen_by_experts(observations))
        choice = self.experts.choice(weights, outputs, self.backend.discrete)
        return MixtureOutput(choice, logits, self.experts.values(outputs), before)

    def evaluate_for_update(self, observations: Tensor) -> MixtureOutput:
        """Run gate and experts as a learner needs them, with the bar before where the gate's losses compare bars."""
        return self.evaluate(observations, compare=self.gate_settings.compares_bars())

    def chooser(self) -> Callable[[Tensor, Tensor], Choice]:
        """Return a function from what experts see and gate weights, ``(batch, K)``, to the experts' choice.

        It runs no gate, records no gradient, and leaves out what acting does not need.
        """
        act = self.backend.actor(self)
        return lambda seen, weights: self.experts.choice(weights, act(seen), CategoricalChoice)

    def executed(self, actions: Tensor) -> np.ndarray:
        """Return actions as an environment gets them: SB3's Gaussians are unbounded, and clipped to the space."""
        array: np.ndarray = actions.cpu().numpy()
        space = self.action_space
        return np.clip(array, space.low, space.high) if isinstance(space, spaces.Box) else array

    def seen_by_gate(self, observations: Tensor, before: bool = False) -> Tensor:
        """Return the columns of whole observations that the gate reads, to judge the newest bar or the one before."""
        seen = observations.index_select(-1, self.gate_columns)
        return seen[..., : self._n_read] if before else seen[..., -self._n_read :]

    def seen_by_experts(self, observations: Tensor) -> Tensor:
        """Return the columns of whole observations that every expert sees."""
        n, last = len(self.layout.experts), self.layout.experts[-1]
        return observations[:, :n] if last == n - 1 else observations.index_select(-1, self.expert_columns)

    @property
    def _n_read(self) -> int:
        """Columns that the gate reads to judge one bar; its layout may hold those of the bar before, too."""
        return (self.layout.rows - self.gate_settings.compares_bars()) * self.layout.n_gate_features

    def _checked(self, observations: Tensor) -> Tensor:
        """Return them as float32. :raises ValueError: unless their shape is ``(batch, size)``."""
        if observations.ndim != 2 or observations.shape[1] != self.n_columns:
            raise ValueError(f"observations: expected shape (n, {self.n_columns}), got {tuple(observations.shape)}")
        return observations.float()


def _check_gate(gate: GatingNetwork, probe: Tensor, n_experts: int) -> None:
    """Hold a gate to its contract before anything is trained. :raises ConfigError: when its weights are none.

    :param probe: what it may read, shape ``(3, n_columns)``
    """
    if not isinstance(gate, GatingNetwork):
        raise ConfigError(f"gating: expected network() to return a GatingNetwork, got {type(gate).__name__}")
    found = {}
    for name, method in (("logits", gate.logits), ("weights", gate)):
        with torch.no_grad():
            found[name] = method(probe)
        if not (isinstance(found[name], Tensor) and found[name].dtype == torch.float32):
            kind = found[name].dtype if isinstance(found[name], Tensor) else type(found[name]).__name__
            raise ConfigError(f"gating: {type(gate).__name__}.{name} must give a tensor of float32, got {kind}")
    logits, weights = found["logits"], found["weights"]
    if logits.ndim != 2 or len(logits) != 3:
        raise ConfigError(
            f"gating: {type(gate).__name__}.logits must give a row of scores for each of 3 rows of features, got shape "
            f"{tuple(logits.shape)}"
        )
    if weights.shape != (3, n_experts) or not torch.allclose(weights.sum(-1), torch.ones(3), atol=1e-5):
        raise ConfigError(
            f"gating: {type(gate).__name__} must give {n_experts} weights that sum to 1 for each row of features, "
            f"got shape {tuple(weights.shape)} and sums {weights.sum(-1).tolist()}"
        )
    if (weights < 0).any():
        raise ConfigError(f"gating: {type(gate).__name__} gives negative weights")
