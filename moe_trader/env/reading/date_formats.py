"""Formats of dates that read a whole column, for a refusal to suggest."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from moe_trader.env.reading.cells import as_text

UNITS = ("s", "ms", "us", "ns", "ticks", "excel")  # of numbers, in place of a format: see unix.py

_DAYS = ("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%y-%m-%d", "%y/%m/%d", "%d-%b-%y", "%d-%m-%y", "%y%m%d", "%Y年%m月%d日")
_SOME = 50  # cells that a format must read before it is tried on all
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M:%S")
_OTHERS = (  # what pandas' guess does not know
    "%Y%m%d %H:%M:%S %Z",
    "%Y-%m-%d %H:%M:%S %Z",
    "%Y-%m-%d %H:%M %Z",
    "%Y-%m-%d %I-%p",
    *(day + time for day in _DAYS for time in _TIMES),
)


def fitting_formats(column: pd.Series) -> list[str]:
    """Return the formats that read every cell; where several do, only those that leave the stamps in order.

    Days and months that can change places give two formats, unless one of the orders is none.
    """
    text = as_text(column.dropna()).str.strip()
    text = text[text != ""]
    if text.empty:
        return []
    some = text.iloc[:: max(1, len(text) // _SOME)]
    fits: dict[bytes, tuple[str, pd.Series]] = {}
    for layout in _candidates(text):
        stamps = _read(text, layout) if _read(some, layout) is not None else None
        if stamps is not None:
            fits.setdefault(stamps.astype(np.int64).to_numpy().tobytes(), (layout, stamps))
    read = list(fits.values())  # formats that read every cell in the same way count once
    in_order = [layout for layout, stamps in read if stamps.is_monotonic_increasing or stamps.is_monotonic_decreasing]
    return in_order if len(read) > 1 and in_order else [layout for layout, _ in read]


def _read(text: pd.Series, layout: str) -> pd.Series | None:
    """Return the stamps, if a format reads every cell."""
    try:
        stamps = pd.to_datetime(text, format=layout, errors="coerce", utc=True)
    except ValueError:  # a directive that pandas does not take
        return None
    return stamps if stamps.notna().all() else None


def _candidates(text: pd.Series) -> list[str]:
    cells = {text.iloc[at] for at in (0, len(text) // 2, -1)} | {max(text, key=len)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the day stands first, or does not
        guessed = [guess_datetime_format(cell, dayfirst=first) for cell in sorted(cells) for first in (False, True)]
    return list(dict.fromkeys(layout for layout in (*guessed, *_OTHERS) if layout))
