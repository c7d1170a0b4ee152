"""Prices of a table, cell by cell: numbers that can be traded on, or refused by row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import Floats
from moe_trader.env.reading.cells import SIGNS, as_text, cell, is_missing
from moe_trader.env.reading.columns import is_a_close
from moe_trader.env.reading.headings import NONE, PRICES
from moe_trader.env.reading.page import Decimal, Page
from moe_trader.env.reading.ways import Way

# Of a volume, as Investing.com and others write it: 1.2M, 1.2 Mio, 1.2万
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "mio": 1e6, "mn": 1e6, "mrd": 1e9, "bn": 1e9, "万": 1e4, "亿": 1e8}
_UNIT = rf"(?:{'|'.join(sorted(_UNITS, key=len, reverse=True))})"
ROUNDED = rf"(?i)^(?P<number>\d+(?:\.\d+)?|\.\d+) ?(?P<unit>{_UNIT})\.?$"
LEAST, MOST = 1e-30, 1e30  # of a price or a volume: far beyond any, and products of a few of them are still numbers
_ENOUGH, _SMALLEST_STAMP = (
    5,
    20_000,
)  # rows that distinguish stamps from prices, and the smallest: days of a spreadsheet
CLOSES: Way = (
    {**{f"columns.{name}": NONE for name in ("open", "high", "low")}, "env.fill": "next_close"},
    "to read closes only",
)
_UNADJUSTED: list[Way] = [({"adjust": "false"}, "to read prices as they are")]
_OTHER_TYPES = (("M", "dates"), ("m", "durations"), ("b", "booleans"), ("c", "complex numbers"))  # by kind of dtype


def read_prices(table: pd.DataFrame, found: Mapping[str, int], page: Page) -> dict[str, Floats]:
    """Return the columns of prices that are there; with ``ranges=widen`` an open, high or low of 0 is the close.

    :raises MarketError: a cell that is no positive number
    """
    columns = {name: _price(table, found, name, page) for name in PRICES if name in found}
    if page.reading.ranges == "widen":
        columns = _filled(columns, page)
    adjusted = _adjusted(table, found, page)
    if adjusted is not None:
        columns["adjusted_close"] = adjusted
    for name, column in columns.items():
        with np.errstate(invalid="ignore"):
            bad = (column < LEAST) | (column > MOST)
        if bad.any():
            ways = _ways(name, table, found, column[bad])
            page.refuse(bad, partial(_said, name, column), ways, [CLOSES] if (columns["close"] > 0).all() else [])
    return columns


def to_floats(column: pd.Series, page: Page, ways: Sequence[Way] = ()) -> Floats:
    """Return a column's numbers, ``nan`` where a cell is none. :raises MarketError: a column of another type."""
    kind = _other_type(column)
    if kind is not None:
        remedy = "export it as plain numbers"
        raise page.error(f"column {column.name!r} holds {kind}, not numbers ({cell(column, 0)}); {remedy}", ways)
    plain = plain_numbers(column, page.reading.decimal)
    if plain.dtype == object:
        plain = plain.map(lambda value: value if isinstance(value, str | bytes | int | float) else str(value))
    return pd.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def plain_numbers(column: pd.Series, decimal: Decimal | None) -> pd.Series:
    """Return 1234.5 for 1.234,5 where the user gives the mark of decimals."""
    return column if decimal is None else _without_separators(column, decimal)


def spelled_out(column: pd.Series) -> pd.Series:
    """Return 1200000 for 1.2M and 350000 for 350K, where a whole column is written so, but for zeros."""
    if column.dtype.kind in "iufbMm" or column.empty:
        return column
    parts = as_text(column).str.strip().str.extract(ROUNDED)
    if parts["unit"].isna().all():
        return column
    zero = pd.to_numeric(as_text(column), errors="coerce") == 0
    if not (parts["unit"].notna() | zero).all():
        return column
    numbers = parts["number"].astype(float) * parts["unit"].str.lower().map(_UNITS)
    return numbers.fillna(0.0).rename(column.name)


def _other_type(column: pd.Series) -> str | None:
    """Return what a column holds in place of numbers or text, judged by its type and first cell."""
    for letter, name in _OTHER_TYPES:
        if column.dtype.kind == letter:
            return name
    known = column.dropna()
    if column.dtype != object or known.empty:
        return None
    first = known.iloc[0]
    if isinstance(first, bytes):
        return "bytes" if pd.to_numeric(known.head(100), errors="coerce").isna().all() else None
    if isinstance(first, str | int | float) or pd.notna(pd.to_numeric(str(first), errors="coerce")):
        return None
    return f"objects of type {type(first).__name__}"


def _are_stamps(numbers: Floats, time: NDArray[np.datetime64]) -> bool:
    """Whether numbers move exactly as the stamps do, in a unit of unix stamps, .NET ticks or days of a spreadsheet."""
    if len(numbers) < _ENOUGH or not np.isfinite(numbers).all() or (numbers < _SMALLEST_STAMP).any():
        return False
    elapsed = np.diff(time).astype(np.float64)  # microseconds
    steps = np.diff(numbers)
    return any(np.allclose(steps * unit, elapsed, rtol=1e-6, atol=0) for unit in (1e6, 1e3, 1.0, 1e-3, 0.1, 86_400e6))


