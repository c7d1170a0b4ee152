"""Times of day that stand in a column of their own, next to the day."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from moe_trader.env.reading.cells import as_text, cell
from moe_trader.env.reading.date_formats import fitting_formats
from moe_trader.env.reading.page import Page
from moe_trader.env.reading.ways import Way

_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?|\d{1,6}(\.0)?"


def is_time_of_day(column: pd.Series) -> bool:
    """Whether a column holds times without a day, judged by its first cell."""
    known = column.dropna()
    return len(known) > 0 and re.fullmatch(_CLOCK, str(known.iloc[0]).strip()) is not None


def join_day(day: pd.Series, time: pd.Series, page: Page) -> pd.Series:
    """Return stamps as text from a day and a time of day, with a space between.

    A time without colons is ``HH``, ``HHMM`` or ``HHMMSS``, as its longest cell says: spreadsheets drop zeros in front.
    It gets its colons, unless a format says how the user writes it.

    :raises MarketError: digits that are no such time, unless the format has to say
    """
    clock = as_text(time).str.strip().str.removesuffix(".0")
    bare = clock.str.fullmatch(r"\d{1,6}")
    if bare.any():
        digits = clock[bare]
        width = 2 * (int(digits.str.len().max() + 1) // 2)
        digits = digits.str.zfill(width)
        if page.reading.date_format is None:
            _check(digits, width, page, day, time)
            if width == 2:  # 0 to 19 may as well be the minutes of a short file
                page.warn(
                    f"column {time.name!r} is read as hours; write times such as 00:05, or set env.market.date_format "
                    "('%Y-%m-%d %M'), where it holds minutes"
                )
            digits = digits.str.ljust(4, "0").str.replace(r"(\d\d)(?=\d)", r"\1:", regex=True)
        clock = clock.where(~bare, digits.reindex(clock.index))
    return (as_text(day).str.strip() + " " + clock).rename(f"{day.name} + {time.name}")


def _check(digits: pd.Series, width: int, page: Page, day: pd.Series, time: pd.Series) -> None:
    bad = np.zeros(len(digits), dtype=bool)
    for at, limit in ((0, 23), (2, 59), (4, 59)):
        if at < width:
            bad |= digits.str[at : at + 2].astype(int).to_numpy() > limit
    if bad.any():
        row = digits.index[bad.argmax()]
        days = fitting_formats(day) if width == 2 else []
        ways: list[Way] = [({"date_format": f"{layout} %M"}, "to read it as minutes") for layout in days[:1]]
        raise page.error(
            f"row {row}, column {time.name!r}: {cell(time.loc[[row]], 0)} is no time of day as "
            f"{'HHMMSS'[:width]}, as the longest cell of the column is; write 09:30, or all six digits of 093000",
            ways,
        )
