"""The series that features are made of, and the types of their spans.

Every span is a number of bars; exponential averages are pandas' ``ewm(span=..., adjust=False)``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from moe_trader.bounds import MOST_BARS, TwoBars, Whole
from moe_trader.env import Floats, Instrument

Spans = Annotated[list[Annotated[Whole, Field(ge=1, le=MOST_BARS)]], Field(min_length=1, max_length=100)]
Span = TwoBars

SMALLEST = 1e-12  # keeps a market that does not move at all finite


def log_returns(instrument: Instrument) -> pd.Series:
    """Return the log return of each bar's close over the one before, 0 for the first."""
    return pd.Series(np.diff(np.log(instrument.close), prepend=np.log(instrument.close[0])))


def exponential_mean(values: pd.Series | Floats, span: int) -> Floats:
    """Return the exponential mean of ``values``, per bar."""
    return pd.Series(values).ewm(span=span, adjust=False).mean().to_numpy()


def exponential_volatility(returns: pd.Series, span: int) -> Floats:
    """Return the root of the exponential mean of squared returns, per bar."""
    return np.sqrt(exponential_mean(returns**2, span)) + SMALLEST


def relative_means(values: Floats, spans: list[int], reference_span: int) -> Floats:
    """Return the mean of ``values >= 0`` over each span, over their mean over ``reference_span``; 1 where all are 0.

    With spans no longer than the reference's, a ratio never exceeds ``(reference_span + 1) / (span + 1)``.

    :return: shape ``(n_bars, len(spans))``
    """
    reference = exponential_mean(values, reference_span)
    usual = np.where(reference > 0, reference, 1.0)
    return np.stack([np.where(reference > 0, exponential_mean(values, s) / usual, 1.0) for s in spans], 1)


def check_below(spans: list[int], reference_span: int) -> None:
    """Refuse a span that is not below the reference. :raises ValueError: naming both."""
    if max(spans) >= reference_span:
        raise ValueError(f"spans: expected every span below reference_span={reference_span}, got {max(spans)}")
