"""Average directional index, by TA-Lib."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.indicators import Periods, begun, high_low_close, talib
from moe_trader.option import option


@option
class ADX(Feature):
    """Wilder's directional movement over each period: how strong a trend is, and which way it goes.

    ``adx`` is the average directional index, 0 (none) to 1; ``direction`` is +DI less -DI, -1 (down) to 1 (up).

    :param periods: bars
    """

    periods: Periods

    def columns(self) -> list[str]:
        """Return ``adx_14``, ``direction_14``, ..."""
        return [f"{name}_{period}" for period in self.periods for name in ("adx", "direction")]

    def warmup(self) -> int:
        """Return six times the longest period: a Wilder mean of Wilder means."""
        return 6 * max(self.periods)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, 2 len(periods))``."""
        prices = high_low_close(instrument)
        columns = []
        for period in self.periods:
            strength = talib().ADX(*prices, timeperiod=period)
            up = talib().PLUS_DI(*prices, timeperiod=period)
            down = talib().MINUS_DI(*prices, timeperiod=period)
            columns += [begun(strength, 0.0) / 100.0, begun(up - down, 0.0) / 100.0]
        return np.stack(columns, 1)
