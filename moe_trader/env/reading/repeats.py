"""Columns that distinguish rows of one stamp: symbols, or other stamps; for refusals to suggest."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env.reading.cells import as_text
from moe_trader.env.reading.guess import are_unix, holds_stamps, numbers_of

_NO_SYMBOL = 100  # numbers below it are hours and other counts, no symbols
_SOME = 200  # rows by which stamps are known


def time_column(table: pd.DataFrame, taken: set[int]) -> int | None:
    """Return the position of a column of stamps of which none stands twice."""
    for place in range(table.shape[1]):
        column = table.iloc[:, place]
        if place in taken or column.dtype.kind == "f" or column.duplicated().any():
            continue
        if holds_stamps(column.head(_SOME))[0] and not _counts_up(column):
            return place
    return None


def _counts_up(column: pd.Series) -> bool:
    numbers = numbers_of(column)
    return numbers is not None and not are_unix(numbers)


def symbol_column(table: pd.DataFrame, time: NDArray[np.datetime64], taken: set[int]) -> int | None:
    """Return the position of a column whose values distinguish rows of one stamp, as symbols do."""
    for place in range(table.shape[1]):
        column = table.iloc[:, place]
        if place in taken or pd.api.types.is_float_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        names = as_text(column).to_numpy()
        if (pd.to_numeric(as_text(column), errors="coerce") < _NO_SYMBOL).all():
            continue
        n_names = len(set(names))
        if 2 <= n_names <= len(names) // 2 and not pd.DataFrame({"time": time, "name": names}).duplicated().any():
            return place
    return None
