"""Formats of dates that read a whole column, for a refusal to suggest."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from moe_trader.env.reading.cells import as_text

UNITS = ("s", "ms", "us", "ns", "ticks", "excel")  # of numbers, in place of a format: see unix.py

_DAYS = ("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%y-%m-%d", "%y/%m/%d", "%d-%b-%y", "%d-%m-%y", "%y%m%d", "%Y年%m月%d日")
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
    fits = {}
    for layout in _candidates(text):
        try:
            stamps = pd.to_datetime(text, format=layout, errors="coerce", utc=True)
        except ValueError:  # a directive that pandas does not take
            continue
        if stamps.notna().all():
            fits[layout] = stamps
    read = {tuple(stamps.astype(np.int64)): layout for layout, stamps in reversed(fits.items())}
    layouts = [layout for layout in fits if layout in read.values()]
    in_order = [layout for layout in layouts if _in_order(fits[layout])]
    return in_order if len(layouts) > 1 and in_order else layouts


def _candidates(text: pd.Series) -> list[str]:
    cells = {text.iloc[at] for at in (0, len(text) // 2, -1)} | {max(text, key=len)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the day stands first, or does not
        guessed = [guess_datetime_format(cell, dayfirst=first) for cell in sorted(cells) for first in (False, True)]
    return list(dict.fromkeys(layout for layout in (*guessed, *_OTHERS) if layout))


def _in_order(stamps: pd.Series) -> bool:
    return bool(stamps.is_monotonic_increasing or stamps.is_monotonic_decreasing)
