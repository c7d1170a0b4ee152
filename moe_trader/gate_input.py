"""What a gate sees of the market: a word that environments and gates share, so that neither need know the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

Seen = Literal["features", "causal_regime", "true_regime"]

_WORDS = {
    "features": "the gate's features",
    "causal_regime": "the regime that trailing bars tell",
    "true_regime": "the true regime",
}


@dataclass(frozen=True)
class GateInput:
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
        return self != NEWEST_BAR

    def __str__(self) -> str:
        return f"{self.rows} bar{'s' if self.rows > 1 else ''} of {_WORDS[self.of]}"


NEWEST_BAR = GateInput()
"""What every observation has anyway."""


@dataclass(frozen=True)
class ObservationLayout:
    """Which columns of an observation gate and experts see.

    :param gate: ``rows`` bars of equally many columns, oldest first
    :param rows: bars among them
    :param experts: in ascending order
    """

    gate: tuple[int, ...]
    rows: int
    experts: tuple[int, ...]

    @property
    def n_gate_features(self) -> int:
        """Columns of one of the gate's bars."""
        return len(self.gate) // self.rows

    @property
    def single_width(self) -> int:
        """Columns that a single policy sees: all but a part for the gate only. The account comes last of them."""
        return self.experts[-1] + 1

    def __str__(self) -> str:
        """Say which: "the gate columns 4 to 17 as 1 bar, the experts columns 0 to 13"."""
        bars = f"{self.rows} bar{'s' if self.rows > 1 else ''}"
        return f"the gate columns {_ranges(self.gate)} as {bars}, the experts columns {_ranges(self.experts)}"


def column_names(features: Any, window: Any, size: int) -> list[str]:
    """Return names for the columns that a window of features and the account make, for messages.

    :param features: names of the columns of a feature row; empty, and whatever does not fit, gives no names
    :param window: feature rows in an observation
    :param size: columns of an observation
    """
    if not (isinstance(features, list | tuple) and type(window) is int and 0 < len(features) * window <= size):
        return []
    ago = ["" if not bars else f", {bars} bar{'s' if bars > 1 else ''} before" for bars in reversed(range(window))]
    return [f"{name}{when}" for when in ago for name in features] + ["account: exposure", "account: gain"]


def _ranges(columns: tuple[int, ...]) -> str:
    runs = [list(run) for _, run in groupby(enumerate(columns), key=lambda one: one[1] - one[0])]
    return ", ".join(f"{run[0][1]} to {run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs)
