"""Time stamps of bars: dates as text, with or without offsets, unix stamps, and the order they stand in."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import MarketError
from moe_trader.env.reading.cells import as_text, cell, is_missing
from moe_trader.env.reading.date_formats import UNITS, as_months, fitting_formats, fitting_unit, read_format
from moe_trader.env.reading.page import Page
from moe_trader.env.reading.unix import as_read, is_unix, read_named, read_unix
from moe_trader.env.reading.ways import Way
from moe_trader.env.reading.zones import to_utc

Stamps = NDArray[np.datetime64]
Zone = Literal["UTC", "none", "days"]

_ZONE = r"\s*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_OFFSET = r":\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_EXPONENT = r"^([\d.]+)[eE]\+?\d+$"
_EXACT = 8  # digits that a stamp in E notation needs at least: fewer cannot tell one day from the next
_BROKERS = r"(\d{8})(?:\s+|-)(\d\d:\d\d(?::\d\d)?)"  # Interactive Brokers: 20200102  09:30:00, 20200102-09:30:00


def read_stamps(column: pd.Series, page: Page) -> tuple[Stamps, Zone]:
    """Return the stamps as ``datetime64[us]`` and what they count in; the column's index numbers the rows.

    Stamps with an offset and unix stamps become ``UTC``; whole ``days`` stay the days they are where they are traded;
    others name no zone (``none``). A format is as ``strptime`` has it, or the unit of numbers (``ms``, ``ticks``);
    without one: ISO 8601, days without separators, or unix stamps in any unit.

    :raises MarketError: a stamp that is no date, or one without an offset among others that have one
    """
    column, midnight = _without_24(column)
    stamps, zone = _read(column, page)
    stamps = np.where(midnight, stamps + np.timedelta64(1, "D"), stamps) if midnight.any() else stamps
    if zone == "none" and page.reading.time_zone is not None:
        if _whole_days(pd.Series(stamps)):
            zone = "days"
        else:
            stamps, zone = _in_zone(stamps, page.reading.time_zone, column, page), "UTC"
    with np.errstate(invalid="ignore"):
        coming = stamps > np.datetime64("now") + np.timedelta64(1, "D")
    if coming.any():
        at = int(coming.argmax())
        page.warn(f"{coming.sum()} stamps lie in the future (first: row {column.index[at]}, {stamps[at]})")
    return stamps, zone


def _without_24(column: pd.Series) -> tuple[pd.Series, NDArray[np.bool_]]:
    """Return 00:00 for 24:00, and the rows in which it was: it is that of the next day."""
    if column.dtype.kind in "iufM" or pd.api.types.is_datetime64_any_dtype(column):
        return column, np.zeros(len(column), dtype=bool)
    text = as_text(column)
    found = text.str.contains(" 24:00", regex=False) | text.str.contains("T24:00", regex=False)
    midnight = found.to_numpy(dtype=bool)
    if not midnight.any():
        return column, midnight
    return column.where(~midnight, text.str.replace("24:00", "00:00")), midnight


def _in_zone(stamps: Stamps, zone: str, column: pd.Series, page: Page) -> Stamps:
    """Return stamps in UTC that clocks of a zone showed."""
    utc = to_utc(pd.Series(stamps), zone).dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    page.inform(f"stamps are read as of {zone} and converted to UTC")
    lost = np.isnat(utc) & ~np.isnat(stamps)
    page.refuse(
        lost,
        lambda at: (
            f", column {column.name!r}: {cell(column, at)} stands for no moment or for two in {zone}, where clocks are "
            "set"
        ),
    )
    return utc


def _read(column: pd.Series, page: Page) -> tuple[Stamps, Zone]:
    date_format = page.reading.date_format
    if date_format in UNITS:
        stamps = read_named(column, date_format, page)
        return stamps, "days" if _whole_days(pd.Series(stamps)) else "none" if date_format in (
            "excel",
            "matlab",
        ) else "UTC"
    if date_format is None and _mostly_numbers(column):
        _refuse_rounded(column, page)
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        known = values[np.isfinite(values)]
        whole = bool(np.all(known % 1 == 0))
        date_format = _compact(known) if whole else None
        if date_format is None and is_unix(values):
            stamps = read_unix(column, values, page)
            return stamps, "days" if _whole_days(pd.Series(stamps)) else "UTC"
        if pd.api.types.is_numeric_dtype(column):  # days such as 20181231
            column = column.astype("Int64" if whole else "Float64").astype(str)
    return _dates(column, page, date_format)


def _mostly_numbers(column: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column):
        return False
    some = pd.to_numeric(as_text(column.dropna().head(100)), errors="coerce")
    return 2 * int(some.notna().sum()) > len(some)


def _refuse_rounded(column: pd.Series, page: Page) -> None:
    """Refuse what a spreadsheet saves as it shows it: 1.57792E+12, of which the last digits are gone for good."""
    if pd.api.types.is_numeric_dtype(column):
        return
    text = as_text(column).str.strip()
    if not text.str.contains("e", case=False, regex=False).any():
        return
    mantissa = text.str.extract(_EXPONENT, expand=False)
    known = mantissa.dropna()
    if known.empty or known.str.replace(".", "").str.strip("0").str.len().max() >= _EXACT:
        return
    at = int(np.flatnonzero(mantissa.notna())[0])
    raise page.error(
        f"row {column.index[at]}, column {column.name!r}: {cell(column, at)} is rounded, and no "
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


def _dates(column: pd.Series, page: Page, date_format: str | None) -> tuple[Stamps, Zone]:
    spaced = _respaced(column, date_format)
    stamps, local = _parse(spaced, page, date_format)
    zone: Zone = "none" if local is None else "UTC"
    if stamps.isna().any() and not pd.api.types.is_datetime64_any_dtype(column):
        text = as_text(spaced).str.strip()
        stamps, local = _parse(text.str.removesuffix("UTC").str.strip(), page, date_format)
        zone = "UTC" if local is not None or text.str.endswith("UTC").any() else "none"
    bad = stamps.isna().to_numpy()
    if bad.any():
        _refuse_dates(column, bad, page, date_format)
    if zone == "UTC" and _whole_days(stamps if local is None else local):
        stamps, zone = stamps if local is None else local, "days"  # in UTC, an Asian day would begin on the day before
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]"), zone


def _refuse_dates(column: pd.Series, bad: NDArray[np.bool_], page: Page, date_format: str | None) -> None:
    """Refuse cells that are no dates, and name the formats that read the whole column.

    Such rows are left out only where no format was given: a wrong format reads some rows, and those wrongly.
    """
    empty = bad & is_missing(column)
    if (empty == bad).all():  # as of a row of totals: a format has no part in it
        page.refuse(
            bad, lambda _: f", column {column.name!r}: no date ({int(bad.sum())} such rows); repair or drop them"
        )
        return
    fitting = fitting_formats(column)
    wanted = f"the format {date_format!r}" if date_format else "ISO 8601 (2018-12-31)"
    fitting = fitting or fitting_unit(column)
    both = "; day and month can change places here" if len(fitting) > 1 else ""
    ways: list[Way] = [({"date_format": layout}, f"to read {_as_read(column, layout)}") for layout in fitting]
    if not fitting and not date_format:
        wanted += ", or set env.market.date_format ('%d/%m/%Y', or with a time '%d/%m/%Y %H:%M')"

    def describe(at: int) -> str:
        return f", column {column.name!r}: {cell(column, at)} is no date; expected {wanted}{both}"

    if date_format or fitting:
        at = int(bad.argmax())
        raise page.error(f"row {column.index[at]}{describe(at)}", ways)
    page.refuse(bad, describe)


def _as_read(column: pd.Series, layout: str) -> str:
    """Return how a format reads the first cell."""
    known = column.dropna()
    first = known.iloc[0]
    if layout in UNITS:
        stamp = as_read(float(first), layout)
    else:
        stamp = read_format(as_text(known).str.strip(), layout)[0].iloc[0]
    return f"{first} as {str(stamp).removesuffix(' 00:00:00').replace('+00:00', ' UTC')}"


def _respaced(column: pd.Series, date_format: str | None) -> pd.Series:
    """Return stamps as ISO 8601 has them where they are months, quarters, or written as Interactive Brokers does."""
    if date_format is not None or pd.api.types.is_datetime64_any_dtype(column):
        return column
    months = as_months(column)
    if months is not None:
        return months
    first = as_text(column.dropna().head(1)).str.strip()
    if not first.str.fullmatch(_BROKERS).any():
        return column
    return as_text(column).str.strip().str.replace(f"^{_BROKERS}$", r"\1 \2", regex=True)


def _parse(column: pd.Series, page: Page, date_format: str | None) -> tuple[pd.Series, pd.Series | None]:
    """Return the stamps, in UTC where they have an offset, and then what local clocks showed as well."""
    try:
        if date_format is not None and not pd.api.types.is_datetime64_any_dtype(column):
            return read_format(as_text(column).str.strip(), date_format)
        try:
            layout = None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601"
            stamps = pd.to_datetime(column, errors="coerce", format=layout)
            if stamps.dt.tz is None:
                return stamps, None
            return stamps.dt.tz_convert("UTC"), stamps.dt.tz_localize(None)
        except ValueError:  # offsets that differ, as in summer and winter, or that some stamps lack
            return _with_offsets(column, page)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, MarketError):
            raise
        raise page.error(f"column {column.name!r} holds no dates ({error})") from None


def _with_offsets(column: pd.Series, page: Page) -> tuple[pd.Series, pd.Series]:
    """Return ISO 8601 stamps of several offsets; those without any are of the time zone that the user names."""
    text = as_text(column).str.strip()
    local = pd.to_datetime(text.str.replace(_ZONE, "", regex=True), errors="coerce", format="ISO8601")
    utc = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
    without = ~text.str.contains(_OFFSET, regex=True).to_numpy()
    if without.any() and not without.all():
        zone = page.reading.time_zone
        if zone is not None:
            return utc.where(~without, to_utc(local, zone)), local
        page.refuse(
            without,
            lambda at: (
                f", column {column.name!r}: {cell(column, at)} has no time zone, and others have one; give every "
                "stamp its own"
            ),
            last=[({"time_zone": "UTC"}, "to read such stamps as UTC, or another zone by name (America/New_York)")],
        )
    return utc, local


def _whole_days(stamps: pd.Series) -> bool:
    known = stamps.dropna()
    return bool((known == known.dt.normalize()).all())
