"""NASDAQ Composite, daily, 1999-2018: real prices that install with the package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from moe_trader.env import Market, MarketError, MarketSource
from moe_trader.env.bars import read_csv
from moe_trader.option import option


@option
class Nasdaq(MarketSource):
    """Daily OHLCV bars of the NASDAQ Composite from the wheel of ``arch`` (NCSA licence), 5,031 sessions.

    The installed file is read without importing ``arch``, which takes seconds.
    """

    def load(self) -> Market:
        """Return the one-instrument market."""
        bars = read_csv(_installed("nasdaq.csv.gz"), "^IXIC", date_format="%m/%d/%Y")
        return Market("nasdaq", (bars,), opens_are_real=True)


def _installed(name: str) -> Path:
    try:
        found = [Path(str(entry.locate())) for entry in files("arch") or () if entry.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise MarketError(f"the installed package `arch` has no {name}; reinstall it: pip install 'arch>=8,<9'")
    return found[0]
