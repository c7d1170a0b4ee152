"""Bollinger bands, by TA-Lib."""

from __future__ import annotations

import numpy as np

from moe_trader.bounds import Scale
from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.indicators import Periods, begun, high_low_close, talib
from moe_trader.env.features.series import SMALLEST
from moe_trader.option import option


@option
class Bollinger(Feature):
    """Bands around the moving mean of the log price: where the price stands in them, and how wide they are.

    ``bollinger`` is 0 at the mean, 1 at the upper and -1 at the lower band; ``bollinger_width`` is the natural log of
    half the bands' distance. On the log price both are scale-free.

    :param periods: bars of the moving mean and standard deviation
    :param deviations: distance of a band from the mean, in standard deviations
    """

    periods: Periods
    deviations: Scale

    def columns(self) -> list[str]:
        """Return ``bollinger_20``, ``bollinger_width_20``, ..."""
        return [f"{name}_{period}" for period in self.periods for name in ("bollinger", "bollinger_width")]

    def warmup(self) -> int:
        """Return the longest period."""
        return max(self.periods)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, 2 len(periods))``."""
        level = np.log(high_low_close(instrument)[2])
        columns = []
        for period in self.periods:
            width = self.deviations
            upper, middle, _ = talib().BBANDS(level, timeperiod=period, nbdevup=width, nbdevdn=width)
            half = begun(upper - middle, 0.0)
            place = np.divide(level - middle, half, out=np.zeros_like(half), where=half > 0)
            columns += [place, np.log(half + SMALLEST)]
        return np.stack(columns, 1)
