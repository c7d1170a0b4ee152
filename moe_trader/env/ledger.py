"""The ledger: what a position earns and what trading it costs. One kernel serves both environments.

The ledger of a lane is one row of float64 (columns :data:`EQUITY` ...). It keeps *equity* marked at the last price
seen and the *units* held, so that a price that does not move changes nothing, to the last bit; cash is what remains:
``cash = equity - units * mark``. An order moves the position to ``target`` x equity *after* costs, and costs are
charged on the amount ordered. With 0.1 % and equity 1,000, buying all in leaves 999.0 and selling it again 998.001.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numba import njit
from pydantic import Field

from moe_trader.env import Floats
from moe_trader.option import option

EQUITY, UNITS, MARK, TARGET, ENTRY_EQUITY, TRADED, COST = range(7)
N_COLUMNS = 7

FILLS = ("this_close", "next_open", "next_close")
THIS_CLOSE, NEXT_OPEN, NEXT_CLOSE = range(3)

RUIN = 1e-6  # of the initial equity: a lane at or below it is bankrupt and ends, which keeps log rewards finite

NonNegative = Annotated[float, Field(ge=0)]


@option
class Costs:
    """What trading costs.

    :param proportional_bp: commission on the amount traded, basis points
    :param half_spread_bp: half the bid-ask spread and slippage, on the amount traded, basis points
    :param fixed_entry: per order that opens or enlarges a position, in currency
    :param fixed_exit: per order that closes or reduces a position, in currency; a reversal pays both
    :param borrow_annual: interest on the value of a short position held overnight, a fraction per year of calendar time
    """

    proportional_bp: NonNegative
    half_spread_bp: NonNegative
    fixed_entry: NonNegative
    fixed_exit: NonNegative
    borrow_annual: NonNegative

    def rate(self) -> float:
        """Return the cost of trading one unit of currency."""
        return (self.proportional_bp + self.half_spread_bp) * 1e-4

    def rates(self) -> CostRates:
        """Return the costs as the kernel takes them."""
        return CostRates(self.rate(), self.fixed_entry, self.fixed_exit, self.borrow_annual)


class CostRates(NamedTuple):
    """Costs in the units of the kernel: a fraction of the amount, currency, currency, a fraction per year."""

    rate: float
    entry: float
    exit: float
    borrow: float


class Prices(NamedTuple):
    """Bars of all instruments, one after the other, shape ``(n_bars,)``; ``years`` since the bar before."""

    open: Floats
    close: Floats
    years: Floats


@njit(cache=True)
def open_ledger(row: Floats, equity: float, price: float) -> None:
    """Start a lane with cash alone."""
    row[:] = 0.0
    row[EQUITY] = equity
    row[ENTRY_EQUITY] = equity
    row[MARK] = price


@njit(cache=True)
def _mark(row: Floats, price: float) -> None:
    row[EQUITY] += row[UNITS] * (price - row[MARK])
    row[MARK] = price


@njit(cache=True)
def _trade(row: Floats, target: float, costs: CostRates) -> None:
    """Move the position to ``target`` x equity at the mark price, after costs."""
    held = row[UNITS] * row[MARK]
    traded = abs(target * row[EQUITY] - held)
    before, after = row[TARGET], target
    cost = costs.rate * traded
    reverses = before * after < 0
    if reverses or abs(after) > abs(before):
        cost += costs.entry
    if reverses or abs(after) < abs(before):
        cost += costs.exit
    row[TRADED] = traded / row[EQUITY]
    row[COST] += cost
    row[EQUITY] -= cost
    row[UNITS] = target * row[EQUITY] / row[MARK] if row[EQUITY] > 0 else 0.0
    row[TARGET] = target
    row[ENTRY_EQUITY] = row[EQUITY]


@njit(cache=True)
def step_ledger(
    row: Floats, bar: int, target: float, fill: int, prices: Prices, costs: CostRates, ruin: float
) -> tuple[float, bool]:
    """Carry one lane from the close of ``bar`` to the next close, moving to ``target`` at the fill.

    A target equal to the one before is no order: the position is left to drift.

    :param ruin: equity at or below which the lane is bankrupt: it is closed out there, and keeps exactly that
    :return: log(equity after / equity before), and whether the lane went bankrupt
    """
    before = row[EQUITY]
    row[TRADED] = 0.0
    row[COST] = 0.0
    changes = target != row[TARGET]
    if fill == THIS_CLOSE and changes:
        _trade(row, target, costs)
    if row[UNITS] < 0:  # the loan is the position carried out of this close
        interest = costs.borrow * prices.years[bar + 1] * -row[UNITS] * row[MARK]
        row[COST] += interest
        row[EQUITY] -= interest
    if fill == NEXT_OPEN:
        _mark(row, prices.open[bar + 1])
        if changes and row[EQUITY] > ruin:
            _trade(row, target, costs)
    if row[EQUITY] > ruin:
        _mark(row, prices.close[bar + 1])
    if fill == NEXT_CLOSE and changes and row[EQUITY] > ruin:
        _trade(row, target, costs)
    bankrupt = row[EQUITY] <= ruin
    if bankrupt:
        row[EQUITY] = ruin
        row[ENTRY_EQUITY] = ruin
        row[UNITS] = 0.0
        row[TARGET] = 0.0
        row[MARK] = prices.close[bar + 1]
    return np.log(row[EQUITY] / before), bankrupt


@njit(cache=True, nogil=True)
def step_lanes(
    ledger: Floats,
    bars: np.ndarray,
    ends: np.ndarray,
    targets: Floats,
    fill: int,
    prices: Prices,
    costs: CostRates,
    ruin: float,
    rewards: Floats,
    bankrupt: np.ndarray,
) -> None:
    """Step every lane in place: ``ledger (n_lanes, N_COLUMNS)``, the rest ``(n_lanes,)``; ``bars`` moves on by one.

    A lane at its end, where bankruptcy brings it too, stays as it is and earns nothing until it is reset.
    """
    for lane in range(len(bars)):
        if bars[lane] >= ends[lane]:
            rewards[lane] = 0.0
            ledger[lane, TRADED] = 0.0
            ledger[lane, COST] = 0.0
            continue
        rewards[lane], bankrupt[lane] = step_ledger(ledger[lane], bars[lane], targets[lane], fill, prices, costs, ruin)
        bars[lane] += 1
        if bankrupt[lane]:
            ends[lane] = bars[lane]


@njit(cache=True, nogil=True)
def observe_lanes(
    ledger: Floats, bars: np.ndarray, features: np.ndarray, window: int, clip: float, observations: np.ndarray
) -> None:
    """Write each lane's observation: ``window`` feature rows, oldest first, then the account.

    The account is exposure (position value / equity) and ten times the log return since the last order.
    """
    n_features = features.shape[1]
    for lane in range(len(bars)):
        first = bars[lane] - window + 1
        out = observations[lane]
        for lag in range(window):
            for column in range(n_features):
                out[lag * n_features + column] = features[first + lag, column]
        row = ledger[lane]
        exposure = row[UNITS] * row[MARK] / row[EQUITY]
        gain = 10.0 * np.log(row[EQUITY] / row[ENTRY_EQUITY])
        out[window * n_features] = min(max(exposure, -clip), clip)
        out[window * n_features + 1] = min(max(gain, -clip), clip)
