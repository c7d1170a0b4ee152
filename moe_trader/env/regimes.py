"""Market regimes for the tables: the true ones where the market knows them, else a causal label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from moe_trader.bounds import TwoBars
from moe_trader.env import Labels, Market, MarketError, RegimeLabeller, Segment
from moe_trader.env.features.series import log_returns
from moe_trader.option import option

_TRENDS = ("falling", "sideways", "rising")
_VOLATILITIES = ("calm", "normal", "wild")


@option
class TrueRegimes(RegimeLabeller):
    """The regimes that a synthetic market was drawn with."""

    causal: ClassVar[bool] = False

    def warmup(self) -> int:
        """Return 0: every bar is known."""
        return 0

    def label(self, market: Market, train: Sequence[Segment]) -> Labels:
        """Return the market's own regimes. :raises MarketError: where it has none."""
        known = tuple(one.regime for one in market.instruments if one.regime is not None)
        if len(known) < len(market.instruments):
            raise MarketError(f"{market.name} does not know its true regimes; use a causal labeller in env.regimes")
        return Labels(market.regime_names, known)


@option
class TrendVolatility(RegimeLabeller):
    """Trend x volatility, 3 x 3, from trailing bars alone; tercile edges come from the training split.

    Trend is the trailing log return in units of its standard deviation, volatility the trailing standard deviation.

    :param trend_bars: length of the trend's trailing window
    :param volatility_bars: length of the volatility's trailing window
    """

    trend_bars: TwoBars
    volatility_bars: TwoBars

    def warmup(self) -> int:
        """Return the longer of the two windows."""
        return max(self.trend_bars, self.volatility_bars)

    def label(self, market: Market, train: Sequence[Segment]) -> Labels:
        """Label every bar ``falling_calm`` ... ``rising_wild``; ``-1`` during the warm-up."""
        measured = []
        for one in market.instruments:
            returns = log_returns(one)
            spread = returns.rolling(self.volatility_bars).std().to_numpy()
            long_spread = returns.rolling(self.trend_bars).std().to_numpy()
            change = returns.rolling(self.trend_bars).sum().to_numpy()
            trend = change / (long_spread * np.sqrt(self.trend_bars) + 1e-12)
            measured.append((trend, spread))
        rows = [slice(max(part.start, self.warmup()), part.stop) for part in train]
        edges = []
        for which in (0, 1):
            seen = [measured[part.instrument][which][row] for part, row in zip(train, rows, strict=True)]
            edges.append(np.quantile(np.concatenate(seen), [1 / 3, 2 / 3]))
        index = []
        for trend, spread in measured:
            label = 3 * np.searchsorted(edges[0], trend) + np.searchsorted(edges[1], spread)
            index.append(np.where(np.arange(len(label)) < self.warmup(), -1, label).astype(np.int64))
        names = tuple(f"{trend}_{volatility}" for trend in _TRENDS for volatility in _VOLATILITIES)
        return Labels(names, tuple(index))
