"""Unix stamps, in whichever unit a column has them."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import MarketError
from moe_trader.env.reading.columns import cell

log = logging.getLogger(__name__)

# Unit of a unix stamp: smallest size, name, microseconds. 1e8 seconds are in 1973, and the next unit starts in 5138.
_UNITS = ((1e17, "nanoseconds", 1e-3), (1e14, "microseconds", 1.0), (1e11, "milliseconds", 1e3), (1e8, "seconds", 1e6))
_STEP = 366 * 86_400e6  # microseconds between stamps beyond which a small one is not of the same unit


def is_unix(values: NDArray[np.float64]) -> bool:
    """Whether numbers are unix stamps and not days such as 20181231, judged by their usual size."""
    return bool(np.median(np.abs(values[np.isfinite(values)])) >= 1e8)


def read_unix(column: pd.Series, values: NDArray[np.float64], source: str) -> NDArray[np.datetime64]:
    """Return the stamps; those before 1973 are known by their neighbours, as their size tells no unit.

    :param values: the column's numbers, ``nan`` where a cell is none
    :raises MarketError: a number of another unit, unless the whole column stays in order with each in its own
    """
    middle = float(np.median(np.abs(values[np.isfinite(values)])))
    least, unit, scale = next(one for one in _UNITS if middle >= one[0])
    bad = np.flatnonzero(~(np.abs(values) < least * 1e3) | _strangers(values, least, scale))
    if len(bad):
        switched = _each_in_its_own(values)
        if switched is not None:
            log.warning("%s: column %r: the unit of its unix stamps changes", source, column.name)
            return switched
        raise MarketError(
            f"{source}: row {column.index[bad[0]]}, column {column.name!r}: {cell(column, bad[0])} is no unix stamp in "
            f"{unit}, as most others are; write all stamps in one unit, or as dates (2018-12-31 16:00)"
        )
    log.info("%s: column %r holds unix stamps in %s", source, column.name, unit)
    if column.dtype.kind in "iu":  # whole numbers stay exact
        whole = column.to_numpy(dtype=np.int64)
        micros = whole // 1000 if scale < 1 else whole * int(scale)
    else:
        micros = np.round(values * scale).astype(np.int64)
    return micros.view("datetime64[us]")


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
