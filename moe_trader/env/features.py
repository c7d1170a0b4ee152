"""What an agent sees of a market: causal, scale-free columns over several horizons, and their scaler.

Every span is a number of bars; exponential averages are pandas' ``ewm(span=..., adjust=False)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.option import option

Spans = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
Span = Annotated[int, Field(ge=2)]

_SMALLEST = 1e-12  # keeps a market that does not move at all finite


def log_returns(instrument: Instrument) -> pd.Series:
    """Return the log return of each bar's close over the one before, 0 for the first."""
    return pd.Series(np.diff(np.log(instrument.close), prepend=np.log(instrument.close[0])))


def _volatility(returns: pd.Series, span: int) -> Floats:
    """Return the root of the exponential mean of squared returns, per bar."""
    return np.sqrt((returns**2).ewm(span=span, adjust=False).mean().to_numpy()) + _SMALLEST


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
        volatility = _volatility(returns, self.volatility_span)
        level = returns.cumsum()
        return np.stack([level.diff(h).fillna(0.0).to_numpy() / (volatility * np.sqrt(h)) for h in self.horizons], 1)


@option
class Trend(Feature):
    """Exponential mean of the returns over each span, in units of its own standard deviation under no trend.

    That standard deviation is volatility / sqrt(span): the value is a t-statistic of the recent drift.

    :param spans: bars
    :param volatility_span: of the exponential volatility that divides
    """

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
        volatility = _volatility(returns, self.volatility_span)
        means = [returns.ewm(span=span, adjust=False).mean().to_numpy() for span in self.spans]
        return np.stack([mean * np.sqrt(span) / volatility for mean, span in zip(means, self.spans, strict=True)], 1)


@option
class Volatility(Feature):
    """Natural log of the exponential volatility of returns over each span.

    :param spans: bars
    """

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
        return np.log(np.stack([_volatility(returns, span) for span in self.spans], 1))


@option
class Autocorrelation(Feature):
    """First autocorrelation of returns over each span: mean(r r') / mean(r^2), exponential means, within [-1, 1].

    :param spans: bars
    """

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
        squares = (returns**2 + returns.shift(1).fillna(0.0) ** 2) / 2 + _SMALLEST**2
        columns = [
            (products.ewm(span=s, adjust=False).mean() / squares.ewm(span=s, adjust=False).mean()).to_numpy()
            for s in self.spans
        ]
        return np.stack(columns, 1)


@dataclass(frozen=True)
class Scaler:
    """Standardises feature columns; fitted on the training split, it travels with the agent.

    :param mean: per column
    :param scale: standard deviation per column, 1 for a column that does not vary
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, rows: Floats) -> Scaler:
        """Fit on ``rows`` of shape ``(n, n_columns)``."""
        spread = rows.std(axis=0)
        spread[spread < _SMALLEST] = 1.0
        return cls(tuple(rows.mean(axis=0).tolist()), tuple(spread.tolist()))

    def apply(self, rows: Floats, clip: float) -> Floats:
        """Return the standardised rows, clipped to ``[-clip, clip]``."""
        return np.clip((rows - np.array(self.mean)) / np.array(self.scale), -clip, clip)
