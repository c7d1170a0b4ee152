"""Relative strength index, by TA-Lib."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.indicators import Periods, begun, high_low_close, talib
from moe_trader.option import option


@option
class RSI(Feature):
    """Wilder's relative strength index over each period, moved from 0..100 to -1..1.

    -1: only falls, 1: only rises; 0: as much up as down, or a price that stands still.

    :param periods: bars
    """

    periods: Periods

    def columns(self) -> list[str]:
        """Return ``rsi_14``, ..."""
        return [f"rsi_{period}" for period in self.periods]

    def warmup(self) -> int:
        """Return four times the longest period: a Wilder mean has forgotten 98 % of its start by then."""
        return 4 * max(self.periods)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(periods))``."""
        close = high_low_close(instrument)[2]
        moves = pd.Series(np.abs(np.diff(close, prepend=close[0])))
        columns = []
        for period in self.periods:
            moving = moves.ewm(alpha=1 / period, adjust=False).mean().to_numpy() > 1e-12
            index = begun(talib().RSI(close, timeperiod=period), 50.0)
            columns.append(np.where(moving, index / 50.0 - 1.0, 0.0))  # of a price that stands still TA-Lib says 0
        return np.stack(columns, 1)
