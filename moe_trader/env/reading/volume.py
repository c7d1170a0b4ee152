"""Volumes of a table: units traded, whichever column holds them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import Floats
from moe_trader.env.reading.cells import is_missing
from moe_trader.env.reading.headings import NONE
from moe_trader.env.reading.numbers import MOST, plain_numbers, refuse_no_numbers, spelled_out, to_floats
from moe_trader.env.reading.page import Page
from moe_trader.env.reading.ways import Way

_NO_VOLUME: list[Way] = [({"columns.volume": NONE}, "to read none")]
_NEAR = 0.3  # of log(money / units) to log(price): the average price of a bar is no close
_FAR = 1.0  # of log(price) from 0, below which units and money cannot be distinguished
_RELATED = 0.9  # share of rows in which one column must be the price times the other


def read_volume(
    table: pd.DataFrame, found: Mapping[str, int], close: Floats, page: Page
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the volume, zeros where the table has none, and the rows that lacked it."""
    none = np.zeros(len(table), dtype=bool)
    if "volume" not in found:
        return np.zeros(len(table)), none
    column = table.iloc[:, found["volume"]]
    volume = _volume(column, page)
    if volume is None:
        page.warn(f"column {column.name!r} is -1 throughout, as where no volume is known: read as 0")
        return np.zeros(len(table)), none
    if not volume.any() and "spare_volume" in found:  # MetaTrader: only ticks are known, and <VOL> is all 0
        spare = table.iloc[:, found["spare_volume"]]
        numbers = _volume(spare, page)
        if numbers is not None and numbers.any():
            page.warn(f"column {column.name!r} is all 0: volume is read from {spare.name!r}")
            column, volume = spare, numbers
    missing = is_missing(column)
    if missing.any():
        page.warn(f"{missing.sum()} rows without a volume read as 0 (first: row {page.rows[missing.argmax()]})")
    if "other_volume" in found:
        other = table.iloc[:, found["other_volume"]]
        units = _traded_units(volume, column, other, close, page)
        if units is not None:
            return units, missing | page.no_volume
    if "guessed_volume" in found:
        page.warn(f"volume is read from column {column.name!r}; env.market.columns.volume names another")
    return volume, missing | page.no_volume


def _volume(column: pd.Series, page: Page) -> Floats | None:
    """Return a column's volumes, 0 where there is none; ``None`` where it is -1 throughout."""
    missing = is_missing(column)
    numbers = np.zeros(len(column))
    plain = column[~missing]
    in_full = spelled_out(plain_numbers(plain, page.reading.decimal))
    plain = in_full if in_full.dtype.kind == "f" else plain
    numbers[~missing] = to_floats(plain, page, _NO_VOLUME)
    refuse_no_numbers(column, numbers, page, _NO_VOLUME)
    none = numbers == -1
    if none.any() and np.isin(numbers, (0, -1)).all():
        return None
    if none.any() and not (numbers < -1).any() and none.sum() < _RELATED * len(none):
        page.warn(f"{none.sum()} rows with a volume of -1 read as 0 (first: row {page.rows[none.argmax()]})")
        numbers[none] = 0
        page.no_volume |= none
    with np.errstate(invalid="ignore"):
        bad = (numbers < 0) | (numbers > MOST)
    page.refuse(
        bad,
        lambda at: (
            f": volume is {numbers[at]}; "
            + ("it cannot be negative" if numbers[at] < 0 else f"expected at most {MOST:g}")
        ),
        _NO_VOLUME,
    )
    return numbers


def _traded_units(first: Floats, column: pd.Series, other: pd.Series, close: Floats, page: Page) -> Floats | None:
    """Return the units traded where files give them and the money traded, at times under each other's heading.

    ``None`` where the first column holds the units throughout, or the two columns are not price times each other.
    """
    text = other.dtype.kind not in "iuf"
    if is_missing(other).any() or (text and page.reading.decimal is None):
        return None
    second = to_floats(other, page)
    if text and not np.isfinite(second).all():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        price, ratio = np.log(close), np.log(first / second)
        clear = (first > 0) & (second > 0) & (np.abs(price) > _FAR)
        straight, swapped = clear & (np.abs(ratio + price) < _NEAR), clear & (np.abs(ratio - price) < _NEAR)
    if not swapped.any() or (straight | swapped).sum() < _RELATED * clear.sum():
        return None
    names = f"column {other.name!r} holds the units traded: {column.name!r} is about price times it"
    if not straight.any():
        page.warn(names)
        return second
    side = pd.Series(np.where(straight, 0.0, np.where(swapped, 1.0, np.nan))).ffill().bfill().to_numpy() == 1
    page.warn(f"in {side.sum()} rows {names} (first: row {page.rows[side.argmax()]}); read from it there")
    return np.where(side, second, first)
