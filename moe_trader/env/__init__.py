"""The env room: markets, what an agent sees of them, and what trading them pays.

The contracts stand here; every other file of the room implements one of them or joins them
(:class:`~moe_trader.env.task.TradingTask`). Nothing in this room imports another room.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPLITS = ("train", "validation", "test")


class MarketError(ValueError):
    """Prices that cannot be used; the message names the file, the row or column, and the way out."""


@dataclass(frozen=True)
class Instrument:
    """Price history of one instrument, oldest bar first; all arrays have shape ``(n_bars,)``.

    ``time`` is when a bar closes (``datetime64[us]``, strictly increasing); prices are positive and finite.
    ``regime`` holds the index of the true market regime of each bar where the market knows it.
    """

    symbol: str
    time: NDArray[np.datetime64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    regime: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True)
class Market:
    """Immutable price history of one or several instruments.

    :param opens_are_real: whether an order can be filled at the next open; close-only sources say no
    :param regime_names: names of the true regimes, empty where nobody knows them
    :param repaired: rows of each instrument that its source mended while it read them, empty where none ever is
    """

    name: str
    instruments: tuple[Instrument, ...]
    opens_are_real: bool
    regime_names: tuple[str, ...] = ()
    repaired: tuple[int, ...] = ()

    @property
    def bars_per_year(self) -> float:
        """Bars in a calendar year, from the time stamps of the longest instrument: annualises the metrics."""
        longest = max(self.instruments, key=len)
        span = (longest.time[-1] - longest.time[0]) / np.timedelta64(1, "s")
        return (len(longest) - 1) * 365.25 * 86_400 / float(span)

    def sha256(self) -> str:
        """Return a hash of every stamp and price, to tell whether two runs saw the same data."""
        digest = hashlib.sha256()
        for one in self.instruments:
            digest.update(one.symbol.encode())
            for column in (one.time.astype(np.int64), one.open, one.high, one.low, one.close, one.volume):
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


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
        """Return the segments of each of :data:`SPLITS`.

        :param lookback: bars that an observation uses, its own among them: what a purge must drop at least
        :raises MarketError: when one of them would be empty
        """


class Feature(ABC):
    """Causal, scale-free columns computed from one instrument; an entry of ``env.features``.

    *Causal*: row t depends on bars up to and including t alone. *Scale-free*: multiplying all prices by a constant
    changes nothing.
    """

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
    """Names the market condition of each bar, for the tables only: labels never reach an observation."""

    @abstractmethod
    def warmup(self) -> int:
        """Return how many leading bars get no label."""

    @abstractmethod
    def label(self, market: Market, train: Sequence[Segment]) -> Labels:
        """Label every bar; whatever is estimated is estimated on the ``train`` segments."""
