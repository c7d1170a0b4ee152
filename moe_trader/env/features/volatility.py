"""How much the price moves."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import Spans, exponential_volatility, log_returns
from moe_trader.option import option


@option
class Volatility(Feature):
    """Natural log of the exponential volatility of returns over each span.

    :param spans: bars
    """

    slow: ClassVar[bool] = True

    spans: Spans

    def columns(self) -> list[str]:
        """Return ``volatility_5``, ..."""
        return [f"volatility_{span}" for span in self.spans]

    def warmup(self) -> int:
        """Return twice the longest span."""
        return 2 * max(self.spans)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(spans))``."""
        returns = log_returns(instrument)
        return np.log(np.stack([exponential_volatility(returns, span) for span in self.spans], 1))
