"""Time stamps of bars: dates as text, with or without offsets, unix stamps, and the order they stand in."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import MarketError

log = logging.getLogger(__name__)

Stamps = NDArray[np.datetime64]

# Unit of a unix stamp: smallest value, name, microseconds. 1e8 seconds are in 1973, and the next unit starts in 5138.
_UNITS = ((1e17, "nanoseconds", 1e-3), (1e14, "microseconds", 1.0), (1e11, "milliseconds", 1e3), (1e8, "seconds", 1e6))
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?|\d{1,6}"
_OFFSET = r":\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"


def cell(column: pd.Series, at: int) -> str:
    """Return one cell as an error shows it."""
    value = column.iloc[at]
    if not isinstance(value, str) and pd.isna(value):
        return "an empty cell"
    return repr(value) if isinstance(value, str) else str(value)


def join_day(day: pd.Series, time: pd.Series) -> pd.Series:
    """Return stamps as text from a day and a time of day (``09:30``, ``093000`` or ``0``)."""
    clock = time.astype(str).str.strip()
    clock = clock.where(clock.str.contains(":"), clock.str.removesuffix(".0").str.zfill(6))
    return (day.astype(str).str.strip() + "T" + clock).rename(f"{day.name} + {time.name}")


def is_time_of_day(column: pd.Series) -> bool:
    """Whether a column holds times without a day, judged by its first cell."""
    known = column.dropna()
    return len(known) > 0 and re.fullmatch(_CLOCK, str(known.iloc[0]).strip()) is not None


def read_stamps(column: pd.Series, source: str, date_format: str | None) -> Stamps:
    """Return the stamps as ``datetime64[us]``, in UTC where they carry an offset; the index numbers the rows.

    :param date_format: as ``strptime`` has it; ``None``: ISO 8601, days without separators, or unix stamps in any unit
    :raises MarketError: a stamp that is no date, or one without an offset among others that have one
    """
    if date_format is None and _mostly_numbers(column):
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        known = values[np.isfinite(values)]
        if np.median(known) >= 1e8:
            return _unix(column, values, source)
        if pd.api.types.is_numeric_dtype(column):  # days such as 20181231
            column = column.astype("Int64" if np.all(known % 1 == 0) else "Float64").astype(str)
    return _dates(column, source, date_format)


def _mostly_numbers(column: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column):
        return False
    some = pd.to_numeric(column.dropna().head(100).astype(str), errors="coerce")
    return 2 * int(some.notna().sum()) > len(some)


def newest_first(time: Stamps, rows: Sequence[int], source: str) -> bool:
    """Whether the stamps fall from row to row instead of rising.

    :raises MarketError: a stamp that stands twice, or one out of order
    """
    steps = np.diff(time).astype(np.int64)
    backwards = bool((steps < 0).sum() > (steps > 0).sum())
    bad = np.flatnonzero((steps >= 0) if backwards else (steps <= 0))
    if len(bad):
        at = int(bad[0])
        first, second = time[at], time[at + 1]
        what = "stands twice" if first == second else f"is followed by {second}"
        repeated = len(time) - len(np.unique(time))
        count = f" ({repeated} rows repeat a stamp)" if repeated > 1 else ""
        raise MarketError(
            f"{source}: rows {rows[at]} and {rows[at + 1]}: stamp {first} {what}; "
            f"stamps must be unique and in order{count}"
        )
    return backwards


def _unix(column: pd.Series, values: NDArray[np.float64], source: str) -> Stamps:
    known = values[np.isfinite(values)]
    middle = float(np.median(known))
    least, unit, scale = next(one for one in _UNITS if middle >= one[0])
    most = least * 1e3
    bad = np.flatnonzero(~((values >= least) & (values < most)))
    if len(bad):
        place = f"{source}: row {column.index[bad[0]]}, column {column.name!r}"
        raise MarketError(f"{place}: {cell(column, bad[0])} is no unix stamp in {unit}, as most others are")
    log.info("%s: column %r holds unix stamps in %s", source, column.name, unit)
    if column.dtype.kind in "iu":  # whole numbers stay exact
        whole = column.to_numpy(dtype=np.int64)
        micros = whole // 1000 if scale < 1 else whole * int(scale)
    else:
        micros = np.round(values * scale).astype(np.int64)
    return micros.view("datetime64[us]")


def _dates(column: pd.Series, source: str, date_format: str | None) -> Stamps:
    stamps = _parse(column, source, date_format)
    if stamps.isna().any() and not pd.api.types.is_datetime64_any_dtype(column):
        text = column.astype(str).str.strip()
        stamps = _parse(text.str.removesuffix("UTC").str.strip(), source, date_format)
    bad = np.flatnonzero(stamps.isna().to_numpy())
    if len(bad):
        wanted = (
            f"the format {date_format!r}" if date_format else "ISO 8601 (2018-12-31), or set env.market.date_format"
        )
        place = f"{source}: row {column.index[bad[0]]}, column {column.name!r}"
        raise MarketError(f"{place}: {cell(column, bad[0])} is no date; expected {wanted}")
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]")


def _parse(column: pd.Series, source: str, date_format: str | None) -> pd.Series:
    layout = None if pd.api.types.is_datetime64_any_dtype(column) else date_format or "ISO8601"
    try:
        try:
            stamps = pd.to_datetime(column, errors="coerce", format=layout)
            return stamps if stamps.dt.tz is None else stamps.dt.tz_convert("UTC")
        except ValueError:  # offsets that differ, as in summer and winter, or that some stamps lack
            _check_offsets(column, source)
            return pd.to_datetime(column, errors="coerce", utc=True, format=layout)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, MarketError):
            raise
        raise MarketError(f"{source}: column {column.name!r} holds no dates ({error})") from None


def _check_offsets(column: pd.Series, source: str) -> None:
    text = column.astype(str).str.strip()
    with_offset = text.str.contains(_OFFSET, regex=True).to_numpy()
    if with_offset.any() and not with_offset.all():
        at = int(np.flatnonzero(~with_offset)[0])
        place = f"{source}: row {column.index[at]}, column {column.name!r}"
        raise MarketError(
            f"{place}: {cell(column, at)} has no time zone, and others have one; give every stamp its own"
        )