def refuse_no_numbers(column: pd.Series, numbers: Floats, page: Page, ways: Sequence[Way]) -> None:
    """Refuse the cells that are no finite numbers, and say how such cells are read."""
    bad = ~np.isfinite(numbers)
    count = int(bad.sum())

    def describe(at: int) -> str:
        shown = cell(column, at)
        remedy = "repair or drop these rows"
        if re.search(r"\d,\d|\d['\u2019]\d|\d\.\d+\.\d|[$€£¥₹₽₩₿]|\d ?[A-Z]{3}'?$", shown):
            remedy = "write numbers with a decimal point, and without thousands separators or currency signs"
        elif re.search(ROUNDED, shown.strip("'")):
            remedy = "write them in full, as 1200000 for 1.2M"
        return f", column {column.name!r}: {shown} is no number ({count} such rows); {remedy}"

    marks = _decimals(column[bad]) if page.reading.decimal is None else []
    if marks:  # other cells of the file are written so as well: to leave such rows out would help nobody
        at = int(bad.argmax())
        read: list[Way] = [({"decimal": name}, f"to read {said}") for name, said in marks]
        raise page.error(f"row {page.rows[at]}{describe(at)}", read)
    page.refuse(bad, describe, ways)


def _price(table: pd.DataFrame, found: Mapping[str, int], name: str, page: Page) -> Floats:
    column = table.iloc[:, found[name]]
    others = [at for at in range(table.shape[1]) if at not in found.values() and table.iloc[:, at].dtype.kind in "iuf"]
    other: list[Way] = [({"columns.close": str(table.columns[at])}, "to take another column") for at in others[:1]]
    numbers = to_floats(column, page, other if name == "close" else [CLOSES])
    if _are_stamps(numbers, page.time):
        what = f"column {column.name!r} holds stamps, not prices ({cell(column, 0)}): it moves as the time does"
        raise page.error(f"{what}; export the prices", other if name == "close" else [CLOSES])
    missing = is_missing(column)
    if name != "close" and page.reading.ranges == "widen":
        numbers = np.where(missing, 0.0, numbers)  # as an open of 0: there is none
    ways: list[Way] = []
    if name != "close" and missing.any():
        ways = [({"ranges": "widen"}, f"to take the close for a missing {name}")]
    refuse_no_numbers(column, numbers, page, ways)
    return numbers


def _adjusted(table: pd.DataFrame, found: Mapping[str, int], page: Page) -> Floats | None:
    """Return the adjusted close, if it is to be used and there is one."""
    if not page.reading.adjust or "adjusted_close" not in found:
        return None
    column = table.iloc[:, found["adjusted_close"]]
    if is_missing(column).all():
        page.warn(f"column {column.name!r} is empty: prices are not adjusted")
        return None
    numbers = to_floats(column, page, _UNADJUSTED)
    refuse_no_numbers(column, numbers, page, _UNADJUSTED)
    return numbers


def _filled(columns: dict[str, Floats], page: Page) -> dict[str, Floats]:
    """Return bars whose open, high or low of 0 is the close."""
    close = columns["close"]
    filled, any_row = dict(columns), np.zeros(len(close), dtype=bool)
    for name in ("open", "high", "low"):
        if name in columns:
            none = (columns[name] == 0) & (close > 0)
            filled[name] = np.where(none, close, columns[name])
            any_row |= none
            if name == "open":
                page.filled = none
    if any_row.any():
        page.warn(
            f"{any_row.sum()} rows without an open, high or low take the close for it (first: row "
            f"{page.rows[any_row.argmax()]})"
        )
    return filled


def _said(name: str, column: Floats, at: int) -> str:
    value = column[at]
    wanted = "prices must be positive" if value <= 0 else f"expected {LEAST:g} to {MOST:g}; repair or drop this row"
    futures = "; futures adjusted by differences fall below 0, those adjusted by ratios do not"
    futures = futures if value < 0 and name != "adjusted_close" else ""
    return f": {name} is {value}; {wanted}{futures}"


def _ways(name: str, table: pd.DataFrame, found: Mapping[str, int], bad: Floats) -> list[Way]:
    """Return the settings that read a table with prices that are not positive."""
    if name == "adjusted_close":
        return _UNADJUSTED
    if name == "close":
        others = [at for at, heading in enumerate(table.columns) if at not in found.values() and is_a_close(heading)]
        return [
            ({"columns.close": str(table.columns[at])}, "to take the close from another column") for at in others[:1]
        ]
    return [({"ranges": "widen"}, "to take the close for an open, high or low of 0")] if (bad == 0).all() else []


def _without_separators(column: pd.Series, decimal: Decimal) -> pd.Series:
    """Return 1234.5 for 1,234.5 (``point``) or 1.234,5 (``comma``), without currency signs."""
    if column.dtype.kind in "iufb":
        return column
    text = as_text(column).str.replace(SIGNS, "", regex=True)
    thousands, mark = (",", ".") if decimal == "point" else (".", ",")
    whole = text.str.fullmatch(
        rf"[-+]?(?:\d+|\d{{1,3}}(?:\{thousands}\d{{3}})+)?(?:\{mark}\d*)?(?:[eE][-+]?\d+)?(?i:{_UNIT}\.?)?"
    )
    plain = text.str.replace(thousands, "", regex=False).str.replace(mark, ".", regex=False)
    return plain.where(whole, text.where(is_missing(column), "no number"))


def _decimals(bad: pd.Series) -> list[tuple[Decimal, str]]:
    """Return the marks of decimals that read every one of these cells, each differently, and how the first."""
    found: list[tuple[Decimal, str]] = []
    cells, before = bad[~is_missing(bad)], None
    marks: tuple[Decimal, ...] = ("point", "comma")
    for name in marks:
        numbers = pd.to_numeric(spelled_out(_without_separators(cells, name)), errors="coerce")
        if len(cells) and np.isfinite(numbers).all() and not (before is not None and numbers.equals(before)):
            found.append((name, f"{cells.iloc[0]} as {numbers.iloc[0]:g}"))
            before = numbers
    return found
