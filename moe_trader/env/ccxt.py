"""Cryptocurrency exchanges through ccxt."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import logging
from typing import Any

import pandas as pd

from moe_trader.env import MarketError
from moe_trader.env.reading.download import Downloaded, import_extra
from moe_trader.env.reading.page import Reading
from moe_trader.option import option

log = logging.getLogger(__name__)

_PAGE = 100  # bars in the smallest page of any exchange
_LATE = 10  # bars missing at the end that are worth a word


@option
class Ccxt(Downloaded):
    """Bars of one or several pairs (``BTC/USDT``) of one exchange, stamped with the time they close, in UTC.

    Exchanges answer in pages, which are asked for one after the other, past those that are empty because nothing was
    traded; some keep only the last few hundred bars. A bar that has not closed yet is left out.

    :param exchange: as ccxt calls it
    :param timeframe: length of a bar, as the exchange offers it (``1m``, ``1h``, ``1d``)
    """

    exchange: str
    timeframe: str

    def vendor(self) -> str:
        """Return the exchange."""
        return self.exchange

    def terms(self) -> str:
        """Return the timeframe."""
        return self.timeframe

    def reading(self) -> Reading:
        """Return how the tables are read: trading never pauses, so that a bar opens where the last one closed."""
        return dataclasses.replace(super().reading(), opens_are_real=True)

    def download(self, symbol: str) -> pd.DataFrame:
        """Ask the exchange for one pair. :raises MarketError: it cannot be reached, or has no such bars."""
        ccxt = import_extra("ccxt", "ccxt")
        if self.exchange not in ccxt.exchanges:
            near = difflib.get_close_matches(self.exchange, ccxt.exchanges, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise MarketError(f"env.market.exchange: ccxt knows no {self.exchange!r}{hint}")
        exchange = getattr(ccxt, self.exchange)()
        place = f"{self.exchange}: {symbol}"
        try:
            exchange.load_markets()
            if symbol not in exchange.symbols:
                near = difflib.get_close_matches(symbol, exchange.symbols, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise MarketError(f"{place}: no such pair{hint}")
            if self.timeframe not in (exchange.timeframes or {}):
                offered = ", ".join(exchange.timeframes or {}) or "none"
                raise MarketError(f"{place}: no timeframe {self.timeframe!r}; offered: {offered}")
            rows = self._pages(exchange, symbol)
        except ccxt.NetworkError as error:
            raise MarketError(f"{place}: the exchange cannot be reached ({_first_line(error)})") from None
        except ccxt.BaseError as error:
            raise MarketError(f"{place}: {_first_line(error)}") from None
        if not rows:
            raise MarketError(
                f"{place}: no {self.timeframe} bars from {self.start} to {self.end or 'now'}; "
                "the pair may have been listed later"
            )
        table = pd.DataFrame(rows, columns=["time", "open", "high", "low", "close", "volume"])
        table["time"] = pd.to_datetime(table["time"] + 1000 * exchange.parse_timeframe(self.timeframe), unit="ms")
        return table

    def _pages(self, exchange: Any, symbol: str) -> list[list[float]]:
        """Return the closed bars ``[opening time in ms, open, high, low, close, volume]``, oldest first."""
        step = 1000 * exchange.parse_timeframe(self.timeframe)
        start, end = _milliseconds(self.start), exchange.milliseconds()
        if self.end is not None:
            end = min(end, _milliseconds(self.end))
        rows: list[list[float]] = []
        since, longest = start, _PAGE
        while since + step <= end:
            page = exchange.fetch_ohlcv(symbol, self.timeframe, since=since)
            fresh = sorted(row for row in page if row[0] >= since)
            longest = max(longest, len(fresh))
            rows += fresh
            since = int(fresh[-1][0]) + step if fresh else since + longest * step
        rows = [row for row in rows if row[0] + step <= end]
        if rows and rows[0][0] > start + step:
            first = pd.Timestamp(rows[0][0], unit="ms")
            log.warning("%s: bars of %s begin on %s, not on %s", self.exchange, symbol, first, self.start)
        if rows and rows[-1][0] + _LATE * step < end:
            last, wanted = (pd.Timestamp(stamp, unit="ms") for stamp in (rows[-1][0] + step, end))
            log.warning("%s: bars of %s end on %s, not on %s", self.exchange, symbol, last, wanted)
        return rows


def _milliseconds(day: datetime.date) -> int:
    return int(pd.Timestamp(day, tz="UTC").timestamp() * 1000)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
