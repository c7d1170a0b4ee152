"""The evaluation room: what a trained mixture does on bars it has never seen, and whether to believe it.

Nothing here knows PyTorch or SB3: an agent is whatever answers :class:`Decider`, a market whatever answers
:class:`Walkable`. Every ablation is the same experts under other gate weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class WithWeights(Protocol):
    """An agent's experts under given gate weights: :class:`moe_trader.mixture.with_weights.WithWeights`."""

    def order(
        self, at: int, observations: np.ndarray, held: Floats, positions: Any, seed: int
    ) -> tuple[Floats, np.ndarray]:
        """Return the target positions of decision ``at``, ``(batch,)``, and each expert's own actions.

        :param held: target that each row holds, shape ``(batch,)``
        :param positions: what actions mean, :class:`moe_trader.env.Positions`
        """


class Decider(Protocol):
    """What evaluation asks of an agent; :class:`~moe_trader.agent.MoEAgent` answers it."""

    @property
    def expert_names(self) -> list[str]:
        """Names of the K experts."""

    def gate_weights(self, observations: np.ndarray) -> np.ndarray:
        """Return ``(batch, K)`` weights."""

    def with_weights(self, weights: np.ndarray, drawn: np.ndarray) -> WithWeights:
        """Return the experts under the weights of many decisions, ``(n_decisions, batch, K)``.

        :param drawn: rows whose action is drawn instead of being the most likely, shape ``(batch,)``
        """


class Lanes(Protocol):
    """Accounts that walk the bars of a split together; see :class:`moe_trader.env.lanes.Lanes`.

    ``log_returns`` and the properties are views of what every step writes anew.
    """

    n: int
    log_returns: Floats

    def reset(self, lane: int, rng: np.random.Generator) -> None:
        """Go back to the first bar."""

    def observe(self) -> np.ndarray:
        """Return ``(n, size)`` observations."""

    def move(self, targets: Floats) -> None:
        """Order target positions and carry every lane one bar on."""

    @property
    def target(self) -> Floats:
        """Target position held."""

    @property
    def carried(self) -> Floats:
        """Largest absolute position / equity carried through any part of the last step."""

    @property
    def traded(self) -> Floats:
        """Amount traded / equity."""

    @property
    def margin_calls(self) -> Floats:
        """1 where the last step was a margin call, 0 elsewhere."""

    @property
    def cost(self) -> Floats:
        """Costs of the last step, in currency."""

    @property
    def equity(self) -> Floats:
        """Equity in currency."""


class Walkable(Protocol):
    """A prepared task; see :class:`moe_trader.env.task.PreparedTask`."""

    task: Any
    market: Any
    labels: Any

    def walk(self, split: str, copies: int) -> Lanes:
        """Return lanes that go through every instrument of a split, ``copies`` times over."""

    def evaluated(self, split: str) -> Sequence[Any]:
        """Return the decisions of each instrument."""
