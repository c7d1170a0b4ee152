"""From a price table as people have it to an :class:`~moe_trader.env.Instrument`: repaired, or refused by row.

What is repaired is counted in the log; what cannot be is refused with file, row and reason.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from moe_trader.env import Floats, Instrument, MarketError
from moe_trader.env.reading.adjust import Splits, make_comparable
from moe_trader.env.reading.clock import is_time_of_day, join_day
from moe_trader.env.reading.columns import PRICES, Column, find_columns
from moe_trader.env.reading.numbers import is_missing, read_prices, read_volume
from moe_trader.env.reading.stamps import Zone, newest_first, read_stamps
from moe_trader.env.reading.tables import read_csv_table

log = logging.getLogger(__name__)

_CLIPPED = 1e-3  # a high or low this far inside the bar, as a fraction of the price, is a rounding error
_ENOUGH = 20  # bars needed to tell whether opens are real


@dataclass(frozen=True)
class Reading:
    """How tables are read.

    :param columns: headings of columns that are called something unusual
    :param date_format: of the stamps, as ``strptime`` has it; ``None``: ISO 8601 or unix stamps
    :param adjust: scale prices to the adjusted close where there is one
    :param splits: what to do about jumps by a whole factor that nobody adjusted
    :param opens_are_real: whether an order can be filled at the open; ``None``: unless most opens repeat the close
        before, or there are closes alone
    """

    columns: Mapping[Column, str | None] = field(default_factory=dict)
    date_format: str | None = None
    adjust: bool = True
    splits: Splits = "refuse"
    opens_are_real: bool | None = None


@dataclass(frozen=True)
class Bars:
    """One instrument, whether an order can be filled at its opens, and how it was read.

    :param repaired: how many rows were left out or mended
    :param zone: what its stamps count in
    """

    instrument: Instrument
    opens_are_real: bool
    repaired: int
    zone: Zone


def read_csv(path: str | Path, symbol: str, date_format: str | None = None) -> Instrument:
    """Read one instrument from a csv file with a header (compressed or not), whatever the case of its column names.

    :raises MarketError: no such file, or a table that :func:`to_bars` refuses
    """
    return to_bars(read_csv_table(path), symbol, str(path), Reading(date_format=date_format)).instrument


def to_bars(table: pd.DataFrame, symbol: str, source: str, reading: Reading) -> Bars:
    """Validate a price table and return its bars, oldest first; ``source`` is what errors call it.

    The table's index numbers its rows as the user counts them. A missing volume reads as zeros; a table of closes
    alone becomes bars of one price, whose opens are not real.

    :raises MarketError: a column that is missing, a cell that is no number, a price that is not positive, a high
        below another price, a stamp that is no date or stands twice, a split that nobody adjusted
    """
    found = find_columns(table.columns, source, reading.columns)
    n_rows = len(table)
    table = _without_empty_rows(table, found, source)
    time, zone = read_stamps(_stamp_column(table, found, source, reading.date_format), source, reading.date_format)
    columns = read_prices(table, found, source)
    adjusted = columns.pop("adjusted_close", None) if reading.adjust else None
    columns.pop("adjusted_close", None)
    columns["volume"], mended = read_volume(table, found, columns["close"], source)
    closes_only = "open" not in columns
    if closes_only:
        log.warning("%s: closes alone: open, high and low are set to them", source)
        columns |= dict.fromkeys(("open", "high", "low"), columns["close"])
    high, low = columns["high"], columns["low"]
    columns = _clip(columns, table.index, source)
    mended = mended | (columns["high"] != high) | (columns["low"] != low)
    rows = table.index.to_numpy()
    if newest_first(time, rows, source, zone):
        time, rows, mended = time[::-1], rows[::-1], mended[::-1]
        columns = {name: column[::-1] for name, column in columns.items()}
        adjusted = None if adjusted is None else adjusted[::-1]
    opens_are_real = reading.opens_are_real
    if opens_are_real is None:
        opens_are_real = not closes_only and not _stale_opens(columns, source)
    columns, split = make_comparable(columns, adjusted, time, rows, source, reading.splits)
    arrays = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    instrument = Instrument(symbol, np.ascontiguousarray(time), **arrays, regime=None)
    return Bars(instrument, opens_are_real, n_rows - len(table) + int((mended | split).sum()), zone)


def _stamp_column(
    table: pd.DataFrame, found: Mapping[str, Hashable], source: str, date_format: str | None
) -> pd.Series:
    time = table[found["time"]]
    if "day" in found and is_time_of_day(time):
        return join_day(table[found["day"]], time, source, date_format)
    return time


def _without_empty_rows(table: pd.DataFrame, found: Mapping[str, Hashable], source: str) -> pd.DataFrame:
    """Leave out rows that hold no price at all, as holidays do in some files."""
    empty = np.ones(len(table), dtype=bool)
    for name in PRICES:
        if name in found:
            empty &= is_missing(table[found[name]])
    if empty.all():
        raise MarketError(f"{source}: no rows below the header")
    if not empty.any():
        return table
    log.warning(
        "%s: %d rows without a price left out (first: row %d)", source, empty.sum(), table.index[empty.argmax()]
    )
    return table[~empty]


def _clip(columns: dict[str, Floats], rows: pd.Index, source: str) -> dict[str, Floats]:
    """Move highs and lows that miss the open or the close by a rounding error; refuse those that miss by more."""
    top = np.maximum(columns["open"], columns["close"])
    bottom = np.minimum(columns["open"], columns["close"])
    bad = (columns["high"] < top) | (columns["low"] > bottom)
    if not bad.any():
        return columns
    far = np.flatnonzero((columns["high"] < top * (1 - _CLIPPED)) | (columns["low"] > bottom * (1 + _CLIPPED)))
    if len(far):
        at = far[0]
        row = ", ".join(f"{name} {columns[name][at]}" for name in PRICES)
        raise MarketError(
            f"{source}: row {rows[at]}: open and close must lie between low and high ({row}; {len(far)} such rows)"
        )
    log.warning(
        "%s: %d rows whose high or low misses the open or close by less than 0.1 %% widened (first: row %d)",
        source,
        bad.sum(),
        rows[bad.argmax()],
    )
    return columns | {"high": np.maximum(columns["high"], top), "low": np.minimum(columns["low"], bottom)}


def _stale_opens(columns: Mapping[str, Floats], source: str) -> bool:
    repeated = columns["open"][1:] == columns["close"][:-1]
    if len(repeated) + 1 < _ENOUGH or repeated.mean() <= 0.5:
        return False
    log.warning(
        "%s: %d of %d opens repeat the close before: they are taken as not real, and cannot be filled at",
        source,
        repeated.sum(),
        len(repeated),
    )
    return True
