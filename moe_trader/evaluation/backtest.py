"""The backtest of one agent by itself, as often as training asks for it: one row of the performance table."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from moe_trader.evaluation import Decider, Walkable
from moe_trader.evaluation.strategies import Strategy
from moe_trader.evaluation.tables import ALL, performance_table
from moe_trader.evaluation.walk import Trace, gate_over_time, trade


class Backtest:
    """Trades a split with an agent's most likely actions, by the engine and the metrics of the tables.

    The result equals the row ``mixture`` (of a single policy: ``single_policy``) of ``evaluation/experts.csv`` for the
    same weights and seed: to the bit with compiled kernels, to rounding in plain PyTorch.

    :param split: name of a split
    :param seed: of the bootstrap
    """

    def __init__(self, task: Walkable, split: str, seed: int) -> None:
        self._task, self._split, self._seed = task, split, seed

    @cached_property
    def instruments(self) -> tuple[Any, ...]:
        """The decisions of each instrument; :class:`moe_trader.env.evaluated.Evaluated`."""
        return tuple(self._task.evaluated(self._split))

    @property
    def n_decisions(self) -> int:
        """Bars that are walked one after the other: those of the longest instrument."""
        return max(map(len, self.instruments))

    @property
    def n_bars(self) -> int:
        """Bars of all instruments."""
        return sum(map(len, self.instruments))

    def run(self, agent: Decider) -> dict[str, Any]:
        """Return the agent's row over all instruments, by column; no random generator of training is drawn from."""
        gate = gate_over_time(self._task, self._split, agent, self.n_decisions, len(self.instruments))
        mixture = [Strategy("mixture", "mixture", agent, gate.__getitem__)]
        record = trade(self._task, self._split, mixture, self.instruments, self._seed)
        equity = self._task.task.initial_equity
        trace = Trace(self._split, equity, tuple(mixture), self.instruments, gate=gate, coalitions=None, **record)
        table = performance_table(trace, self._seed)
        (row,) = table[table["instrument"] == ALL].to_dict("records")
        return {str(name): value for name, value in row.items()}
