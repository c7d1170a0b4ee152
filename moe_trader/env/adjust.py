"""Prices made comparable over time: scaled to an adjusted close, and split where a stock was."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np

from moe_trader.env import Floats, MarketError

log = logging.getLogger(__name__)

Splits = Literal["refuse", "repair", "keep"]

_LARGEST = 50  # shares for one
_TOLERANCE = 0.03  # of a split's factor: what the market itself moves overnight


def scale_to_adjusted(columns: dict[str, Floats], adjusted: Floats, source: str) -> dict[str, Floats]:
    """Return open, high, low and close times adjusted / close; volume is divided, so that money traded stays.

    :param columns: open, high, low, close and volume, oldest first
    """
    factor = adjusted / columns["close"]
    if (factor == 1.0).all():
        return columns
    log.info("%s: open, high, low and close scaled to the adjusted close (%d rows)", source, int((factor != 1).sum()))
    scaled = {name: columns[name] * factor for name in ("open", "high", "low", "close")}
    return scaled | {"volume": columns["volume"] / factor}


def mend_splits(columns: dict[str, Floats], rows: Sequence[int], source: str, splits: Splits) -> dict[str, Floats]:
    """Deal with prices that jump overnight by a whole factor of 2 to 50, up or down: splits that nobody adjusted.

    :param columns: open, high, low, close and volume, oldest first
    :param rows: number of each row, for the errors
    :param splits: refuse such a table, divide the earlier prices, or keep the jumps as true ones
    :raises MarketError: a jump, and ``splits`` is ``refuse``
    """
    if splits == "keep" or len(rows) < 2:
        return columns
    with np.errstate(over="ignore"):
        ratio = columns["close"][:-1] / columns["open"][1:]
    whole = np.round(np.where(ratio >= 1, ratio, 1 / ratio))
    near = np.abs(np.maximum(ratio, 1 / ratio) / np.maximum(whole, 1) - 1) < _TOLERANCE
    at = np.flatnonzero(near & (whole >= 2) & (whole <= _LARGEST)) + 1
    if not len(at):
        return columns
    before, after = columns["close"][at[0] - 1], columns["open"][at[0]]
    what = f"the price jumps from {before} to {after}, as if a split was not adjusted"
    if splits == "refuse":
        raise MarketError(
            f"{source}: row {rows[at[0]]}: {what} ({len(at)} such rows); give adjusted prices, or set "
            "env.market.splits=repair to divide the earlier ones, env.market.splits=keep if the market did move so"
        )
    factor = np.ones(len(rows))  # what each row's prices are divided by
    for row in at:
        times = whole[row - 1] if ratio[row - 1] >= 1 else 1 / whole[row - 1]
        factor[:row] *= times
    log.warning("%s: row %d: %s (%d such rows); earlier prices divided", source, rows[at[0]], what, len(at))
    mended = {name: columns[name] / factor for name in ("open", "high", "low", "close")}
    return mended | {"volume": columns["volume"] * factor}
