"""How far bars reach between their high and their low."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import Span, Spans, check_below, relative_means
from moe_trader.option import option


@option
class Range(Feature):
    """Mean of log(high / low) over each span, relative to what is usual: over its mean over ``reference_span``.

    1: as usual, above: wider bars; 1 also where no bar has any range. Span 1 is the bar's own range.

    :param spans: bars, each below ``reference_span``
    :param reference_span: bars that say what is usual
    """

    spans: Spans
    reference_span: Span

    def __post_init__(self) -> None:
        check_below(self.spans, self.reference_span)

    def columns(self) -> list[str]:
        """Return ``range_1``, ..."""
        return [f"range_{span}" for span in self.spans]

    def warmup(self) -> int:
        """Return twice the reference's span."""
        return 2 * self.reference_span

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(spans))``."""
        return relative_means(np.log(instrument.high / instrument.low), self.spans, self.reference_span)
