"""The ledger: what a position earns and what trading it costs. One kernel serves both environments.

The ledger of a lane is one row of float64 (columns :data:`EQUITY` ...). It keeps *equity* marked at the last price
seen and the *units* held, so that a price that does not move changes nothing, to the last bit; cash is what remains:
``cash = equity - units * mark``. An order moves the position to ``target`` x equity *after* costs, and costs are
charged on the amount ordered. With 0.1 % and equity 1,000, buying all in leaves 999.0 and selling it again 998.001.

:data:`TARGET` is what the last fill *reached*, as a fraction of equity: the target ordered, or less where the volume
cap cut the order short. Whatever asks "is this an order?" compares with it: ordering it again is none, and what was cut
off is traded by ordering the whole target again. Fees ask another question: whether a trade enlarges the position held
(an entry), reduces it (an exit) or crosses zero (both), whatever had been ordered.

The maintenance margin is checked once a step, at the close where the order is decided. Below it, closing the position
replaces that order; :data:`MARGIN_CALL` counts it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moe_trader.compiled import njit
from moe_trader.env import Floats
from moe_trader.env.costs import CostRates

EQUITY, UNITS, MARK, TARGET, ENTRY_EQUITY, TRADED, COST, INTEREST, CARRIED, MEMORY_A, MEMORY_B, MARGIN_CALL = range(12)
N_COLUMNS = 12

FILLS = ("this_close", "next_open", "next_close")
THIS_CLOSE, NEXT_OPEN, NEXT_CLOSE = range(3)

LOG_RETURN, DIFFERENTIAL_SHARPE, DRAWDOWN, TURNOVER = range(4)

RUIN = 1e-6  # of the initial equity: a lane at or below it is bankrupt and ends, which keeps log rewards finite
LEAST_SPREAD = (
    0.01  # of a bar's variance: an account flat for long has none of its own, and any return would be endless
)
ROUNDING = 1e-9  # of equity: a change of the target, a trade or a margin that differs by less does not differ


class Prices(NamedTuple):
    """Bars of all instruments, one after the other, each of shape ``(n_bars,)``.

    :param years: since the bar before
    :param volatility: of one bar's log return, known at its close
    :param volume: units traded in the bar
    """

    open: Floats
    close: Floats
    years: Floats
    volatility: Floats
    volume: Floats


class Terms(NamedTuple):
    """What every lane trades by; see :class:`~moe_trader.env.lanes.Rules`."""

    fill: int
    ruin: float
    minimum_trade: float
    reward: int
    reward_setting: float
    bar_variance: float
    maintenance: float


# The kernel takes prices as one array (n_bars, 5) and terms with costs as one vector: unpacking named tuples at every
# call would cost more than stepping 64 lanes. These are their columns.
OPEN, CLOSE, YEARS, VOLATILITY, VOLUME = range(len(Prices._fields))
FILL, RUIN_LEVEL, MINIMUM_TRADE, REWARD, REWARD_SETTING, BAR_VARIANCE, MAINTENANCE = range(len(Terms._fields))
RATE, ENTRY, EXIT, SLIPPAGE, IMPACT, VOLUME_CAP, BORROW, CREDIT, DEBIT = range(
    len(Terms._fields), len(Terms._fields) + len(CostRates._fields)
)


def pack_terms(terms: Terms, costs: CostRates) -> Floats:
    """Return terms and costs as the kernel takes them."""
    return np.array([*terms, *costs], dtype=np.float64)


def pack_prices(prices: Prices) -> Floats:
    """Return prices as the kernel takes them, shape ``(n_bars, 5)``."""
    return np.stack(prices, axis=1)


@njit(cache=True)
def open_ledger(row: Floats, equity: float, price: float, terms: Floats) -> None:
    """Start a lane with cash alone."""
    row[:] = 0.0
    row[EQUITY] = equity
    row[ENTRY_EQUITY] = equity
    row[MARK] = price
    if terms[REWARD] == DIFFERENTIAL_SHARPE:
        row[MEMORY_B] = terms[BAR_VARIANCE]


@njit(cache=True)
def _mark(row: Floats, price: float) -> None:
    row[CARRIED] = max(row[CARRIED], abs(row[UNITS]) * row[MARK] / row[EQUITY])
    row[EQUITY] += row[UNITS] * (price - row[MARK])
    row[MARK] = price


@njit(cache=True)
def _below_margin(row: Floats, maintenance: float) -> bool:
    """Return whether equity is below ``maintenance`` x |position value|; never without a position or a margin."""
    return row[EQUITY] < (1.0 - ROUNDING) * maintenance * abs(row[UNITS] * row[MARK])


@njit(cache=True)
def _trade(row: Floats, target: float, volatility: float, volume: float, terms: Floats) -> None:
    """Move the position to ``target`` x equity at the mark price, after costs."""
    held = row[UNITS] * row[MARK]
    ordered = target * row[EQUITY] - held
    cap = np.inf if terms[VOLUME_CAP] == np.inf else terms[VOLUME_CAP] * volume * row[MARK]
    traded = min(abs(ordered), cap)
    if traded == 0.0 and cap == 0.0:
        return
    cost = (terms[RATE] + terms[SLIPPAGE] * volatility) * traded
    if terms[IMPACT] > 0:
        cost += terms[IMPACT] * volatility * np.sqrt(traded / (volume * row[MARK])) * traded
    after = held + np.sign(ordered) * traded
    reverses, grown = held * after < 0, abs(after) - abs(held)
    if reverses or grown > ROUNDING * row[EQUITY]:
        cost += terms[ENTRY]
    if reverses or grown < -ROUNDING * row[EQUITY]:
        cost += terms[EXIT]
    row[TRADED] = traded / row[EQUITY]
    row[COST] += cost
    row[EQUITY] -= cost
    if row[EQUITY] <= 0:
        row[UNITS] = 0.0
    elif traded < abs(ordered) and traded < abs(target * row[EQUITY] - held):  # costs may leave less to trade
        row[UNITS] += np.sign(ordered) * traded / row[MARK]
        target = row[UNITS] * row[MARK] / row[EQUITY]  # what is left can be ordered again
    else:
        row[UNITS] = target * row[EQUITY] / row[MARK]
    row[TARGET] = target
    row[ENTRY_EQUITY] = row[EQUITY]


@njit(cache=True)
def _carry(row: Floats, years: float, terms: Floats) -> None:
    """Charge and pay interest on what is carried out of a close: short positions and cash."""
    held = row[UNITS] * row[MARK]
    cash = row[EQUITY] - held
    fee = terms[BORROW] * years * max(-held, 0.0) + terms[DEBIT] * years * max(-cash, 0.0)
    earned = terms[CREDIT] * years * max(cash, 0.0)
    row[COST] += fee
    row[INTEREST] = earned
    row[EQUITY] += earned - fee


@njit(cache=True)
def _shape(row: Floats, log_return: float, kind: float, setting: float, variance: float) -> float:
    """Return the reward of a bar from its log return and what the lane remembers."""
    if kind == DIFFERENTIAL_SHARPE:
        first, second = row[MEMORY_A], row[MEMORY_B]
        up, up_square = log_return - first, log_return * log_return - second
        spread = max(second - first * first, LEAST_SPREAD * variance)
        row[MEMORY_A] += setting * up
        row[MEMORY_B] += setting * up_square
        if spread <= 0.0:  # a market that does not move: there is no ratio to raise
            return 0.0
        return (second * up - 0.5 * first * up_square) / spread**1.5
    if kind == DRAWDOWN:
        level = row[MEMORY_A] - log_return  # log drawdown, 0 at a peak
        deeper = max(level, 0.0) - row[MEMORY_A]
        row[MEMORY_A] = max(level, 0.0)
        return log_return - setting * max(deeper, 0.0)
    if kind == TURNOVER:
        return log_return - setting * row[TRADED]
    return log_return


@njit(cache=True)
def step_ledger(row: Floats, bar: int, target: float, prices: Floats, terms: Floats) -> tuple[float, float, bool]:
    """Carry one lane from the close of ``bar`` to the next close, moving to ``target`` at the fill.

    A target within the minimum trade of the one that the last fill reached is no order, unless it closes the position:
    what is held is left to drift. With equity below the maintenance margin at the close of ``bar``, the target is 0
    whatever was ordered. Equity at or below the ruin level is bankruptcy: the lane is closed out there, and keeps
    exactly that.

    :return: reward, log(equity after / equity before), and whether the lane went bankrupt
    """
    before = row[EQUITY]
    row[TRADED] = 0.0
    row[COST] = 0.0
    row[INTEREST] = 0.0
    row[CARRIED] = 0.0
    row[MARGIN_CALL] = 0.0
    if _below_margin(row, terms[MAINTENANCE]):
        row[MARGIN_CALL] = 1.0
        target = 0.0
    fill, ruin = terms[FILL], terms[RUIN_LEVEL]
    change = abs(target - row[TARGET])
    changes = change > 0 and (target == 0.0 or change >= terms[MINIMUM_TRADE] - ROUNDING)
    volatility, volume = prices[bar, VOLATILITY], prices[bar, VOLUME]
    if fill == THIS_CLOSE and changes:
        _trade(row, target, volatility, volume, terms)
    _carry(row, prices[bar + 1, YEARS], terms)
    if fill == NEXT_OPEN and row[EQUITY] > ruin:
        _mark(row, prices[bar + 1, OPEN])
        if changes and row[EQUITY] > ruin:
            _trade(row, target, volatility, volume, terms)
    if row[EQUITY] > ruin:
        _mark(row, prices[bar + 1, CLOSE])
    if fill == NEXT_CLOSE and changes and row[EQUITY] > ruin:
        _trade(row, target, volatility, volume, terms)
    bankrupt = row[EQUITY] <= ruin
    if bankrupt:
        row[EQUITY] = ruin
        row[ENTRY_EQUITY] = ruin
        row[UNITS] = 0.0
        row[TARGET] = 0.0
        row[MARK] = prices[bar + 1, CLOSE]
    log_return = np.log(row[EQUITY] / before)
    reward = _shape(row, log_return, terms[REWARD], terms[REWARD_SETTING], terms[BAR_VARIANCE])
    return reward, log_return, bankrupt


@njit(cache=True, nogil=True)
def step_lanes(
    ledger: Floats,
    bars: np.ndarray,
    ends: np.ndarray,
    targets: Floats,
    prices: Floats,
    terms: Floats,
    rewards: Floats,
    log_returns: Floats,
    bankrupt: np.ndarray,
) -> int:
    """Step every lane in place: ``ledger (n_lanes, N_COLUMNS)``, the rest ``(n_lanes,)``; ``bars`` moves on by one.

    A lane at its end, where bankruptcy brings it too, stays as it is and earns nothing until it is reset.

    :return: the first lane whose target is not finite; such lanes are not stepped; ``-1``: there is none
    """
    unusable = -1
    for lane in range(len(bars)):
        if bars[lane] >= ends[lane]:
            rewards[lane] = log_returns[lane] = 0.0
            ledger[lane, TRADED] = ledger[lane, COST] = ledger[lane, INTEREST] = ledger[lane, CARRIED] = 0.0
            ledger[lane, MARGIN_CALL] = 0.0
            continue
        if not np.isfinite(targets[lane]):
            unusable = lane if unusable < 0 else unusable
            continue
        rewards[lane], log_returns[lane], bankrupt[lane] = step_ledger(
            ledger[lane], bars[lane], targets[lane], prices, terms
        )
        bars[lane] += 1
        if bankrupt[lane]:
            ends[lane] = bars[lane]
    return unusable


@njit(cache=True)
def _account(row: Floats, clip: float) -> tuple[float, float]:
    """Return exposure (position value / equity) and ten times the log return since the last order, clipped."""
    exposure = row[UNITS] * row[MARK] / row[EQUITY]
    gain = 10.0 * np.log(row[EQUITY] / row[ENTRY_EQUITY])
    return min(max(exposure, -clip), clip), min(max(gain, -clip), clip)


@njit(cache=True, nogil=True)
def observe_lanes(
    ledger: Floats, bars: np.ndarray, features: np.ndarray, window: int, clip: float, observations: np.ndarray
) -> None:
    """Write each lane's observation: ``window`` feature rows, oldest first, then the account."""
    flat = features.ravel()  # a view: a window of rows is one stretch of memory
    n_features = features.shape[1]
    size = window * n_features
    for lane in range(len(bars)):
        first = (bars[lane] - window + 1) * n_features
        seen, observation = flat[first : first + size], observations[lane, :size]
        for at in range(len(seen)):  # compiles to vector moves, which assigning one slice to the other does not
            observation[at] = seen[at]
        observations[lane, size], observations[lane, size + 1] = _account(ledger[lane], clip)


@njit(cache=True, nogil=True)
def write_bar_indices(ledger: Floats, bars: np.ndarray, clip: float, references: np.ndarray) -> None:
    """Write what stands for each lane's observation: the number of its bar, then the account."""
    for lane in range(len(bars)):
        references[lane, 0] = bars[lane]
        references[lane, 1], references[lane, 2] = _account(ledger[lane], clip)
