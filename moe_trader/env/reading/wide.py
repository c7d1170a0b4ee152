"""Tables with the prices of several tickers side by side, as yfinance answers."""

from __future__ import annotations

import pandas as pd

from moe_trader.env import MarketError


def one_row_of_headings(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Take apart what yfinance answers, prices by ticker: the rows of several tickers come one after the other."""
    if table.columns.nlevels == 1:
        return table
    levels = [[str(heading).lower() for heading in table.columns.get_level_values(level)] for level in (0, 1)]
    if table.columns.nlevels > 2 or not any("close" in level for level in levels):
        raise MarketError(
            f"{source}: headings of several rows ({table.columns[0]}); give one row of them, and a symbol column where "
            "there are several instruments"
        )
    prices = 0 if "close" in levels[0] else 1
    tickers = table.columns.get_level_values(1 - prices)
    parts = [table.loc[:, tickers == ticker].dropna(how="all") for ticker in tickers.unique()]
    for part in parts:
        part.columns = part.columns.get_level_values(prices)
    if len(parts) == 1:
        return parts[0]
    return pd.concat([part.assign(Ticker=ticker) for part, ticker in zip(parts, tickers.unique(), strict=True)])
