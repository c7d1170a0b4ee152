"""The mixture as an SB3 ``ActorCriticPolicy`` whose parts are K real SB3 policies and a gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from moe_trader.expert.adam import ClippingAdam
from moe_trader.expert.mixture import CategoricalMixture, GaussianMixture
from moe_trader.expert.output import MixtureOutput, OutputError
from moe_trader.expert.stack import Stack
from moe_trader.finite import checked_observations
from moe_trader.gating import Gate, GatingNetwork
from moe_trader.option import ConfigError
from moe_trader.sight import View

N_REFERENCE = 3  # numbers in a reference: that of the bar, and the account's two


class MixturePolicy(ActorCriticPolicy):
    """m(a|s) = sum_k g_k(s) p_k(a|s) behind SB3's on-policy interface.

    With one expert it is that expert: same initial weights, same draws, same outputs as SB3's own policy.

    :param gate: settings of the gating network
    :param n_experts: K
    :param view: which columns of a flat observation the gate and each expert see
    :param gate_rate_factor: the gate's learning rate over the experts'
    :param whole: space of a whole observation, where ``observation_space`` may be that of what stands for it
    :param tables: what a reference, an observation that names its bar, is read out of
        (:attr:`~moe_trader.env.trading_vec_env.ReferringVecEnv.tables`); empty: observations are always whole. With
        tables, the environment learned in shows references, which SB3's methods for a rollout take (:meth:`forward`,
        :meth:`evaluate_actions`, :meth:`predict_values`); everything else takes whole observations
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        gate: Gate,
        n_experts: int,
        view: View,
        gate_rate_factor: float,
        whole: spaces.Box,
        tables: Sequence[tuple[np.ndarray, int]],
        **kwargs: Any,
    ) -> None:
        self._gate_settings, self._n_experts, self._gate_rate_factor = gate, n_experts, gate_rate_factor
        self._view, self._tables, self._size = view, tables, len(whole.low)
        assert not (tables and self._size <= N_REFERENCE), "a reference must be narrower than what it stands for"
        seen = list(view.experts)
        self.expert_space = spaces.Box(whole.low[seen], whole.high[seen], dtype=whole.dtype)
        super().__init__(whole, action_space, lr_schedule, **kwargs)

    gate_columns: Tensor
    expert_columns: Tensor
    optimizer: ClippingAdam
    experts: nn.ModuleList
    column_names: Sequence[str] = ()
    """Names of the first columns of a whole observation, as far as they are known, for messages."""

    def _build(self, lr_schedule: Schedule) -> None:
        self.experts = nn.ModuleList(
            ActorCriticPolicy(
                self.expert_space,
                self.action_space,
                lr_schedule,
                net_arch=self.net_arch,
                activation_fn=self.activation_fn,
                ortho_init=self.ortho_init,
                log_std_init=self.log_std_init,
            )
            for _ in range(self._n_experts)
        )
        for name, columns in (("gate_columns", self._view.gate), ("expert_columns", self._view.experts)):
            self.register_buffer(name, torch.tensor(columns, dtype=torch.long), persistent=False)
        for number, (rows, _) in enumerate(self._tables):
            self.register_buffer(f"table_{number}", torch.from_numpy(rows), persistent=False)
        with torch.random.fork_rng(devices=[]):  # the gate's initialisation leaves later draws as they were
            self.gate = self._gate_settings.network(self._view.n_gate_features, self._n_experts)
            probe = torch.randn(3, self._seen_at_once)
            if self._gate_settings.reads().of != "features":
                probe = (probe == probe.amax(-1, keepdim=True)).float()  # as regimes come
            _check_gate(self.gate, probe, self._n_experts)
        self.stack = Stack(self.actor_critics)
        groups = [
            {
                "params": [self.stack.weights],
                "rate_factor": 1.0,
                "owners": self._n_experts,
                "blocks": self.stack.sizes,
            },
            {"params": list(self.gate.parameters()), "rate_factor": self._gate_rate_factor, "owners": 1},
        ]
        self.optimizer = ClippingAdam(groups, lr=lr_schedule(1), fused=True, **self.optimizer_kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # moving to a device gives every parameter a storage of its own
        self.stack.gather()
        return self

    @property
    def actor_critics(self) -> list[ActorCriticPolicy]:
        """The K experts as what they are: SB3 policies."""
        return cast("list[ActorCriticPolicy]", list(self.experts))

    def mix(self, observations: Tensor, compare: bool = False) -> MixtureOutput:
        """Run the gate and every expert on whole observations of shape ``(batch, size)``.

        :param compare: also run the gate on the bar before, for losses that compare bars
        :raises ValueError: for another shape
        """
        observations = _of_width(observations, self._size, "observations").float()
        logits, weights = self._route(self.seen_by_gate(observations))
        before = self._route(self.seen_by_gate(observations, before=True))[1] if compare else None
        scores, values, log_std = self.stack(self.seen_by_experts(observations))
        if log_std is None:
            return MixtureOutput(CategoricalMixture(weights, scores), logits, values, before)
        return MixtureOutput(GaussianMixture(weights, scores, log_std), logits, values, before)

    def gate_weights(self, observations: Tensor) -> Tensor:
        """Run the gate alone on whole observations, shape ``(batch, size)``; return ``(batch, K)``.

        :raises ValueError: for another shape
        :raises OutputError: when the weights are not finite
        """
        observations = _of_width(observations, self._size, "observations").float()
        weights = self._route(self.seen_by_gate(observations))[1]
        if not math.isfinite(float(weights.sum())):
            raise OutputError("outputs of the gate are not finite")
        return weights

    def _route(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate's logits and weights: by compiled code where autograd does not record."""
        if torch.is_grad_enabled() or not self.is_compiled:
            logits = self.gate.logits(seen)
            return logits, self.gate.weights(logits)
        routing = self.gate.route(seen)
        return torch.from_numpy(routing.logits).T, torch.from_numpy(routing.weights).T

    def seen_by_gate(self, observations: Tensor, before: bool = False) -> Tensor:
        """Return the columns of whole observations that the gate reads, to judge the newest bar or the one before."""
        seen = observations.index_select(-1, self.gate_columns)
        return seen[..., : self._seen_at_once] if before else seen[..., -self._seen_at_once :]

    def seen_by_experts(self, observations: Tensor) -> Tensor:
        """Return the columns of whole observations that every expert sees."""
        n, last = len(self._view.experts), self._view.experts[-1]
        return observations[:, :n] if last == n - 1 else observations.index_select(-1, self.expert_columns)

    def whole_observations(self, shown: Tensor) -> Tensor:
        """Return what the environment learned in shows as whole observations: what experts see, then the gate's tail.

        :param shown: with tables references, shape ``(batch, 3)``; without them the whole observations themselves
        :raises ValueError: for another shape
        """
        if not self._tables:
            return shown
        shown = _of_width(shown, N_REFERENCE, "references")
        bars, account = shown[:, 0].long(), shown[:, 1:]
        market, *tail = (
            _newest(getattr(self, f"table_{number}"), n, bars) for number, (_, n) in enumerate(self._tables)
        )
        return torch.cat([market, account, *tail], dim=1)

    @property
    def _seen_at_once(self) -> int:
        """Columns that the gate reads to judge one bar; its view may hold those of the bar before, too."""
        return (self._view.rows - self._gate_settings.compares_bars()) * self._view.n_gate_features

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values ``(batch, 1)`` and log m(a|s) ``(batch,)``.

        :param obs: what the environment learned in shows; see :meth:`whole_observations`
        :raises OutputError: when gate or experts put out numbers that are not finite
        """
        assert isinstance(obs, Tensor)
        output = self.mix(self.whole_observations(obs)).checked()
        actions = output.mixture.mode() if deterministic else output.mixture.sample()
        return actions, output.values.unsqueeze(-1), output.mixture.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values ``(batch, 1)``, log m(a|s) and H(m), both ``(batch,)``.

        :param obs: of a rollout, as for :meth:`forward`
        """
        assert isinstance(obs, Tensor)
        output = self.mix(self.whole_observations(obs))
        return output.values.unsqueeze(-1), output.mixture.log_prob(actions), output.mixture.entropy()

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return V, shape ``(batch, 1)``.

        :param obs: SB3's rollout asks this of what the environment shows and of a ``terminal_observation``, which is
            whole; the two are never equally wide
        """
        assert isinstance(obs, Tensor)
        is_whole = obs.shape[-1] == self._size
        output = self.mix(obs if is_whole else self.whole_observations(obs))
        return output.values.unsqueeze(-1)

    def obs_to_tensor(self, observation: Any) -> tuple[Tensor, bool]:
        """Return whole observations as a batch, and whether they came as one; SB3's ``predict`` begins with it.

        :raises ValueError: for another shape or type, and for numbers that are not finite, naming the columns
        """
        found = checked_observations(observation, self._size, self.column_names)
        return torch.as_tensor(np.atleast_2d(found), device=self.device), found.ndim > 1

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        mixture = self.mix(observation).checked().mixture
        return mixture.mode() if deterministic else mixture.sample()

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code can stand in for autograd: for discrete actions, in float32 on a CPU."""
        return isinstance(self.action_space, spaces.Discrete) and self.stack.is_compiled

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate: it has parameters, and a learning rate."""
        return self._gate_rate_factor > 0 and any(parameter.requires_grad for parameter in self.gate.parameters())

    def n_parameters(self) -> int:
        """Return how many numbers are trained; over one expert the gate has nothing to learn, and does not count."""
        parts = [self.experts] if self._n_experts == 1 else [self.experts, self.gate]
        return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _of_width(observations: Tensor, width: int, what: str) -> Tensor:
    """Return them as they are. :raises ValueError: unless their shape is ``(n, width)``."""
    if observations.ndim != 2 or observations.shape[1] != width:
        raise ValueError(f"{what}: expected shape (n, {width}), got {tuple(observations.shape)}")
    return observations


def _newest(table: Tensor, n: int, bars: Tensor) -> Tensor:
    """Return the ``n`` rows of a table that end at each bar, side by side: shape ``(batch, n * n_columns)``."""
    n_bars, width = table.shape
    windows = table.as_strided((n_bars - n + 1, n * width), (width, 1))  # they overlap, nothing is copied
    return windows.index_select(0, bars - (n - 1))


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
