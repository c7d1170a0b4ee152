"""The order of rows by their stamps: from the oldest to the newest, none twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


def refuse_repeated(page: Page, zone: Zone, ways: list[Way]) -> None:
    """Refuse rows whose stamp an earlier row has, or mark them as bad ones.

    :param ways: settings that distinguish the rows
    """
    time = page.time
    if not has_repeated(time):
        return
    twice = pd.Series(time).duplicated().to_numpy()
    at = int(twice.argmax())
    first = int(np.flatnonzero(time == time[at])[0])
    count = f" ({twice.sum()} rows repeat a stamp)" if twice.sum() > 1 else ""
    if page.reading.bad_rows == "refuse" or ways:
        raise page.error(
            f"rows {page.rows[first]} and {page.rows[at]}: stamp {time[at]} stands twice; stamps must be unique and in "
            f"order{count}{_clocks(time, at - 1, zone)}",
            ways or [({"bad_rows": "drop"}, "to keep the first row of each stamp")],
        )
    page.refuse(twice, lambda place: f": its stamp {time[place]} stands twice")


def _clocks(time: Stamps, at: int, zone: Zone) -> str:
    """Return a hint where clocks may have been set back between two rows."""
    intraday = not (time == time.astype("datetime64[D]")).all()
    if zone == "none" and intraday and abs(time[at] - time[at + 1]) <= _HOUR:
        return "; where clocks are set back an hour comes twice: give stamps in UTC, or with their offset"
    return ""
