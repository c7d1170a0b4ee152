"""What a gate sees of the market: a word that environments and gates share, so that neither need know the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Seen = Literal["features", "causal_regime", "true_regime"]

_WORDS = {
    "features": "the gate's features",
    "causal_regime": "the regime that trailing bars tell",
    "true_regime": "the true regime",
}


@dataclass(frozen=True)
class Sight:
    """The newest ``rows`` bars, oldest first, of one of three things.

    :param rows: bars
    :param of: the gate's ``features``; the ``causal_regime`` that ``env.gate_labels`` finds in trailing bars, or the
        ``true_regime`` of a synthetic market. A regime is a column for each that there is: 1 in the bar's own, 0 in the
        others, and 0 in all of them while it is not known
    """

    rows: int = 1
    of: Seen = "features"

    @property
    def beyond_the_window(self) -> bool:
        """Whether it is more than the columns that the newest row of every observation has: a part of its own."""
        return self != PLAIN_SIGHT

    def __str__(self) -> str:
        return f"{self.rows} bar{'s' if self.rows > 1 else ''} of {_WORDS[self.of]}"


PLAIN_SIGHT = Sight()
"""What every observation has anyway."""


@dataclass(frozen=True)
class GateView:
    """Where in an observation the gate's part stands.

    :param columns: what the gate reads: ``rows`` bars of equally many columns, oldest first
    :param rows: bars among them
    :param tail: how many columns at the end of an observation are the gate's alone: experts never see them
    """

    columns: tuple[int, ...]
    rows: int
    tail: int

    @property
    def n_features(self) -> int:
        """Columns of one bar."""
        return len(self.columns) // self.rows

    def __str__(self) -> str:
        """Say which columns, as ranges: "columns 4 to 17 as 1 bar, with a tail of 0"."""
        runs = [list(run) for _, run in groupby(enumerate(self.columns), key=lambda one: one[1] - one[0])]
        columns = ", ".join(f"{run[0][1]} to {run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs)
        return f"columns {columns} as {self.rows} bar{'s' if self.rows > 1 else ''}, with a tail of {self.tail}"
