"""Where a bar stands in the day, the week, the month and the year."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from moe_trader.env import Feature, Floats, Instrument
from moe_trader.option import option


@option
class Calendar(Feature):
    """Sine and cosine of the bar's own closing stamp (as the data has it, UTC if it says) within each cycle.

    A cycle that the market's bars do not resolve (the day, for daily bars) is a constant, which the scaler makes 0.

    :param cycles: any of ``day``, ``week``, ``month``, ``year``
    """

    cycles: Annotated[list[Literal["day", "week", "month", "year"]], Field(min_length=1)]

    def columns(self) -> list[str]:
        """Return ``week_sin``, ``week_cos``, ..."""
        return [f"{cycle}_{wave}" for cycle in self.cycles for wave in ("sin", "cos")]

    def warmup(self) -> int:
        """Return 0: a stamp needs no bars before it."""
        return 0

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, 2 len(cycles))``."""
        angles = [2 * np.pi * _phase(instrument.time, cycle) for cycle in self.cycles]
        return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], 1)


def _phase(time: np.ndarray, cycle: str) -> Floats:
    """Return the fraction of the cycle that is over at each stamp, in [0, 1)."""
    if cycle in ("month", "year"):
        unit = "M" if cycle == "month" else "Y"
        start = time.astype(f"datetime64[{unit}]")
        length = (start + 1).astype(time.dtype) - start.astype(time.dtype)
    else:
        # Day 0 of datetime64 is a Thursday: from the Monday before it, weeks are whole.
        length = np.timedelta64(7 if cycle == "week" else 1, "D").astype("timedelta64[us]")
        monday = np.datetime64("1969-12-29").astype(time.dtype)
        start = monday + (time - monday) // length * length
    return (time - start.astype(time.dtype)) / length
