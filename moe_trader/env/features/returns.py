"""Log returns over several horizons."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import Span, Spans, exponential_volatility, log_returns
from moe_trader.option import option


@option
class Returns(Feature):
    """Log return over each horizon, in units of its standard deviation: r_h / (volatility * sqrt(h)).

    :param horizons: bars
    :param volatility_span: of the exponential volatility that divides
    """

    horizons: Spans
    volatility_span: Span

    def columns(self) -> list[str]:
        """Return ``return_1``, ..."""
        return [f"return_{horizon}" for horizon in self.horizons]

    def warmup(self) -> int:
        """Return the longest horizon, or the volatility's span where that is longer."""
        return max(*self.horizons, self.volatility_span)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(horizons))``."""
        returns = log_returns(instrument)
        volatility = exponential_volatility(returns, self.volatility_span)
        level = returns.cumsum()
        return np.stack([level.diff(h).fillna(0.0).to_numpy() / (volatility * np.sqrt(h)) for h in self.horizons], 1)
