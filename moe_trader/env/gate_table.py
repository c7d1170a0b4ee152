"""What the gate alone sees, where that is more than the newest feature row: a part of its own behind an observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_trader.env import Labels, Market, MarketError, RegimeLabeller, Segment
from moe_trader.env.regimes import TrueRegimes
from moe_trader.gate_input import GateInput


@dataclass(frozen=True)
class GateTable:
    """Rows of which an observation at bar t ends with the newest: t - gate_input.rows + 1 to t.

    :param rows: shape ``(n_bars, n_columns)``: standardised features, or a regime's one-hot label
    """

    gate_input: GateInput
    rows: NDArray[np.float32]

    @property
    def width(self) -> int:
        """Columns that the gate's part of an observation has."""
        return self.gate_input.rows * self.rows.shape[1]

    def bounds(self, clip: float) -> tuple[float, float]:
        """Return the least and the greatest number there is."""
        return (-clip, clip) if self.gate_input.of == "features" else (0.0, 1.0)

    def at(self, bars: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the gate's part of the observations at some bars, shape ``(n, width)``."""
        newest = np.arange(1 - self.gate_input.rows, 1)
        return self.rows[bars[:, None] + newest].reshape(len(bars), self.width)


def gate_labeller(gate_input: GateInput, labeller: RegimeLabeller, market: Market) -> RegimeLabeller | None:
    """Return who names the regimes that the gate reads; ``None``: it reads features.

    :param labeller: the causal one
    :raises MarketError: for the true regimes of a market that does not know them
    """
    if gate_input.of == "features":
        return None
    if gate_input.of == "causal_regime":
        return labeller
    if any(one.regime is None for one in market.instruments):
        raise MarketError(
            f"{market.name} does not know its true regimes, which the gate reads: choose a market that does, "
            "env=synthetic, or a gate that reads causal ones, gating=rule"
        )
    return TrueRegimes()


def label_rows(labeller: RegimeLabeller, market: Market, train: Sequence[Segment]) -> NDArray[np.float32]:
    """Return one column a regime, shape ``(n_bars, n_regimes)``: 1 in that of the bar, 0 elsewhere and while unknown.

    :param train: segments on which the labeller may estimate
    """
    labels: Labels = labeller.label(market, train)
    index = np.concatenate(labels.index)
    return (index[:, None] == np.arange(len(labels.names))).astype(np.float32)
