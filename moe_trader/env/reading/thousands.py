"""Numbers such as 1.003, which may be a thousand and three: refused where a file says nothing of its decimals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from moe_trader.env import Floats, MarketError
from moe_trader.env.reading.headings import DOTTED, PRICES
from moe_trader.env.reading.layout import Layout
from moe_trader.env.reading.page import Reading
from moe_trader.env.reading.ways import Way, offer

_NEAR = 0.2  # of log(1000), by which prices that follow each other may differ from a thousandth
_FIRST = 1000  # rows that are looked at before all are
_GROUPED = r"[-+]?[1-9]\d{0,2}\.\d{3}"
_WHOLE = r"[-+]?\d{1,3}"
_POINT = r"[-+]?\d*\.\d+\s*[%kKmMbB]?"
_COMMA = r"[-+]?\d+,\d+\s*[%kKmMbB]?|[-+]?\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?"


def refuse_thousands(
    table: pd.DataFrame, path: str, layout: Layout, sample: Callable[[], pd.DataFrame], reading: Reading
) -> None:
    """Refuse prices and volumes of which nobody knows whether 1.003 is 1003.

    Such a column holds whole numbers below 1000, and numbers from 1 of three decimals. Either a price goes on from 997
    to 1.003, or all of them have three decimals in a file of which nothing shows the mark of decimals: separated by
    semicolons, or with headings of a country that writes 1.003 for a thousand and three.

    :param sample: returns the first rows as text
    """
    found = table.attrs.pop("found", {})
    doubtful = [
        place
        for name in (*PRICES, "volume")
        if (place := found.get(name)) is not None and _doubtful(table.iloc[:, place])
    ]
    prices = [found[name] for name in PRICES if name in found]
    for place in doubtful:
        price = table.iloc[:, place].dropna()
        at = _crossing(price.to_numpy()) if place in prices else None
        if at is not None:
            before, after = price.iloc[at], price.iloc[at + 1]
            text = f"prices go on from {before:g} to {after:g}, as where a dot stands between thousands"
            raise _error(path, price, at + 1, min(before, after), text, reading)
    if doubtful and (layout.separator == ";" or _is_dotted(layout)):
        rows = sample()
        if _says_nothing(rows, {found[name] for name in ("time", "day", "clock", "symbol") if name in found}, layout):
            for place in doubtful:
                column = table.iloc[:, place].dropna()
                whole = rows[place].str.strip().replace("", pd.NA).dropna()
                if whole.str.fullmatch(_GROUPED).any() and whole.str.fullmatch(f"{_GROUPED}|{_WHOLE}").all():
                    at = int((column % 1 != 0).to_numpy().argmax())
                    text = "a dot may stand between thousands, or before decimals"
                    raise _error(path, column, at, column.iloc[at], text, reading)


def _doubtful(column: pd.Series) -> bool:
    """Whether a column's numbers have at most three decimals and three digits before, and some have any."""
    if column.dtype.kind != "f":
        return False
    numbers = column.to_numpy()
    return _may_be_grouped(numbers[:_FIRST]) and _may_be_grouped(numbers) and bool((numbers % 1 > 0).any())


def _may_be_grouped(numbers: Floats) -> bool:
    known = numbers[~np.isnan(numbers)]
    if known.max(initial=0) >= 1000 or known[known > 0].min(initial=1) < 1:
        return False
    return not (np.abs(known * 1000 - np.round(known * 1000)) > 1e-6).any()


def _crossing(numbers: Floats) -> int | None:
    """Return the place before which a whole number is about a thousand times its neighbour."""
    before, after = numbers[:-1], numbers[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = np.abs(np.log(np.maximum(before, after) / np.minimum(before, after) / 1000)) < _NEAR
    crossed &= np.maximum(before, after) % 1 == 0
    return int(crossed.argmax()) if crossed.any() else None


def _is_dotted(layout: Layout) -> bool:
    return bool({heading.strip().lower() for heading in layout.headings or ()} & DOTTED)


def _says_nothing(rows: pd.DataFrame, not_numbers: set[int], layout: Layout) -> bool:
    """Whether no cell shows that a point stands before decimals, as do 0.5 and programs' headings and days."""
    if any(heading.strip().startswith("<") for heading in layout.headings or ()):
        return False
    for place in rows.columns:
        text = rows[place].str.strip()
        if place in not_numbers:
            if text.str.fullmatch(r"\d{8}[ ,]?\d*").all():
                return False
        elif (text.str.fullmatch(_POINT) & ~text.str.fullmatch(_GROUPED)).any():
            return False
    return True


def _error(path: str, column: pd.Series, at: int, number: float, text: str, reading: Reading) -> MarketError:
    shown = f"{number:.3f}"
    ways: list[Way] = [
        ({"decimal": name}, f"to read {shown} as {value:g}")
        for name, value in (("comma", number * 1000), ("point", number))
    ]
    return MarketError(f"{path}: row {column.index[at]}, column {column.name!r}: {text}{offer(ways, reading.settings)}")
