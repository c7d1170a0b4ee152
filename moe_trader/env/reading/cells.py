"""Cells of a table: those that hold nothing, and cells as text."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_MISSING = (
    *("", ".", "-", "--", "nan", "na", "n/a", "n.a.", "#n/a", "#n/a n/a", "null", "none"),
    *("#div/0!", "#ref!", "#value!", "#num!", "#name?", "#null!"),  # of spreadsheets
)
CODES = "USD|EUR|GBP|CHF|JPY|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|TRY|RUB|CNY|HKD|SGD|INR|KRW|BRL|MXN|ZAR|BTC|USDT"
# Currency signs and codes, spaces, and Swiss thousands separators
SIGNS = rf"^(?:{CODES})(?=\s*\d)|(?<=\d)\s*(?:{CODES})$|[$€£¥₹₽₩₿\s_]|(?<=\d)['\u2019](?=\d{{3}}(?!\d))"


def is_missing(column: pd.Series) -> NDArray[np.bool_]:
    """Mark the cells that hold nothing, in any of the ways that files say so."""
    missing = column.isna().to_numpy()
    if column.dtype.kind in "iufbMm":
        return missing
    return missing | as_text(column).str.strip().str.lower().isin(_MISSING).to_numpy()


def as_text(column: pd.Series) -> pd.Series:
    """Return a column as text, whatever it holds; bytes that are no text are written as Python shows them."""
    if column.dtype == object:
        column = column.map(_text)
    return column.astype(str)


def _text(value: object) -> str:
    if isinstance(value, bytes) and value.isascii():
        return value.decode("ascii")
    return value if isinstance(value, str) else str(value)


def cell(column: pd.Series, at: int) -> str:
    """Return one cell as an error shows it."""
    value = column.iloc[at]
    if not isinstance(value, str) and pd.isna(value):
        return "an empty cell"
    return repr(value) if isinstance(value, str) else str(value)
