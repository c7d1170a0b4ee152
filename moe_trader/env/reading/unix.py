"""Stamps that are numbers: unix stamps in whichever unit a column has them, .NET ticks, days of a spreadsheet."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env.reading.cells import cell
from moe_trader.env.reading.page import Page

# Unit of a unix stamp: smallest size, name, microseconds. 1e8 seconds are in 1973, and the next unit starts in 5138.
_UNITS = ((1e17, "nanoseconds", 1e-3), (1e14, "microseconds", 1.0), (1e11, "milliseconds", 1e3), (1e8, "seconds", 1e6))
_STEP = 366 * 86_400e6  # microseconds between stamps beyond which a small one is not of the same unit
# Microseconds of a unit that the user names, and of its zero.
_NAMED = {
    "s": (1e6, 0),
    "ms": (1e3, 0),
    "us": (1.0, 0),
    "ns": (1e-3, 0),
    "ticks": (0.1, -62_135_596_800_000_000),  # of .NET: 100 ns since year 1
    "excel": (86_400e6, -2_209_161_600_000_000),  # days since 1899-12-30
    "matlab": (86_400e6, -62_167_305_600_000_000),  # days since the beginning of year 0
}
_TICKS = (6.2e17, 6.5e17)  # .NET ticks of 1965 to 2060 are nanoseconds of 1989-08 to 1990-08


def is_unix(values: NDArray[np.float64]) -> bool:
    """Whether numbers are unix stamps and not days such as 20181231, judged by their usual size."""
    return bool(np.median(np.abs(values[np.isfinite(values)])) >= 1e8)


def read_unix(column: pd.Series, values: NDArray[np.float64], page: Page) -> NDArray[np.datetime64]:
    """Return the stamps; those before 1973 are known by their neighbours, as their size tells no unit.

    :param values: the column's numbers, ``nan`` where a cell is none
    :raises MarketError: a number of another unit, unless the whole column stays in order with each in its own
    """
    middle = float(np.median(np.abs(values[np.isfinite(values)])))
    least, unit, scale = next(one for one in _UNITS if middle >= one[0])
    known = values[np.isfinite(values)]
    if (known > _TICKS[0]).all() and (known < _TICKS[1]).all():
        ticks = as_read(known[0], "ticks").date()
        raise page.error(
            f"row {column.index[0]}, column {column.name!r}: {cell(column, 0)} is {ticks} in .NET ticks, but "
            f"{as_read(known[0], 'ns').date()} in nanoseconds",
            [({"date_format": "ticks"}, "for the one"), ({"date_format": "ns"}, "for the other")],
        )
    bad = ~(np.abs(values) < least * 1e3) | _strangers(values, least, scale)
    if bad.any():
        switched = _each_in_its_own(values)
        if switched is not None:
            page.warn(f"column {column.name!r}: the unit of its unix stamps changes")
            return switched
        page.refuse(
            bad,
            lambda at: (
                f", column {column.name!r}: {cell(column, at)} is no unix stamp in {unit}, as most others are; write "
                "all stamps in one unit, or as dates (2018-12-31 16:00)"
            ),
        )
    page.inform(f"column {column.name!r} holds unix stamps in {unit}")
    return _micros(column, values, scale, 0)


def read_named(column: pd.Series, unit: str, page: Page) -> NDArray[np.datetime64]:
    """Return stamps that are numbers of a unit that the user names."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    page.refuse(
        ~np.isfinite(values), lambda at: f", column {column.name!r}: {cell(column, at)} is no number of {unit!r}"
    )
    exact = pd.to_numeric(column, errors="coerce")
    return _micros(exact, values, *_NAMED[unit])


def as_read(value: float, unit: str) -> pd.Timestamp:
    """Return how a unit reads one number."""
    scale, zero = _NAMED[unit]
    return pd.Timestamp(np.datetime64(round(value * scale) + zero, "us"))


def _micros(column: pd.Series, values: NDArray[np.float64], scale: float, zero: int) -> NDArray[np.datetime64]:
    """Return numbers as stamps; whole numbers stay exact, and those that are none become ``NaT``."""
    if column.dtype.kind in "iu":
        whole = column.to_numpy(dtype=np.int64)
        micros = whole // round(1 / scale) if scale < 1 else whole * int(scale)
    else:
        known = np.isfinite(values) & (np.abs(values * scale) < 9e18)
        micros = np.where(known, np.round(np.where(known, values, 0) * scale), 0).astype(np.int64)
        micros[~known] = np.iinfo(np.int64).min - zero
    return (micros + zero).view("datetime64[us]")


def _strangers(values: NDArray[np.float64], least: float, scale: float) -> NDArray[np.bool_]:
    """Mark values below ``least`` that are far from those above, or from each other."""
    small = np.abs(values) < least
    if not small.any():
        return small
    order = np.argsort(values)
    far = np.diff(values[order]) * scale > _STEP
    touching = small[order][:-1] | small[order][1:]
    return small if (far & touching).any() else np.zeros_like(small)


def _each_in_its_own(values: NDArray[np.float64]) -> NDArray[np.datetime64] | None:
    """Return stamps whose unit changes along the file, ``None`` where that leaves them in no order."""
    scales = np.select([values >= least for least, _, _ in _UNITS], [scale for _, _, scale in _UNITS], default=np.nan)
    micros = np.round(values * scales)
    steps = np.diff(micros)
    if not ((steps > 0).all() or (steps < 0).all()) or not (np.abs(steps) < _STEP).all():
        return None
    return micros.astype(np.int64).view("datetime64[us]")
