"""Time stamps of bars: dates as text, with or without offsets, unix stamps, and the order they stand in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import MarketError
from moe_trader.env.reading.columns import cell
from moe_trader.env.reading.unix import is_unix, read_unix

log = logging.getLogger(__name__)

Stamps = NDArray[np.datetime64]
Zone = Literal["UTC", "none", "days"]

_ZONE = r"\s*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_OFFSET = r":\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_EXPONENT = r"^([\d.]+)[eE]\+?\d+$"
_EXACT = 8  # digits that a stamp in E notation needs at least: fewer cannot tell one day from the next
_BROKERS = r"(\d{8})(?:\s+|-)(\d\d:\d\d(?::\d\d)?)"  # Interactive Brokers: 20200102  09:30:00, 20200102-09:30:00
_HOUR = np.timedelta64(1, "h")


def read_stamps(column: pd.Series, source: str, date_format: str | None) -> tuple[Stamps, Zone]:
    """Return the stamps as ``datetime64[us]`` and what they count in; the column's index numbers the rows.

    Stamps with an offset and unix stamps become ``UTC``; whole ``days`` stay the days they are where they are traded;
    others name no zone (``none``).

    :param date_format: as ``strptime`` has it; ``None``: ISO 8601, days without separators, or unix stamps in any unit
    :raises MarketError: a stamp that is no date, or one without an offset among others that have one
    """
    stamps, zone = _read(column, source, date_format)
    coming = stamps > np.datetime64("now") + np.timedelta64(1, "D")
    if coming.any():
        at = int(coming.argmax())
        row = column.index[at]
        log.warning("%s: %d stamps lie in the future (first: row %d, %s)", source, coming.sum(), row, stamps[at])
    return stamps, zone


def _read(column: pd.Series, source: str, date_format: str | None) -> tuple[Stamps, Zone]:
    if date_format is None and _mostly_numbers(column):
        _refuse_rounded(column, source)
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        known = values[np.isfinite(values)]
        whole = bool(np.all(known % 1 == 0))
        date_format = _compact(known) if whole else None
        if date_format is None and is_unix(values):
            stamps = read_unix(column, values, source)
            return stamps, "days" if _whole_days(pd.Series(stamps)) else "UTC"
        if pd.api.types.is_numeric_dtype(column):  # days such as 20181231
            column = column.astype("Int64" if whole else "Float64").astype(str)
    return _dates(column, source, date_format)


def _mostly_numbers(column: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column):
        return False
    some = pd.to_numeric(column.dropna().head(100).astype(str), errors="coerce")
    return 2 * int(some.notna().sum()) > len(some)


def _refuse_rounded(column: pd.Series, source: str) -> None:
    """Refuse what a spreadsheet saves as it shows it: 1.57792E+12, of which the last digits are gone for good."""
    if pd.api.types.is_numeric_dtype(column):
        return
    text = column.astype(str).str.strip()
    if not text.str.contains("e", case=False, regex=False).any():
        return
    mantissa = text.str.extract(_EXPONENT, expand=False)
    known = mantissa.dropna()
    if known.empty or known.str.replace(".", "").str.strip("0").str.len().max() >= _EXACT:
        return
    at = int(np.flatnonzero(mantissa.notna())[0])
    raise MarketError(
        f"{source}: row {column.index[at]}, column {column.name!r}: {cell(column, at)} is rounded, and no "
        f"stamp ({len(known)} such rows); format the column as a plain number without decimals before saving it as csv"
    )


def _compact(known: NDArray[np.float64]) -> str | None:
    """Return the format of stamps such as 201812311600, which by their size could be unix stamps of 1976."""
    for length, layout in ((12, "%Y%m%d%H%M"), (14, "%Y%m%d%H%M%S")):
        if (known >= 19 * 10.0 ** (length - 2)).all() and (known < 21 * 10.0 ** (length - 2)).all():
            text = pd.Series(known.astype(np.int64)).astype(str)
            if pd.to_datetime(text, format=layout, errors="coerce").notna().mean() > 0.5:  # few unix stamps would be
                return layout
    return None


def newest_first(time: Stamps, rows: Sequence[int], source: str, zone: Zone) -> bool:
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
        intraday = not (time == time.astype("datetime64[D]")).all()
        clocks = "; where clocks are set back an hour comes twice: give stamps in UTC, or with their offset"
        hint = clocks if zone == "none" and intraday and abs(first - second) <= _HOUR else ""
        raise MarketError(
            f"{source}: rows {rows[at]} and {rows[at + 1]}: stamp {first} {what}; "
            f"stamps must be unique and in order{count}{hint}"
        )
    return backwards


def _dates(column: pd.Series, source: str, date_format: str | None) -> tuple[Stamps, Zone]:
    spaced = _respaced(column, date_format)
    stamps, local = _parse(spaced, source, date_format)
    zone: Zone = "none" if local is None else "UTC"
    if stamps.isna().any() and not pd.api.types.is_datetime64_any_dtype(column):
        text = spaced.astype(str).str.strip()
        stamps, local = _parse(text.str.removesuffix("UTC").str.strip(), source, date_format)
        zone = "UTC" if local is not None or text.str.endswith("UTC").any() else "none"
    bad = np.flatnonzero(stamps.isna().to_numpy())
    if len(bad):
        iso = "ISO 8601 (2018-12-31), or set env.market.date_format ('%d/%m/%Y', or with a time '%d/%m/%Y %H:%M')"
        wanted = f"the format {date_format!r}" if date_format else iso
        place = f"{source}: row {column.index[bad[0]]}, column {column.name!r}"
        raise MarketError(f"{place}: {cell(column, bad[0])} is no date; expected {wanted}")
    if zone == "UTC" and _whole_days(stamps if local is None else local):
        stamps, zone = stamps if local is None else local, "days"  # in UTC, an Asian day would begin on the day before
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]"), zone


def _respaced(column: pd.Series, date_format: str | None) -> pd.Series:
    """Return stamps with one space between day and time where they are written as Interactive Brokers does."""
    if date_format is not None or pd.api.types.is_datetime64_any_dtype(column):
        return column
    first = column.dropna().head(1).astype(str).str.strip()
    if not first.str.fullmatch(_BROKERS).any():
        return column
    return column.astype(str).str.strip().str.replace(f"^{_BROKERS}$", r"\1 \2", regex=True)


def _parse(column: pd.Series, source: str, date_format: str | None) -> tuple[pd.Series, pd.Series | None]:
    """Return the stamps, in UTC where they have an offset, and then what local clocks showed as well."""
    layout = None if pd.api.types.is_datetime64_any_dtype(column) else date_format or "ISO8601"
    try:
        try:
            stamps = pd.to_datetime(column, errors="coerce", format=layout)
            if stamps.dt.tz is None:
                return stamps, None
            return stamps.dt.tz_convert("UTC"), stamps.dt.tz_localize(None)
        except ValueError:  # offsets that differ, as in summer and winter, or that some stamps lack
            _check_offsets(column, source)
            local = column.astype(str).str.strip().str.replace(_ZONE, "", regex=True)
            return (
                pd.to_datetime(column, errors="coerce", utc=True, format=layout),
                pd.to_datetime(local, errors="coerce", format=layout),
            )
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, MarketError):
            raise
        raise MarketError(f"{source}: column {column.name!r} holds no dates ({error})") from None


def _whole_days(stamps: pd.Series) -> bool:
    return bool((stamps == stamps.dt.normalize()).all())


def _check_offsets(column: pd.Series, source: str) -> None:
    text = column.astype(str).str.strip()
    with_offset = text.str.contains(_OFFSET, regex=True).to_numpy()
    if with_offset.any() and not with_offset.all():
        at = int(np.flatnonzero(~with_offset)[0])
        place = f"{source}: row {column.index[at]}, column {column.name!r}"
        raise MarketError(
            f"{place}: {cell(column, at)} has no time zone, and others have one; give every stamp its own"
        )
