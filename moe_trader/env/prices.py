"""A market's bars as the ledger trades them, and whether there is volume enough for costs that depend on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from moe_trader.env import Market, MarketError, Segment
from moe_trader.env.costs import CostRates
from moe_trader.env.features.series import log_returns
from moe_trader.env.ledger import Prices
from moe_trader.env.market import YEAR

log = logging.getLogger(__name__)

VOLATILITY_SPAN = 20  # bars, of the volatility that slippage and impact are charged by
_THIN = 0.5  # share of bars with volume below which a cap on volume is worth a warning


def market_prices(market: Market) -> Prices:
    """Return the bars of all instruments one after the other; copies, which nothing that is seen can change."""
    years, volatility = [], []
    for one in market.instruments:
        gaps = np.diff(one.time, prepend=one.time[:1]) / np.timedelta64(1, "s")
        years.append(gaps / YEAR)
        squares = log_returns(one) ** 2
        volatility.append(np.sqrt(squares.ewm(span=VOLATILITY_SPAN, adjust=False).mean().to_numpy()))
    return Prices(
        np.concatenate([one.open for one in market.instruments]),
        np.concatenate([one.close for one in market.instruments]),
        np.concatenate(years),
        np.concatenate(volatility),
        np.concatenate([one.volume for one in market.instruments]),
    )


def check_volume(market: Market, observed: Mapping[str, Sequence[Segment]], costs: CostRates) -> None:
    """Refuse bars without any volume, and warn where most have none, if the costs cap what can be traded of it.

    :param observed: bars that each split observes
    :raises MarketError: naming split and instrument
    """
    if costs.volume_cap == np.inf:
        return
    for split, parts in observed.items():
        for part in parts:
            one = market.instruments[part.instrument]
            share = (one.volume[part.start : part.stop] > 0).mean()
            if share == 0:
                raise MarketError(
                    f"{market.name} has no volume in the {split} split of {one.symbol}, which market impact in "
                    "env.costs needs: nothing could be traded; use other costs, such as env/costs=two_bp"
                )
            if share < _THIN:
                log.warning(
                    "%s: %.0f %% of the bars in the %s split of %s have volume; env.costs caps what is traded by it, "
                    "so nothing is traded at the others",
                    market.name,
                    100 * share,
                    split,
                    one.symbol,
                )
