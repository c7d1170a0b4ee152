"""What evaluation walks through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_trader.env import Floats, Instrument, Segment


@dataclass(frozen=True)
class Evaluated:
    """One instrument of one split, as evaluation walks it: n decisions, each with the bar that pays for it.

    :param time: close of each decision's bar, shape ``(n,)``
    :param paid: close of the bar that pays for it
    :param regime: index of each decision's regime, shape ``(n,)``
    :param close: close at each decision and after the last, shape ``(n + 1,)``
    :param bars_per_year: of the instrument's whole history
    :param references: strategies of the market's own, as targets at each decision
    """

    instrument: str
    time: np.ndarray
    paid: np.ndarray
    regime: np.ndarray
    close: Floats
    bars_per_year: float
    references: dict[str, Floats]

    @classmethod
    def of(cls, one: Instrument, part: Segment, regime: np.ndarray, references: dict[str, Floats]) -> Evaluated:
        """Return what evaluation walks of an instrument.

        :param part: the bars that the split observes
        :param regime: index of each bar's regime, over the whole instrument, as targets in ``references`` are
        """
        rows = slice(part.start, part.stop - 1)
        return cls(
            instrument=one.symbol,
            time=one.time[rows],
            paid=one.time[rows.start + 1 : rows.stop + 1],
            regime=regime[rows],
            close=one.close[rows.start : rows.stop + 1],
            bars_per_year=one.bars_per_year,
            references={name: targets[rows] for name, targets in references.items()},
        )

    def __len__(self) -> int:
        return len(self.time)
