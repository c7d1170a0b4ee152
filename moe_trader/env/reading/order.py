"""The order of rows by their stamps: from the oldest to the newest, none twice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import Floats, MarketError
from moe_trader.env.reading.page import Mask, Page
from moe_trader.env.reading.stamps import Stamps, Zone
from moe_trader.env.reading.ways import Way

_HOUR = np.timedelta64(1, "h")


def order_of(page: Page, zone: Zone) -> NDArray[np.intp] | Mask:
    """Return the places of the rows from the oldest to the newest, or that all stay where they are.

    :raises MarketError: a row out of order
    """
    time = page.time
    steps = np.diff(time).astype(np.int64)
    backwards = bool((steps < 0).sum() > (steps > 0).sum())
    out = np.append(False, (steps > 0) if backwards else (steps < 0))
    if not out.any():
        return np.arange(len(time))[::-1] if backwards else np.ones(len(time), dtype=bool)
    if page.reading.order == "sort":
        page.warn(f"{out.sum()} rows out of order sorted by time (first: row {page.rows[out.argmax()]})")
        return np.argsort(time, kind="stable")
    at = int(out.argmax()) - 1
    judged = "the file is newest first, as most of its rows are; " if backwards else ""
    raise page.error(
        f"rows {page.rows[at]} and {page.rows[at + 1]}: stamp {time[at]} is followed by {time[at + 1]}; {judged}stamps "
        f"must be unique and in order{_clocks(time, at, zone)}",
        [({"order": "sort"}, "to sort the rows by time")],
    )


def has_repeated(time: Stamps) -> bool:
    """Whether a stamp stands twice."""
    steps = np.diff(time).astype(np.int64)
    if (steps > 0).all() or (steps < 0).all():
        return False
    return bool(pd.Series(time).duplicated().any())


def same_rows(columns: Mapping[str, Floats], page: Page) -> Mask:
    """Mark rows that are the same as an earlier one, stamp and numbers: nothing is lost without them."""
    if not has_repeated(page.time):
        return np.zeros(len(page.time), dtype=bool)
    return pd.DataFrame({"time": page.time, **columns}).duplicated().to_numpy()


def refuse_repeated(columns: Mapping[str, Floats], page: Page, zone: Zone, ways: list[Way]) -> Mask:
    """Refuse rows whose stamp an earlier row has, or mark them as bad ones; return the rows that are not the same.

    :param ways: settings that distinguish the rows
    """
    same = same_rows(columns, page)
    twice = pd.Series(page.time).duplicated().to_numpy()
    if twice.any() and (page.reading.bad_rows == "refuse" or ways):
        raise _repeated(page, zone, twice, same, ways)
    if same.any():
        page.warn(
            f"{same.sum()} rows that are the same as an earlier one left out (first: row {page.rows[same.argmax()]})"
        )
        page.leave_out(same)
        twice = twice[~same]
    time = page.time
    page.refuse(twice, lambda place: f": its stamp {time[place]} stands twice")
    return ~same


def _repeated(page: Page, zone: Zone, twice: Mask, same: Mask, ways: list[Way]) -> MarketError:
    time = page.time
    at = int(twice.argmax())
    first = int(np.flatnonzero(time == time[at])[0])
    count = f" ({twice.sum()} rows repeat a stamp)" if twice.sum() > 1 else ""
    text = (
        f"rows {page.rows[first]} and {page.rows[at]}: stamp {time[at]} stands twice; stamps must be unique and in "
        f"order{count}{_clocks(time, at - 1, zone)}"
    )
    if ways:
        return page.error(text, ways)
    if (same == twice).all():
        return page.error(text, [({"bad_rows": "drop"}, "to leave out the rows that are the same as an earlier one")])
    if page.may_leave_out(int((twice & ~same).sum())):
        return page.error(text, [({"bad_rows": "drop"}, "to keep the first row of each stamp")])
    return page.error(
        f"{text}; their prices differ, and at most a tenth of the rows is left out: make one bar of each stamp, "
        "as pandas does with table.drop_duplicates(TIME, keep='last')"
    )


def _clocks(time: Stamps, at: int, zone: Zone) -> str:
    """Return a hint where clocks may have been set back between two rows."""
    intraday = not (time == time.astype("datetime64[D]")).all()
    if zone == "none" and intraday and abs(time[at] - time[at + 1]) <= _HOUR:
        return "; where clocks are set back an hour comes twice: give stamps in UTC, or set env.market.time_zone"
    return ""
