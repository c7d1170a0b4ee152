"""Prices and volumes of a table, cell by cell: numbers that can be traded on, or refused by row."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import Floats, MarketError
from moe_trader.env.reading.columns import PRICES, cell, is_a_close

log = logging.getLogger(__name__)

_MISSING = ("", ".", "-", "--", "nan", "na", "n/a", "#n/a", "null", "none")
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
_ROUNDED = r"^(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<unit>[kmbKMB])$"  # 1.2M, as Investing.com writes a volume
_LEAST, _MOST = 1e-30, 1e30  # of a price or a volume: far beyond any, and products of a few of them are still numbers


def is_missing(column: pd.Series) -> NDArray[np.bool_]:
    """Mark the cells that hold nothing, in any of the ways that files say so."""
    missing = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):
        return missing
    return missing | column.astype(str).str.strip().str.lower().isin(_MISSING).to_numpy()


def read_prices(table: pd.DataFrame, found: Mapping[str, Hashable], source: str) -> dict[str, Floats]:
    """Return the columns of prices that are there. :raises MarketError: a cell that is no positive number."""
    columns = {}
    for name in (*PRICES, "adjusted_close"):
        if name in found:
            columns[name] = _column(table[found[name]], source)
    for name, column in columns.items():
        bad = np.flatnonzero((column < _LEAST) | (column > _MOST))
        if len(bad):
            value = column[bad[0]]
            wanted = (
                "prices must be positive" if value <= 0 else f"expected {_LEAST:g} to {_MOST:g}; mend or drop this row"
            )
            other = _another_price(table, found) if name == "close" else ""
            raise MarketError(f"{source}: row {table.index[bad[0]]}: {name} is {value}; {wanted}{other}")
    return columns


def _another_price(table: pd.DataFrame, found: Mapping[str, Hashable]) -> str:
    """Name the columns that may hold the close instead."""
    others = [heading for heading in table.columns if heading not in found.values() and is_a_close(heading)]
    if not others:
        return ""
    return f", or take the close from another column, as env.market.columns.close={others[0]} does"


def read_volume(
    table: pd.DataFrame, found: Mapping[str, Hashable], close: Floats, source: str
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the volume, zeros where the table has none, and the rows that lacked it."""
    if "volume" not in found:
        return np.zeros(len(table)), np.zeros(len(table), dtype=bool)
    column = table[found["volume"]]
    volume = _volume(column, source)
    if not volume.any() and "spare_volume" in found:  # MetaTrader: only ticks are known, and <VOL> is all 0
        spare = table[found["spare_volume"]]
        numbers = _volume(spare, source)
        if numbers.any():
            log.warning("%s: column %r is all 0: volume is read from %r", source, column.name, spare.name)
            column, volume = spare, numbers
    missing = is_missing(column)
    if missing.any():
        first = column.index[missing.argmax()]
        log.warning("%s: %d rows without a volume read as 0 (first: row %d)", source, missing.sum(), first)
    if "other_volume" in found:
        other = _volume(table[found["other_volume"]], source)
        units = _traded_units(volume, other, close, found, source)
        if units is other:
            return units, missing
    if "guessed_volume" in found:
        log.warning("%s: volume is read from column %r; env.market.columns.volume names another", source, column.name)
    return volume, missing


def _column(column: pd.Series, source: str) -> Floats:
    numbers = _to_floats(column)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        shown = cell(column, bad[0])
        remedy = "mend or drop these rows"
        if re.search(r"\d,\d|[$€£¥]", shown):
            remedy = "write numbers with a decimal point, and without thousands separators or currency signs"
        elif re.search(_ROUNDED, shown.strip("'")):
            remedy = "write them in full, as 1200000 for 1.2M"
        raise MarketError(
            f"{source}: row {column.index[bad[0]]}, column {column.name!r}: {shown} is no number "
            f"({len(bad)} such rows); {remedy}"
        )
    return numbers


def _to_floats(column: pd.Series) -> Floats:
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _volume(column: pd.Series, source: str) -> Floats:
    missing = is_missing(column)
    numbers = np.zeros(len(column))
    numbers[~missing] = _column(_spelled_out(column[~missing]), source)
    bad = np.flatnonzero((numbers < 0) | (numbers > _MOST))
    if len(bad):
        value = numbers[bad[0]]
        wanted = "it cannot be negative" if value < 0 else f"expected at most {_MOST:g}"
        raise MarketError(f"{source}: row {column.index[bad[0]]}: volume is {value}; {wanted}")
    return numbers


def _spelled_out(column: pd.Series) -> pd.Series:
    """Return 1200000 for 1.2M and 350000 for 350K, where a whole column is written so, but for zeros."""
    if pd.api.types.is_numeric_dtype(column) or column.empty:
        return column
    parts = column.astype(str).str.strip().str.extract(_ROUNDED)
    zero = pd.to_numeric(column, errors="coerce") == 0
    if parts["unit"].isna().all() or not (parts["unit"].notna() | zero).all():
        return column
    numbers = parts["number"].astype(float) * parts["unit"].str.lower().map(_UNITS)
    return numbers.fillna(0.0)


def _traded_units(first: Floats, second: Floats, close: Floats, found: Mapping[str, Hashable], source: str) -> Floats:
    """Tell units traded from money traded, of which some files give both, at times under each other's heading."""
    both = (first > 0) & (second > 0)
    swapped = False
    if both.any():
        ratio = np.log(first[both] / second[both])
        price = np.log(close[both])
        swapped = bool(abs(np.median(ratio - price)) < min(0.5, abs(np.median(ratio + price))))
    if not swapped:
        return first
    units, money = found["other_volume"], found["volume"]
    log.warning("%s: column %r holds the units traded: %r is about price times it", source, units, money)
    return second
