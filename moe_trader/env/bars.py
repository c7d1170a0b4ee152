"""Reading price tables: from a file as people have it to an :class:`~moe_trader.env.Instrument`."""

from __future__ import annotations

from lzma import LZMAError
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from pandas.errors import EmptyDataError, ParserError

from moe_trader.env import Instrument, MarketError

_ALIASES = {
    "time": ("time", "date", "datetime", "timestamp", "ts"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v"),
}
_REQUIRED = ("time", "open", "high", "low", "close")
_UNREADABLE = (OSError, EOFError, UnicodeError, BadZipFile, LZMAError, ParserError, EmptyDataError)
_PRICES = ("open", "high", "low", "close")


def read_csv(path: str | Path, symbol: str, date_format: str | None = None) -> Instrument:
    """Read one instrument from a csv file with a header (compressed or not), whatever the case of its column names.

    Rows may be oldest or newest first. A missing volume column reads as zeros.

    :param date_format: of the stamps, as ``strptime`` has it; ``None``: ISO 8601

    :raises MarketError: no such file, a column that is missing, a cell that is no number, a price that is not
        positive, a high below another price, a stamp that is no date or stands twice
    """
    source = str(path)
    try:
        # As text, so that errors can show a cell as the file has it, and blank lines keep their place in the count.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except FileNotFoundError:
        raise MarketError(f"{source}: no such file; give the path of a csv file with a header") from None
    except _UNREADABLE as error:
        raise MarketError(f"{source}: cannot be read as csv ({error})") from None
    table = table[~table.fillna("").eq("").all(axis=1)]
    return to_instrument(table, symbol, source, date_format)


def to_instrument(table: pd.DataFrame, symbol: str, source: str, date_format: str | None = None) -> Instrument:
    """Validate a price table and return it as an instrument; ``source`` is what errors call it.

    The table's index numbers its rows from 0 as they stand in the source.
    """
    columns = _columns(table, source)
    if table.empty:
        raise MarketError(f"{source}: no rows below the header")
    time = _stamps(table[columns["time"]], source, date_format)
    numbers = {name: _numbers(table[columns[name]], source) for name in _PRICES}
    volume = _numbers(table[columns["volume"]], source) if "volume" in columns else np.zeros(len(table))
    _check_prices(numbers, table.index, source)
    if len(time) > 1 and time[0] > time[-1]:
        time, volume = time[::-1], volume[::-1]
        numbers = {name: column[::-1] for name, column in numbers.items()}
    _check_order(time, source)
    arrays = {name: np.ascontiguousarray(column) for name, column in numbers.items()}
    return Instrument(symbol=symbol, time=np.ascontiguousarray(time), volume=np.ascontiguousarray(volume), **arrays)


def _columns(table: pd.DataFrame, source: str) -> dict[str, str]:
    by_lower = {str(column).strip().lower(): column for column in table.columns}
    found = {}
    for name, aliases in _ALIASES.items():
        match = [by_lower[alias] for alias in aliases if alias in by_lower]
        if match:
            found[name] = match[0]
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        there = ", ".join(map(str, table.columns)) or "none"
        wanted = "; ".join(f"{name} (any of {', '.join(_ALIASES[name])})" for name in missing)
        raise MarketError(f"{source}: missing column {wanted}. Columns there: {there}")
    return found


def _row(index: Any, at: int) -> str:
    return f"row {index[at] + 2}"  # as an editor counts: the header is row 1


def _cell(column: pd.Series, at: int) -> str:
    value = column.iloc[at]
    return repr(value) if isinstance(value, str) else str(value)


def _stamps(column: pd.Series, source: str, date_format: str | None) -> np.ndarray:
    try:
        stamps = pd.to_datetime(column, errors="coerce", utc=True, format=date_format or "ISO8601")
    except (TypeError, ValueError) as error:
        raise MarketError(f"{source}: column {column.name!r} holds no dates ({error})") from None
    bad = np.flatnonzero(stamps.isna().to_numpy())
    if len(bad):
        wanted = (
            f"the format {date_format!r}" if date_format else "ISO 8601 (2018-12-31), or set env.market.date_format"
        )
        place = f"{source}: {_row(column.index, bad[0])}, column {column.name!r}"
        raise MarketError(f"{place}: {_cell(column, bad[0])} is no date; expected {wanted}")
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]")


def _numbers(column: pd.Series, source: str) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise MarketError(
            f"{source}: {_row(column.index, bad[0])}, column {column.name!r}: {_cell(column, bad[0])} is no number "
            f"({len(bad)} such rows); mend or drop these rows"
        )
    return numbers


def _check_prices(prices: dict[str, np.ndarray], index: Any, source: str) -> None:
    for name, column in prices.items():
        bad = np.flatnonzero(column <= 0)
        if len(bad):
            raise MarketError(f"{source}: {_row(index, bad[0])}: {name} is {column[bad[0]]}; prices must be positive")
    top = np.maximum(prices["open"], prices["close"])
    bottom = np.minimum(prices["open"], prices["close"])
    bad = np.flatnonzero((prices["high"] < top) | (prices["low"] > bottom))
    if len(bad):
        at = bad[0]
        row = ", ".join(f"{name} {column[at]}" for name, column in prices.items())
        raise MarketError(f"{source}: {_row(index, at)}: open and close must lie between low and high ({row})")


def _check_order(time: np.ndarray, source: str) -> None:
    steps = np.diff(time) / np.timedelta64(1, "us")
    bad = np.flatnonzero(steps <= 0)
    if len(bad):
        first, second = time[bad[0]], time[bad[0] + 1]
        what = "stands twice" if first == second else f"is followed by {second}"
        raise MarketError(f"{source}: stamp {first} {what}; stamps must be unique and in order")
