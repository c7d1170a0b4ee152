"""The recent drift, as a t-statistic."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import Span, Spans, exponential_mean, exponential_volatility, log_returns
from moe_trader.option import option


@option
class Trend(Feature):
    """Exponential mean of the returns over each span, in units of its own standard deviation under no trend.

    That standard deviation is volatility / sqrt(span): the value is a t-statistic of the recent drift.

    :param spans: bars
    :param volatility_span: of the exponential volatility that divides
    """

    slow: ClassVar[bool] = True

    spans: Spans
    volatility_span: Span

    def columns(self) -> list[str]:
        """Return ``trend_5``, ..."""
        return [f"trend_{span}" for span in self.spans]

    def warmup(self) -> int:
        """Return twice the longest span."""
        return 2 * max(*self.spans, self.volatility_span)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(spans))``."""
        returns = log_returns(instrument)
        volatility = exponential_volatility(returns, self.volatility_span)
        return np.stack([exponential_mean(returns, span) * np.sqrt(span) / volatility for span in self.spans], 1)
