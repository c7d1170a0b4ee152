"""From a price table as people have it to an :class:`~moe_trader.env.Instrument`: repaired, or refused by row.

What is repaired is counted in the log; what cannot be is refused with file, row, reason, and a setting that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import Floats, Instrument
from moe_trader.env.reading.adjust import make_comparable
from moe_trader.env.reading.cells import is_missing
from moe_trader.env.reading.clock import is_time_of_day, join_day, join_parts
from moe_trader.env.reading.columns import find_columns
from moe_trader.env.reading.headings import PRICES
from moe_trader.env.reading.numbers import read_prices
from moe_trader.env.reading.order import has_repeated, order_of, refuse_repeated
from moe_trader.env.reading.page import Mask, Page, Reading, join_pages
from moe_trader.env.reading.ranges import widen
from moe_trader.env.reading.repeats import symbol_column, time_column
from moe_trader.env.reading.stamps import Zone, read_stamps
from moe_trader.env.reading.tables import read_csv_table
from moe_trader.env.reading.volume import read_volume
from moe_trader.env.reading.ways import Way

_ENOUGH = 20  # bars needed to judge whether opens are real
_NAMED = 6  # ignored columns that a note lists
_FILLED = 0.05  # share of opens taken from the close above which opens are not real


@dataclass(frozen=True)
class Rows:
    """The rows of one table, oldest first, before splits and adjustments.

    :param page: the table's name, notes, and the number of each row
    :param columns: open, high, low, close, volume, and the adjusted close where there is one
    :param repaired: rows of which something was changed
    :param n_left_out: rows without a price, and bad ones
    """

    page: Page
    zone: Zone
    columns: dict[str, Floats]
    repaired: Mask
    n_left_out: int
    closes_only: bool


@dataclass(frozen=True)
class Bars:
    """One instrument, whether an order can be filled at its opens, and how it was read.

    :param repaired: how many rows were left out or changed
    :param zone: what its stamps count in
    :param notes: what was found out, repaired and left out, a phrase each
    """

    instrument: Instrument
    opens_are_real: bool
    repaired: int
    zone: Zone
    notes: tuple[str, ...] = ()


def read_csv(path: str | Path, symbol: str, date_format: str | None = None) -> Instrument:
    """Read one instrument from a csv file with a header (compressed or not), whatever the case of its column names.

    :raises MarketError: no such file, or a table that :func:`to_bars` refuses
    """
    reading = Reading(date_format=date_format)
    return to_bars(read_csv_table(path, reading), symbol, str(path), reading).instrument


def to_bars(table: pd.DataFrame, symbol: str, source: str, reading: Reading) -> Bars:
    """Validate a price table and return its bars, oldest first; ``source`` is what errors call it.

    The table's index numbers its rows as the user counts them. A missing volume reads as zeros; a table of closes
    only becomes bars of one price, whose opens are not real.

    :raises MarketError: a column that is missing, a cell that is no number, a price that is not positive, a high
        below another price, a stamp that is no date or stands twice, a split that nobody adjusted
    """
    return finish([read_rows(table, source, reading)], symbol, reading)


def read_rows(table: pd.DataFrame, source: str, reading: Reading) -> Rows:
    """Return the rows of one table that can be traded on, oldest first."""
    found = find_columns(table.columns, source, reading.columns, table.head(200))
    page, n_rows = Page(source, table.index, reading), len(table)
    page.notes += [*table.attrs.get("notes", ()), *_ignored(table, found, reading)]
    table = _without_empty_rows(table, found, page)
    page.time, zone = read_stamps(_stamp_column(table, found, page), page)
    outside = _outside(page)
    table, n_cut = table[page.drop(outside)], int(outside.sum())
    columns = read_prices(table, found, page)
    closes_only = "open" not in columns
    if closes_only:
        page.warn("closes only: open, high and low are set to them")
        columns |= dict.fromkeys(("open", "high", "low"), columns["close"])
    as_read = columns
    columns = widen(columns, page)
    columns["volume"], repaired = read_volume(table, found, columns["close"], page)
    for name in ("open", "high", "low"):
        repaired = repaired | (columns[name] != as_read[name])
    columns["repaired"] = (repaired | page.filled).astype(np.float64)
    columns = _chosen(columns, page.drop())
    columns = _chosen(columns, refuse_repeated(columns, page, zone, _symbol_ways(table, page, found)))
    columns = _chosen(columns, page.drop())
    columns = _chosen(columns, page.sort(order_of(page, zone)))
    page.note_bad_rows()
    n_left_out = n_rows - len(page.rows) - n_cut
    return Rows(page, zone, columns, columns.pop("repaired") > 0, n_left_out, closes_only)


def finish(parts: Sequence[Rows], symbol: str, reading: Reading) -> Bars:
    """Return the bars of one instrument from the rows of its tables, oldest first, comparable over time.

    :param parts: one table, or several whose times follow each other
    """
    page = join_pages([part.page for part in parts], symbol)
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    adjusted = columns.pop("adjusted_close", None)
    opens_are_real = reading.opens_are_real
    if opens_are_real is None:
        opens_are_real = not any(part.closes_only for part in parts) and not _stale_opens(columns, page)
    columns, split = make_comparable(columns, adjusted, page)
    repaired = np.concatenate([part.repaired for part in parts]) | split
    arrays = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    instrument = Instrument(symbol, np.ascontiguousarray(page.time), **arrays, regime=None)
    count = sum(part.n_left_out for part in parts) + int(repaired.sum())
    return Bars(instrument, opens_are_real, count, parts[0].zone, tuple(page.notes))


def _chosen(columns: Mapping[str, Any], rows: NDArray[Any]) -> dict[str, Any]:
    if rows.dtype == bool and rows.all():  # as nearly always: a million rows are not copied
        return dict(columns)
    return {name: column[rows] for name, column in columns.items()}


def _stamp_column(table: pd.DataFrame, found: Mapping[str, int], page: Page) -> pd.Series:
    if "year" in found or "hour" in found:
        return join_parts(table, found, page)
    time = table.iloc[:, found["time"]]
    if "clock" in found and is_time_of_day(clock := table.iloc[:, found["clock"]]):
        return join_day(time, clock, page)
    if "day" in found and is_time_of_day(time):
        return join_day(table.iloc[:, found["day"]], time, page)
    return time


def _ignored(table: pd.DataFrame, found: Mapping[str, int], reading: Reading) -> list[str]:
    """Return a note on the columns that are not read."""
    unread = set(range(table.shape[1])) - set(found.values())
    if not reading.adjust and "adjusted_close" in found:
        unread.add(found["adjusted_close"])
    names = [str(table.columns[place]) for place in sorted(unread)]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"columns ignored: {', '.join(names[:_NAMED])}{more}"] if names else []


def _without_empty_rows(table: pd.DataFrame, found: Mapping[str, int], page: Page) -> pd.DataFrame:
    """Leave out rows that hold no price at all, as holidays do in some files."""
    empty = np.ones(len(table), dtype=bool)
    for name in PRICES:
        if name in found:
            empty &= is_missing(table.iloc[:, found[name]])
    if empty.all():
        raise page.error("no rows below the header")
    if empty.any():
        page.warn(f"{empty.sum()} rows without a price left out (first: row {page.rows[empty.argmax()]})")
        page.leave_out(empty)
    return table[~empty]


def _outside(page: Page) -> Mask:
    """Mark the rows before the first day that the user wants, and from the first no longer wanted."""
    start, end = page.reading.start, page.reading.end
    outside = np.zeros(len(page.rows), dtype=bool)
    if start is not None:
        outside |= page.time < np.datetime64(start)
    if end is not None:
        outside |= page.time >= np.datetime64(end)
    outside &= ~page.bad
    if outside.any():
        page.inform(f"{outside.sum()} rows outside env.market.start and end left out")
        if outside.all():
            raise page.error(
                f"no rows from {start or 'the beginning'} to {end or 'the end'} (env.market.start, .end): the file "
                f"holds {page.time.min()} to {page.time.max()}"
            )
    return outside


def _symbol_ways(table: pd.DataFrame, page: Page, found: Mapping[str, int]) -> list[Way]:
    """Return the setting that distinguishes rows of one stamp, if a column does."""
    if "symbol" in found or not has_repeated(page.time):
        return []
    rows = table.loc[page.rows]
    other = time_column(rows, {found["close"]})
    if other is not None and other != found.get("time"):
        return [({"columns.time": str(table.columns[other])}, "if it holds the stamps")]
    place = symbol_column(rows, page.time, set(found.values()))
    if place is None:
        return []
    heading = table.columns[place]
    unique = isinstance(heading, str) and list(table.columns).count(heading) == 1
    return [({"columns.symbol": heading if unique else place}, f"if column {heading!r} holds symbols")]


def _stale_opens(columns: Mapping[str, Floats], page: Page) -> bool:
    """Whether opens are not real: most repeat the close before, or many were missing."""
    if page.filled.mean() > _FILLED:
        page.warn(f"{page.filled.sum()} of {len(page.filled)} opens are missing: they are taken as not real")
        return True
    repeated = columns["open"][1:] == columns["close"][:-1]
    if len(repeated) + 1 < _ENOUGH or repeated.mean() <= 0.5:
        return False
    page.warn(
        f"{repeated.sum()} of {len(repeated)} opens repeat the close before: they are taken as not real, and cannot be "
        "filled at"
    )
    return True
