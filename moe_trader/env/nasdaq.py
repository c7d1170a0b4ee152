"""NASDAQ Composite, daily, 1999-2018: real prices that install with the package."""

from __future__ import annotations

from moe_trader.env import Market, MarketSource
from moe_trader.env.reading.bars import read_csv
from moe_trader.env.reading.installed import installed_file
from moe_trader.option import option


@option
class Nasdaq(MarketSource):
    """Daily OHLCV bars of the NASDAQ Composite from the wheel of ``arch`` (NCSA licence), 5,031 sessions.

    The installed file is read without importing ``arch``, which takes seconds.
    """

    def load(self) -> Market:
        """Return the one-instrument market."""
        path = installed_file("arch", "nasdaq.csv.gz", "pip install 'arch>=8,<9'")
        return Market("nasdaq", (read_csv(path, "^IXIC", date_format="%m/%d/%Y"),), opens_are_real=True)
