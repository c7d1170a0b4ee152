"""Times of day that stand in a column of their own, next to the day."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from moe_trader.env.reading.cells import as_text, cell, is_missing
from moe_trader.env.reading.date_formats import fitting_formats
from moe_trader.env.reading.page import Page
from moe_trader.env.reading.ways import Way

_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s*[ap]\.?m\.?)?|\d{1,6}(\.0)?|\d{1,2}\s*[ap]\.?m\.?"
_HALF = r"(?i)^(\d{1,2})((?::\d{2})*(?:[.,]\d+)?)\s*([ap])\.?m\.?$"


def is_time_of_day(column: pd.Series) -> bool:
    """Whether a column holds times without a day, judged by its first cell."""
    known = column.dropna()
    return len(known) > 0 and re.fullmatch(_CLOCK, str(known.iloc[0]).strip(), re.IGNORECASE) is not None


def join_day(day: pd.Series, time: pd.Series, page: Page) -> pd.Series:
    """Return stamps as text from a day and a time of day, with a space between.

    An empty day is that of the row above, as spreadsheets show it once. A time without colons is ``HH``, ``HHMM`` or
    ``HHMMSS``, as its longest cell says: spreadsheets drop zeros in front.
    It gets its colons, unless a format says how the user writes it.

    :raises MarketError: digits that are no such time, unless the format has to say
    """
    day = _downwards(day, time, page)
    clock = _of_24_hours(as_text(time).str.strip().str.removesuffix(".0"))
    bare = clock.str.fullmatch(r"\d{1,6}")
    if bare.any():
        digits = clock[bare]
        width = 2 * (int(digits.str.len().max() + 1) // 2)
        digits = digits.str.zfill(width)
        date_format = page.reading.date_format
        if date_format is None or ":" in date_format:
            _check(digits, width, page, day, time)
            if width == 2:  # 0 to 19 may as well be the minutes of a short file
                page.warn(
                    f"column {time.name!r} is read as hours; write times such as 00:05, or set env.market.date_format "
                    "('%Y-%m-%d %M'), where it holds minutes"
                )
            digits = digits.str.ljust(4, "0").str.replace(r"(\d\d)(?=\d)", r"\1:", regex=True)
        clock = clock.where(~bare, digits.reindex(clock.index))
    return (as_text(day).str.strip() + " " + clock).rename(f"{day.name} + {time.name}")


def join_parts(table: pd.DataFrame, found: Mapping[str, int], page: Page) -> pd.Series:
    """Return stamps as text from a day, or a year and a month, and what there is of a time in columns of their own."""

    def part(name: str) -> pd.Series:
        return as_text(table.iloc[:, found[name]]).str.strip().str.removesuffix(".0").str.zfill(2)

    if "year" in found:
        day = part("year") + "-" + part("month") + "-" + (part("day_of_month") if "day_of_month" in found else "01")
        day = day.rename(str(table.columns[found["year"]]))
    else:
        day = table.iloc[:, found["time"]]
    if "year" in found and "time" in found:
        return join_day(day, table.iloc[:, found["time"]], page)
    if "hour" not in found:
        return day
    minute = part("minute") if "minute" in found else "00"
    clock = part("hour") + ":" + minute + (":" + part("second") if "second" in found else "")
    return (as_text(day).str.strip() + " " + clock).rename(day.name)


def _downwards(day: pd.Series, time: pd.Series, page: Page) -> pd.Series:
    """Return days of which an empty one next to a time is that of the row above.

    :raises MarketError: times below one day that go back, as where the next one begins
    """
    empty = is_missing(day) & ~is_missing(time)
    if not empty.any() or empty.all():
        return day
    filled = day.where(~empty).ffill().where(~is_missing(time) | ~is_missing(day), day)
    clock = _of_24_hours(as_text(time).str.strip()).str.replace(r"^(?=\d:)", "0", regex=True)
    below = empty & filled.notna().to_numpy()
    later = (clock > clock.shift()).to_numpy()
    if (later & below).any() and (~later & below).any():
        at = int((~later & below).argmax())
        raise page.error(
            f"row {page.rows[at]}, column {day.name!r}: no day, and its time {cell(time, at)} is not later than "
            "that of the row above; write the day in each row"
        )
    page.warn(f"{empty.sum()} empty days are that of the row above (first: row {page.rows[empty.argmax()]})")
    return filled


def _of_24_hours(clock: pd.Series) -> pd.Series:
    """Return 13:00 for 01:00 PM."""
    parts = clock.str.extract(_HALF)
    if parts[2].isna().all():
        return clock
    hours = parts[0].astype("Float64") % 12 + 12 * (parts[2].str.lower() == "p").astype("Float64")
    shown = hours.astype("Int64").astype(str).str.zfill(2) + parts[1].where(parts[1] != "", ":00")
    return shown.where(parts[2].notna(), clock)


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
