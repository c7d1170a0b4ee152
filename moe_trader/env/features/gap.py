"""The move between a close and the next open."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import SMALLEST, Span, exponential_mean
from moe_trader.option import option


@option
class Gap(Feature):
    """Log of a bar's open over the close before it, in units of the root mean square of such gaps.

    0 where the market opens where it closed, as it does in data that has no true opens.

    :param span: bars of the exponential mean of squared gaps
    """

    span: Span

    def columns(self) -> list[str]:
        """Return ``gap_60``."""
        return [f"gap_{self.span}"]

    def warmup(self) -> int:
        """Return twice the span."""
        return 2 * self.span

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, 1)``."""
        gap = np.zeros(len(instrument))
        gap[1:] = np.log(instrument.open[1:] / instrument.close[:-1])
        return (gap / (np.sqrt(exponential_mean(gap**2, self.span)) + SMALLEST))[:, None]
