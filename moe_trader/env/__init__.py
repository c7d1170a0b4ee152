"""The env room: markets, what an agent sees of them, and what trading them pays.

Prices stand in :mod:`~moe_trader.env.market`, the contracts here; every other file implements one of them or joins them
(:class:`~moe_trader.env.task.TradingTask`). Nothing in this room imports another room.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from moe_trader.env.market import Floats, Instrument, Market
from moe_trader.env.market import MarketError as MarketError
from moe_trader.option import ConfigError

SPLITS = ("train", "validation", "test")


class MarketSource(ABC):
    """Where prices come from: an option of ``conf/env``."""

    @abstractmethod
    def load(self) -> Market:
        """Return the market. :raises MarketError: when its data cannot be used."""

    def reference_targets(self, market: Market, cost_rate: float) -> Mapping[str, Sequence[Floats]]:
        """Return strategies that know what no agent can, as ``{name: target position per bar, per instrument}``.

        A synthetic market that knows its own parameters overrides this; real markets have none.

        :param cost_rate: cost of trading one unit of equity, as a fraction
        """
        return {}


@dataclass(frozen=True)
class Segment:
    """Bars ``[start, stop)`` of one instrument."""

    instrument: int
    start: int
    stop: int


class Split(ABC):
    """How a market is cut into training, validation and test segments: an option of ``conf/env/split``."""

    @abstractmethod
    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return the segments of each of :data:`SPLITS`, one for each instrument that belongs there.

        One may be empty, or too short to decide in: that instrument is left out of the split
        (:func:`~moe_trader.env.splits.playable`).

        :param lookback: bars that an observation uses, its own among them: what a purge must drop at least
        :raises MarketError: when a split cannot be made
        """


class Feature(ABC):
    """Causal, scale-free columns computed from one instrument; an entry of ``env.features``.

    *Causal*: row t depends on bars up to and including t alone. *Scale-free*: multiplying all prices by a constant
    changes nothing. What it must learn of a market first it learns in :meth:`fit`.
    """

    def fit(self, series: Sequence[Instrument]) -> Feature:
        """Return the feature, fitted: an option that holds what was fitted in its settings, and travels in the bundle.

        One that is fitted already, or that has nothing to fit, returns itself.

        :param series: the training bars alone, one instrument each, without true regimes
        :raises MarketError: when they cannot be fitted
        """
        return self

    slow: ClassVar[bool] = False
    """Whether it tells the market's condition, which lasts, not its last move: what a gate sees by default."""
    for_gate: ClassVar[bool] = False
    """Whether it answers the gate's own question, so that by default experts do not see it: they would route too."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Return one name for each column."""

    @abstractmethod
    def warmup(self) -> int:
        """Return how many leading rows are not meaningful yet."""

    @abstractmethod
    def compute(self, instrument: Instrument) -> Floats:
        """Return an array of shape ``(n_bars, n_columns)``."""


class Positions(ABC):
    """What an action means: an option of ``conf/env/positions``.

    ``minimum_trade`` is the smallest change of the target, as a fraction of equity, that is traded: the change from
    what the last fill reached, which is less than it was to be where a volume cap cut it short.
    """

    minimum_trade: float

    @abstractmethod
    def action_space(self) -> spaces.Discrete | spaces.Box:
        """Return the space of one lane's action."""

    @abstractmethod
    def targets(self, actions: np.ndarray, held: Floats) -> tuple[Floats, Floats]:
        """Return each lane's target position (a fraction of equity) and what its reward is docked, ``(n_lanes,)``.

        :param actions: shape ``(n_lanes, *action_space.shape)``
        :param held: the target that each lane's last fill reached; returning it orders nothing
        """

    def nearest(self, targets: Floats, held: Floats) -> np.ndarray:
        """Return for each lane the action whose target is nearest: what comes closest to a target between actions.

        Of actions equally near, one that the reward is not docked for is taken, then the smaller position.

        :param targets: fractions of equity, shape ``(n_lanes,)``
        :param held: as for :meth:`targets`
        :raises ConfigError: for a Box of actions, unless the positions define this method themselves
        """
        space = self.action_space()
        if not isinstance(space, spaces.Discrete):
            raise ConfigError(
                f"env.positions: {type(self).__name__} must define nearest(): a Box has no list of actions"
            )
        every = [self.targets(np.full(len(held), action), held) for action in range(int(space.n))]
        found, docked = (np.stack(column) for column in zip(*every, strict=True))  # (n_actions, n_lanes)
        order = np.lexsort((np.abs(found), docked, np.abs(found - targets)), axis=0)
        best: np.ndarray = order[0]
        return best

    def largest_target(self) -> tuple[str, float] | None:
        """Return the setting that allows the largest |target|, and that |target|; ``None``: no such bound.

        A task whose maintenance margin would close that position at once is refused.
        """
        return None


class Reward(ABC):
    """What the learner is rewarded for: an option of ``conf/env/reward``."""

    @abstractmethod
    def kernel(self) -> tuple[int, float]:
        """Return which of the ledger's rewards this is, and its setting."""

    def has_unit(self) -> bool:
        """Whether the reward is in log return, so that dividing by the market's volatility makes sense."""
        return True


@dataclass(frozen=True)
class Labels:
    """A regime for each bar: ``index`` per instrument (``-1``: not known yet) into ``names``."""

    names: tuple[str, ...]
    index: tuple[NDArray[np.int64], ...]


class RegimeLabeller(ABC):
    """Names the market condition of each bar, for the tables and for a gate that asks for it; experts never see it."""

    causal: ClassVar[bool] = True
    """Whether a bar's label depends on bars up to its own alone, apart from what is estimated on the training split."""

    @abstractmethod
    def warmup(self) -> int:
        """Return how many leading bars get no label."""

    @abstractmethod
    def label(self, market: Market, train: Sequence[Segment]) -> Labels:
        """Label every bar; whatever is estimated is estimated on the ``train`` segments."""
