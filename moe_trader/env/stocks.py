"""Twenty stocks of the S&P 500, daily, 1990-2022: adjusted closes from the wheel of skfolio."""

from __future__ import annotations

import pandas as pd

from moe_trader.env import Market, MarketError, MarketSource
from moe_trader.env.reading.bars import to_bars
from moe_trader.env.reading.installed import installed_file
from moe_trader.env.reading.page import Reading
from moe_trader.env.reading.symbols import Symbols
from moe_trader.option import option

_REMEDY = "pip install 'moe_trader[stocks]'"


@option
class Stocks(MarketSource):
    """Adjusted closes of 20 large US companies, 8,313 sessions each, from ``skfolio`` (BSD-3); closes alone.

    They were chosen in 2022 among those that had survived since 1990: whatever is held does well in hindsight. The
    package gives them for examples, not for commercial use.

    :param symbols: which to load; ``None``: all of them
    """

    symbols: Symbols | None

    def load(self) -> Market:
        """Return the market of one instrument a stock; open, high and low equal the close."""
        path = installed_file("skfolio", "sp500_dataset.csv.gz", _REMEDY)
        table = pd.read_csv(path)
        table.index = table.index + 2  # the header is row 1
        there = list(table.columns[1:])
        unknown = [symbol for symbol in self.symbols or () if symbol not in there]
        if unknown:
            raise MarketError(f"env.market.symbols: {', '.join(unknown)}; known: {', '.join(there)}, null for all")
        bars = [
            to_bars(_bars_of_closes(table["Date"], table[symbol]), symbol, f"{path} ({symbol})", Reading(splits="keep"))
            for symbol in self.symbols or there
        ]
        return Market("stocks", tuple(one.instrument for one in bars), opens_are_real=False)


def _bars_of_closes(date: pd.Series, close: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"date": date} | dict.fromkeys(("open", "high", "low", "close"), close))
