"""What the TA-Lib indicators share: prices in units of the first close, and rows before an indicator begins.

TA-Lib (BSD-2, a plain wheel) is imported when the first indicator is computed, not before.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from moe_trader.bounds import Whole
from moe_trader.env import Floats, Instrument

Periods = Annotated[list[Annotated[Whole, Field(ge=2, le=100_000)]], Field(min_length=1, max_length=100)]


def talib() -> Any:
    """Return TA-Lib's module."""
    import talib

    return talib


def high_low_close(instrument: Instrument) -> tuple[Floats, Floats, Floats]:
    """Return the prices in units of the first close: TA-Lib takes sums below 1e-14 for zero, whatever the currency."""
    first = instrument.close[0]
    return instrument.high / first, instrument.low / first, instrument.close / first


def begun(values: Floats, neutral: float) -> Floats:
    """Return ``values`` with ``neutral`` in the rows where the indicator has not begun."""
    return np.where(np.isnan(values), neutral, values)
