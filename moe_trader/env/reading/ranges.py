"""Bars whose open or close lies outside their own high and low."""

from __future__ import annotations

import numpy as np

from moe_trader.env import Floats
from moe_trader.env.reading.headings import PRICES
from moe_trader.env.reading.numbers import CLOSES
from moe_trader.env.reading.page import Page
from moe_trader.env.reading.ways import Way

_CLIPPED = 1e-3  # a high or low this far inside the bar, as a fraction of the price, is a rounding error
_FAR = 0.1  # and this far, a broken bar, whatever the user says


def widen(columns: dict[str, Floats], page: Page) -> dict[str, Floats]:
    """Return bars whose high and low reach to their open and close.

    Those that miss by a rounding error always do, those that miss by more with ``ranges=widen``.

    :raises MarketError: a bar that misses by more than a tenth, or than a rounding error if the user did not say so
    """
    top = np.maximum(columns["open"], columns["close"])
    bottom = np.minimum(columns["open"], columns["close"])
    outside = ((columns["high"] < top) | (columns["low"] > bottom)) & ~page.bad
    if not outside.any():
        return columns
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = np.maximum(1 - columns["high"] / top, columns["low"] / bottom - 1)
    asked = page.reading.ranges == "widen"
    allowed = _FAR if asked else _CLIPPED
    far = outside & (missed > allowed)
    largest = missed[outside].max()
    ways: list[Way] = [] if asked or largest > _FAR else [({"ranges": "widen"}, "to widen high and low")]

    def describe(at: int) -> str:
        row = ", ".join(f"{name} {columns[name][at]}" for name in PRICES)
        return (
            f": open and close must lie between low and high ({row}; {far.sum()} such rows, by up to {largest:.2%}"
            + (f"; bars are widened by up to {_FAR:.0%})" if largest > _FAR else ")")
        )

    page.refuse(far, describe, ways, [CLOSES])
    kept = outside & ~far
    if kept.any():
        first, most = page.rows[kept.argmax()], missed[kept].max()
        by = "less than 0.1 %" if most <= _CLIPPED else f"up to {100 * most:.2g} %"
        page.warn(f"{kept.sum()} rows whose high or low misses the open or close by {by} widened (first: row {first})")
    return columns | {"high": np.maximum(columns["high"], top), "low": np.minimum(columns["low"], bottom)}
