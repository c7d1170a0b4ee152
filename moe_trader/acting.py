"""What an agent does in a state: each expert's action, actions under other gate weights, and the position it orders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from moe_trader.argument import whole_number
from moe_trader.expert import ExpertFamily
from moe_trader.gate_input import ObservationLayout
from moe_trader.manifest import MANIFEST, BundleError
from moe_trader.mixture.with_weights import MeanOfMembers, Positions, WithWeights, as_weights
from moe_trader.option import ConfigError, build

if TYPE_CHECKING:
    from moe_trader.mixture.model import MixtureModel

Floats = NDArray[np.float64]


class ActionsOfAgent:
    """How an agent acts: a base of :class:`~moe_trader.agent.MoEAgent`."""

    expert: ExpertFamily
    layout: ObservationLayout
    positions: Positions | None = None
    """What actions mean (:class:`moe_trader.env.Positions`). A bundle that ``moe-train`` saved holds them."""
    _saved_positions: tuple[Path, Any, Sequence[str]] | None = None

    if TYPE_CHECKING:

        @property
        def model(self) -> MixtureModel:
            """The mixture."""

        def gate_weights(self, observations: np.ndarray) -> NDArray[np.float32]:
            """Return the weight of each expert."""

    def expert_actions(self, observations: np.ndarray) -> np.ndarray:
        """Return what each expert would do by itself, its most likely action: ``(batch, K, ...)``."""
        weights = as_weights(self.gate_weights(observations))
        self._check(observations)
        return WithWeights(self.model, weights[None]).decide(0, observations)[1]

    def act(self, observations: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the most likely action of these experts under other gate weights, ``(batch, K)``.

        One-hot weights give a single expert, equal weights the ensemble without a gate.
        """
        return self.decide(observations, weights)[0]

    def decide(
        self, observations: np.ndarray, weights: np.ndarray, drawn: np.ndarray | None = None, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the actions under other gate weights and each expert's own.

        :param drawn: rows whose action is drawn from the mixture, shape ``(batch,)``; training's own draws are not
            disturbed. The others, and all of them without it, get the most likely action
        :param seed: of the draws
        :raises ValueError: unless rows of weights are non-negative and sum to 1, for a seed below 0, and for
            observations as in :meth:`predict`
        """
        seed = whole_number(seed, "seed", least=0)
        self._check(observations)
        given = self.with_weights(as_weights(weights)[None], drawn)
        if self.expert.n_averaged == 1:
            return given.decide(0, observations, seed)
        held, positions = self._exposure(observations), self._known_positions()
        targets, own = given.order(0, observations, held, positions, seed)
        return positions.nearest(targets, held), own

    def target(self, observations: np.ndarray, held: Any = None) -> Floats:
        """Return the position that the agent orders, as a fraction of equity: ``(batch,)`` for ``(batch, size)``.

        It is the target of the most likely action; of an ensemble by the mean, the mean of its members' targets.
        A single observation, ``(size,)``, gets a single number, ``()``.

        :param held: target that is held now, ``(batch,)``; ``None``: the exposure in the observations. It matters where
            actions are orders
        :raises ValueError: where it is not known what actions mean, and for observations as in :meth:`predict`
        """
        seen, is_batch = self.model.to_tensor(observations)
        rows = seen.cpu().numpy()
        now = self._exposure(rows) if held is None else np.broadcast_to(np.asarray(held, np.float64), len(rows))
        given = self.with_weights(self.gate_weights(rows)[None])
        targets = given.order(0, rows, now, self._known_positions())[0]
        return targets if is_batch else targets[0]

    def nearest_to_mean(self, observations: np.ndarray, deterministic: bool) -> np.ndarray:
        """Return the actions whose targets are nearest to the mean of the members' targets.

        :param deterministic: members take their most likely actions; otherwise each draws its own
        """
        seen, is_batch = self.model.to_tensor(observations)
        rows = seen.cpu().numpy()
        drawn = np.full(len(rows), not deterministic)
        seed = 0 if deterministic else int(torch.randint(2**31, ()))
        actions = self.decide(rows, self.gate_weights(rows), drawn, seed)[0]
        return actions if is_batch else actions[0]

    def with_weights(self, weights: np.ndarray, drawn: np.ndarray | None = None) -> WithWeights:
        """Return these experts under the gate weights of many decisions, ``(n_decisions, batch, K)``, for evaluation.

        :raises ValueError: unless rows of weights are non-negative and sum to 1
        """
        if self.expert.n_averaged > 1:
            return MeanOfMembers(self.model, weights, drawn, self.expert.n_averaged)
        return WithWeights(self.model, weights, drawn)

    def remember_positions(self, path: Path, node: Any, plugins: Sequence[str]) -> None:
        """Note the positions of a bundle, which are built when they are asked for.

        :param node: the manifest's ``task.positions``; ``None``: it has none
        """
        self._saved_positions = None if node is None else (path, node, tuple(plugins))

    def _known_positions(self) -> Positions:
        if self.positions is None and self._saved_positions is not None:
            path, node, plugins = self._saved_positions
            try:
                found = build(node, "task.positions", plugins)
                if not all(callable(getattr(found, verb, None)) for verb in ("targets", "nearest", "action_space")):
                    raise ConfigError("task.positions: not positions")
                if found.action_space() != self.model.action_space:
                    raise ConfigError(f"task.positions: expected positions of {self.model.action_space}")
            except ConfigError as error:
                raise BundleError(f"{path / MANIFEST}: {error}; copy the bundle again") from None
            self.positions = found
        if self.positions is None:
            raise ValueError(
                "positions: this agent does not know which position an action means; set agent.positions = "
                "task.task.positions, or load a bundle that moe-train saved"
            )
        return self.positions

    def _exposure(self, observations: np.ndarray) -> Floats:
        """Return the exposure that each row holds: the account's two numbers are the last that experts see."""
        exposure: Floats = np.asarray(observations[:, self.layout.experts[-1] - 1], dtype=np.float64)
        return exposure

    def _check(self, observations: np.ndarray) -> None:
        """Refuse observations and outputs that cannot be used. :raises ValueError: as :meth:`predict`."""
        with torch.no_grad():
            self.model.choice(self.model.to_tensor(observations)[0])
