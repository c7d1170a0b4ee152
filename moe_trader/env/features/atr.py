"""Average true range, by TA-Lib."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.indicators import Periods, begun, high_low_close, talib
from moe_trader.env.features.series import SMALLEST
from moe_trader.option import option


@option
class ATR(Feature):
    """Natural log of Wilder's average true range over each period, as a fraction of the close.

    :param periods: bars
    """

    periods: Periods

    def columns(self) -> list[str]:
        """Return ``atr_14``, ..."""
        return [f"atr_{period}" for period in self.periods]

    def warmup(self) -> int:
        """Return four times the longest period: a Wilder mean has forgotten 98 % of its start by then."""
        return 4 * max(self.periods)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(periods))``."""
        high, low, close = high_low_close(instrument)
        ranges = [begun(talib().ATR(high, low, close, timeperiod=period), 0.0) / close for period in self.periods]
        return np.log(np.stack(ranges, 1) + SMALLEST)
