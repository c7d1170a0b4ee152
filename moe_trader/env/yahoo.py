"""Yahoo Finance through yfinance: stocks, indices, currencies, funds."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Literal

import pandas as pd

from moe_trader.env import MarketError
from moe_trader.env.reading.download import DOWNLOAD_SETTINGS, Downloaded, import_extra
from moe_trader.env.reading.page import Reading
from moe_trader.option import option


@option
class Yahoo(Downloaded):
    """Bars of one or several Yahoo symbols (``^IXIC``, ``AAPL``, ``EURUSD=X``).

    Daily bars are stamped with the exchange's day, shorter ones with the time they close, in UTC. A bar that has not
    closed yet is left out.

    :param interval: length of a bar; Yahoo keeps minutes for days, and hours for two years
    :param adjust: scale prices to the adjusted close, which accounts for dividends; splits always are accounted for
    """

    interval: Literal["1m", "2m", "5m", "15m", "30m", "1h", "1d"]
    adjust: bool

    def vendor(self) -> str:
        """Return ``yahoo``."""
        return "yahoo"

    def terms(self) -> str:
        """Return the interval: prices are cached as they are, and adjusted when they are read."""
        return self.interval

    def reading(self) -> Reading:
        """Return how the tables are read."""
        return dataclasses.replace(super().reading(), adjust=self.adjust, settings=DOWNLOAD_SETTINGS | {"adjust"})

    def download(self, symbol: str) -> pd.DataFrame:
        """Ask Yahoo for one symbol. :raises MarketError: it cannot be reached, or has no such bars."""
        yfinance = import_extra("yfinance", "yahoo")
        try:
            history = self._history(yfinance, symbol)
        except yfinance.exceptions.YFRateLimitError as error:
            raise MarketError(f"yahoo: {symbol}: {error} Nothing was cached for it") from None
        except yfinance.exceptions.YFException as error:
            raise self._nothing(symbol, str(error)) from None
        except Exception as error:  # whatever the library's HTTP client raises; yfinance itself would hide it
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise MarketError(
                f"yahoo: no answer about {symbol} ({type(error).__name__}: {reason}); "
                "check the network, and the symbol at finance.yahoo.com"
            ) from None
        table = self._closed(history)
        if table.empty:
            raise self._nothing(symbol, "an empty answer")
        return table

    def _history(self, yfinance: Any, symbol: str) -> pd.DataFrame:
        """Return yfinance's own table. It hides errors in an empty one unless told not to."""
        debug = yfinance.config.debug
        hidden = debug.hide_exceptions
        debug.hide_exceptions = False
        try:
            with warnings.catch_warnings():  # of yfinance's own use of pandas
                warnings.simplefilter("ignore")
                return yfinance.Ticker(symbol).history(
                    interval=self.interval, start=self.start, end=self.end, auto_adjust=False, actions=False
                )
        finally:
            debug.hide_exceptions = hidden

    def _closed(self, history: pd.DataFrame) -> pd.DataFrame:
        """Return the bars that have closed, with their time."""
        if history.empty:
            return history
        opened = pd.DatetimeIndex(history.index)
        now = pd.Timestamp.now("UTC")
        if self.interval == "1d":
            closed = (opened + pd.DateOffset(days=1)).tz_convert("UTC") <= now
            time = opened.tz_localize(None)
        else:
            time = (opened + pd.Timedelta(self.interval.replace("m", "min"))).tz_convert("UTC").tz_localize(None)
            closed = time <= now.tz_localize(None)
        table = history.reset_index(drop=True)
        table.insert(0, "time", time)
        return table[closed]

    def _nothing(self, symbol: str, reason: str) -> MarketError:
        return MarketError(
            f"yahoo: no {self.interval} bars of {symbol} from {self.start} to {self.end or 'now'} ({reason}); "
            "check the symbol at finance.yahoo.com, and the dates"
        )
