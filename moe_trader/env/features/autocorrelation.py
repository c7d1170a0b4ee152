"""Whether moves go on or turn back."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import SMALLEST, Spans, exponential_mean, log_returns
from moe_trader.option import option


@option
class Autocorrelation(Feature):
    """First autocorrelation of returns over each span: mean(r r') / mean(r^2), exponential means, within [-1, 1].

    :param spans: bars
    """

    slow: ClassVar[bool] = True

    spans: Spans

    def columns(self) -> list[str]:
        """Return ``autocorrelation_20``, ..."""
        return [f"autocorrelation_{span}" for span in self.spans]

    def warmup(self) -> int:
        """Return twice the longest span."""
        return 2 * max(self.spans)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(spans))``."""
        returns = log_returns(instrument)
        products = returns * returns.shift(1).fillna(0.0)
        # Dividing by the mean of both bars' squares keeps the ratio within [-1, 1], since |ab| <= (a^2 + b^2) / 2.
        squares = (returns**2 + returns.shift(1).fillna(0.0) ** 2) / 2 + SMALLEST**2
        return np.stack([exponential_mean(products, s) / exponential_mean(squares, s) for s in self.spans], 1)
