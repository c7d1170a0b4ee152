"""Markets of the user's own files, whatever their format: one file, several, or one with a symbol column."""

from __future__ import annotations

import codecs
import dataclasses
import datetime
import logging
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from moe_trader.env import Market, MarketError, MarketSource
from moe_trader.env.reading.bars import Bars, Rows, finish, read_rows
from moe_trader.env.reading.cells import as_text
from moe_trader.env.reading.columns import Column, Heading, find_columns
from moe_trader.env.reading.page import BadRows, Decimal, Order, Page, Ranges, Reading, Splits
from moe_trader.env.reading.paths import find_files, stem
from moe_trader.env.reading.pieces import base_name, check_pieces, in_order
from moe_trader.env.reading.symbols import Symbols
from moe_trader.env.reading.ways import setting
from moe_trader.env.reading.zones import is_zone
from moe_trader.option import option

log = logging.getLogger(__name__)


@option
class BarFiles(MarketSource):
    """One instrument a file, or a symbol column that distinguishes the instruments of a file.

    :param path: a file, a glob (``data/*.csv``) or a list; a relative path counts from the working directory
    :param symbol: the name of the one instrument, whose bars may stand in several files; ``None``: as the symbol
        column or the file's name says
    :param symbols: of several instruments, those to load, in this order; each may stand in several files; ``None``: all
    :param columns: headings of columns that are called something unusual (``{close: last_price}``), or their positions
        from 0; ``none``: there is no such column
    :param date_format: of the stamps, as ``strptime`` has it (``%d/%m/%Y``), or the unit of numbers (``s``, ``ms``,
        ``us``, ``ns``, ``ticks``, ``excel``, ``matlab``); ``None``: ISO 8601 or unix stamps
    :param time_zone: of stamps that name none, by IANA's name (``America/New_York``): they are converted to UTC;
        ``None``: they stay as they are
    :param adjust: scale prices to the adjusted close where there is one
    :param splits: what to do where a price jumps by a whole factor, scaled to the adjusted close or not: refuse the
        file, repair it by dividing the earlier prices, or keep the jump
    :param opens_are_real: whether an order can be filled at the open; ``None``: unless the file holds closes only or
        most of its opens repeat the close before
    :param ranges: what to do with bars whose open or close lies outside their high and low by 0.1 % to 10 %, or whose
        open, high or low is missing or 0: refuse the file, or widen the bar
    :param bad_rows: what to do with rows that cannot be read or traded on: refuse the file, or drop them
    :param order: what to do with rows out of order: refuse the file, or sort it by time
    :param decimal: the mark of decimals in numbers with separators: ``point`` reads 1,234.5, ``comma`` 1.234,5
    :param encoding: of text files; ``None``: UTF-8, or UTF-16 where they begin so
    :param start: first day; rows before it are not checked; ``None``: as the file has it
    :param end: first day no longer wanted; ``None``: as the file has it
    """

    path: str | list[str]
    symbol: str | None
    symbols: Symbols | None
    columns: dict[Column, Heading]
    date_format: str | None
    adjust: bool
    splits: Splits
    opens_are_real: bool | None
    # Defaults here as well, equal to what 0.1.0 did: the configs that it saved lack these settings.
    ranges: Ranges = "refuse"
    bad_rows: BadRows = "refuse"
    order: Order = "refuse"
    decimal: Decimal | None = None
    encoding: str | None = None
    time_zone: str | None = None
    start: datetime.date | None = None
    end: datetime.date | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"expected start < end, got {self.start}, {self.end}")
        if self.time_zone is not None and not is_zone(self.time_zone):
            raise ValueError(f"time_zone: {self.time_zone!r} is unknown; give IANA's name, as America/New_York")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            raise ValueError(f"encoding: Python knows no {self.encoding!r}; try latin-1, gb18030 or utf-16") from None

    @abstractmethod
    def read(self, path: str) -> pd.DataFrame:
        """Return the table of one file; its index numbers the rows as the user counts them."""

    def reading(self) -> Reading:
        """Return how tables are read."""
        names = {field.name for field in dataclasses.fields(Reading)} - {"settings"}
        return Reading(**{name: getattr(self, name) for name in names})

    def load(self) -> Market:
        """Return the market of all the files."""
        files = find_files(self.path)
        if not files:
            raise MarketError("env.path: an empty list; give at least one file")
        bars = self._bars(files)
        self._check_symbols(bars)
        if self.symbols is not None:
            by_symbol = {one.instrument.symbol: one for one in bars}
            bars = [by_symbol[symbol] for symbol in self.symbols]
        folder = Path(files[0]).resolve().parent.name or "files"
        name = bars[0].instrument.symbol if len(bars) == 1 else stem(files[0]) if len(files) == 1 else folder
        if len(bars) > 1:
            log.info("%s: %d instruments from %d files", name, len(bars), len(files))
        return Market(
            name,
            tuple(one.instrument for one in bars),
            opens_are_real=all(one.opens_are_real for one in bars),
            repaired=tuple(one.repaired for one in bars),
            notes=tuple(one.notes for one in bars),
        )

    def _bars(self, files: list[str]) -> list[Bars]:
        """Return each instrument's bars, from the one table that holds them, or from several that the user joins."""
        reading = self.reading()
        parts: dict[str, list[Rows]] = {}
        for file in files:
            for symbol, table in self._tables(file):
                if self.symbols is None or symbol in self.symbols:
                    source = f"{file} ({symbol})" if symbol != stem(file) and self.symbol is None else file
                    parts.setdefault(self.symbol or symbol, []).append(read_rows(table, source, reading))
                else:
                    log.debug("%s: %s left out", file, symbol)
        check_pieces(parts, asked=self.symbol is not None or self.symbols is not None)
        return [finish(in_order(rows, symbol), symbol, reading) for symbol, rows in parts.items()]

    def _tables(self, file: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield each instrument's table."""
        table = self.read(file)
        place = find_columns(table.columns, file, self.columns, table.head(200)).get("symbol")
        if place is None:
            name = stem(file)
            wanted = self.symbols or ()
            yield base_name(name) if name not in wanted and base_name(name) in wanted else name, table
            return
        symbols = table.iloc[:, place]
        page = Page(file, table.index, self.reading())
        nameless = symbols.isna() | as_text(symbols).str.strip().eq("")
        page.refuse(
            nameless.to_numpy(),
            lambda _: f", column {symbols.name!r}: no symbol ({int(nameless.sum())} such rows)",
            last=[({"columns.symbol": "none"}, "if the file holds one instrument")],
        )
        keep = page.drop()
        page.note_bad_rows()
        groups = list(table[keep].groupby(as_text(symbols[keep]).str.strip(), sort=False))
        if self.symbol is not None and len(groups) > 1:
            raise MarketError(
                f"env.market.symbol: one name for {len(groups)} instruments; choose with env.market.symbols"
            )
        for symbol, rows in groups:
            yield str(symbol), rows

    def _check_symbols(self, bars: list[Bars]) -> None:
        found = [one.instrument.symbol for one in bars]
        missing = [symbol for symbol in self.symbols or () if symbol not in found]
        if missing:
            raise MarketError(f"env.market.symbols: none of the files holds {', '.join(missing)}")
        zones = {one.zone: one.instrument.symbol for one in reversed(bars)}
        if {"UTC", "none"} <= zones.keys():
            chosen = [one.instrument.symbol for one in bars if one.zone == bars[0].zone]
            raise MarketError(
                f"env.path: the stamps of {zones['UTC']} are in UTC (unix stamps, or with an offset), those of "
                f"{zones['none']} name no time zone; set {setting('time_zone', 'UTC')} to read the others as UTC, or "
                f"their own zone by name (America/New_York), or {setting('symbols', chosen)} to read only these"
            )
