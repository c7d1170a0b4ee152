"""Formats of dates that read a whole column, for a refusal to suggest."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from moe_trader.env.reading.cells import as_text
from moe_trader.env.reading.zones import split_zones, to_utc

UNITS = ("s", "ms", "us", "ns", "ticks", "excel", "matlab")  # of numbers, in place of a format: see unix.py

_DAYS = ("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%y-%m-%d", "%y/%m/%d", "%d-%b-%y", "%d-%m-%y", "%y%m%d", "%Y年%m月%d日")
_YEAR_DAY = re.compile(r"%Y\W?%d")  # nobody writes the year, the day, and the month
_LATE = 1960  # formats that read earlier years are named only if no other fits
_DAY = 10  # characters of a day
_HALF = 50  # years, beyond which a step leads into another century
_ORDINAL = r"(?<=\d)(?:st|nd|rd|th)\b"
_WORD = r"([^\W\d_]{3,})\.?"
_MONTH_NAMES = (  # how months begin in German, French, Spanish, Italian, Portuguese and Dutch
    ("Jan", ("jan", "ene", "gen")),
    ("Feb", ("feb", "fév", "fev")),
    ("Mar", ("mar", "mär", "mrz", "maa", "mrt")),
    ("Apr", ("apr", "avr", "abr")),
    ("May", ("mai", "may", "mag", "mei")),
    ("Jun", ("jun", "juin", "giu")),
    ("Jul", ("jul", "juil", "lug")),
    ("Aug", ("aug", "aoû", "aou", "ago")),
    ("Sep", ("sep", "set")),
    ("Oct", ("oct", "okt", "ott", "out")),
    ("Nov", ("nov",)),
    ("Dec", ("dec", "déc", "dez", "dic")),
)
_MONTHS = r"(?:18|19|20)\d\d(?:[-./ ]?[Qq][1-4]|[Mm]\d{1,2}|\.\d{1,2})|[Qq][1-4][-./ ]?(?:18|19|20)\d\d"
_WEEK = r"\d{4}-?W\d\d"
_SOME = 50  # cells that a format must read before it is tried on all
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M:%S")
_OTHERS = (  # what pandas' guess does not know
    "%Y%m%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %I-%p",
    "%Y-%m-%d %I:%M %p",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y%m",
    "%d%m%Y",
    "%m%d%Y",
    "%Y:%m:%d",
    "%Y_%m_%d",
    "%b-%y",
    "%b %y",
    "%b-%Y",
    "%b %Y",
    "%B %Y",
    "%m/%Y",
    "%m.%Y",
    "%m-%Y",
    "%Y/%m",
    *(day + time for day in _DAYS for time in _TIMES),
)


def fitting_unit(column: pd.Series) -> list[str]:
    """Return the unit of numbers that count days since 1940 to 2119, as in a spreadsheet or in Matlab."""
    numbers = pd.to_numeric(column.dropna(), errors="coerce")
    ranges = {"excel": (15_000, 80_000), "matlab": (708_600, 774_000)}
    return [unit for unit, (least, most) in ranges.items() if ((numbers > least) & (numbers < most)).all()]


def fitting_formats(column: pd.Series) -> list[str]:
    """Return the formats that read every cell; where several do, only those that leave the stamps in order.

    Days and months that can change places give two formats, unless one of the orders is none. ``%Z`` stands behind
    the format where every stamp names its zone.
    """
    text = in_english(as_text(column.dropna()).str.strip())
    text = text[text != ""]
    if text.empty:
        return []
    local, zones = split_zones(text)
    if zones.notna().all():
        return [f"{layout} %Z" for layout in _fitting(local)]
    return _fitting(text)


def read_format(text: pd.Series, layout: str) -> tuple[pd.Series, pd.Series | None]:
    """Return the stamps that a format reads, ``NaT`` where it does not; in UTC where they name an offset or a zone.

    The second part is what local clocks showed, ``None`` where the first is local as well.

    :raises ValueError: a directive that pandas does not take
    """
    if layout.endswith("%Z"):
        text, zones = split_zones(text)
        local, _ = read_format(text, layout.removesuffix("%Z").rstrip())
        return to_utc(local, zones), local
    text = in_english(text) if "%b" in layout.lower() else text
    stamps = pd.to_datetime(text, format=layout, errors="coerce", utc="%z" in layout)
    if "%y" in layout:
        stamps = _centuries(stamps)
    return stamps, _local_clocks(text, layout) if "%z" in layout else None


def in_english(text: pd.Series) -> pd.Series:
    """Return 27. Dec 2018 for 27. Dez 2018 and 27. décembre 2018, and 27 Dec for 27th Dec, if any cell is so."""
    if text.str.contains(_ORDINAL, regex=True).any():
        text = text.str.replace(_ORDINAL, "", regex=True)
    words = text.str.extract(_WORD, expand=False).str.lower()
    known = {
        word: english for word in words.dropna().unique() for english, names in _MONTH_NAMES if word.startswith(names)
    }
    if not any(word[:3] != english.lower() for word, english in known.items()):
        return text
    return text.str.replace(_WORD, lambda match: known.get(match[1].lower(), match[0]), n=1, regex=True)


def as_months(column: pd.Series) -> pd.Series | None:
    """Return 1990-04 for 1990Q2, Q2 1990, 1990M04 and 1990.04, and the Monday of 1990-W14, if all cells are so.

    1990.1 is October, as a spreadsheet shows it, unless there is a 1990.2.
    """
    text = as_text(column.head(1)).str.strip()
    if not text.str.fullmatch(rf"{_MONTHS}|{_WEEK}").all():
        return None
    text = as_text(column).str.strip()
    if text.str.fullmatch(_WEEK).all():
        mondays = pd.to_datetime(text.str.replace("-", "") + "1", format="%GW%V%u", errors="coerce")
        return mondays.dt.strftime("%Y-%m-%d")
    if not text.str.fullmatch(_MONTHS).all():
        return None
    if text.str.contains("Q", case=False, regex=False).any():
        quarter = text.str.extract(r"[Qq]([1-4])", expand=False).astype(float)
        return text.str.extract(r"(\d{4})", expand=False) + "-" + (quarter * 3 - 2).map("{:02.0f}".format)
    parts = text.str.extract(r"(\d{4})[.Mm](\d{1,2})")
    if parts[1].str.fullmatch("[2-9]").any():
        return parts[0] + "-" + parts[1].str.zfill(2)
    return parts[0] + "-" + parts[1].str.ljust(2, "0")


def _local_clocks(text: pd.Series, layout: str) -> pd.Series:
    without = text.str.strip().str.replace(r"\s*(?:Z|[+-]\d\d(?::?\d\d)?)$", "", regex=True)
    return pd.to_datetime(without, format=layout.replace("%z", "").strip(), errors="coerce")


def _centuries(stamps: pd.Series) -> pd.Series:
    """Return stamps whose years had two digits, read as 1969 to 2068, in the last centuries that leave them in order.

    Where none does, those after tomorrow are of the century before.
    """
    most = pd.Timestamp.now(tz=stamps.dt.tz) + pd.Timedelta(days=1)
    years = stamps.dt.year.ffill().bfill()
    steps = years.diff().fillna(0).to_numpy()
    turns = np.cumsum(np.where(steps < -_HALF, 1, np.where(steps > _HALF, -1, 0)))  # 68 is followed by 69
    for back in range(int(turns.min()), int(turns.max()) + 2):
        moved = stamps
        for turn in np.unique(turns):
            moved = moved.where(turns != turn, stamps + pd.DateOffset(years=100 * int(turn - back)))
        if not (moved > most).any() and (moved.is_monotonic_increasing or moved.is_monotonic_decreasing):
            return moved
    return stamps.where(~(stamps > most), stamps - pd.DateOffset(years=100))


def _fitting(text: pd.Series) -> list[str]:
    some = text.iloc[:: max(1, len(text) // _SOME)]
    fits: dict[bytes, tuple[str, pd.Series]] = {}
    for layout in _candidates(text):
        stamps = _read(text, layout) if _read(some, layout) is not None else None
        if stamps is not None:
            fits.setdefault(stamps.to_numpy("datetime64[us]").tobytes(), (layout, stamps))
    read = list(fits.values())  # formats that read every cell in the same way count once
    coming = pd.Timestamp.now() + pd.Timedelta(days=1)
    past = [(layout, stamps) for layout, stamps in read if not (stamps > coming).any()]
    read = past if past or text.str.fullmatch(r"\d+").all() else read
    late = [(layout, stamps) for layout, stamps in read if stamps.min().year >= _LATE]
    # Dec 27 is no December of 1927: a month and two digits are a year only if that is a late one
    read = late or [(layout, stamps) for layout, stamps in read if layout not in ("%b-%y", "%b %y")]
    in_order = [layout for layout, stamps in read if stamps.is_monotonic_increasing or stamps.is_monotonic_decreasing]
    return in_order if len(read) > 1 and in_order else [layout for layout, _ in read]


def _read(text: pd.Series, layout: str) -> pd.Series | None:
    """Return the stamps, if a format reads every cell."""
    try:
        stamps, _ = read_format(text, layout)
    except ValueError:  # a directive that pandas does not take
        return None
    return stamps.dt.tz_localize(None) if stamps.notna().all() else None


def _candidates(text: pd.Series) -> list[str]:
    cells = {text.iloc[at] for at in (0, len(text) // 2, -1)} | {max(text, key=len)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the day stands first, or does not
        guessed = [
            guess_datetime_format(cell, dayfirst=first)
            for cell in sorted(cells)
            for first in ((True, False) if "." in cell[:_DAY] else (False, True))  # 31.12.
        ]
    known = [layout for layout in (*guessed, *_OTHERS) if layout and not _YEAR_DAY.match(layout)]
    return list(dict.fromkeys(known))
