"""The user's own bars, from a csv file."""

from __future__ import annotations

from pathlib import Path

from moe_trader.env import Market, MarketSource
from moe_trader.env.bars import read_csv
from moe_trader.option import option


@option
class Csv(MarketSource):
    """One instrument from one csv file with a header: time or date, open, high, low, close, and perhaps volume.

    :param path: the file, plain or compressed; a relative path counts from the working directory
    :param symbol: what the tables call the instrument; ``None``: the file's name
    :param date_format: of the stamps, as ``strptime`` has it (``%d/%m/%Y``); ``None``: ISO 8601
    """

    path: str
    symbol: str | None
    date_format: str | None

    def load(self) -> Market:
        """Return the one-instrument market."""
        symbol = self.symbol or Path(self.path).name.split(".")[0]
        return Market(symbol, (read_csv(self.path, symbol, self.date_format),), opens_are_real=True)
