"""One instrument in several files: found out, and joined where the user asks for it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from moe_trader.env import MarketError
from moe_trader.env.reading.bars import Rows
from moe_trader.env.reading.ways import setting

_DATE = re.compile(r"(?:19|20)\d\d(?:[-_.]?\d\d){0,2}")
_PART = re.compile(r"[-_. ]+(?:part)?\d{1,3}$", re.IGNORECASE)
_INTERVAL = re.compile(r"[-_. ]+(?:\d+(?:s|m|min|h|d|w|mo)|1?(?:daily|hourly|minute|day|hour))$", re.IGNORECASE)
_OVERLAP = 0.1  # share of the shorter one's time that pieces of one instrument may have in common


def base_name(stem: str) -> str:
    """Return a file's name without date, number and length of bars: ``BTCUSDT`` of ``BTCUSDT-1h-2023-01``."""
    name = _DATE.sub("", stem) if _DATE.search(stem) else _PART.sub("", stem)
    return _INTERVAL.sub("", name.strip("-_. ")).strip("-_. ") or stem


def check_pieces(parts: Mapping[str, Sequence[Rows]], asked: bool) -> None:
    """Refuse files that are pieces of one instrument, unless the user named what they are.

    :param parts: the tables of each instrument
    :param asked: whether ``env.market.symbol`` or ``symbols`` is set
    :raises MarketError: naming the setting that joins them
    """
    if asked:
        return
    names = {symbol: base_name(symbol) for symbol in parts}
    several = [symbol for symbol, rows in parts.items() if len(rows) > 1]
    if several:
        which = f"{', '.join(several[:3])} stands in several files"
        raise MarketError(f"env.path: {which}{_join(list(parts))}")
    groups: dict[str, list[Rows]] = {}
    for symbol, base in names.items():
        groups.setdefault(base, []).extend(parts[symbol])
    pieces = [base for base, rows in groups.items() if len(rows) > 1 and _follow(rows)]
    if not pieces:
        return
    joined = list(dict.fromkeys(base if base in pieces else symbol for symbol, base in names.items()))
    found = [symbol for symbol, base in names.items() if base == pieces[0]]
    apart = setting("symbols", list(parts))
    raise MarketError(
        f"env.path: {found[0]} to {found[-1]} ({len(found)} files) differ by a date or number in their names and "
        f"follow each other in time: they look like one instrument{_join(joined)}, or {apart} if they are several"
    )


def in_order(rows: Sequence[Rows], symbol: str) -> list[Rows]:
    """Return the tables of one instrument from the oldest to the newest.

    :raises MarketError: tables whose times overlap
    """
    ordered = sorted(rows, key=lambda one: one.page.time[0])
    for place, one in enumerate(ordered[1:], 1):
        before = ordered[place - 1]
        if {before.zone, one.zone} == {"UTC", "none"}:
            raise MarketError(
                f"env.path: stamps of {before.page.source} and {one.page.source} differ in their time zone; set "
                f"{setting('time_zone', 'UTC')} to read those without any as UTC, or their own by name "
                "(America/New_York)"
            )
        known = one.page.time <= before.page.time[-1]
        if not known.any():
            continue
        again = np.isin(one.page.time[known], before.page.time).all() and not known.all()
        if not again or one.page.reading.bad_rows == "refuse":
            how = f"; set {setting('bad_rows', 'drop')} to keep the first row of each stamp" if again else ""
            raise MarketError(
                f"env.path: {known.sum()} rows of {one.page.source} are not later than the last of "
                f"{before.page.source}; {symbol} can be joined only from files that follow each other{how}"
            )
        one.page.leave_out(known)
        one.page.warn(f"{known.sum()} rows left out, whose stamps {before.page.source} has")
        columns = {name: column[~known] for name, column in one.columns.items()}
        left_out = one.n_left_out + int(known.sum())
        ordered[place] = dataclasses.replace(one, columns=columns, repaired=one.repaired[~known], n_left_out=left_out)
    return ordered


def _follow(rows: Sequence[Rows]) -> bool:
    """Whether tables follow each other in time, but for a small overlap."""
    spans = sorted((pd.Timestamp(one.page.time[0]), pd.Timestamp(one.page.time[-1])) for one in rows)
    for (start, end), (later, last) in pairwise(spans):
        if end - later > _OVERLAP * min(end - start, last - later):
            return False
    return True


def _join(symbols: list[str]) -> str:
    one = setting("symbol", symbols[0]) if len(symbols) == 1 else setting("symbols", symbols)
    return f"; set {one} to join them"
