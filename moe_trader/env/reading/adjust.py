"""Prices made comparable over time: scaled to an adjusted close, and split where a stock was."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_trader.env import Floats
from moe_trader.env.reading.page import Page

_LARGEST = 50  # shares for one
_REVERSE = (60, 65, 70, 75, 80, 90, 100, 120, 125, 150, 175, 200, 250, 300, 400, 500, 600, 750, 1000, 2000, 5000)
_SLIP = 20  # bars within which a jump is undone
_TOLERANCE = 0.03  # of a split's factor: what the market itself moves overnight
_WILD = 1.0  # log change of the close in one bar that is worth a look
_WILD_NIGHT = 0.35  # and of the price overnight, where nobody vouches for the file: three shares for two are 0.405


def make_comparable(
    columns: dict[str, Floats],
    adjusted: Floats | None,
    page: Page,
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Return bars scaled to the adjusted close and without splits that nobody adjusted, and the rows that were split.

    A split is a jump by a whole factor of 2 to 50, up or down, or up by a larger round one: overnight, or, where the
    open merely repeats the close before, within the bar, unless the market never closes: its bars begin where the last
    ended, and some are wild. Other jumps too wild to go unseen are kept, with a warning.

    :param columns: open, high, low, close and volume, oldest first
    :param adjusted: the adjusted close to scale to, if there is one
    :param page: stamps, row numbers, and whether splits are refused, divided by or kept as true jumps
    :raises MarketError: a split, and ``splits`` is ``refuse``
    """
    rows, splits = page.rows, page.reading.splits
    if len(rows) < 2:
        return _scaled(columns, adjusted, page), np.zeros(len(rows), dtype=bool)
    stale = columns["open"][1:] == columns["close"][:-1]  # before scaling, which moves every close
    columns = _scaled(columns, adjusted, page)
    before, close = columns["close"][:-1], columns["close"][1:]
    after = np.where(stale, close, columns["open"][1:])
    factors = _split_factors(before / after)
    moves = stale & (factors != 1) & _never_closes(page.time)
    factors = np.where(moves, 1.0, factors)

    wild = np.abs(np.log(before / close)) > _WILD
    if splits != "keep":
        wild |= moves | (np.abs(np.log(before / after)) > _WILD_NIGHT)
    _warn_of_jumps(np.flatnonzero(wild & (factors == 1)), columns["close"], page)

    at = np.flatnonzero(factors != 1)
    if splits == "keep" or not len(at):
        return columns, np.zeros(len(rows), dtype=bool)
    first = at[0]
    what = f"the price jumps from {before[first]} to {after[first]}, as if a split was not adjusted"
    if adjusted is not None:
        what = f"even scaled to the adjusted close {what}"
    if splits == "refuse":
        raise page.error(
            f"row {rows[first + 1]}: {what} ({len(at)} such rows); give adjusted prices",
            [
                ({"splits": "repair"}, "to divide the earlier ones"),
                ({"splits": "keep"}, "if the market did move so"),
            ],
        )
    divisors = ", ".join(f"{factors[place]:.4g} before row {rows[place + 1]}" for place in at[:3])
    more = ", ..." if len(at) > 3 else ""
    page.warn(f"row {rows[first + 1]}: {what} ({len(at)} such rows); earlier prices divided by {divisors}{more}")
    return _divided(columns, factors, stale)


def _scaled(columns: dict[str, Floats], adjusted: Floats | None, page: Page) -> dict[str, Floats]:
    """Return open, high, low and close times adjusted / close; volume is divided, so that money traded stays."""
    if adjusted is None:
        return columns
    factor = adjusted / columns["close"]
    if (factor == 1.0).all():
        return columns
    page.inform(f"open, high, low and close scaled to the adjusted close ({(factor != 1).sum()} rows)")
    scaled = {name: columns[name] * factor for name in ("open", "high", "low", "close")}
    return scaled | {"volume": columns["volume"] / factor}


def _split_factors(ratio: Floats) -> Floats:
    """Return what a share was split into where a price falls by ``ratio``; 1 where that is no split."""
    size = np.maximum(ratio, 1 / ratio)
    whole = np.round(size)
    near = (np.abs(size / whole - 1) < _TOLERANCE) & (whole >= 2) & (whole <= _LARGEST)
    factors = np.where(near, np.where(ratio >= 1, whole, 1 / whole), 1.0)
    for at in np.flatnonzero(ratio < 1 / (_LARGEST * (1 + _TOLERANCE))):
        factors[at] = _large_reverse_split(ratio, int(at))
    return factors


def _large_reverse_split(ratio: Floats, at: int) -> float:
    """Return 1 / n where n shares became one, n a round number; 1 if the price had fallen as far shortly before.

    Such a fall and rise is a slip of the decimal point, or a change of the unit that was undone.
    """
    nearest = min(_REVERSE, key=lambda n: abs(n * ratio[at] - 1))
    fell = (ratio[max(0, at - _SLIP) : at] > 1 / ratio[at] / 2).any()
    if abs(nearest * ratio[at] - 1) >= _TOLERANCE or fell:
        return 1.0
    return 1 / nearest


def _never_closes(time: NDArray[np.datetime64]) -> bool:
    """Whether there are bars on Saturdays and on Sundays, as on cryptocurrency exchanges."""
    weekday = (time.astype("datetime64[D]").astype(np.int64) + 3) % 7  # the first day of 1970 was a Thursday
    return bool(min((weekday == 5).mean(), (weekday == 6).mean()) > 0.1)


def _warn_of_jumps(at: NDArray[np.intp], close: Floats, page: Page) -> None:
    if len(at):
        page.warn(
            f"{len(at)} jumps of the price are kept as the market's own (first: row {page.rows[at[0] + 1]}, from "
            f"{close[at[0]]} to {close[at[0] + 1]}); look for splits, and for slips of the decimal point"
        )


def _divided(
    columns: dict[str, Floats], factors: Floats, stale: NDArray[np.bool_]
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Return bars whose earlier prices are divided by the factors of all later splits, and which rows changed."""
    divisor = np.append(np.cumprod(factors[::-1])[::-1], 1.0)
    divided = {name: columns[name] / divisor for name in ("open", "high", "low", "close")}
    inside = (
        np.flatnonzero(stale & (factors != 1)) + 1
    )  # the split fell within these bars: their opens are of before it
    opened = columns["open"][inside] / divisor[inside - 1]
    high = np.minimum(divided["high"][inside], columns["high"][inside] / divisor[inside - 1])
    low = np.maximum(divided["low"][inside], columns["low"][inside] / divisor[inside - 1])
    close = divided["close"][inside]
    divided["open"][inside] = opened
    divided["high"][inside] = np.maximum(high, np.maximum(opened, close))
    divided["low"][inside] = np.minimum(low, np.minimum(opened, close))
    changed = divisor != 1
    changed[inside] = True
    return divided | {"volume": columns["volume"] * divisor}, changed
