"""From traces to the tables of a run directory; what each column means stands in the README."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe_trader.evaluation import Floats
from moe_trader.evaluation.metrics import performance, sharpe
from moe_trader.evaluation.statistics import intervals, intervals_of_sums
from moe_trader.evaluation.walk import Trace

ALL = "all"


def steps_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str]) -> pd.DataFrame:
    """Return one row for each evaluated bar of the mixture: who was listened to, what was done, what it earned."""
    parts = []
    for i, one in enumerate(trace.instruments):
        n = len(one)
        columns: dict[str, object] = {
            "split": trace.split,
            "time": one.time,
            "instrument": one.instrument,
            "regime": np.array(regimes, dtype=object)[one.regime],
            "close": one.close[:-1],
        }
        columns |= {f"gate_{name}": trace.gate[:n, i, k] for k, name in enumerate(experts)}
        done = {"position": trace.position, "reward": trace.reward, "traded": trace.traded, "cost": trace.cost}
        columns |= {name: values[:n, 0, i] for name, values in done.items()}
        columns |= {f"own_{name}": trace.own_target[:n, i, k] for k, name in enumerate(experts)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def by_regime_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str], seed: int) -> pd.DataFrame:
    """Return regime x expert: importance (mean weight) with a 95 % interval, load (share of bars in the lead), bars."""
    inside = (trace.regime[..., None] == np.arange(len(regimes))).astype(np.float64)  # (n_decisions, n_instruments, Z)
    weights, lead = trace.gate, np.eye(len(experts))[trace.gate.argmax(-1)]
    parts = [np.einsum("tiz,tik->tzk", inside, of) for of in (weights, lead, np.ones((*weights.shape[:2], 1)))]
    sums = np.concatenate(parts, axis=2)  # (n_decisions, Z, 2K + 1): weights, leads, bars

    def shares(totals: Floats) -> Floats:
        found = totals.reshape(len(regimes), -1)
        return found[:, :-1] / np.where(found[:, -1:] > 0, found[:, -1:], np.nan)

    sums = sums.reshape(len(sums), -1)
    whole, k = shares(sums.sum(0)), len(experts)
    low, high = intervals_of_sums(sums, lambda totals: shares(totals)[:, :k].ravel(), seed).reshape(2, -1, k)
    bars = inside.sum((0, 1)).astype(int)
    rows = [
        {
            "split": trace.split,
            "regime": regime,
            "expert": name,
            "importance": whole[z, j],
            "importance_low": low[z, j],
            "importance_high": high[z, j],
            "load": whole[z, k + j],
            "bars": bars[z],
        }
        for z, regime in enumerate(regimes)
        for j, name in enumerate(experts)
    ]
    return pd.DataFrame(rows)


def competence_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str]) -> pd.DataFrame:
    """Return regime x expert: mean log return per bar, in basis points, when that expert is forced at every bar."""
    regime = np.concatenate([one.regime for one in trace.instruments])
    rows = []
    for index, name in enumerate(regimes):
        mask = regime == index
        row: dict[str, object] = {"split": trace.split, "regime": name, "bars": int(mask.sum())}
        for who in [*experts, "mixture"]:
            earned = np.concatenate(
                [trace.reward[: len(one), trace.index(who), i] for i, one in enumerate(trace.instruments)]
            )
            row[who] = 1e4 * earned[mask].mean() if mask.any() else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def performance_table(trace: Trace, initial_equity: float, bars_per_year: float, seed: int) -> pd.DataFrame:
    """Return every strategy's metrics for each instrument, and over all of them: the mean over instruments.

    The rows of all instruments carry 95 % intervals of log return and Sharpe ratio.
    """
    rows = []
    for s in range(len(trace.strategies)):
        each = []
        for i, one in enumerate(trace.instruments):
            n = len(one)
            found = performance(
                trace.reward[:n, s, i],
                traded=trace.traded[:n, s, i],
                carried=trace.carried[:n, s, i],
                cost=trace.cost[:n, s, i],
                initial_equity=initial_equity,
                bars_per_year=bars_per_year,
            )
            each.append(found)
            rows.append(_head(trace, s, one.instrument) | each[-1])
        pooled = {name: float(np.mean([row[name] for row in each])) for name in each[0]}
        low, high = intervals(trace.reward[:, s], lambda r: _pooled(r, bars_per_year), seed)
        ends = {"log_return_low": low[0], "log_return_high": high[0], "sharpe_low": low[1], "sharpe_high": high[1]}
        rows.append(_head(trace, s, ALL) | pooled | ends)
    table = pd.DataFrame(rows)
    return table.sort_values("instrument", key=lambda column: column != ALL, kind="stable", ignore_index=True)


def comparison_table(trace: Trace, seed: int) -> pd.DataFrame:
    """Return mixture minus every other strategy: log return over the split, paired bar by bar, with a 95 % interval."""
    rows = []
    for s, strategy in enumerate(trace.strategies):
        if strategy.name == "mixture":
            continue
        gap = np.nanmean(trace.reward[:, 0] - trace.reward[:, s], axis=1)  # (n_bars,), mean over instruments
        low, high = intervals(gap, lambda g: np.array([g.sum()]), seed)
        row = {"split": trace.split, "against": strategy.name, "log_return_difference": gap.sum()}
        who = [one.name for one in (trace.strategies[0], strategy) if trace.bankrupt(one.name)]
        rows.append(row | {"low": low[0], "high": high[0], "bankrupt": " and ".join(who)})
    return pd.DataFrame(rows)


def equity_table(trace: Trace) -> pd.DataFrame:
    """Return each strategy's equity at the close after each decision, one column a strategy."""
    parts = []
    for i, one in enumerate(trace.instruments):
        head = pd.DataFrame({"split": trace.split, "instrument": one.instrument, "time": one.paid})
        names = [strategy.name for strategy in trace.strategies]
        parts.append(pd.concat([head, pd.DataFrame(trace.equity[: len(one), :, i], columns=names)], axis=1))
    return pd.concat(parts, ignore_index=True)


def _head(trace: Trace, s: int, instrument: str) -> dict[str, object]:
    strategy = trace.strategies[s]
    return {"split": trace.split, "strategy": strategy.name, "kind": strategy.kind, "instrument": instrument}


def _pooled(rewards: Floats, bars_per_year: float) -> Floats:
    """Return log return and Sharpe ratio, means over instruments; NaN rewards are bars an instrument does not have."""
    if not np.isnan(rewards).any():
        return np.array([rewards.sum(0).mean(), sharpe(rewards, bars_per_year).mean()])
    columns = [column[~np.isnan(column)] for column in rewards.T]
    return np.array([np.mean([c.sum() for c in columns]), np.mean([sharpe(c, bars_per_year) for c in columns])])
