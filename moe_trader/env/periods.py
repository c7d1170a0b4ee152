"""The days that a split covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from moe_trader.env.lanes import Stretch


def period(times: np.ndarray, parts: Sequence[Stretch]) -> tuple[str, str]:
    """Return the days, ISO 8601, of the first and the last bar that decisions are made on, over all instruments.

    :param times: of every bar of the market, one instrument after the other
    :param parts: of a split
    """
    ends = [times[[part.first + 1, part.last]] for part in parts]
    first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    return str(np.datetime_as_string(first, "D")), str(np.datetime_as_string(last, "D"))
