"""What a market holds, in numbers: for `moe-data`, and for anyone who meets new data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_trader.env import Instrument
from moe_trader.env.market import YEAR


@dataclass(frozen=True)
class Contents:
    """What the bars of one instrument are like.

    :param bars: how many
    :param first: close of the first bar
    :param last: close of the last bar
    :param gaps: steps between bars longer than 1.5 times the 99 % quantile of its steps (for daily bars: closures
        longer than long weekends)
    :param longest_gap: the longest step
    :param stale_opens: share of the bars that open exactly at the close before
    :param no_volume: bars without volume
    :param annual_return: compound, per year
    :param annual_volatility: standard deviation of log returns, per year
    """

    bars: int
    first: np.datetime64
    last: np.datetime64
    gaps: int
    longest_gap: np.timedelta64
    stale_opens: float
    no_volume: int
    annual_return: float
    annual_volatility: float


def contents(one: Instrument) -> Contents:
    """Return what the bars of an instrument are like. :raises MarketError: where there is a single bar."""
    years = one.seconds() / YEAR
    steps = np.diff(one.time)
    usual = np.quantile(steps.astype(np.int64), 0.99)
    moves = np.diff(np.log(one.close))
    return Contents(
        bars=len(one),
        first=one.time[0],
        last=one.time[-1],
        gaps=int((steps.astype(np.int64) > 1.5 * usual).sum()),
        longest_gap=steps.max(),
        stale_opens=float((one.open[1:] == one.close[:-1]).mean()),
        no_volume=int((one.volume == 0).sum()),
        annual_return=float(np.expm1(moves.sum() / years)),
        annual_volatility=float(moves.std() * np.sqrt(len(moves) / years)),
    )
