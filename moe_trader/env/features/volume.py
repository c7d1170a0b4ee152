"""How much is traded."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.env.features.series import Span, Spans, check_below, relative_means
from moe_trader.option import option


@option
class Volume(Feature):
    """Log((1 + v) / 2), where v is the mean volume over each span over its mean over ``reference_span``.

    0: as usual, above: busier, log(1/2): nothing traded. Multiplying all volumes by a constant changes nothing, and a
    market whose volume is not known (all zeros) is always as usual.

    :param spans: bars, each below ``reference_span``
    :param reference_span: bars that say what is usual
    """

    spans: Spans
    reference_span: Span

    def __post_init__(self) -> None:
        check_below(self.spans, self.reference_span)

    def columns(self) -> list[str]:
        """Return ``volume_1``, ..."""
        return [f"volume_{span}" for span in self.spans]

    def warmup(self) -> int:
        """Return twice the reference's span."""
        return 2 * self.reference_span

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, len(spans))``."""
        return np.log((1.0 + relative_means(instrument.volume, self.spans, self.reference_span)) / 2.0)
