"""Markets that a client library downloads: asked for once, kept as Parquet files, and read from these ever after."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import logging
import os
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from moe_trader.env import Market, MarketError, MarketSource
from moe_trader.env.reading.bars import Bars, to_bars
from moe_trader.env.reading.formats import read_parquet_table
from moe_trader.env.reading.page import BadRows, Ranges, Reading
from moe_trader.env.reading.symbols import Symbols
from moe_trader.option import option

log = logging.getLogger(__name__)

_LONGEST = 60  # characters of a symbol: a file's name has room for 255, and one can take three
DOWNLOAD_SETTINGS = frozenset(("ranges", "bad_rows", "start", "end"))  # that a refusal may name
_ABANDONED = 3600  # seconds after which nobody is writing an unfinished file any more


@option
class Downloaded(MarketSource):
    """One instrument a symbol, each cached in a file of its own, so that a repeated run sees the same bars.

    :param symbols: what to download, as the vendor calls it
    :param start: first day
    :param end: first day no longer wanted; ``None``: up to now, which is when the file was first made
    :param cache: the folder of the files; ``~`` is the home folder
    :param refresh: download again even what is there
    :param ranges: what to do with bars whose open or close lies outside their high and low by 0.1 % to 10 %, or whose
        open, high or low is missing or 0: refuse them, or widen the bar
    :param bad_rows: what to do with rows that cannot be traded on: refuse them all, or drop such rows
    """

    symbols: Symbols
    start: datetime.date
    end: datetime.date | None
    cache: str
    refresh: bool
    # Defaults here as well, equal to what 0.1.0 did: the configs that it saved lack these settings.
    ranges: Ranges = "refuse"
    bad_rows: BadRows = "refuse"

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"expected start < end, got {self.start}, {self.end}")
        too_long = [symbol for symbol in self.symbols if len(symbol) > _LONGEST]
        if too_long:
            raise ValueError(f"symbols: expected at most {_LONGEST} characters each, got {too_long[0][:20]}...")

    @abstractmethod
    def vendor(self) -> str:
        """Return the market's name, and the first part of its files' names."""

    @abstractmethod
    def terms(self) -> str:
        """Return what else than symbol and dates a file depends on, for its name."""

    @abstractmethod
    def download(self, symbol: str) -> pd.DataFrame:
        """Return one symbol's table, with a column ``time``: when each bar closes.

        :raises MarketError: the library is not installed, the vendor cannot be reached or has no such bars
        """

    def reading(self) -> Reading:
        """Return how the tables are read. Vendors adjust for splits themselves."""
        return Reading(splits="keep", ranges=self.ranges, bad_rows=self.bad_rows, settings=DOWNLOAD_SETTINGS)

    def load(self) -> Market:
        """Return the market, downloading what the cache lacks."""
        bars = [self._bars(symbol) for symbol in self.symbols]
        name = self.symbols[0] if len(bars) == 1 else self.vendor()
        return Market(
            name,
            tuple(one.instrument for one in bars),
            opens_are_real=all(one.opens_are_real for one in bars),
            repaired=tuple(one.repaired for one in bars),
            notes=tuple(one.notes for one in bars),
        )

    def cache_file(self, symbol: str) -> Path:
        """Return where a symbol's bars are kept."""
        end = f"{self.end:%Y%m%d}" if self.end else "now"
        words = (self.vendor(), symbol, self.terms(), f"{self.start:%Y%m%d}", end)
        name = "_".join(quote(word, safe="^=") for word in words)  # no two symbols share a file
        return Path(self.cache).expanduser() / f"{name}.parquet"

    def _bars(self, symbol: str) -> Bars:
        file = self.cache_file(symbol)
        if self.refresh or not file.exists():
            table = self.download(symbol)
            table.index = pd.RangeIndex(1, len(table) + 1)
            bars = to_bars(table, symbol, f"{self.vendor()}'s answer for {symbol}", self.reading())  # or it is not kept
            _write(table, file)
            log.info("%s: %d bars of %s downloaded to %s", self.vendor(), len(table), symbol, file)
            return bars
        made = datetime.datetime.fromtimestamp(file.stat().st_mtime)
        log.info("%s: bars of %s from %s, downloaded %s", self.vendor(), symbol, file, f"{made:%Y-%m-%d}")
        try:
            return to_bars(read_parquet_table(file), symbol, str(file), self.reading())
        except MarketError as error:
            raise MarketError(f"{error}; to download it again set env.market.refresh=true") from None


def import_extra(module: str, extra: str) -> Any:
    """Import a library that only one market needs.

    :raises MarketError: it is not installed
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MarketError(f"env={extra} needs {module} ({error}): pip install 'moe_trader[{extra}]'") from None


def _write(table: pd.DataFrame, file: Path) -> None:
    """Write a table at once or not at all, and clear away what downloads that were killed left behind."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for other in file.parent.glob("*.parquet.*.part"):
            with contextlib.suppress(FileNotFoundError):  # another process finished it just now
                if time.time() - other.stat().st_mtime > _ABANDONED:
                    other.unlink()
        try:
            table.to_parquet(part, index=False)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise MarketError(f"{file}: cannot be written ({error}); set env.market.cache to a folder of yours") from None
