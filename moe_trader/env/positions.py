"""What an action means: the position an agent may ask for."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import numpy as np
from gymnasium import spaces
from pydantic import Field

from moe_trader.bounds import Exposure, NonNegative, Real
from moe_trader.env import Floats, Positions
from moe_trader.option import option

# A target that the ledger refuses. Tables of targets begin and end with it, and actions beyond them are clipped to it.
OUTSIDE = np.inf


@option
class Discrete(Positions):
    """One action for each of a list of target positions.

    :param fractions: of equity; above 1 is leverage, below 0 short, and 0 must be among them
    :param minimum_trade: smallest change of the target, as a fraction of equity, that is traded
    """

    fractions: Annotated[list[Annotated[Real, Field(ge=-1_000, le=1_000)]], Field(min_length=2, max_length=1_000)]
    minimum_trade: Exposure

    def __post_init__(self) -> None:
        if len(set(self.fractions)) < len(self.fractions) or 0.0 not in self.fractions:
            raise ValueError(f"fractions: expected different numbers, 0 among them, got {self.fractions}")
        _check_minimum(self.minimum_trade, self.largest_target()[1])

    def action_space(self) -> spaces.Discrete:
        """Return ``Discrete(n)``."""
        return spaces.Discrete(len(self.fractions))

    def targets(self, actions: np.ndarray, held: Floats) -> tuple[Floats, Floats]:
        """Look the fractions up."""
        return self._table.take(actions + 1, mode="clip"), np.zeros(len(held))

    def largest_target(self) -> tuple[str, float]:
        """Return the largest absolute fraction."""
        return "fractions", max(map(abs, self.fractions))

    @cached_property
    def _table(self) -> Floats:
        """Return the target of each action, the one numbered -1 first."""
        return np.array([OUTSIDE, *self.fractions, OUTSIDE])


@option
class Continuous(Positions):
    """The action is the target position itself, a number in [-1, 1] that spans ``low`` to ``high``.

    The target is 0 where the action is 0 if ``low = -high``; otherwise the middle of the range.

    :param low: most negative target, as a fraction of equity; 0 bans short positions
    :param high: largest target; above 1 is leverage
    :param minimum_trade: smallest change of the target, as a fraction of equity, that is traded
    """

    low: Annotated[Real, Field(ge=-1_000, le=0)]
    high: Annotated[Real, Field(gt=0, le=1_000)]
    minimum_trade: Exposure

    def __post_init__(self) -> None:
        _check_minimum(self.minimum_trade, self.largest_target()[1])

    def action_space(self) -> spaces.Box:
        """Return ``Box(-1, 1, (1,))``, the range that SB3's Gaussian policies expect."""
        return spaces.Box(-1.0, 1.0, (1,), np.float32)

    def targets(self, actions: np.ndarray, held: Floats) -> tuple[Floats, Floats]:
        """Spread [-1, 1] over [low, high]; actions beyond it count as its ends."""
        unit = np.clip(np.asarray(actions, dtype=np.float64).reshape(len(held)), -1.0, 1.0)
        return self.low + (unit + 1.0) / 2.0 * (self.high - self.low), np.zeros(len(held))

    def nearest(self, targets: Floats, held: Floats) -> np.ndarray:
        """Return the number in [-1, 1] that stands for the target, as far as it lies in the range."""
        unit = (np.asarray(targets, dtype=np.float64) - self.low) / (self.high - self.low) * 2.0 - 1.0
        return np.clip(unit, -1.0, 1.0).astype(np.float32)[:, None]

    def largest_target(self) -> tuple[str, float]:
        """Return the end of the range that is farther from 0."""
        return ("high", self.high) if self.high >= -self.low else ("low", -self.low)


BUY_LONG, SELL_SHORT, CLOSE_LONG, CLOSE_SHORT, HOLD = range(5)


@option
class Orders(Positions):
    """Five orders: BUY_LONG, SELL_SHORT, CLOSE_LONG, CLOSE_SHORT, HOLD (actions 0 to 4).

    A position must be closed before the opposite one is opened. An order that makes no sense for the position held
    (closing what is not there, opening what is) holds, and costs a penalty of the reward. Where a volume cap filled an
    order in part, the same order again goes on with it, and HOLD keeps the part.

    :param size: of an opened position, as a fraction of equity
    :param allow_short: whether SELL_SHORT is a sensible order at all
    :param penalty: subtracted from the reward (a log return) for an order that makes no sense; never from equity
    """

    size: Annotated[Real, Field(gt=0, le=1_000)]
    allow_short: bool
    penalty: NonNegative

    minimum_trade = 0.0

    def action_space(self) -> spaces.Discrete:
        """Return ``Discrete(5)``."""
        return spaces.Discrete(5)

    def targets(self, actions: np.ndarray, held: Floats) -> tuple[Floats, Floats]:
        """Look the order up in what it does when short, flat and long; what is held already is not ordered again."""
        table = self._table[np.clip(actions, -1, len(self._table) - 2) + 1, np.sign(held).astype(np.int64) + 1]
        orders = (table != held) & ~np.isnan(table)
        senseless = ~orders & (actions != HOLD)
        return np.where(orders, table, held), np.where(senseless, self.penalty, 0.0)

    def largest_target(self) -> tuple[str, float]:
        """Return the size."""
        return "size", self.size

    @cached_property
    def _table(self) -> Floats:
        """Return the target of each order, the one numbered -1 first, when short, flat and long; NaN: none."""
        no, size = np.nan, self.size
        short = -size if self.allow_short else no
        orders = np.array([[no, size, size], [short, short, no], [no, no, 0.0], [0.0, no, no], [no, no, no]])
        outside = np.full((1, 3), OUTSIDE)
        return np.concatenate([outside, orders, outside])


def _check_minimum(minimum_trade: float, largest: float) -> None:
    """Refuse a minimum trade that no order reaches from a flat account. :raises ValueError: naming both."""
    if minimum_trade > largest:
        raise ValueError(
            f"minimum_trade: expected at most {largest:g}, the largest position there is, got {minimum_trade:g}: "
            "nothing would ever be traded"
        )
