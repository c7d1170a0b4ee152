"""Ensembles of several agents of one task, with their members and buy and hold on the same bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from moe_trader.evaluation import Decider, Floats, Walkable
from moe_trader.evaluation.console import number
from moe_trader.evaluation.statistics import intervals_of_sums
from moe_trader.evaluation.strategies import Strategy
from moe_trader.evaluation.tables import ALL, performance_table, return_and_sharpe_sums
from moe_trader.evaluation.walk import Trace, gate_over_time, trade

MEMBERS_MEAN = "members_mean"
SPLITS = ("validation", "test")
_MEASURES = ("log_return", "sharpe")
_SHOWN = ("max_drawdown", "turnover", "exposure", "cost")


def ensembles_table(
    task: Walkable,
    members: Mapping[str, Decider],
    ensembles: Mapping[str, Decider],
    seed: int,
    splits: tuple[str, ...] = SPLITS,
) -> pd.DataFrame:
    """Return one row a split and strategy, over all instruments: the ensembles, their members, and buy and hold.

    ``members_mean`` is the mean over the members of each metric. ``log_return_minus_members`` and
    ``sharpe_minus_members`` are a strategy's own less that mean, paired: both earn at the same moments. ``*_low`` and
    ``*_high`` are 95 % intervals of the stationary bootstrap over time, for these members: they do not say how much
    training varies.

    :param members: by name, two or more for a comparison
    :param ensembles: by name
    :param seed: of the bootstrap
    """
    return pd.concat([_of_split(task, members, ensembles, seed, split) for split in splits], ignore_index=True)


def backtest_together(
    task: Walkable, split: str, members: Mapping[str, Decider], ensembles: Mapping[str, Decider], seed: int
) -> Trace:
    """Trade a split with ensembles, members and buy and hold, each on its own account."""
    instruments = tuple(task.evaluated(split))
    length, n = max(map(len, instruments)), len(instruments)
    strategies, gates = [], []
    for kind, agents in (("ensemble", ensembles), ("member", members)):
        for name, agent in agents.items():
            gates.append(gate_over_time(task, split, agent, length, n))
            strategies.append(Strategy(name, kind, agent, gates[-1].__getitem__))  # type: ignore[arg-type]
    strategies.append(Strategy("buy_and_hold", "baseline", targets=np.ones((length, n))))
    record = trade(task, split, strategies, instruments, seed)
    equity = task.task.initial_equity
    return Trace(split, equity, tuple(strategies), instruments, gate=gates[0], coalitions=None, **record)


def _of_split(
    task: Walkable, members: Mapping[str, Decider], ensembles: Mapping[str, Decider], seed: int, split: str
) -> pd.DataFrame:
    trace = backtest_together(task, split, members, ensembles, seed)
    table = performance_table(trace, seed)
    table = table[table["instrument"] == ALL].drop(columns=["instrument", "weight", "bars_per_year"])
    is_member = (table["kind"] == "member").to_numpy()
    mean = table.loc[is_member].mean(numeric_only=True, skipna=False)
    low, high = _intervals_of_mean_and_gaps(trace, is_member, seed)
    for at, name in enumerate(_MEASURES):
        mean[f"{name}_low"], mean[f"{name}_high"] = low[0, at], high[0, at]
    row = pd.DataFrame([{"split": split, "strategy": MEMBERS_MEAN, "kind": "member", **mean}])
    for at, name in enumerate(_MEASURES):
        table[f"{name}_minus_members"] = table[name] - mean[name]
        table[f"{name}_minus_members_low"], table[f"{name}_minus_members_high"] = low[1:, at], high[1:, at]
        row[[f"{name}_minus_members{end}" for end in ("", "_low", "_high")]] = mean[name] - mean[name]  # 0, or NaN
    n_ensembles = len(ensembles)
    table = pd.concat([table[:n_ensembles], row, table[n_ensembles:]], ignore_index=True)
    table.insert(3, "members", len(members))
    ends = [f"{name}{end}" for name in _MEASURES for end in ("", "_low", "_high")]
    gaps = [f"{name}_minus_members{end}" for name in _MEASURES for end in ("", "_low", "_high")]
    return table[["split", "strategy", "kind", "members", *ends, *gaps, *_SHOWN]]


def _intervals_of_mean_and_gaps(trace: Trace, is_member: np.ndarray, seed: int) -> tuple[Floats, Floats]:
    """Return lower and upper ends, shape ``(1 + n_strategies, 2)``: of the members' mean, and of what each adds to it.

    All strategies are drawn together, moment by moment.
    """
    groups, measures = return_and_sharpe_sums(trace)
    joint = np.moveaxis(groups, 0, 1).reshape(groups.shape[1], -1)  # a row of all strategies' sums

    def mean_and_gaps(sums: Floats) -> Floats:
        found = measures(sums.reshape(len(groups), -1))
        mean = found[is_member].mean(0)
        return np.concatenate([mean[None], found - mean]).ravel()

    low, high = intervals_of_sums(joint, mean_and_gaps, seed, trace.pooling.block)
    return low.reshape(-1, 2), high.reshape(-1, 2)


def ensembles_view(table: pd.DataFrame, split: str) -> Table:
    """Return the table of one split for rich to print."""
    rows = table[table["split"] == split].to_dict("records")
    shown = Table(title=f"Ensembles of {rows[0]['members']} seeds, {split} split", title_style="bold")
    shown.caption, shown.caption_justify = "Brackets: 95 % bootstrap interval over time, for these seeds", "left"
    shown.add_column("strategy", no_wrap=True)
    for name in ("log return", "Sharpe", "Sharpe minus members' mean"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [with_interval(row, name) for name in ("log_return", "sharpe", "sharpe_minus_members")]
        shown.add_row(str(row["strategy"]), *(cell.replace("[", r"\[") for cell in cells))
    return shown


def ensembles_verdict(table: pd.DataFrame, split: str) -> list[str]:
    """Return a sentence for each ensemble against the mean of its members, as strong as its interval allows."""
    lines = []
    rows = table[(table["split"] == split) & (table["kind"] == "ensemble")]
    for row in rows.to_dict("records"):
        low, high = row["sharpe_minus_members_low"], row["sharpe_minus_members_high"]
        word = "above" if low > 0 else "below" if high < 0 else "not distinguishable from"
        gap = with_interval(row, "sharpe_minus_members")
        name = row["strategy"].replace("_", " ")
        lines.append(f"{name}: Sharpe on {split} {word} the mean of its {row['members']} members: {gap}")
    return lines


def with_interval(row: Mapping[Any, Any], name: str) -> str:
    """Return a number of a row and its interval as text."""
    form = "{:+.3f}" if name.startswith("log_return") else "{:+.2f}"
    value, low, high = (number(row[f"{name}{end}"], form) for end in ("", "_low", "_high"))
    return value if row[f"{name}_low"] == row[f"{name}_high"] else f"{value} [{low}, {high}]"
