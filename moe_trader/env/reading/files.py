"""Markets of the user's own files, whatever their format: one file, several, or one with a symbol column."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from moe_trader.env import Market, MarketError, MarketSource
from moe_trader.env.reading.adjust import Splits
from moe_trader.env.reading.bars import Bars, Reading, to_bars
from moe_trader.env.reading.columns import Column, find_columns
from moe_trader.env.reading.symbols import Symbols
from moe_trader.env.reading.tables import find_files
from moe_trader.option import option

log = logging.getLogger(__name__)

_SUFFIXES = {".csv", ".tsv", ".txt", ".parquet", ".pq", ".gz", ".bz2", ".xz", ".zst", ".zip"}


@option
class BarFiles(MarketSource):
    """One instrument a file, or a symbol column that tells the instruments of a file apart.

    :param path: a file, a glob (``data/*.csv``) or a list; a relative path counts from the working directory
    :param symbol: what the tables call the instrument where there is only one; ``None``: as the symbol column or the
        file's name says
    :param symbols: of several instruments, those to load, in this order; ``None``: all
    :param columns: headings of columns that are called something unusual (``{close: last_price}``)
    :param date_format: of the stamps, as ``strptime`` has it (``%d/%m/%Y``); ``None``: ISO 8601 or unix stamps
    :param adjust: scale prices to the adjusted close where there is one
    :param splits: what to do where a price jumps by a whole factor, scaled to the adjusted close or not: refuse the
        file, repair it by dividing the earlier prices, or keep the jump
    :param opens_are_real: whether an order can be filled at the open; ``None``: unless the file holds closes alone or
        most of its opens repeat the close before
    """

    path: str | list[str]
    symbol: str | None
    symbols: Symbols | None
    columns: dict[Column, str | None]
    date_format: str | None
    adjust: bool
    splits: Splits
    opens_are_real: bool | None

    @abstractmethod
    def read(self, path: str) -> pd.DataFrame:
        """Return the table of one file; its index numbers the rows as the user counts them."""

    def load(self) -> Market:
        """Return the market of all the files."""
        files = find_files(self.path)
        if not files:
            raise MarketError("env.path: an empty list; give at least one file")
        bars = list(self._bars(files))
        self._check_symbols(bars)
        if self.symbols is not None:
            by_symbol = {one.instrument.symbol: one for one in bars}
            bars = [by_symbol[symbol] for symbol in self.symbols]
        folder = Path(files[0]).resolve().parent.name or "files"
        name = bars[0].instrument.symbol if len(bars) == 1 else _stem(files[0]) if len(files) == 1 else folder
        if len(bars) > 1:
            log.info("%s: %d instruments from %d files", name, len(bars), len(files))
        return Market(
            name,
            tuple(one.instrument for one in bars),
            opens_are_real=all(one.opens_are_real for one in bars),
            repaired=tuple(one.repaired for one in bars),
        )

    def _bars(self, files: list[str]) -> Iterator[Bars]:
        reading = Reading(self.columns, self.date_format, self.adjust, self.splits, self.opens_are_real)
        for file in files:
            for symbol, table in self._tables(file):
                if self.symbols is None or symbol in self.symbols:
                    source = f"{file} ({symbol})" if symbol != _stem(file) and self.symbol is None else file
                    yield to_bars(table, self.symbol or symbol, source, reading)
                else:
                    log.debug("%s: %s left out", file, symbol)

    def _tables(self, file: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield each instrument's table."""
        table = self.read(file)
        heading = find_columns(table.columns, file, self.columns).get("symbol")
        if heading is None:
            yield _stem(file), table
            return
        symbols = table[heading]
        nameless = symbols.isna() | symbols.astype(str).str.strip().eq("")
        if nameless.any():
            raise MarketError(
                f"{file}: row {table.index[nameless.to_numpy().argmax()]}, column {heading!r}: no symbol "
                f"({int(nameless.sum())} such rows)"
            )
        for symbol, rows in table.groupby(symbols.astype(str).str.strip(), sort=False):
            yield str(symbol), rows

    def _check_symbols(self, bars: list[Bars]) -> None:
        found = [one.instrument.symbol for one in bars]
        missing = [symbol for symbol in self.symbols or () if symbol not in found]
        if missing:
            raise MarketError(f"env.market.symbols: none of the files holds {', '.join(missing)}")
        if self.symbol is not None and len(bars) > 1:
            raise MarketError(
                f"env.market.symbol: one name for {len(bars)} instruments; choose with env.market.symbols"
            )
        twice = sorted({symbol for symbol in found if found.count(symbol) > 1})
        if twice:
            raise MarketError(
                f"env.path: {', '.join(twice)} stands in several files; each instrument must be in one file alone"
            )
        zones = {one.zone: one.instrument.symbol for one in reversed(bars)}
        if {"UTC", "none"} <= zones.keys():
            raise MarketError(
                f"env.path: the stamps of {zones['UTC']} are in UTC (unix stamps, or with an offset), those of "
                f"{zones['none']} name no time zone; give all of them an offset, or none"
            )


def _stem(file: str) -> str:
    """Return a file's name without what tells its format: ``BRK.B`` of ``data/BRK.B.csv.gz``."""
    name = Path(file).name
    while Path(name).suffix.lower() in _SUFFIXES:
        name = Path(name).stem
    return name
